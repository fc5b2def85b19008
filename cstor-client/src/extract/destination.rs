//! Where a result grows and how it appears: in a private sibling of the destination, which takes the
//! destination's name when everything is in place, and is removed when anything goes wrong.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use cstor_proto::Escaped;
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, RenameFlags, Stat, fchown, flock, fremovexattr, fstat, mkdirat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::getegid;

use super::error::{ExtractError, Obstacle};
use super::survey::{Problem, survey, survey_parent};
use crate::base::beneath::open_dir;
use crate::base::descent::At;
use crate::base::interrupt::{Hold, Interrupt};
use crate::base::mounts::Mounts;
use crate::base::path::join;
use crate::base::sweep::{clear, is_empty};
use crate::base::temporary::{make_private, remove_dead};
use crate::store::Territory;

/// File systems that lay directories over others.
const OVERLAYS: [&[u8]; 2] = [b"overlay", b"fuse.fuse-overlayfs"];

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
    /// The directory that is replaced, locked where its file system has locks.
    replaced: Option<OwnedFd>,
    /// Whether the sibling is still there under its temporary name.
    pending: bool,
    /// Taken while the sibling is there.
    hold: Option<Hold>,
}

impl Staging {
    /// Looks at the destination, which must lie outside of `territory`, and makes the sibling.
    pub(super) fn create(
        path: &Path,
        replace: bool,
        territory: &Territory,
        interrupt: &Interrupt,
    ) -> Result<Staging, ExtractError> {
        let shown = path.as_os_str().as_encoded_bytes();
        let Some(name) = path.file_name() else {
            territory.check(path)?;
            return Err(occupied(path, Obstacle::Nameless));
        };
        let above = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = Dir::open_ambient_dir(above, ambient_authority()).map_err(|source| ExtractError::Destination {
            path: above.as_os_str().as_encoded_bytes().to_vec(),
            action: "open the directory to extract into",
            source,
        })?;
        territory.check_in(parent.as_fd(), Some(name), path)?;
        survey_parent(parent.as_fd()).map_err(|problem| refused(above, At { path: Vec::new(), problem }))?;
        let before = look(&parent, path, name.as_encoded_bytes(), replace)?;
        let replaced = match before {
            Before::Replaced => Some(open_replaced(&parent, path, name.as_encoded_bytes(), interrupt)?),
            Before::Nothing | Before::EmptyDir => None,
        };
        let failed = |action| move |errno| ExtractError::destination(shown, action, errno);
        remove_dead(parent.as_fd(), above, name, interrupt);
        let hold = Some(interrupt.hold());
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
            hold,
        };
        staging.shed_inheritance().map_err(failed("prepare a directory beside it"))?;
        staging.refuse_lower_layer()?;
        Ok(staging)
    }

    /// overlayfs does not move a directory of a lower layer unless it may redirect it, and says so (EXDEV) before it looks
    /// at anything else (fs/overlayfs/dir.c, `ovl_can_move`): also where the move cannot succeed, because what has the
    /// other name is not empty.
    fn refuse_lower_layer(&self) -> Result<(), ExtractError> {
        const PROBE: &str = "probe";
        let shown = self.path.as_os_str().as_encoded_bytes();
        let mounts = Mounts::read().map_err(|source| unlisted(&self.path, source))?;
        let kind = mounts.kind_of(self.parent.as_fd()).map_err(|source| unlisted(&self.path, source))?;
        if self.replaced.is_none() || !kind.is_some_and(|kind| OVERLAYS.contains(&kind)) {
            return Ok(());
        }
        let failed = |errno| ExtractError::destination(shown, "try whether it can be exchanged", errno);
        mkdirat(&self.root, PROBE, Mode::from(0o700)).map_err(failed)?;
        let moved = renameat_with(&self.parent, &self.name, &self.parent, &self.temporary, RenameFlags::empty());
        unlinkat(&self.root, PROBE, AtFlags::REMOVEDIR).map_err(failed)?;
        match moved {
            Err(Errno::XDEV) => Err(occupied(&self.path, Obstacle::LowerLayer)),
            // That it is not empty is the answer that was wanted; anything else is found when it matters.
            _ => Ok(()),
        }
    }

    /// Default ACLs and the set-group-id bit of the parent would change every mode and group below. What is made in a
    /// directory with a default ACL has an access ACL of its own too (acl(5), "Object creation and default ACLs").
    fn shed_inheritance(&self) -> Result<(), Errno> {
        for acl in ["system.posix_acl_default", "system.posix_acl_access"] {
            match fremovexattr(&self.root, acl) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno),
            }
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
        if self.is_named(&self.temporary, self.root.as_fd())? {
            return Ok(());
        }
        Err(occupied(&self.path.with_file_name(&self.temporary), Obstacle::Taken))
    }

    /// Whether a name in the parent is this directory's.
    fn is_named(&self, name: &OsStr, dir: BorrowedFd<'_>) -> Result<bool, ExtractError> {
        let failed = |errno| ExtractError::destination(name.as_encoded_bytes(), "look at the result", errno);
        match statat(&self.parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            named => Ok(is_same(&named.map_err(failed)?, &fstat(dir).map_err(failed)?)),
        }
    }

    /// Gives the result its name. What is left then of the directory that it replaces is no error: it gives the path of
    /// the remainder.
    pub(super) fn publish(mut self) -> Result<Option<PathBuf>, ExtractError> {
        self.check_name()?;
        if let Some(replaced) = self.replaced.take() {
            self.exchange(&replaced)?;
            // Private and locked, it is what the next run removes if this one is killed now.
            let _ = rustix::fs::fchmod(&replaced, Mode::RWXU);
            self.hold.take().into_iter().for_each(Hold::keep);
            // The next run may replace the result while this one removes what was there before.
            let _ = flock(&self.root, FlockOperation::Unlock);
            return Ok(self.remove_replaced(&replaced));
        }
        let flags = match self.before {
            // The kernel replaces a directory only if it is empty.
            Before::EmptyDir => RenameFlags::empty(),
            Before::Nothing | Before::Replaced => RenameFlags::NOREPLACE,
        };
        self.rename(flags)?;
        self.pending = false;
        self.hold.take().into_iter().for_each(Hold::keep);
        Ok(None)
    }

    /// Exchanges the result and the directory that was looked at, and no other one.
    fn exchange(&mut self, replaced: &OwnedFd) -> Result<(), ExtractError> {
        if !self.is_named(&self.name, replaced.as_fd())? {
            return Err(occupied(&self.path, Obstacle::Exchanged));
        }
        self.rename(RenameFlags::EXCHANGE)?;
        // From now on the result may have the name of the destination: an error removes nothing.
        self.pending = false;
        // Between the look and the exchange another process may have renamed something else to either name.
        let placed = match self.is_named(&self.temporary, replaced.as_fd()) {
            Ok(true) => self.is_named(&self.name, self.root.as_fd()),
            other => other,
        };
        if let Ok(true) = placed {
            return Ok(());
        }
        // Even if the look itself failed: after an error everything is as it was.
        self.rename(RenameFlags::EXCHANGE)?;
        self.pending = true;
        placed.and(Err(occupied(&self.path, Obstacle::Exchanged)))
    }

    fn rename(&self, flags: RenameFlags) -> Result<(), ExtractError> {
        let shown = self.path.as_os_str().as_encoded_bytes();
        let renamed = renameat_with(&self.parent, &self.temporary, &self.parent, &self.name, flags);
        renamed.map_err(|errno| match errno {
            Errno::EXIST | Errno::NOTEMPTY => occupied(&self.path, Obstacle::Appeared),
            Errno::NOENT if flags == RenameFlags::EXCHANGE => occupied(&self.path, Obstacle::Exchanged),
            errno => ExtractError::destination(shown, "put the result in place", errno),
        })
    }

    /// Removes the directory that was replaced, which has the temporary name now; by its descriptor, so that whatever
    /// else may have taken the name goes only if it is empty.
    fn remove_replaced(&self, replaced: &OwnedFd) -> Option<PathBuf> {
        let removed = clear(replaced.as_fd()).and_then(|()| {
            unlinkat(&self.parent, &self.temporary, AtFlags::REMOVEDIR)
                .map_err(|problem| At { path: Vec::new(), problem })
        });
        let At { path, problem } = removed.err()?;
        let remainder = self.path.with_file_name(&self.temporary);
        tracing::warn!(
            directory = %Escaped(remainder.as_os_str().as_encoded_bytes()),
            obstacle = %Escaped(&path),
            errno = %problem,
            "the replaced directory could not be removed"
        );
        Some(remainder)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.pending {
            return;
        }
        // By its descriptor: what else may have taken the name goes only if it is empty.
        let removed = clear(self.root.as_fd())
            .map_err(|at| at.problem)
            .and_then(|()| unlinkat(&self.parent, &self.temporary, AtFlags::REMOVEDIR));
        if let Err(errno) = removed {
            tracing::warn!(directory = %self.path.with_file_name(&self.temporary).display(), %errno, "could not be removed");
        }
    }
}

