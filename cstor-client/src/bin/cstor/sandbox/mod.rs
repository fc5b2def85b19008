//! The sandbox that `cstor extract` puts itself into before it places anything: `no_new_privs`, Landlock
//! (`files.rs`) and seccomp (`calls.rs`).
//!
//! A user who runs cstor can read and write more than an extraction needs, and can enter the user namespace, where
//! nearly everything may be read. A parser that was taken over should be able to do neither. The helper has its own
//! sandbox; descriptors that are open already are not affected.
#![allow(clippy::disallowed_methods, reason = "it counts threads in /proc")]

mod calls;
mod files;

use std::io;

use rustix::fs::{Dir, Mode, OFlags, open};
use rustix::thread::set_no_new_privs;

pub(crate) use files::Files;

/// What the kernel enforces now.
#[derive(Debug)]
pub(crate) struct Held {
    /// Files.
    pub(crate) landlock: files::Held,
    /// System calls; not where cstor has no filter for the processor.
    pub(crate) seccomp: bool,
}

/// The sandbox could not be entered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    /// Landlock and seccomp bind the calling thread and those that it starts later, not those beside it.
    #[error("there are {count} threads already")]
    Threads { count: usize },
    #[error("the threads cannot be counted: {0}")]
    Uncounted(#[source] io::Error),
    #[error("no_new_privs cannot be set: {0}")]
    Privileges(#[source] io::Error),
    #[error("Landlock: {0}")]
    Files(#[from] landlock::RulesetError),
    #[error("the filter for system calls cannot be made: {0}")]
    Filter(#[from] seccompiler::BackendError),
    #[error("seccomp: {0}")]
    Calls(#[from] seccompiler::Error),
}

/// Confines this process, which must have one thread: it reaches these files only, and starts no program. What it starts
/// later as threads is confined too.
pub(crate) fn enter(files: &Files<'_>) -> Result<Held, SandboxError> {
    match threads().map_err(SandboxError::Uncounted)? {
        1 => {}
        count => return Err(SandboxError::Threads { count }),
    }
    set_no_new_privs(true).map_err(|errno| SandboxError::Privileges(errno.into()))?;
    let landlock = files::restrict(files)?;
    let seccomp = calls::restrict()?;
    Ok(Held { landlock, seccomp })
}

fn threads() -> io::Result<usize> {
    let tasks = open("/proc/self/task", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut count = 0;
    for entry in Dir::new(tasks)? {
        count += usize::from(entry?.file_name().to_bytes().first().is_some_and(u8::is_ascii_digit));
    }
    Ok(count)
}
