//! A file at a path that somebody has chosen. What is there and is no file, such as a FIFO or /dev/null, is written to
//! and not replaced.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::incomplete::{Incomplete, Published};
use super::remains::remove_dead;
use crate::base::ambient;
use crate::base::interrupt::{Hold, Interrupt};

/// A file that appears under its name when it is complete; dropping it before removes it.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    name: OsString,
    target: Target,
    /// Taken while it is incomplete.
    hold: Option<Hold>,
}

#[derive(Debug)]
enum Target {
    /// What was there is written to.
    There(File),
    New(Incomplete<OwnedFd>),
}

/// A file could not be given its name.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be put in place: {source}", path.display())]
#[non_exhaustive]
pub struct PublishError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl NewFile {
    /// Makes it, and removes what killed runs have left beside it. `interrupt` is held until it has its name, or is
    /// removed; see [`Interrupt::hold`].
    pub fn create(path: impl AsRef<Path>, interrupt: &Interrupt) -> io::Result<NewFile> {
        let path = path.as_ref();
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let above = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let directory = ambient::open(above, flags, Mode::empty())?;
        let mut hold = None;
        let target = match special(directory.as_fd(), name)? {
            Some(file) => Target::There(file.into()),
            None => {
                remove_dead(directory.as_fd(), above, name, interrupt);
                hold = Some(interrupt.hold());
                Target::New(Incomplete::create(directory, name)?)
            }
        };
        Ok(NewFile { path: path.to_owned(), name: name.to_owned(), target, hold })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where to write its contents.
    pub fn writer(&self) -> &File {
        match &self.target {
            Target::There(file) => file,
            Target::New(file) => file.file(),
        }
    }

    /// Gives it its name, in place of what had it before.
    pub fn publish(self) -> Result<(), PublishError> {
        let NewFile { path, name, target, hold } = self;
        if let Target::New(file) = target {
            file.publish(&name).map_err(|errno| PublishError { path, source: errno.into() })?;
        }
        hold.into_iter().for_each(Hold::keep);
        Ok(())
    }
}

/// Gives all of them their names, or none: what was there before comes back if one of them cannot be put in place. A
/// process that is killed in between leaves those that have their names already.
pub fn publish_all(files: impl IntoIterator<Item = NewFile>) -> Result<(), PublishError> {
    let (mut published, mut holds): (Vec<Published<OwnedFd>>, Vec<Hold>) = (Vec::new(), Vec::new());
    for NewFile { path, name, target, hold } in files {
        holds.extend(hold);
        if let Target::New(file) = target {
            let named = file.publish_for_now(&name);
            published.push(named.map_err(|errno| PublishError { path, source: errno.into() })?);
        }
    }
    published.into_iter().for_each(Published::keep);
    holds.into_iter().for_each(Hold::keep);
    Ok(())
}

/// Opens what is there under a name for writing, if it is anything but a file or a directory.
fn special(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Option<OwnedFd>, Errno> {
    let kind = match statat(directory, name, AtFlags::empty()) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
        // A link that leads nowhere is replaced, as a file is.
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    if matches!(kind, FileType::RegularFile | FileType::Directory) {
        return Ok(None);
    }
    openat(directory, name, OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).map(Some)
}
