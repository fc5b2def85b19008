//! A file without a name until it is complete.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, flock, openat, renameat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::{hold, make_named, temporary_name};

use crate::base::ambient;

/// An incomplete file; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Incomplete<D: AsFd> {
    directory: D,
    file: File,
    /// What it will be called, if that is known: a temporary name tells.
    base: OsString,
    /// Its name of the moment, if it has one.
    temporary: Option<OsString>,
}

/// How a file got its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appeared {
    /// Nothing had the name before.
    New,
    /// It has taken the place of something.
    Replaced,
}

impl<D: AsFd> Incomplete<D> {
    /// Makes a file on the file system of `directory`, with the mode that any new file has there.
    pub(crate) fn create(directory: D, base: &OsStr) -> Result<Incomplete<D>, Errno> {
        let Some(file) = nameless(directory.as_fd(), Mode::from(0o666))? else {
            return Incomplete::create_named(directory, base);
        };
        // No name leads anybody to it, so the lock is free.
        hold(&file);
        Ok(Incomplete { directory, file: file.into(), base: base.to_owned(), temporary: None })
    }

    /// The same on a file system that has no files without a name.
    pub(super) fn create_named(directory: D, base: &OsStr) -> Result<Incomplete<D>, Errno> {
        let parent = directory.as_fd();
        let (temporary, file) = make_named(parent, base, AtFlags::empty(), |name| {
            openat(parent, name, FLAGS | OFlags::CREATE | OFlags::EXCL, Mode::from(0o666))
        })?;
        Ok(Incomplete { directory, file: file.into(), base: base.to_owned(), temporary: Some(temporary) })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, in place of what had it before.
    pub(crate) fn publish(mut self, name: &OsStr) -> Result<(), Errno> {
        self.appear(None, name).map(drop)
    }

    /// The same in another directory of the same file system.
    pub(crate) fn publish_in(mut self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<Appeared, Errno> {
        self.appear(Some(directory), name)
    }

    fn appear(&mut self, elsewhere: Option<BorrowedFd<'_>>, name: &OsStr) -> Result<Appeared, Errno> {
        if self.name_what_has_none(elsewhere, name)? {
            self.temporary = None;
            return Ok(Appeared::New);
        }
        // linkat(2) replaces nothing, rename(2) does.
        let temporary = self.named()?;
        renameat(&self.directory, temporary, elsewhere.unwrap_or(self.directory.as_fd()), name)?;
        self.temporary = None;
        Ok(Appeared::Replaced)
    }

    /// Gives it its name, instead of the temporary one, where nothing has that name; false if something does.
    fn name_what_has_none(&self, elsewhere: Option<BorrowedFd<'_>>, name: &OsStr) -> Result<bool, Errno> {
        let to = elsewhere.unwrap_or(self.directory.as_fd());
        let Some(temporary) = &self.temporary else {
            return match link(&self.file, to, name) {
                Err(Errno::EXIST) => Ok(false),
                linked => linked.map(|()| true),
            };
        };
        match renameat_with(&self.directory, temporary, to, name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => Ok(false),
            // The file system cannot promise it: whether something is there is looked at before.
            Err(Errno::INVAL | Errno::NOSYS) => match statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => renameat(&self.directory, temporary, to, name).map(|()| true),
                found => found.map(|_| false),
            },
            renamed => renamed.map(|()| true),
        }
    }

    /// Its temporary name, which it gets now unless it has one.
    fn named(&mut self) -> Result<OsString, Errno> {
        if let Some(temporary) = &self.temporary {
            return Ok(temporary.clone());
        }
        let temporary = temporary_name(&self.base);
        link(&self.file, self.directory.as_fd(), &temporary)?;
        self.temporary = Some(temporary.clone());
        Ok(temporary)
    }

    /// Gives it its name as [`Self::publish`] does, so that it can be undone as long as the result is there.
    pub(super) fn publish_for_now(mut self, name: &OsStr) -> Result<Published<D>, Errno> {
        if self.name_what_has_none(None, name)? {
            return Ok(self.published(name, Before::Nothing));
        }
        // What is replaced gets the temporary name, where it is nobody's remains as long as it is locked.
        let replaced = openat(&self.directory, name, OLD, Mode::empty()).ok();
        if let Some(replaced) = &replaced {
            // Without the lock it is as safe as the temporary name is.
            let _ = flock(replaced, FlockOperation::NonBlockingLockExclusive);
        }
        let temporary = self.named()?;
        let exchange =
            |from: &OsStr, to: &OsStr| renameat_with(&self.directory, from, &self.directory, to, RenameFlags::EXCHANGE);
        match exchange(&temporary, name) {
            Ok(()) => {}
            // The file system has no such thing, or what was there is gone.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOENT) => {
                renameat(&self.directory, &temporary, &self.directory, name)?;
                return Ok(self.published(name, Before::Lost));
            }
            Err(errno) => return Err(errno),
        }
        let now = statat(&self.directory, &temporary, AtFlags::SYMLINK_NOFOLLOW);
        if now.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
            exchange(name, &temporary)?;
            return Err(Errno::ISDIR);
        }
        Ok(self.published(name, Before::Kept { temporary, _lock: replaced }))
    }

    fn published(mut self, name: &OsStr, before: Before) -> Published<D> {
        self.temporary = None;
        Published { file: self, name: name.to_owned(), before }
    }
}

