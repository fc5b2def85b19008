//! The command line, as it is typed.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args as Group, Parser, Subcommand, ValueEnum};
use cstor_client::extract::{Devices, Reflink};
use cstor_client::helper::{HelperOptions, HelperPolicy, Launcher};
use cstor_client::listing::Filter;
use cstor_client::oci::{Compression, Destination};
use cstor_client::splitfdstream::DEFAULT_INLINE_THRESHOLD;

/// Read container images straight out of podman's store: without root, without a mount, without a tar.
#[derive(Debug, Parser)]
#[command(name = "cstor", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) store: Store,
    /// Say what is done; twice: in detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which store, and who opens its files.
#[derive(Debug, Group)]
pub(crate) struct Store {
    /// The root of the store; by default the one that podman uses.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Where images and the contents of their layers are, if not in the root: as podman's --imagestore.
    #[arg(long, global = true, value_name = "DIR", requires = "root")]
    pub(crate) imagestore: Option<PathBuf>,
    /// An option of the store's driver, as for podman; with --root only. `additionalimagestore=DIR` adds a store.
    #[arg(long, global = true, value_name = "KEY=VALUE", requires = "root")]
    pub(crate) storage_opt: Vec<String>,
    /// As root: become the owner of the store at --root first, and run with that user's rights alone.
    #[arg(long, global = true, requires = "root")]
    pub(crate) as_owner: bool,
    /// When the helper opens files in the user namespace: those that you may not read, all, or none.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) helper: Helper,
    /// What carries the helper into the user namespace. auto: nothing for root, else podman, else newuidmap.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHAT")]
    pub(crate) launcher: LaunchBy,
    /// Refuse a helper that is not confined by every layer of its sandbox.
    #[arg(long, global = true)]
    pub(crate) require_sandbox: bool,
}

impl Store {
    /// Everything that was said about the helper.
    pub(crate) fn helper_options(&self) -> HelperOptions {
        let policy = match self.helper {
            Helper::Auto => HelperPolicy::Auto,
            Helper::Always => HelperPolicy::Always,
            Helper::Never => HelperPolicy::Never,
        };
        let launcher = match self.launcher {
            LaunchBy::Auto => Launcher::Auto,
            LaunchBy::Podman => Launcher::Podman,
            LaunchBy::Buildah => Launcher::Buildah,
            LaunchBy::Newuidmap => Launcher::NewUidMap,
            LaunchBy::None => Launcher::None,
        };
        HelperOptions::new().policy(policy).launcher(launcher).require_sandbox(self.require_sandbox)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Extract an image to a directory; the same as `image extract`.
    Extract(Extract),
    /// Look at, export and extract single layers.
    Layer {
        #[command(subcommand)]
        command: LayerCommand,
    },
    /// Print the id of the layer that a link id of the overlay driver stands for.
    ResolveLink(ResolveLink),
    /// Look for damage: of an image or a layer, or of everything in the store.
    Verify(Check),
    /// Say what is there for an extraction, and what is missing: store, locks, helper, namespace, reflinks.
    Doctor(Doctor),
    /// Show which store is meant and why, and what it holds.
    Info(Info),
    /// List, look at and extract images.
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
}

impl Command {
    /// The image that was asked for.
    pub(crate) fn image(&self) -> Option<&str> {
        let (Command::Extract(Extract { image, .. })
        | Command::Image {
            command:
                ImageCommand::Inspect(Inspect { image, .. })
                | ImageCommand::Layers(Layers { image, .. })
                | ImageCommand::Extract(Extract { image, .. })
                | ImageCommand::Export(ExportImage { image, .. })
                | ImageCommand::Copy(CopyImage { image, .. })
                | ImageCommand::Toc(ImageToc { image, .. }),
        }) = self
        else {
            return None;
        };
        Some(image)
    }
}

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
    /// The image: a name, an id or its beginning, or a digest.
    pub(crate) image: String,
    /// The file to write, which appears when it is complete; by default standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Group)]
pub(crate) struct ImageToc {
    /// The image: a name, an id or its beginning, or a digest.
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) how: TocHow,
}

#[derive(Debug, Group)]
pub(crate) struct LayerToc {
    /// The layer: its id or the beginning of it, its diff id, or its link id.
    pub(crate) layer: String,
    /// Keep the whiteouts and opaque markers, by which the layer hides what lower ones have.
    #[arg(long)]
    pub(crate) keep_whiteouts: bool,
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
    /// The image: a name, an id or its beginning, or a digest.
    pub(crate) image: String,
    /// The directory to extract to; it must not exist, or be empty.
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) how: ExtractHow,
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

