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
pub(crate) use tree::InodeId;
pub use tree::{FinalTree, Inode, InodeKind, Meta, TreeEntry};

use crate::chain::Chain;
use crate::error::Error;
use crate::layer::open_entries;
use crate::source::Escalating;
use layer_tree::LayerTree;

/// Merges the layers of a chain. `progress` is told of each layer: how many are done, and its entries.
pub(crate) fn merge(chain: &mut Chain, progress: &mut dyn FnMut(usize, u64)) -> Result<FinalTree, Error> {
    let mut source = Escalating::new(chain.shared());
    let mut tree = FinalTree::new();
    for place in 0..chain.layers().len() {
        let entries = open_entries(chain, place, &mut source)?;
        let Some(layer) = chain.layers().get(place) else { break };
        let id = layer.record.id;
        // A chain has at most 500 layers.
        let mut upper = LayerTree::new(&mut tree, u16::try_from(place).unwrap_or(u16::MAX));
        let mut count = 0;
        for entry in entries {
            let Some(member) = entry?.member else { continue };
            count += 1;
            upper.add(&member).map_err(|problem| MergeError {
                layer: id,
                name: member.header.path.clone(),
                problem,
            })?;
        }
        let root = upper.root();
        tree.overlay(root);
        progress(place + 1, count);
    }
    Ok(tree)
}
