//! What `cstor image …` and `cstor extract` take.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args as Group, Subcommand};
use cstor_client::extract::Reflink;
use cstor_client::listing::Filter;
use cstor_client::oci::Destination;

use super::choice::{CompressHow, DeviceNodes, Output, ProgressHow, ProxyCommand, ReflinkWhen};

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List the images of the store.
    #[command(visible_alias = "ls")]
    List(ListImages),
    /// Show an image's names, configuration and layers.
    Inspect(Inspect),
    /// Show the layers of an image, the base first.
    Layers(Layers),
    /// Extract an image to a directory.
    Extract(Extract),
    /// Write the merged files of an image as one tar.
    Export(ExportImage),
    /// Copy an image to an OCI layout, or to an archive for podman, skopeo and docker.
    #[command(visible_alias = "copy-to-oci")]
    Copy(CopyImage),
    /// Write the table of contents of an image, as eStargz has it.
    Toc(ImageToc),
}

#[derive(Debug, Group)]
pub(crate) struct CopyImage {
    /// The image: a name, an id or its beginning, or a digest.
    pub(crate) image: String,
    /// oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:REFERENCE]; a path alone is a DIR, and - as FILE
    /// is standard output.
    #[arg(value_name = "DEST", value_parser = OsStringValueParser::new().try_map(Destination::parse))]
    pub(crate) destination: Destination,
    /// How layers are compressed; uncompressed ones have their diff ids as digests.
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub(crate) compress: CompressHow,
}

#[derive(Debug, Group)]
pub(crate) struct ExportImage {
    /// The image: a name, an id or its beginning, or a digest; or a container, as container:NAME or by its id.
    pub(crate) image: String,
    /// The file to write, which appears when it is complete; by default standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Group)]
pub(crate) struct ImageToc {
    /// The image: a name, an id or its beginning, or a digest; or a container, as container:NAME or by its id.
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) how: TocHow,
}

#[derive(Debug, Group)]
pub(crate) struct TocHow {
    /// Break and indent lines.
    #[arg(long)]
    pub(crate) pretty: bool,
    /// Read the contents of all files, and give their digests.
    #[arg(long)]
    pub(crate) digests: bool,
}

#[derive(Debug, Group)]
pub(crate) struct Extract {
    /// The image: a name, an id or its beginning, or a digest; or a container, as container:NAME or by its id.
    pub(crate) image: String,
    /// The directory to extract to; it must not exist, or be empty.
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) how: ExtractHow,
    /// Get the image from an image proxy instead of a store: a command whose words are split at spaces, such as
    /// "skopeo experimental-image-proxy". The image is then named as for skopeo: TRANSPORT:REFERENCE.
    #[arg(long, value_name = "COMMAND", value_parser = ProxyCommand::parse, conflicts_with_all = ["reflink", "no_reflinks"])]
    pub(crate) via: Option<ProxyCommand>,
    /// How to show progress: a bar on a terminal, lines, or not at all.
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub(crate) progress: ProgressHow,
}

/// How files are placed.
#[derive(Debug, Group)]
pub(crate) struct ExtractHow {
    /// Whether contents share the store's disk space: where the file system can, or not at all, or never.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", conflicts_with = "no_reflinks")]
    pub(crate) reflink: ReflinkWhen,
    /// The same as --reflink never.
    #[arg(long)]
    pub(crate) no_reflinks: bool,
    /// What to do with device nodes; only root can create them.
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub(crate) devices: DeviceNodes,
    /// Keep set-user-id and set-group-id bits; without it only root does.
    #[arg(long)]
    pub(crate) preserve_setid: bool,
    /// As root, own all files instead of giving them their owners.
    #[arg(long)]
    pub(crate) no_same_owner: bool,
    /// Fail, before anything is written, if anything would be left out.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Check the contents of reflinked files too, which means to read them.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Replace a directory that is not empty, once the new one is complete.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Keep all rights of the user while files are placed; to find out whether the sandbox is what is in the way.
    #[arg(long)]
    pub(crate) no_sandbox: bool,
}

impl ExtractHow {
    pub(crate) fn reflink(&self) -> Reflink {
        match self.reflink {
            _ if self.no_reflinks => Reflink::Never,
            ReflinkWhen::Auto => Reflink::Auto,
            ReflinkWhen::Always => Reflink::Always,
            ReflinkWhen::Never => Reflink::Never,
        }
    }
}

#[derive(Debug, Group)]
pub(crate) struct ListImages {
    /// Show intermediate images too: steps of a build that other images were made from.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show what passes only: reference=PATTERN, dangling=BOOL, label=KEY[=VALUE], before=IMAGE, since=IMAGE; != for
    /// the opposite. May be repeated: all must hold, but of several references one.
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<Filter>,
    /// Show the digests of manifests.
    #[arg(long)]
    pub(crate) digests: bool,
    /// Show which part of the size is shared with other images, and which is not.
    #[arg(long)]
    pub(crate) sizes: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Group)]
pub(crate) struct Inspect {
    /// The image: a name, an id or its beginning, or a digest.
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Group)]
pub(crate) struct Layers {
    /// The image: a name, an id or its beginning, or a digest; or a container, as container:NAME or by its id.
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) output: Output,
}
