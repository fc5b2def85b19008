//! Removing a tree beneath a descriptor, whatever modes its directories have, and however deep or wide it is.
//!
//! It follows no symlink and enters no mount; `descent.rs` has the walk.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat2, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::descent::{At, Step, Visit, descend};
use crate::base::ambient;
use crate::base::beneath::{CONFINED, open_dir};
use crate::base::interrupt::Interrupt;

/// How often directories may not be empty when they are left, before it is given up: some file systems pass over names
/// where others were removed, but this often somebody fills them.
const MAX_REFILLED: u32 = 1 << 20;

/// Removes everything in a directory.
pub(crate) fn clear(top: BorrowedFd<'_>) -> Result<(), At<Errno>> {
    sweep(top, None)
}

/// The same for callers to whom it does not matter where it failed.
pub(crate) fn empty(top: BorrowedFd<'_>) -> Result<(), Errno> {
    clear(top).map_err(|at| at.problem)
}

/// The same until the interrupt is raised (EINTR).
pub(crate) fn empty_unless_raised(top: BorrowedFd<'_>, interrupt: &Interrupt) -> Result<(), Errno> {
    sweep(top, Some(interrupt)).map_err(|at| at.problem)
}

fn sweep(top: BorrowedFd<'_>, interrupt: Option<&Interrupt>) -> Result<(), At<Errno>> {
    let top = open_writable(top, b".").map_err(|problem| At { path: Vec::new(), problem })?;
    descend(top, &mut Sweep { interrupt, began: Instant::now(), noticed: false, removed: false, refilled: 0 })
}

/// Whether a directory has no entries.
pub(crate) fn is_empty(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    for entry in Dir::new(open_dir(parent, name)?)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// After how long it is said that removing takes time.
const NOTICE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Sweep<'a> {
    interrupt: Option<&'a Interrupt>,
    began: Instant,
    noticed: bool,
    /// Whether anything was removed since the uppermost directory was begun.
    removed: bool,
    /// How often a directory was left and is still not empty.
    refilled: u32,
}

impl Sweep<'_> {
    /// Removes a directory if it is empty.
    fn remove_dir(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Step, Errno> {
        match unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) => {
                self.removed = true;
                Ok(Step::Next)
            }
            Err(Errno::NOENT) => Ok(Step::Next),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(Step::Enter),
            Err(errno) => Err(errno),
        }
    }
}

impl Visit for Sweep<'_> {
    type Problem = Errno;
    const COMES_BACK: bool = true;

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<Step, Errno> {
        if self.interrupt.is_some_and(Interrupt::is_raised) {
            return Err(Errno::INTR);
        }
        if !self.noticed && self.began.elapsed() > NOTICE {
            self.noticed = true;
            tracing::warn!("still removing files; what another signal leaves, the next run removes");
        }
        if kind == FileType::Directory {
            return self.remove_dir(dir, name);
        }
        match unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) => {
                self.removed = true;
                Ok(Step::Next)
            }
            Err(Errno::NOENT) => Ok(Step::Next),
            // EPERM is what POSIX has for directories, EISDIR what Linux says.
            Err(errno @ (Errno::ISDIR | Errno::PERM)) => match self.remove_dir(dir, name) {
                Err(Errno::NOTDIR) => Err(errno),
                removed => removed,
            },
            Err(errno) => Err(errno),
        }
    }

    fn open(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
        match open_writable(dir, name.to_bytes()) {
            Err(Errno::NOENT) => Ok(None),
            opened => opened.map(Some),
        }
    }

    fn left(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Step, Errno> {
        let step = self.remove_dir(dir, name)?;
        if step == Step::Enter {
            self.refilled += 1;
            if self.refilled > MAX_REFILLED {
                return Err(Errno::NOTEMPTY);
            }
        }
        Ok(step)
    }

    /// Names may be passed over in a directory that changes while it is read (readdir(3)).
    fn again(&mut self) -> bool {
        std::mem::take(&mut self.removed)
    }

    fn lacks_descriptors(problem: &Errno) -> bool {
        matches!(*problem, Errno::MFILE | Errno::NFILE)
    }
}

/// Opens a directory for reading, and lets its owner change it.
fn open_writable(parent: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat2(parent, path, flags, Mode::empty(), CONFINED)?;
    let stat = fstat(&found)?;
    // Others may not change the mode, but perhaps the directory.
    if stat.st_mode & 0o700 != 0o700 && stat.st_uid == geteuid().as_raw() {
        // The one way to change the mode of what is open for lookups only; it cannot mean another file.
        ambient::chmod(format!("/proc/self/fd/{}", found.as_raw_fd()), Mode::from(0o700))?;
    }
    open_dir(found.as_fd(), b"")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test opens what it has made by path")]
mod tests {
    use super::*;
    use rustix::fs::{chmodat, mkdirat, open, symlinkat};

    fn opened(path: &std::path::Path) -> OwnedFd {
        open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn trees_go_whatever_their_modes_and_links_stay_links() {
        let dir = tempfile::tempdir().unwrap();
        let top = opened(dir.path());
        let fd = top.as_fd();
        for path in ["keep", "tree", "tree/a", "tree/a/b", "tree/locked"] {
            mkdirat(fd, path, Mode::from(0o700)).unwrap();
        }
        symlinkat("../keep", fd, "tree/a/link").unwrap();
        symlinkat("x", fd, "keep/inside").unwrap();
        mkdirat(fd, "tree/locked/in", Mode::from(0o700)).unwrap();
        chmodat(fd, "tree/locked", Mode::from(0), AtFlags::empty()).unwrap();
        chmodat(fd, "tree/a", Mode::from(0o555), AtFlags::empty()).unwrap();
        assert!(!is_empty(fd, b"tree").unwrap());
        clear(open_dir(fd, b"tree").unwrap().as_fd()).unwrap();
        assert!(is_empty(fd, b"tree").unwrap());
        assert!(!is_empty(fd, b"keep").unwrap());
    }

    /// Far deeper than PATH_MAX and than the number of descriptors that stay open, and at every depth something before
    /// and behind the way down.
    #[test]
    fn depth_and_width_do_not_matter() {
        const DEEP: usize = 3_000;
        const WIDE: usize = 5_000;
        let dir = tempfile::tempdir().unwrap();
        let mut here = opened(dir.path());
        let down = "a-name-of-twenty-byte";
        for depth in 0..DEEP {
            for name in [down, "a", "z"] {
                mkdirat(&here, name, Mode::from(0o700)).unwrap();
            }
            symlinkat("nowhere", &here, "l").unwrap();
            if depth % 100 == 0 {
                mkdirat(&here, "z/full", Mode::from(0o700)).unwrap();
            }
            here = open_dir(here.as_fd(), down.as_bytes()).unwrap();
        }
        for number in 0..WIDE {
            symlinkat("nowhere", &here, format!("{number}")).unwrap();
        }
        drop(here);
        let top = opened(dir.path());
        clear(top.as_fd()).unwrap();
        assert!(is_empty(top.as_fd(), b"").unwrap());
    }
}
