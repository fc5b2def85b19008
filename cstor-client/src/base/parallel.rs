//! Threads that help the calling one with work that it could do alone.
//!
//! The kernel may refuse a thread (ulimit -u, a control group's `pids.max`, address space for its stack), and
//! `std::thread::spawn` panics then. Here that means fewer helpers, and everything else as before.

use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Starts up to `wanted` threads that all do `work`: as many as the kernel allows. The caller works too.
pub(crate) fn start_helpers<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    wanted: usize,
    work: impl FnOnce() -> T + Send + Copy + 'scope,
) -> Vec<ScopedJoinHandle<'scope, T>> {
    let mut started = Vec::new();
    while started.len() < wanted {
        match Builder::new().spawn_scoped(scope, work) {
            Ok(thread) => started.push(thread),
            Err(error) => {
                tracing::debug!(%error, wanted, started = started.len(), "the kernel allows no more threads");
                break;
            }
        }
    }
    started
}
