//! Removing a tree beneath a descriptor, whatever modes its directories have.
//!
//! It follows no symlink and holds two descriptors at a time, however deep the tree is.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, openat2, unlinkat};
use rustix::io::Errno;

use super::destination::{CONFINED, open_dir};
use crate::merge::join;

/// Removes `name` in `parent` with everything below it.
pub(super) fn sweep(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    clear(open_writable(parent, name)?.as_fd())?;
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Removes everything in a directory.
pub(crate) fn clear(top: BorrowedFd<'_>) -> Result<(), Errno> {
    // The empty path is the directory itself.
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.last() {
        let fd = match open_writable(top, path) {
            Err(Errno::NOENT) => {
                pending.pop();
                continue;
            }
            fd => fd?,
        };
        let mut below = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let child = entry.file_name().to_bytes();
            if matches!(child, b"." | b"..") {
                continue;
            }
            match unlinkat(&fd, child, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                // EPERM is what POSIX has for directories, EISDIR what Linux says.
                Err(Errno::ISDIR | Errno::PERM) if may_be_dir(entry.file_type()) => below.push(join(path, child)),
                Err(errno) => return Err(errno),
            }
        }
        drop(fd);
        if below.is_empty() {
            if !path.is_empty() {
                match unlinkat(top, path.as_slice(), AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
            pending.pop();
        } else {
            pending.extend(below);
        }
    }
    Ok(())
}

/// Whether a directory has no entries.
pub(super) fn is_empty(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    for entry in Dir::read_from(open_dir(parent, name)?)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn may_be_dir(kind: FileType) -> bool {
    matches!(kind, FileType::Directory | FileType::Unknown)
}

/// Opens a directory for reading, and lets its owner change it.
fn open_writable(parent: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat2(parent, path, flags, Mode::empty(), CONFINED)?;
    if rustix::fs::fstat(&found)?.st_mode & 0o700 != 0o700 {
        // The one way to change the mode of what is open for lookups only; it cannot mean another file.
        chmodat(CWD, format!("/proc/self/fd/{}", found.as_raw_fd()), Mode::from(0o700), AtFlags::empty())?;
    }
    open_dir(parent, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{mkdirat, open, symlinkat};

    #[test]
    fn trees_go_whatever_their_modes_and_links_stay_links() {
        let dir = tempfile::tempdir().unwrap();
        let top = open(dir.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        let fd = std::os::fd::AsFd::as_fd(&top);
        for path in ["keep", "tree", "tree/a", "tree/a/b", "tree/locked"] {
            mkdirat(fd, path, Mode::from(0o700)).unwrap();
        }
        symlinkat("../keep", fd, "tree/a/link").unwrap();
        symlinkat("x", fd, "keep/inside").unwrap();
        mkdirat(fd, "tree/locked/in", Mode::from(0o700)).unwrap();
        chmodat(fd, "tree/locked", Mode::from(0), AtFlags::empty()).unwrap();
        chmodat(fd, "tree/a", Mode::from(0o555), AtFlags::empty()).unwrap();
        assert!(!is_empty(fd, b"tree").unwrap());
        sweep(fd, b"tree").unwrap();
        assert!(matches!(open_dir(fd, b"tree"), Err(Errno::NOENT)));
        assert!(!is_empty(fd, b"keep").unwrap());
    }
}
