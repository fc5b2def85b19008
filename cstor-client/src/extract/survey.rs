//! What would keep a directory from being removed, looked for before anything is made that would take its place.
//!
//! It changes nothing: what lies in a directory of this user's that is closed to them (mode 0311, say) is not seen, and
//! neither is what changes later. `descent.rs` has the walk, `sweep.rs` does the removal.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, Stat, Statx, StatxAttributes, StatxFlags, accessat, fstat, openat, statat,
    statx,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use super::error::Obstacle;
use crate::base::beneath::open_dir;
use crate::base::descent::{At, Step, Visit, descend};
use crate::base::interrupt::{Interrupt, Interrupted};
use crate::base::sweep::is_empty;

/// Why a tree cannot be removed, or why that is not known.
#[derive(Debug)]
pub(super) enum Problem {
    Obstacle(Obstacle),
    Unseen(Errno),
    Interrupted(Interrupted),
}

impl From<Errno> for Problem {
    fn from(errno: Errno) -> Problem {
        Problem::Unseen(errno)
    }
}

impl From<Interrupted> for Problem {
    fn from(interrupted: Interrupted) -> Problem {
        Problem::Interrupted(interrupted)
    }
}

/// Whether names in a directory can be made, renamed and removed: the kernel refuses the last two where only appending
/// is allowed.
pub(super) fn survey_parent(parent: BorrowedFd<'_>) -> Result<(), Problem> {
    refuse_attributes(&statx(parent, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?)
}

/// Looks for what would keep a directory from being moved, and everything in it from being removed.
pub(super) fn survey(parent: BorrowedFd<'_>, top: BorrowedFd<'_>, interrupt: &Interrupt) -> Result<(), At<Problem>> {
    let mut survey = Survey {
        interrupt,
        user: geteuid().as_raw(),
        owns_all: capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::FOWNER)),
    };
    let at_top = |problem| At { path: Vec::new(), problem };
    let opened = survey.look_at_top(parent, top).map_err(at_top)?;
    descend(opened, &mut survey)
}

struct Survey<'a> {
    interrupt: &'a Interrupt,
    user: u32,
    /// Whether it may do what the owner of a file may (capabilities(7), `CAP_FOWNER`).
    owns_all: bool,
}

impl Survey<'_> {
    fn look_at_top(&self, parent: BorrowedFd<'_>, top: BorrowedFd<'_>) -> Result<OwnedFd, Problem> {
        let found = statx(top, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE | StatxFlags::UID)?;
        refuse_attributes(&found)?;
        self.refuse_sticky(parent, found.stx_uid)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(top, ".", flags, Mode::empty())?;
        self.refuse_closed(&opened, &fstat(&opened)?)?;
        Ok(opened)
    }

    /// In a sticky directory, such as /tmp, a name goes only with its owner or the directory's (unlink(2)).
    fn refuse_sticky(&self, dir: BorrowedFd<'_>, owner: u32) -> Result<(), Problem> {
        if owner == self.user || self.owns_all {
            return Ok(());
        }
        let dir = fstat(dir)?;
        if dir.st_mode & 0o1000 != 0 && dir.st_uid != self.user {
            return Err(Problem::Obstacle(Obstacle::Sticky { owner }));
        }
        Ok(())
    }

    /// A directory of somebody else's that this user may not write to keeps what is in it.
    fn refuse_closed(&self, dir: &OwnedFd, found: &Stat) -> Result<(), Problem> {
        if found.st_uid == self.user {
            return Ok(());
        }
        match accessat(dir, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Err(Errno::ACCESS | Errno::PERM) => Err(Problem::Obstacle(Obstacle::Foreign { owner: found.st_uid })),
            accessible => Ok(accessible?),
        }
    }
}

impl Visit for Survey<'_> {
    type Problem = Problem;
    const COMES_BACK: bool = false;

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, _: FileType) -> Result<Step, Problem> {
        self.interrupt.check()?;
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let found = match statx(dir, name, flags, StatxFlags::TYPE | StatxFlags::UID) {
            Err(Errno::NOENT) => return Ok(Step::Next),
            found => found?,
        };
        if found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Err(Problem::Obstacle(Obstacle::MountBelow));
        }
        refuse_attributes(&found)?;
        self.refuse_sticky(dir, found.stx_uid)?;
        let is_dir = FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory;
        Ok(if is_dir { Step::Enter } else { Step::Next })
    }

    fn open(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Problem> {
        match open_dir(dir, name.to_bytes()) {
            Ok(opened) => {
                // An empty one goes with the rights to the directory above it.
                match self.refuse_closed(&opened, &fstat(&opened)?) {
                    Err(Problem::Obstacle(_)) if is_empty(opened.as_fd(), b"")? => Ok(None),
                    open => open.map(|()| Some(opened)),
                }
            }
            Err(Errno::NOENT) => Ok(None),
            // Before Linux 5.8 no attribute tells.
            Err(Errno::XDEV) => Err(Problem::Obstacle(Obstacle::MountBelow)),
            Err(Errno::ACCESS) => match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_uid {
                owner if owner == self.user => Ok(None),
                owner => Err(Problem::Obstacle(Obstacle::Foreign { owner })),
            },
            Err(errno) => Err(errno.into()),
        }
    }

    fn left(&mut self, _: BorrowedFd<'_>, _: &CStr) -> Result<Step, Problem> {
        Ok(Step::Next)
    }

    fn again(&mut self) -> bool {
        false
    }

    fn lacks_descriptors(problem: &Problem) -> bool {
        matches!(problem, Problem::Unseen(Errno::MFILE | Errno::NFILE))
    }
}

fn refuse_attributes(found: &Statx) -> Result<(), Problem> {
    if found.stx_attributes.contains(StatxAttributes::IMMUTABLE) {
        return Err(Problem::Obstacle(Obstacle::Immutable));
    }
    if found.stx_attributes.contains(StatxAttributes::APPEND) {
        return Err(Problem::Obstacle(Obstacle::AppendOnly));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test makes its tree by path")]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn the_interrupt_is_looked_at_for_each_entry() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        for number in 0..9 {
            fs::write(dir.path().join(format!("d/{number}")), "").unwrap();
        }
        let (parent, top) = (File::open(dir.path()).unwrap(), File::open(dir.path().join("d")).unwrap());
        let interrupt = Interrupt::new();
        survey(parent.as_fd(), top.as_fd(), &interrupt).unwrap();
        assert_eq!(interrupt.looks(), 9);
        interrupt.raise();
        let stopped = survey(parent.as_fd(), top.as_fd(), &interrupt);
        assert!(matches!(stopped, Err(At { problem: Problem::Interrupted(_), .. })), "{stopped:?}");
        assert_eq!(interrupt.looks(), 10);
    }
}
