//! The command line, as it is typed.

mod choice;
mod container;
mod image;
mod layer;
mod serve;

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand};
use cstor_client::Verify;
use cstor_client::helper::{HelperOptions, HelperPolicy, Launcher};

pub(crate) use choice::*;
pub(crate) use container::*;
pub(crate) use image::*;
pub(crate) use layer::*;
pub(crate) use serve::*;

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
    /// An option of the store's driver, as for podman; with --root only. `additionalimagestore=DIR` adds a
    /// store, `additionallayerstore=DIR[:ref]` a store of single layers.
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
    /// How much memory may go to what an image or container chooses: names, paths, link targets, attributes, headers.
    /// By default 256M, and never more than half of what the process may have.
    #[arg(long, global = true, value_name = "SIZE", value_parser = memory_size)]
    pub(crate) memory_limit: Option<u64>,
}

impl Store {
    /// Whether anything was said about a store or a helper. To clap, a flag that belongs to every command and stands
    /// before it conflicts with none of the command's own.
    pub(crate) fn is_meant(&self) -> bool {
        self.root.is_some()
            || self.helper != Helper::default()
            || self.launcher != LaunchBy::default()
            || self.require_sandbox
    }

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
    /// Extract an image or a container to a directory; the same as `image extract`.
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
    /// Serve images and layers to other programs of the same user: JSON-RPC with descriptors, over a Unix socket.
    Serve(Serve),
    /// List containers, and show what they have changed. Every command for files of an image takes container:NAME too.
    Container {
        #[command(subcommand)]
        command: ContainerCommand,
    },
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

#[derive(Debug, Group)]
pub(crate) struct ResolveLink {
    /// The link id: 26 capital letters and digits.
    pub(crate) link: String,
}

#[derive(Debug, Group)]
pub(crate) struct Check {
    /// An image, container:NAME, or a layer; an image is looked for first.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) target: Option<String>,
    /// Every layer of the store.
    #[arg(long)]
    pub(crate) all: bool,
    /// How closely to look: at the description alone, at every file, or at the digest of the whole as well.
    #[arg(long, value_parser = one_of(HOW_CLOSELY), default_value = "digest", value_name = "LEVEL")]
    pub(crate) level: Verify,
    /// A line for each finding, or JSON for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

#[derive(Debug, Group)]
pub(crate) struct Doctor {
    /// Where a result would be made.
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// A line for each finding, or JSON for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}
