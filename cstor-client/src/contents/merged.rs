//! The layers of a chain as one tree: their members are read, one layer after the other, and laid over each other.

use super::entries;
use crate::access::{Chain, Escalating};
use crate::contents::ImageError;
use crate::tree::{FinalTree, Keep, MergeError};

/// Merges the layers of a chain; `keep` says of which attributes the values are wanted.
pub(crate) fn merge(chain: &mut Chain, source: &mut Escalating, keep: Keep<'_>) -> Result<FinalTree, ImageError> {
    merge_below(chain, chain.layers().len(), source, keep)
}

/// Merges the layers of a chain below the one at `top`.
pub(crate) fn merge_below(
    chain: &mut Chain,
    top: usize,
    source: &mut Escalating,
    keep: Keep<'_>,
) -> Result<FinalTree, ImageError> {
    let mut tree = FinalTree::new(chain.account());
    let interrupt = chain.interrupt().clone();
    for place in 0..top {
        let mut count = 0;
        // A chain has at most 500 layers.
        let number = u16::try_from(place).unwrap_or(u16::MAX);
        tree.lay(number, keep, &interrupt, |upper| -> Result<(), ImageError> {
            entries::each_member(chain, place, source, &mut |layer, member| {
                count += 1;
                let misplaced = |problem| MergeError { layer, name: member.header.path.clone(), problem };
                upper.add(&member).map_err(misplaced)?;
                Ok(())
            })
        })?;
        chain.progress().layer_read(place + 1, chain.layers().len(), count);
    }
    Ok(tree)
}
