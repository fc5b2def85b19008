//! How many descriptors and connections a server may have, shared out before any is opened.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::descriptors::descriptor_limit;

/// For the store, the helper, the listening socket and standard streams.
const RESERVED: usize = 48;

/// What nobody has taken yet.
#[derive(Debug)]
pub(super) struct Budget {
    free: AtomicUsize,
    whole: usize,
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share<'b> {
    budget: &'b Budget,
    size: usize,
}

impl Budget {
    /// All that the limit of this process leaves.
    pub(super) fn of_this_process() -> Budget {
        Budget::new(descriptor_limit().saturating_sub(RESERVED))
    }

    /// So many.
    pub(super) fn new(whole: usize) -> Budget {
        Budget { free: AtomicUsize::new(whole), whole }
    }

    /// Takes that many, or `None` if fewer are left.
    pub(super) fn take(&self, size: usize) -> Option<Share<'_>> {
        let taken = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(size)).is_ok();
        taken.then(|| Share { budget: self, size })
    }

    /// How many there are in all.
    pub(super) fn whole(&self) -> usize {
        self.whole
    }

    /// How many are left at this moment.
    pub(super) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_shared_out_than_there_is() {
        let budget = Budget::new(10);
        let most = budget.take(7).unwrap();
        assert!(budget.take(4).is_none());
        let rest = budget.take(3).unwrap();
        drop(most);
        assert!(budget.take(8).is_none());
        drop(rest);
        assert!(budget.take(10).is_some());
    }
}
