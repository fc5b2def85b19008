//! The merged files of a chain of layers: what a container of an image sees, or a container itself.
//!
//! Whose chain it is does not matter here; an extraction to a directory is in `extract/`.

use std::io::Write;

use crate::contents::ImageError;
use crate::contents::merged;
use crate::output::OutputError;
use crate::output::flat;
use crate::output::toc::{self, Toc};
use crate::store::chain::Chain;
use crate::tree::FinalTree;

/// The files, from the headers alone.
pub(crate) fn tree(mut chain: Chain) -> Result<FinalTree, ImageError> {
    merged::merge(&mut chain)
}

/// Their table of contents, with the digests of their contents if `digests` is set.
pub(crate) fn toc(mut chain: Chain, digests: bool) -> Result<Toc, OutputError> {
    let tree = merged::merge(&mut chain)?;
    Toc::collect(chain.account(), |take| toc::of_tree(&tree, &chain, digests, take))
}

/// Writes the same as JSON, without keeping it.
pub(crate) fn write_toc(mut chain: Chain, digests: bool, pretty: bool, out: impl Write) -> Result<(), OutputError> {
    let tree = merged::merge(&mut chain)?;
    toc::write(out, pretty, |take| toc::of_tree(&tree, &chain, digests, take))
}

/// Writes them as one tar.
pub(crate) fn export(mut chain: Chain, out: impl Write) -> Result<u64, OutputError> {
    let tree = merged::merge(&mut chain)?;
    flat::write(&tree, &chain, out)
}
