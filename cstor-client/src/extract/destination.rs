//! Where a result grows and how it appears: in a private sibling of the destination, which takes the
//! destination's name when everything is in place, and is removed when anything goes wrong.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, fchown, fremovexattr, fstat, openat2, renameat_with,
    statat,
};
use rustix::io::Errno;
use rustix::process::getegid;

use super::error::ExtractError;
use super::sweep::{clear, is_empty, sweep};
use crate::output::{make_private, remove_dead};

/// What stands at the destination before the extraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    EmptyDir,
    /// A directory with contents that the caller wants replaced.
    Replaced,
}

/// A result that is not yet at its destination. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Staging {
    parent: Dir,
    path: PathBuf,
    name: OsString,
    temporary: OsString,
    root: OwnedFd,
    before: Before,
    /// The directory that is replaced, for lookups only.
    replaced: Option<OwnedFd>,
    /// Whether the sibling is still there under its temporary name.
    pending: bool,
}

impl Staging {
    /// Looks at the destination and makes the sibling.
    pub(super) fn create(path: &Path, replace: bool) -> Result<Staging, ExtractError> {
        let shown = path.as_os_str().as_encoded_bytes();
        let Some(name) = path.file_name() else {
            return Err(ExtractError::Occupied {
                path: path.into(),
                what: "cannot be created: it has no name of its own",
            });
        };
        let above = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = Dir::open_ambient_dir(above, ambient_authority()).map_err(|source| ExtractError::Destination {
            path: above.as_os_str().as_encoded_bytes().to_vec(),
            action: "open the directory to extract into",
            source,
        })?;
        let before = look(&parent, path, name.as_encoded_bytes(), replace)?;
        let replaced = match before {
            Before::Replaced => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let opened = openat2(&parent, name, flags, Mode::empty(), CONFINED);
                Some(opened.map_err(|errno| ExtractError::destination(shown, "look at the destination", errno))?)
            }
            Before::Nothing | Before::EmptyDir => None,
        };
        let failed = |action| move |errno| ExtractError::destination(shown, action, errno);
        remove_dead(parent.as_fd(), above, name);
        let (temporary, root) = make_private(parent.as_fd(), name).map_err(failed("create a directory beside it"))?;
        let staging = Staging {
            parent,
            path: path.into(),
            name: name.to_owned(),
            temporary,
            root,
            before,
            replaced,
            pending: true,
        };
        staging.shed_inheritance().map_err(failed("prepare a directory beside it"))?;
        Ok(staging)
    }

    /// Default ACLs and the set-group-id bit of the parent would change every mode and group below.
    fn shed_inheritance(&self) -> Result<(), Errno> {
        match fremovexattr(&self.root, "system.posix_acl_default") {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
        let stat = fstat(&self.root)?;
        if stat.st_gid != getegid().as_raw() || stat.st_mode & 0o2000 != 0 {
            fchown(&self.root, None, Some(Gid::from_raw(getegid().as_raw())))?;
            rustix::fs::fchmod(&self.root, Mode::from(0o700))?;
        }
        Ok(())
    }

    /// The directory in which the result gets its name.
    pub(super) fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// The directory whose place the result takes, if it is not empty.
    pub(super) fn replaced(&self) -> Option<BorrowedFd<'_>> {
        self.replaced.as_ref().map(AsFd::as_fd)
    }

    /// The directory in which the result grows.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Where others may write to the parent, they could have given the temporary name to something else.
    fn check_name(&self) -> Result<(), ExtractError> {
        let failed = |errno| ExtractError::destination(self.temporary.as_encoded_bytes(), "look at the result", errno);
        let named = statat(&self.parent, &self.temporary, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let own = fstat(&self.root).map_err(failed)?;
        if (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino) {
            return Ok(());
        }
        let path = self.path.with_file_name(&self.temporary);
        Err(ExtractError::Occupied { path, what: "was given to something else while the image was extracted" })
    }

    /// Gives the result its name.
    pub(super) fn publish(mut self) -> Result<(), ExtractError> {
        let flags = match self.before {
            Before::Nothing => RenameFlags::NOREPLACE,
            // The kernel replaces a directory only if it is empty.
            Before::EmptyDir => RenameFlags::empty(),
            Before::Replaced => RenameFlags::EXCHANGE,
        };
        self.check_name()?;
        renameat_with(&self.parent, &self.temporary, &self.parent, &self.name, flags).map_err(|errno| match errno {
            Errno::EXIST | Errno::NOTEMPTY => {
                ExtractError::Occupied { path: self.path.clone(), what: "appeared while the image was extracted" }
            }
            errno => {
                ExtractError::destination(self.path.as_os_str().as_encoded_bytes(), "put the result in place", errno)
            }
        })?;
        self.pending = false;
        if self.before == Before::Replaced {
            // The old tree has the temporary name now.
            sweep(self.parent.as_fd(), self.temporary.as_encoded_bytes()).map_err(|errno| {
                ExtractError::destination(self.temporary.as_encoded_bytes(), "remove the replaced directory", errno)
            })?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.pending {
            return;
        }
        // By its descriptor: what else may have taken the name goes only if it is empty.
        let removed = clear(self.root.as_fd())
            .and_then(|()| rustix::fs::unlinkat(&self.parent, &self.temporary, AtFlags::REMOVEDIR));
        if let Err(errno) = removed {
            tracing::warn!(directory = %self.path.with_file_name(&self.temporary).display(), %errno, "could not be removed");
        }
    }
}

fn look(parent: &Dir, path: &Path, name: &[u8], replace: bool) -> Result<Before, ExtractError> {
    let occupied = |what| Err(ExtractError::Occupied { path: path.into(), what });
    let failed =
        |errno| ExtractError::destination(path.as_os_str().as_encoded_bytes(), "look at the destination", errno);
    let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Before::Nothing),
        stat => stat.map_err(failed)?,
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {}
        FileType::Symlink => return occupied("is a symbolic link"),
        _ => return occupied("is not a directory"),
    }
    if is_empty(parent.as_fd(), name).map_err(failed)? {
        Ok(Before::EmptyDir)
    } else if replace {
        Ok(Before::Replaced)
    } else {
        occupied("is not empty")
    }
}

/// How everything below a result is reached: nothing leads out of it, or to another file system.
pub(super) const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Opens a directory below another, through directories alone, for lookups and metadata.
pub(super) fn open_dir(below: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(below, path, flags, Mode::empty(), CONFINED)
}
