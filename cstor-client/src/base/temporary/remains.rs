//! What killed runs have left in a directory: it has a temporary name, and its lock is free.
//!
//! The next run into the directory removes it, but only what certainly is its own: a file, or a directory of mode 0700,
//! that belongs to this user, on the same mount, in a directory that nobody else may write to. Elsewhere somebody could
//! have given the name to a directory that this user made for another purpose, or could exchange it at any moment.
//! What must stay is named in one warning.

use std::ffi::OsStr;
#[cfg(feature = "cli")]
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cstor_proto::Escaped;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, ResolveFlags, Stat, flock, fstat, openat, openat2, statat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::leads_to;
use super::name::{is_temporary_name, is_temporary_name_of};
use crate::base::interrupt::Interrupt;
use crate::base::sweep::empty_unless_raised;

/// How many names a warning has: enough to see what it is about.
const NAMED: usize = 3;
/// How many `doctor` lists: a directory with more has a trouble that the first ones show.
#[cfg(feature = "cli")]
const LISTED: usize = 100;

/// A mount or a link under a temporary name is nobody's remains.
const HERE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// What is to be done with the remains of a killed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remains {
    /// The next run into the directory removes it.
    Removable,
    /// Others may write to the directory that it is in.
    Shared,
    /// It belongs to another user, or others may look into it.
    Foreign,
    /// Whether its maker lives cannot be known.
    Unknown,
}

/// Something that no living process of this machine has locked.
struct Found {
    file: Option<OwnedFd>,
    is_dir: bool,
    remains: Remains,
}

/// Removes what killed runs have left in a directory, and warns of what stays there. `shown` is the directory's path,
/// and `name` what will be made there: what cannot be judged is no concern of a run that makes something else. Once the
/// interrupt is raised the rest is left to another run.
pub(crate) fn remove_dead(directory: BorrowedFd<'_>, shown: &Path, name: &OsStr, interrupt: &Interrupt) {
    let mut kept = Kept::default();
    let looked = each(directory, |entry| {
        let Some(found) = examine(directory, entry, FlockOperation::NonBlockingLockExclusive)? else { return Ok(true) };
        match found.remains {
            Remains::Removable => match remove(directory, entry, &found, interrupt) {
                Err(Errno::INTR) => return Ok(false),
                Ok(()) => tracing::debug!(name = %Escaped(entry.as_bytes()), "removed what a killed run has left"),
                Err(errno) => kept.add(entry, &errno.to_string()),
            },
            Remains::Unknown if !is_temporary_name_of(entry.as_bytes(), name) => {}
            Remains::Shared => kept.add(entry, "others may write to this directory"),
            Remains::Foreign => kept.add(entry, "it belongs to another user, or others may look into it"),
            Remains::Unknown => kept.add(entry, "its maker may still be running"),
        }
        Ok(true)
    });
    if let Err(errno) = looked {
        tracing::debug!(directory = %shown.display(), %errno, "cannot be searched for what killed runs have left");
    }
    kept.warn(shown);
}

/// What killed runs have left in a directory, without removing anything.
#[cfg(feature = "cli")]
pub(crate) fn list(directory: BorrowedFd<'_>) -> Result<Vec<(OsString, Remains)>, Errno> {
    let mut list = Vec::new();
    each(directory, |name| {
        // Shared, so that two that only look do not keep each other away.
        let found = examine(directory, name, FlockOperation::NonBlockingLockShared)?;
        list.extend(found.map(|found| (name.to_owned(), found.remains)));
        if is_dead_socket(directory, name)? {
            list.push((name.to_owned(), if is_private(directory)? { Remains::Removable } else { Remains::Shared }));
        }
        Ok(list.len() < LISTED)
    })?;
    list.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(list)
}

/// Removes sockets that servers have left which were killed before their socket had its name.
///
/// A socket cannot be opened, and so has no lock: the caller must hold the directory's, as every server does while a
/// socket of its own has a temporary name.
pub fn remove_dead_sockets(directory: BorrowedFd<'_>) {
    let removed = is_private(directory).and_then(|private| {
        if !private {
            return Ok(());
        }
        each(directory, |name| {
            if is_own_socket(directory, name)? {
                unlinkat(directory, name, AtFlags::empty())?;
                tracing::debug!(name = %Escaped(name.as_bytes()), "removed the socket that a killed server has left");
            }
            Ok(true)
        })
    });
    if let Err(errno) = removed {
        tracing::debug!(%errno, "cannot be searched for what killed servers have left");
    }
}