impl<D: AsFd> Drop for Incomplete<D> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            remove(self.directory.as_fd(), temporary);
        }
    }
}

/// A file that has its name, unless something else goes wrong: dropping it takes the name away again, and brings back
/// what had it before.
#[derive(Debug)]
pub(super) struct Published<D: AsFd> {
    file: Incomplete<D>,
    name: OsString,
    before: Before,
}

#[derive(Debug)]
enum Before {
    Nothing,
    /// It has this temporary name now.
    Kept {
        temporary: OsString,
        _lock: Option<OwnedFd>,
    },
    /// It cannot come back.
    Lost,
}

impl<D: AsFd> Published<D> {
    /// Lets it have the name for good.
    pub(super) fn keep(mut self) {
        if let Before::Kept { temporary, .. } = std::mem::replace(&mut self.before, Before::Lost) {
            remove(self.file.directory.as_fd(), &temporary);
        }
    }
}

impl<D: AsFd> Drop for Published<D> {
    fn drop(&mut self) {
        let directory = &self.file.directory;
        match &self.before {
            Before::Nothing => remove(directory.as_fd(), &self.name),
            Before::Kept { temporary, .. } => {
                let renamed = renameat(directory, temporary, directory, &self.name);
                if let Err(errno) = renamed {
                    tracing::warn!(name = %self.name.display(), %errno, "what was there before could not be brought back");
                }
            }
            Before::Lost => {}
        }
    }
}

const FLAGS: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC);
const OLD: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// A file that has no name now and never gets one.
pub(crate) fn without_name(directory: BorrowedFd<'_>, mode: Mode) -> Result<OwnedFd, Errno> {
    if let Some(file) = nameless(directory, mode)? {
        return Ok(file);
    }
    let (temporary, file) = make_named(directory, OsStr::new(""), AtFlags::empty(), |name| {
        openat(directory, name, FLAGS | OFlags::CREATE | OFlags::EXCL, mode)
    })?;
    unlinkat(directory, temporary, AtFlags::empty())?;
    Ok(file)
}

/// `None` where the file system has no files without a name.
fn nameless(directory: BorrowedFd<'_>, mode: Mode) -> Result<Option<OwnedFd>, Errno> {
    match openat(directory, ".", FLAGS | OFlags::TMPFILE, mode) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
        file => file.map(Some),
    }
}

/// The one way without rights of its own to give a name to a file that has no name (open(2), `O_TMPFILE`).
fn link(file: &File, directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    ambient::link(own, directory, name)
}

fn remove(directory: BorrowedFd<'_>, name: &OsStr) {
    if let Err(errno) = unlinkat(directory, name, AtFlags::empty()) {
        tracing::warn!(name = %name.display(), %errno, "could not be removed");
    }
}
