//! A directory that others cannot look into until it is complete.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, fstat, mkdirat, openat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::make_named;
use super::remains::remove_dead;
use crate::base::ambient;
use crate::base::interrupt::Interrupt;
use crate::base::sweep::empty;

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes a directory of mode 0700 beside what will be called `base`, and locks it: as long as it is open, no other run
/// takes it for the remains of a killed one.
///
/// Where others may write to the parent, they can put a directory of their own in place of the one that was made, before
/// it is opened, and then reach everything that root makes in it: that one is refused, and stays. Only root is held to
/// this: some network file systems give every file to one user, and what a plain user makes there is nobody else's danger.
pub(crate) fn make_private(parent: BorrowedFd<'_>, base: &OsStr) -> Result<(OsString, OwnedFd), Errno> {
    make_named(parent, base, AtFlags::REMOVEDIR, |name| {
        mkdirat(parent, name, Mode::RWXU)?;
        let made = openat(parent, name, FLAGS, Mode::empty()).and_then(|opened| Ok((fstat(&opened)?.st_uid, opened)));
        let (owner, opened) = made.inspect_err(|_| {
            let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
        })?;
        let is_own = owner == geteuid().as_raw();
        if is_own || !geteuid().is_root() { Ok(opened) } else { Err(Errno::PERM) }
    })
}

/// A new directory in the making, in a private one beside its place. Its mode and its ACL are those that any new
/// directory has there, since the private one has inherited what it inherits. Dropping it removes both.
#[derive(Debug)]
pub(crate) struct NewDirectory {
    parent: OwnedFd,
    temporary: OsString,
    private: OwnedFd,
    name: OsString,
    made: OwnedFd,
}

impl NewDirectory {
    /// Makes it beside its place, where nothing must be yet; what killed runs have left there is removed.
    pub(crate) fn create(path: &Path, interrupt: &Interrupt) -> Result<NewDirectory, Errno> {
        let name = path.file_name().ok_or(Errno::EXIST)?;
        let above = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = ambient::open(above, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        remove_dead(parent.as_fd(), above, name, interrupt);
        let (temporary, private) = make_private(parent.as_fd(), name)?;
        let made = mkdirat(&private, name, Mode::from(0o777))
            .and_then(|()| openat(&private, name, FLAGS, Mode::empty()))
            .inspect_err(|_| discard(parent.as_fd(), &temporary, private.as_fd()));
        Ok(NewDirectory { made: made?, parent, temporary, private, name: name.to_owned() })
    }

    /// The directory itself.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.made.as_fd()
    }

    /// Gives it its name, unless something has that name by now (EEXIST).
    pub(crate) fn publish(&self) -> Result<(), Errno> {
        match renameat_with(&self.private, &self.name, &self.parent, &self.name, RenameFlags::NOREPLACE) {
            // The file system cannot promise it. What is replaced without it is at most an empty directory.
            Err(Errno::INVAL | Errno::NOSYS) => match renameat(&self.private, &self.name, &self.parent, &self.name) {
                Err(Errno::NOTEMPTY | Errno::NOTDIR) => Err(Errno::EXIST),
                renamed => renamed,
            },
            renamed => renamed,
        }
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        discard(self.parent.as_fd(), &self.temporary, self.private.as_fd());
    }
}

fn discard(parent: BorrowedFd<'_>, temporary: &OsStr, private: BorrowedFd<'_>) {
    // By its descriptor: what else may have taken the name goes only if it is an empty directory.
    let removed = empty(private).and_then(|()| unlinkat(parent, temporary, AtFlags::REMOVEDIR));
    if let Err(errno) = removed {
        tracing::warn!(directory = %temporary.display(), %errno, "could not be removed");
    }
}
