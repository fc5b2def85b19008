//! From the members of all layers to the tree that a container would see; nothing is opened, read or written.
//!
//! It does what podman and overlayfs do together: each layer becomes a tree of its own, as podman's untar
//! makes it in an empty directory (`layer_tree.rs`), and is then laid over the tree of those below
//! (`overlay.rs`). So a symlink is followed only within its layer, and whiteouts hide lower layers only,
//! wherever they stand in the tar.

mod error;
mod final_tree;
mod inode;
mod layer_tree;
mod lookup;
mod overlay;
mod whiteout;

pub use error::{MergeError, MergeProblem};
pub use final_tree::FinalTree;
pub use inode::{Inode, InodeKind, Meta, TreeEntry};
pub(crate) use inode::{InodeId, Keep};
pub(crate) use layer_tree::LayerTree;
pub use lookup::{LookupError, LookupProblem};
pub(crate) use whiteout::{Meaning, classify, is_marker};

use crate::base::interrupt::{Interrupt, Interrupted};

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