#[derive(Debug, Subcommand)]
pub(crate) enum LayerCommand {
    /// List the layers of the store.
    #[command(visible_alias = "ls")]
    List(List),
    /// Show a layer, and with --chain what it stands on.
    Inspect(InspectLayer),
    /// Write the exact tar of a layer.
    Export(Export),
    /// Extract what a layer has of its own.
    Extract(ExtractLayer),
    /// Write the table of contents of a layer, as eStargz has it.
    Toc(LayerToc),
    /// Write the splitfdstream of a layer and the list of its external files, to look at.
    Splitfd(SplitFd),
}

#[derive(Debug, Group)]
pub(crate) struct SplitFd {
    /// The layer: its id or the beginning of it, its diff id, or its link id.
    pub(crate) layer: String,
    /// The stream, with the list beside it in FILE.files; in a directory they are called stream and files.
    #[arg(short, long, value_name = "FILE|DIR")]
    pub(crate) output: PathBuf,
    /// Files below this size stand in the stream itself.
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_INLINE_THRESHOLD)]
    pub(crate) inline_threshold: u64,
    /// Write the stream compressed with zstd; in a directory it is called stream.zst.
    #[cfg(feature = "zstd")]
    #[arg(long)]
    pub(crate) zstd: bool,
}

#[derive(Debug, Group)]
pub(crate) struct InspectLayer {
    /// The layer: its id or the beginning of it, its diff id, or its link id.
    pub(crate) layer: String,
    /// Show the whole chain too, from the base up to the layer.
    #[arg(long)]
    pub(crate) chain: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Group)]
pub(crate) struct Export {
    /// The layer: its id or the beginning of it, its diff id, or its link id.
    pub(crate) layer: String,
    /// The file to write, which appears when it is complete; by default standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// How far the tar is checked on the way: against the layer's digest, file by file, or not at all.
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub(crate) verify: VerifyHow,
}

#[derive(Debug, Group)]
pub(crate) struct ExtractLayer {
    /// The layer: its id or the beginning of it, its diff id, or its link id.
    pub(crate) layer: String,
    /// The directory to extract to; it must not exist, or be empty.
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) how: ExtractHow,
}

#[derive(Debug, Group)]
pub(crate) struct ResolveLink {
    /// The link id: 26 capital letters and digits.
    pub(crate) link: String,
}

#[derive(Debug, Group)]
pub(crate) struct Check {
    /// An image or a layer; an image is looked for first.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) target: Option<String>,
    /// Every layer of the store.
    #[arg(long)]
    pub(crate) all: bool,
    /// How closely to look: at the description alone, at every file, or at the digest of the whole as well.
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    pub(crate) level: CheckLevel,
    /// A line for each finding, or JSON for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

#[derive(Debug, Group)]
pub(crate) struct Doctor {
    /// A line for each finding, or JSON for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum VerifyHow {
    #[default]
    Digest,
    Crc,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CompressHow {
    #[default]
    None,
    Gzip,
    #[cfg(feature = "zstd")]
    Zstd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CheckLevel {
    Structure,
    Crc,
    #[default]
    Digest,
}

#[derive(Debug, Group)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) output: Output,
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

/// The store that is meant, and why.
#[derive(Debug, Group)]
pub(crate) struct Info {
    /// Show every file and variable that was looked at, and why it counted or not.
    #[arg(long)]
    pub(crate) explain: bool,
    /// A table for people, or JSON for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
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
    /// The image: a name, an id or its beginning, or a digest.
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How results are printed.
#[derive(Debug, Group)]
pub(crate) struct Output {
    /// A table for people, or JSON for programs (described in docs/json.md; use jq to take it apart).
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// Print ids only.
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) quiet: bool,
    /// Print ids in full.
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Helper {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LaunchBy {
    #[default]
    Auto,
    Podman,
    Buildah,
    Newuidmap,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ReflinkWhen {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum DeviceNodes {
    #[default]
    Skip,
    Create,
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ProgressHow {
    #[default]
    Auto,
    Plain,
    Never,
}

impl Command {
    /// Whether it plans before it opens contents.
    pub(crate) fn is_planned(&self) -> bool {
        matches!(
            self,
            Command::Extract(_)
                | Command::Image { command: ImageCommand::Extract(_) }
                | Command::Layer { command: LayerCommand::Extract(_) }
        )
    }
}

impl From<CompressHow> for Compression {
    fn from(how: CompressHow) -> Compression {
        match how {
            CompressHow::None => Compression::None,
            CompressHow::Gzip => Compression::Gzip,
            #[cfg(feature = "zstd")]
            CompressHow::Zstd => Compression::Zstd,
        }
    }
}

impl From<DeviceNodes> for Devices {
    fn from(devices: DeviceNodes) -> Devices {
        match devices {
            DeviceNodes::Skip => Devices::Skip,
            DeviceNodes::Create => Devices::Create,
            DeviceNodes::Fail => Devices::Fail,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}
