//! The root of a store as a directory descriptor, and the reading of small files beneath it.
//!
//! Nothing is followed out of the root, and only regular files are read: a FIFO or a link in a damaged
//! store must neither block nor lead to another file.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use super::StoreError;
use crate::base::interrupt::Interrupt;

/// The largest JSON file that is read: 1 GiB is 2.5 million layers.
const MAX_JSON: u64 = 1 << 30;
/// What is read of a file between two looks at whether to stop.
const PIECE: u64 = 16 << 20;

/// Nothing is followed out of the root.
pub(super) const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A store's root.
#[derive(Debug)]
pub(crate) struct Root {
    dir: Dir,
    path: PathBuf,
}

impl Root {
    /// Opens a root by path: the only ambient path of a store.
    pub(super) fn open(path: &Path) -> Result<Root, StoreError> {
        let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => StoreError::NoStore { path: path.into() },
            _ => StoreError::Open { path: path.into(), source },
        })?;
        let root = Root { dir, path: path.into() };
        root.refuse_foreign_owner()?;
        Ok(root)
    }

    /// Root must not follow what another user arranged: a link in their store would open any file.
    fn refuse_foreign_owner(&self) -> Result<(), StoreError> {
        let stat = fstat(&self.dir).map_err(|errno| StoreError::read(self.path.clone(), errno))?;
        if rustix::process::geteuid().is_root() && stat.st_uid != 0 {
            return Err(StoreError::ForeignStore { path: self.path.clone(), owner: stat.st_uid });
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Whether there is an entry at this path; symlinks on the way there are not for a store.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.dir.symlink_metadata(name).is_ok()
    }

    /// Whether its layers are mounted by a program, fuse-overlayfs, and not by the kernel (overlay.go,
    /// `getMountProgramFlagFile`).
    pub(crate) fn is_mounted_by_program(&self) -> bool {
        const MAX: u64 = 8;
        self.read("overlay/.has-mount-program", MAX).is_ok_and(|said| said.trim_ascii() == b"true")
    }

    /// A JSON file's bytes, `None` if it is missing or empty: both mean an empty list to containers/storage.
    pub(super) fn read_json(&self, path: &str, interrupt: &Interrupt) -> Result<Option<Vec<u8>>, StoreError> {
        match self.read_until(path, MAX_JSON, interrupt) {
            Ok(bytes) if bytes.is_empty() => Ok(None),
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A regular file's bytes, at most `limit` of them.
    pub(super) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, StoreError> {
        self.read_until(path, limit, &Interrupt::new())
    }

    /// The same of a file that may be large.
    fn read_until(&self, path: &str, limit: u64, interrupt: &Interrupt) -> Result<Vec<u8>, StoreError> {
        let full = || self.path.join(path);
        let file = self.open_regular(path)?;
        let size = fstat(&file).map_err(|errno| StoreError::read(full(), errno))?.st_size as u64;
        if size > limit {
            return Err(StoreError::TooLarge { path: full(), limit });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        let mut file = File::from(file).take(limit);
        loop {
            interrupt.check()?;
            let read = file.by_ref().take(PIECE).read_to_end(&mut bytes);
            if read.map_err(|source| StoreError::Open { path: full(), source })? == 0 {
                return Ok(bytes);
            }
        }
    }

    /// Where a symlink leads to, if there is one of this name.
    pub(super) fn read_link(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match rustix::fs::readlinkat(&self.dir, path, Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::INVAL) => Ok(None),
            Err(errno) => Err(StoreError::read(self.path.join(path), errno)),
        }
    }

    /// Opens a regular file for reading.
    pub(crate) fn open_regular(&self, path: &str) -> Result<OwnedFd, StoreError> {
        let full = || self.path.join(path);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat2(&self.dir, path, flags, Mode::empty(), BENEATH).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => StoreError::Missing { path: full() },
            Errno::LOOP | Errno::XDEV | Errno::NXIO => StoreError::NotRegular { path: full() },
            other => StoreError::read(full(), other),
        })?;
        let stat: Stat = fstat(&file).map_err(|errno| StoreError::read(full(), errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(file),
            _ => Err(StoreError::NotRegular { path: full() }),
        }
    }

    /// When and as which inode a file was last replaced, for noticing that it was.
    pub(super) fn version(&self, path: &str) -> Option<(u64, i64, i64, i64)> {
        let stat = rustix::fs::statat(&self.dir, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec as i64))
    }
}