fn look(parent: &Dir, path: &Path, name: &[u8], replace: bool) -> Result<Before, ExtractError> {
    let failed =
        |errno| ExtractError::destination(path.as_os_str().as_encoded_bytes(), "look at the destination", errno);
    let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Before::Nothing),
        stat => stat.map_err(failed)?,
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {}
        FileType::Symlink => return Err(occupied(path, Obstacle::Symlink)),
        _ => return Err(occupied(path, Obstacle::NotADirectory)),
    }
    let is_empty = match is_empty(parent.as_fd(), name) {
        Err(Errno::XDEV) => return Err(occupied(path, Obstacle::MountPoint)),
        is_empty => is_empty.map_err(failed)?,
    };
    if !is_empty && !replace {
        return Err(occupied(path, Obstacle::NotEmpty));
    }
    refuse_mounts(parent, path, name)?;
    Ok(if is_empty { Before::EmptyDir } else { Before::Replaced })
}

/// The kernel neither renames nor removes what is a mount point, in whichever mount of the file system that shows.
fn refuse_mounts(parent: &Dir, path: &Path, name: &[u8]) -> Result<(), ExtractError> {
    let mounts = Mounts::read().map_err(|source| unlisted(path, source))?;
    let place = mounts.place_of(parent.as_fd()).map_err(|source| unlisted(path, source))?;
    let Some(place) = place.map(|place| place.join(name)) else { return Ok(()) };
    match mounts.points_in(&place).min() {
        None => Ok(()),
        Some(point) if point.is_empty() => Err(occupied(path, Obstacle::MountPoint)),
        Some(point) => Err(occupied(&below(path, &point), Obstacle::MountBelow)),
    }
}

