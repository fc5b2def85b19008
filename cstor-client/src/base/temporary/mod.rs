//! Files and directories that are not complete yet. They have no name at all where the file system can do without one
//! (open(2), `O_TMPFILE`), else a temporary one that every way out removes; their maker holds a lock on them (flock(2))
//! for as long as it lives, so that the next run into the same directory can tell what a killed one has left.
//!
//! ```
//! use std::io::Write;
//! use cstor_client::interrupt::Interrupt;
//! use cstor_client::temporary::NewFile;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("layer.tar");
//! let file = NewFile::create(&path, &Interrupt::new())?;
//! file.writer().write_all(b"everything that belongs there")?;
//! assert!(!path.exists());
//! file.publish()?;
//! assert!(path.exists());
//! # Ok(())
//! # }
//! ```

mod directory;
mod incomplete;
mod name;
mod new_file;
mod remains;

pub use name::temporary_name;
pub use new_file::{NewFile, PublishError, publish_all};
pub use remains::remove_dead_sockets;

pub(crate) use directory::{NewDirectory, make_private};
pub(crate) use incomplete::{Appeared, Incomplete, without_name};
pub(crate) use name::is_temporary_name;
pub(crate) use remains::remove_dead;
#[cfg(feature = "cli")]
pub(crate) use remains::{Remains, list};

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, flock, fstat, statat, unlinkat};
use rustix::io::Errno;

/// Whoever looks for the remains of a killed run holds the lock of a new file for as long as it takes to see that it is
/// empty: a second in all is far more than that.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Names that are tried. One is lost only to a run that has just begun to look for remains, before the lock was taken.
const NAME_ATTEMPTS: u32 = 16;

/// Makes something under a temporary name and takes its lock. It may have been removed as the remains of a killed run
/// before the lock was there: then the name leads nowhere, and the next one is tried.
fn make_named(
    parent: BorrowedFd<'_>,
    base: &OsStr,
    removal: AtFlags,
    make: impl Fn(&OsStr) -> Result<OwnedFd, Errno>,
) -> Result<(OsString, OwnedFd), Errno> {
    let mut last = Errno::BUSY;
    for _ in 0..NAME_ATTEMPTS {
        let temporary = temporary_name(base);
        let made = match make(&temporary) {
            Err(errno @ (Errno::EXIST | Errno::NOENT)) => {
                last = errno;
                continue;
            }
            made => made?,
        };
        match hold(&made).then(|| leads_to(parent, &temporary, made.as_fd())) {
            Some(Ok(true)) => return Ok((temporary, made)),
            Some(Ok(false)) | None => last = Errno::BUSY,
            Some(Err(errno)) => {
                let _ = unlinkat(parent, &temporary, removal);
                return Err(errno);
            }
        }
        // If it is still there, somebody keeps the lock of it.
        let _ = unlinkat(parent, &temporary, removal);
    }
    Err(last)
}

/// Whether a name in a directory is that of an open file.
fn leads_to(parent: BorrowedFd<'_>, name: &OsStr, file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let own = fstat(file)?;
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(false),
        found => found.map(|found| (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)),
    }
}

/// Takes the lock that says that the maker lives; false if somebody else holds it for longer than a moment.
fn hold(made: impl AsFd) -> bool {
    for _ in 0..LOCK_ATTEMPTS {
        match flock(&made, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => sleep(LOCK_PAUSE),
            Err(Errno::INTR) => {}
            Ok(()) => return true,
            // A file system without locks: nobody else gets this one either, and so nobody removes what it is on.
            Err(errno) => {
                tracing::debug!(%errno, "the file system has no locks");
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests look at what there is by path")]
mod tests;
