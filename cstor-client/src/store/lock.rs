//! Read locks that podman's own locks respect, held for milliseconds.
//!
//! containers/storage locks with fcntl record locks (internal/rawfilelock/rawfilelock_unix.go); flock(2)
//! does not interact with them. Open-file-description locks do, and unlike record locks they do not
//! vanish when another part of the process closes the same file (fcntl_locking(2)).

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, pread};

use super::StoreError;
use super::file::Root;
use crate::base::interrupt::Interrupt;

/// How long to wait for a writer: podman holds the lock for a whole `save` of a layer.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A held read lock; dropping it releases it.
#[derive(Debug)]
pub(super) struct ReadLock {
    file: OwnedFd,
}

/// What the last writer left in the lock file: time, counter, pid and random bytes; empty if there was no writer.
pub(super) type Token = Vec<u8>;

impl ReadLock {
    /// Takes the read lock on `path` of a store.
    ///
    /// `None` where the file is missing or cannot be opened: a store on read-only media has none, and the
    /// JSON files are replaced by rename, so each of them is whole without it.
    pub(super) fn take(root: &Root, path: &str, interrupt: &Interrupt) -> Result<Option<ReadLock>, StoreError> {
        let full = root.path().join(path);
        let file = match open(root, path) {
            Ok(file) => file,
            Err(errno) => {
                if errno != Errno::NOENT {
                    tracing::warn!(file = %full.display(), %errno, "reading the store without its lock");
                }
                return Ok(None);
            }
        };
        wait_for(&file, full, interrupt)?;
        Ok(Some(ReadLock { file }))
    }

    /// The last writer's token: the first 64 bytes (pkg/lockfile/lastwrite.go).
    pub(super) fn token(&self) -> Token {
        let mut token = [0; 64];
        let length = pread(&self.file, &mut token, 0).unwrap_or(0);
        token.get(..length).unwrap_or_default().to_vec()
    }
}

/// What holds a lock at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockState {
    /// Nobody who writes; readers may be there.
    Free,
    /// A writer.
    Held {
        /// Its process, if the kernel tells.
        by: Option<i32>,
    },
    /// There is no lock file: the store is read without.
    Missing,
    /// It cannot be opened, or its file system has no locks: the store is read without.
    Unknown {
        /// What the kernel said.
        errno: i32,
    },
}

/// Looks at the lock without taking it, and without waiting.
pub(crate) fn lock_state(root: &Root, path: &str) -> LockState {
    let file = match open(root, path) {
        Ok(file) => file,
        Err(Errno::NOENT) => return LockState::Missing,
        Err(errno) => return LockState::Unknown { errno: errno.raw_os_error() },
    };
    let mut lock = whole_file(libc::F_RDLCK);
    match fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)) {
        Ok(_) if i32::from(lock.l_type) == libc::F_UNLCK => LockState::Free,
        Ok(_) => LockState::Held { by: Some(lock.l_pid).filter(|&pid| pid > 0) },
        Err(errno) => LockState::Unknown { errno: errno as i32 },
    }
}

fn open(root: &Root, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(root.dir(), path, flags, Mode::empty(), beneath)
}

fn wait_for(file: &OwnedFd, path: PathBuf, interrupt: &Interrupt) -> Result<(), StoreError> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_RDLCK))) {
            Ok(_) => return Ok(()),
            Err(nix::Error::EAGAIN | nix::Error::EACCES | nix::Error::EINTR) => {}
            Err(errno) => {
                // A file system without locks; as with a missing lock file.
                tracing::warn!(file = %path.display(), %errno, "reading the store without its lock");
                return Ok(());
            }
        }
        if Instant::now() >= deadline {
            return Err(StoreError::Locked { holder: holder(file), path });
        }
        interrupt.sleep(pause)?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The process that stands in the way; `None` if it is gone, or holds an open-file-description lock.
fn holder(file: &OwnedFd) -> Option<i32> {
    let mut lock = whole_file(libc::F_RDLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).ok()?;
    (i32::from(lock.l_type) != libc::F_UNLCK && lock.l_pid > 0).then_some(lock.l_pid)
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}
