//! The moment between planning and placing, when a caller may confine its process.
//!
//! The plan stands, the helper is ready if the plan says that it is needed, and the destination is open. What
//! the caller does with that is its own concern: a library does not confine its host.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use cstor_helper::open::layers_dir;

use super::destination::Staging;
use super::error::ExtractError;
use super::plan::Plan;
use crate::access::Chain;
use crate::access::Escalating;

/// What an extraction uses from now on, beside what is open already.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reach<'a> {
    /// The directories of the store and of additional ones, and those of them that podman may mount on themselves: it
    /// reads beneath them.
    pub reads: Vec<BorrowedFd<'a>>,
    /// Where the result grows: it makes anything beneath it.
    pub grows: BorrowedFd<'a>,
    /// The directory that holds this one and the destination: it renames directories in it, and removes empty ones.
    pub beside: BorrowedFd<'a>,
    /// What the result replaces: it removes everything beneath it. None where nothing is replaced.
    pub goes: Option<BorrowedFd<'a>>,
}

type Action = dyn Fn(&Reach<'_>) -> io::Result<()> + Send + Sync;

/// What the caller wants to do at that moment.
#[derive(Clone)]
pub(super) struct Hook(Arc<Action>);

impl Hook {
    pub(super) fn new(action: impl Fn(&Reach<'_>) -> io::Result<()> + Send + Sync + 'static) -> Hook {
        Hook(Arc::new(action))
    }

    /// Waits for the helper if it is needed, gives up starting one later, and then calls the hook.
    pub(super) fn run(
        &self,
        chain: &Chain,
        plan: &Plan<'_>,
        staging: &Staging,
        source: &mut Escalating,
    ) -> Result<(), ExtractError> {
        let needed = plan.needs_helper || (source.all_proxied() && plan.bytes > 0);
        if let Some(proxied) = source.proxied() {
            proxied.settle(needed)?;
        }
        let roots: Vec<_> = chain.store().roots.all().map(|root| root.dir()).collect();
        let layers: Vec<_> = roots.iter().filter_map(layers_dir).collect();
        self.call(roots.into_iter().chain(layers.iter().map(AsFd::as_fd)).collect(), staging)
    }

    /// Calls the hook where there is no store and no helper.
    pub(super) fn call(&self, reads: Vec<BorrowedFd<'_>>, staging: &Staging) -> Result<(), ExtractError> {
        let (grows, beside, goes) = (staging.root(), staging.parent(), staging.replaced());
        (self.0)(&Reach { reads, grows, beside, goes }).map_err(ExtractError::Hook)
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