/// Calls `look` for everything that has a temporary name, as long as it says so.
fn each(directory: BorrowedFd<'_>, mut look: impl FnMut(&OsStr) -> Result<bool, Errno>) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for entry in Dir::new(openat(directory, ".", flags, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if is_temporary_name(name) && !look(OsStr::from_bytes(name))? {
            break;
        }
    }
    Ok(())
}

/// `None` for what is gone, what has a maker that lives, and what no run makes. What is found stays locked.
fn examine(directory: BorrowedFd<'_>, name: &OsStr, operation: FlockOperation) -> Result<Option<Found>, Errno> {
    let lookup = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let stat = match openat2(directory, name, lookup, Mode::empty(), HERE) {
        Err(Errno::NOENT | Errno::XDEV | Errno::LOOP) => return Ok(None),
        found => fstat(found?)?,
    };
    let is_dir = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => true,
        FileType::RegularFile => false,
        _ => return Ok(None),
    };
    let unknown = Some(Found { file: None, is_dir, remains: Remains::Unknown });
    let kind = if is_dir { OFlags::DIRECTORY } else { OFlags::NONBLOCK | OFlags::NOCTTY };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind;
    let file = match openat2(directory, name, flags, Mode::empty(), HERE) {
        Err(Errno::NOENT) => return Ok(None),
        Err(_) => return Ok(unknown),
        Ok(file) => file,
    };
    match flock(&file, operation) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(_) => return Ok(unknown),
        Ok(()) => {}
    }
    // Its maker may have given it its real name just now, and ended.
    let opened = fstat(&file)?;
    if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) || !leads_to(directory, name, file.as_fd())? {
        return Ok(None);
    }
    let own = fstat(directory)?;
    let is_own = opened.st_uid == geteuid().as_raw();
    let is_ours = is_own && (!is_dir || (opened.st_mode & 0o777 == 0o700 && opened.st_dev == own.st_dev));
    let remains = match is_ours {
        _ if !only_we_may_write(&own) => Remains::Shared,
        true => Remains::Removable,
        false => Remains::Foreign,
    };
    Ok(Some(Found { file: Some(file), is_dir, remains }))
}

fn remove(directory: BorrowedFd<'_>, name: &OsStr, found: &Found, interrupt: &Interrupt) -> Result<(), Errno> {
    if !found.is_dir {
        return unlinkat(directory, name, AtFlags::empty());
    }
    if let Some(file) = &found.file {
        empty_unless_raised(file.as_fd(), interrupt)?;
    }
    unlinkat(directory, name, AtFlags::REMOVEDIR)
}

fn is_own_socket(directory: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Errno> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(false),
        found => {
            let found = found?;
            let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
            Ok(is_socket && found.st_uid == geteuid().as_raw())
        }
    }
}

/// Whether no server is about to give it a name.
#[cfg(feature = "cli")]
fn is_dead_socket(directory: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Errno> {
    if !is_own_socket(directory, name)? {
        return Ok(false);
    }
    let directory = openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(flock(&directory, FlockOperation::NonBlockingLockShared).is_ok())
}

fn is_private(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(only_we_may_write(&fstat(directory)?))
}

/// Whether nobody but this user and root may make, rename or remove anything in a directory. An ACL that lets others do
/// so shows in the mode: with an ACL, the group's bits are its mask (acl(5)). The sticky bit does not keep others from
/// making what they like.
fn only_we_may_write(directory: &Stat) -> bool {
    let trusted = directory.st_uid == geteuid().as_raw() || directory.st_uid == 0;
    trusted && directory.st_mode & 0o022 == 0
}

/// What stays, for one warning.
#[derive(Default)]
struct Kept {
    names: Vec<String>,
    more: u64,
    /// Why the first one does.
    why: String,
}

impl Kept {
    fn add(&mut self, name: &OsStr, why: &str) {
        if self.names.is_empty() {
            why.clone_into(&mut self.why);
        }
        if self.names.len() < NAMED {
            self.names.push(Escaped(name.as_bytes()).to_string());
        } else {
            self.more += 1;
        }
    }

    fn warn(&self, directory: &Path) {
        if self.names.is_empty() {
            return;
        }
        let names = self.names.join(", ");
        let more = if self.more == 0 { String::new() } else { format!(" and {} more", self.more) };
        let directory = Escaped(directory.as_os_str().as_bytes());
        tracing::warn!(
            "{directory}: a killed run may have left {names}{more}: not removed, because {}: remove it if no other \
             cstor uses it",
            self.why
        );
    }
}
