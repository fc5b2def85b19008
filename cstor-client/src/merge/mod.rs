//! From the members of all layers to the tree that a container would see; nothing is opened or written.
//!
//! It does what podman and overlayfs do together: each layer becomes a tree of its own, as podman's untar
//! makes it in an empty directory (`layer_tree.rs`), and is then laid over the tree of those below
//! (`overlay.rs`). So a symlink is followed only within its layer, and whiteouts hide lower layers only,
//! wherever they stand in the tar.

mod error;
mod layer_tree;
mod overlay;
mod tree;
mod whiteout;

pub use error::{MergeError, MergeProblem};
pub(crate) use layer_tree::{LayerTree, MAX_INODES};
pub use tree::{FinalTree, Inode, InodeKind, Meta, TreeEntry};
pub(crate) use tree::{InodeId, join, split};
pub(crate) use whiteout::{Meaning, classify, is_marker};

use crate::chain::Chain;
use crate::error::Error;
use crate::layer::open_entries;
use crate::source::Escalating;

/// Merges the layers of a chain. `progress` is told of each layer: how many are done, and its entries.
pub(crate) fn merge(chain: &mut Chain, progress: &mut dyn FnMut(usize, u64)) -> Result<FinalTree, Error> {
    let mut source = Escalating::new(chain.shared());
    merge_below(chain, chain.layers().len(), &mut source, progress)
}

/// Merges the layers of a chain below the one at `top`.
pub(crate) fn merge_below(
    chain: &mut Chain,
    top: usize,
    source: &mut Escalating,
    progress: &mut dyn FnMut(usize, u64),
) -> Result<FinalTree, Error> {
    let mut tree = FinalTree::new();
    for place in 0..top {
        let entries = open_entries(chain, place, source)?;
        let Some(layer) = chain.layers().get(place) else { break };
        let id = layer.record.id;
        let mut count = 0;
        // A chain has at most 500 layers.
        tree.lay(u16::try_from(place).unwrap_or(u16::MAX), |upper| -> Result<(), Error> {
            for entry in entries {
                let Some(member) = entry?.member else { continue };
                count += 1;
                let misplaced = |problem| MergeError { layer: id, name: member.header.path.clone(), problem };
                upper.add(&member).map_err(misplaced)?;
            }
            Ok(())
        })?;
        progress(place + 1, count);
    }
    Ok(tree)
}

impl FinalTree {
    /// Lays one more layer over the tree: `add` puts its members into a tree of its own first.
    pub(crate) fn lay<E>(
        &mut self,
        layer: u16,
        add: impl FnOnce(&mut LayerTree<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut upper = LayerTree::new(self, layer);
        add(&mut upper)?;
        let root = upper.root();
        self.overlay(root);
        Ok(())
    }
}
