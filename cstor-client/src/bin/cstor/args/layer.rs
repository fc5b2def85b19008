//! What `cstor layer …` takes.

use std::path::PathBuf;

use clap::{Args as Group, Subcommand};
use cstor_client::Verify;
use cstor_client::splitfdstream::DEFAULT_INLINE_THRESHOLD;

use super::choice::{HOW_FAR, Output, one_of};
use super::image::{ExtractHow, TocHow};

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
    #[arg(long, value_parser = one_of(HOW_FAR), default_value = "digest", value_name = "HOW")]
    pub(crate) verify: Verify,
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
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) output: Output,
}