/// Opens what is to be replaced, keeps others from replacing it too, and looks whether it can be removed.
fn open_replaced(parent: &Dir, path: &Path, name: &[u8], interrupt: &Interrupt) -> Result<OwnedFd, ExtractError> {
    let failed = |action| move |errno| ExtractError::destination(path.as_os_str().as_encoded_bytes(), action, errno);
    let opened = open_dir(parent.as_fd(), name).map_err(failed("look at the destination"))?;
    // Not every file system has locks of directories: what was exchanged is compared in any case.
    if let Err(Errno::WOULDBLOCK) = flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        return Err(occupied(path, Obstacle::Locked));
    }
    survey(parent.as_fd(), opened.as_fd(), interrupt).map_err(|at| refused(path, at))?;
    Ok(opened)
}

fn occupied(path: &Path, what: Obstacle) -> ExtractError {
    ExtractError::Occupied { path: path.into(), what }
}

fn refused(top: &Path, At { path, problem }: At<Problem>) -> ExtractError {
    let path = below(top, &path);
    match problem {
        Problem::Obstacle(what) => occupied(&path, what),
        Problem::Interrupted(interrupted) => interrupted.into(),
        Problem::Unseen(errno) => {
            ExtractError::destination(path.as_os_str().as_encoded_bytes(), "look whether it can be removed", errno)
        }
    }
}

/// A path below another one; the other one itself if there is nothing of it.
fn below(top: &Path, path: &[u8]) -> PathBuf {
    let top = top.as_os_str().as_bytes();
    OsString::from_vec(if path.is_empty() { top.to_vec() } else { join(top, path) }).into()
}

fn unlisted(path: &Path, source: io::Error) -> ExtractError {
    let path = path.as_os_str().as_encoded_bytes().to_vec();
    ExtractError::Destination { path, action: "find what is mounted there", source }
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}
