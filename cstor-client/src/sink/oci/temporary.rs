//! A file without a name until it is complete. Where the file system can, it never has a temporary name at all, so
//! that not even a killed process leaves one behind (open(2), `O_TMPFILE`).

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat, unlinkat};
use rustix::io::Errno;

/// An incomplete file; dropping it removes it.
#[derive(Debug)]
pub(super) struct Temporary<'a> {
    directory: BorrowedFd<'a>,
    file: File,
    /// Its name of the moment, if it has one.
    name: Option<String>,
}

impl<'a> Temporary<'a> {
    pub(super) fn create(directory: BorrowedFd<'a>) -> Result<Temporary<'a>, Errno> {
        let mode = Mode::from(0o666);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match openat(directory, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => return Ok(Temporary { directory, file: file.into(), name: None }),
            // Not every file system has files without a name.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
        let name = random_name();
        let file = openat(directory, &name, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
        Ok(Temporary { directory, file: file.into(), name: Some(name) })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, in place of what had it before.
    pub(super) fn publish(mut self, name: &OsStr) -> Result<(), Errno> {
        if self.name.is_none() {
            // linkat(2) replaces nothing, rename(2) does.
            let temporary = random_name();
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            linkat(CWD, &own, self.directory, &temporary, AtFlags::SYMLINK_FOLLOW)?;
            self.name = Some(temporary);
        }
        if let Some(temporary) = &self.name {
            renameat(self.directory, temporary, self.directory, name)?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Nothing more can be done about it.
            let _ = unlinkat(self.directory, name, AtFlags::empty());
        }
    }
}

fn random_name() -> String {
    format!(".cstor-{:016x}", RandomState::new().build_hasher().finish())
}
