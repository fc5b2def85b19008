//! The layers of a chain as one tree: their members are read, one layer after the other, and laid over each other.

use super::entries;
use crate::access::Escalating;
use crate::contents::ImageError;
use crate::store::chain::Chain;
use crate::tree::{FinalTree, Keep, MergeError};

/// What a merge keeps, and whom it tells of its progress.
pub(crate) struct Merging<'a> {
    /// Of which attributes the values are wanted.
    pub(crate) keep: Keep<'a>,
    /// Is told of each layer: how many are done, and its entries.
    pub(crate) progress: &'a mut dyn FnMut(usize, u64),
}

/// Merges the layers of a chain, and keeps all values of attributes.
pub(crate) fn merge(chain: &mut Chain) -> Result<FinalTree, ImageError> {
    merge_with(chain, Merging { keep: &|_| true, progress: &mut |_, _| {} })
}

/// Merges the layers of a chain.
pub(crate) fn merge_with(chain: &mut Chain, merging: Merging<'_>) -> Result<FinalTree, ImageError> {
    let mut source = Escalating::new(chain.shared());
    merge_below(chain, chain.layers().len(), &mut source, merging)
}

/// Merges the layers of a chain below the one at `top`.
pub(crate) fn merge_below(
    chain: &mut Chain,
    top: usize,
    source: &mut Escalating,
    merging: Merging<'_>,
) -> Result<FinalTree, ImageError> {
    let mut tree = FinalTree::new(chain.account());
    let interrupt = chain.interrupt().clone();
    for place in 0..top {
        let mut count = 0;
        // A chain has at most 500 layers.
        let number = u16::try_from(place).unwrap_or(u16::MAX);
        tree.lay(number, merging.keep, &interrupt, |upper| -> Result<(), ImageError> {
            entries::each_member(chain, place, source, &mut |layer, member| {
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
