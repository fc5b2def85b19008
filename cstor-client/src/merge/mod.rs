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
pub(crate) use layer_tree::LayerTree;
pub use tree::{FinalTree, Inode, InodeKind, Meta, TreeEntry};
pub(crate) use tree::{InodeId, Keep};
pub(crate) use whiteout::{Meaning, classify, is_marker};

use crate::base::interrupt::{Interrupt, Interrupted};
use crate::chain::Chain;
use crate::error::Error;
use crate::layer;
use crate::source::Escalating;

/// What a merge keeps, and whom it tells of its progress.
pub(crate) struct Merging<'a> {
    /// Of which attributes the values are wanted.
    pub(crate) keep: Keep<'a>,
    /// Is told of each layer: how many are done, and its entries.
    pub(crate) progress: &'a mut dyn FnMut(usize, u64),
}

/// Merges the layers of a chain, and keeps all values of attributes.
pub(crate) fn merge(chain: &mut Chain) -> Result<FinalTree, Error> {
    merge_with(chain, Merging { keep: &|_| true, progress: &mut |_, _| {} })
}

/// Merges the layers of a chain.
pub(crate) fn merge_with(chain: &mut Chain, merging: Merging<'_>) -> Result<FinalTree, Error> {
    let mut source = Escalating::new(chain.shared());
    merge_below(chain, chain.layers().len(), &mut source, merging)
}

/// Merges the layers of a chain below the one at `top`.
pub(crate) fn merge_below(
    chain: &mut Chain,
    top: usize,
    source: &mut Escalating,
    merging: Merging<'_>,
) -> Result<FinalTree, Error> {
    let mut tree = FinalTree::new(chain.account());
    let interrupt = chain.interrupt().clone();
    for place in 0..top {
        let mut count = 0;
        // A chain has at most 500 layers.
        let number = u16::try_from(place).unwrap_or(u16::MAX);
        tree.lay(number, merging.keep, &interrupt, |upper| -> Result<(), Error> {
            layer::each_member(chain, place, source, &mut |layer, member| {
                count += 1;
                let misplaced = |problem| MergeError { layer, name: member.header.path.clone(), problem };
                upper.add(&member).map_err(misplaced)?;
                Ok(())
            })
        })?;
        (merging.progress)(place + 1, count);
    }
    Ok(tree)
}

impl FinalTree {
    /// Lays one more layer over the tree: `add` puts its members into a tree of its own first.
    pub(crate) fn lay<E: From<Interrupted>>(
        &mut self,
        layer: u16,
        keep: Keep<'_>,
        interrupt: &Interrupt,
        add: impl FnOnce(&mut LayerTree<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut upper = LayerTree::new(self, layer, keep);
        add(&mut upper)?;
        let root = upper.root();
        Ok(self.overlay(root, interrupt)?)
    }
}
