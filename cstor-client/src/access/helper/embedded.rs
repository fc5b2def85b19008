//! A program that embeds the library can be its own helper.

use std::env;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Dir, Mode, OFlags};

use super::{HELPER_MARK, SourceError};

use crate::base::ambient;

/// How many threads ran when [`init_if_helper`] was called; 0 if it was not.
static THREADS_AT_INIT: AtomicUsize = AtomicUsize::new(0);

/// Must be the first thing that `main` does in a program that gives a store a helper ([`Storage::with_helper`](crate::Storage::with_helper)).
///
/// When the program was started to be the helper, this serves and does not return; otherwise it does
/// nothing. A helper must have one thread: in an async program, `main` itself must be a plain function
/// that calls this before it starts the runtime.
pub fn init_if_helper() {
    THREADS_AT_INIT.store(threads().max(1), Ordering::Relaxed);
    if is_marked() {
        std::process::exit(cstor_helper::run().code().into());
    }
}

/// Whether this process was started to be a helper.
fn is_marked() -> bool {
    let mut arguments = env::args_os().skip(1);
    arguments.next().is_some_and(|first| first == HELPER_MARK)
        && arguments.next().is_none_or(|second| second == cstor_helper::UNSHARE)
        && arguments.next().is_none()
}

/// Whether the program can be its own helper.
pub(super) fn is_prepared() -> Result<bool, SourceError> {
    match THREADS_AT_INIT.load(Ordering::Relaxed) {
        // A helper that starts a helper, without end, is what forgetting the call must not lead to.
        0 if is_marked() => Err(SourceError::NotInitialised),
        0 => Ok(false),
        1 => Ok(true),
        threads => Err(SourceError::TooManyThreads { threads }),
    }
}

fn threads() -> usize {
    let tasks = ambient::open("/proc/self/task", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let numbers = tasks.and_then(Dir::new).map(|dir| {
        dir.filter_map(Result::ok).filter(|entry| entry.file_name().to_bytes().first().is_some_and(u8::is_ascii_digit))
    });
    numbers.map_or(0, Iterator::count)
}
