//! The directories of stores, where nothing may be written: what is, lies in, or holds one of them is no destination.
//!
//! A path says little: links and bind mounts lead to the same place. So it is compared by device and inode, from the
//! destination up to the root and from each directory of a store up to the root, and by the place in the file system
//! (`mounts.rs`), which shows a bind mount of what lies below a store for what it is. What neither shows is not seen:
//! one directory that a network or FUSE file system has under two devices, and file systems laid over others (overlayfs).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, openat, statat, statx};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::location::Location;
use super::roots::Roots;
use super::{Overlap, StoreError, discover};
use crate::base::ambient;
use crate::base::mounts::{Mounts, Place};

/// What podman has directly below a root. Where one of them is a link, it leads to a part of the store.
const PARTS: [&str; 7] =
    ["overlay", "overlay-images", "overlay-layers", "overlay-containers", "libpod", "volumes", "networks"];
/// Directories move while the way up is walked; no tree that can be made in a sensible time is deeper.
const MAX_DEPTH: usize = 1 << 20;
/// Lookups alone: reading what lies on the way takes rights that nobody needs here.
const LOOKUP: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Directories of stores.
#[derive(Debug, Default)]
pub struct Territory {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    dir: OwnedFd,
}

/// A file or directory, whatever leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Inode {
    device: (u32, u32),
    number: u64,
}

/// Where something is to be written.
struct Site {
    /// It itself, where it is there already: once as a link, if it is one, and once as what that leads to.
    itself: Vec<Inode>,
    /// All directories above it, and it.
    way_up: Vec<Inode>,
    places: Vec<Place>,
}

impl Territory {
    /// The stores that podman would use for this user, whichever rules it follows. Where the configuration cannot be
    /// read, they are taken to be at their default places; what is not there is left out.
    pub fn of_this_user() -> Territory {
        let mut territory = Territory::default();
        for Location { root, image_store, transient, additional, layer_stores, unread } in discover::locations() {
            let roots = [root].into_iter().chain(image_store).chain(additional);
            for root in roots {
                territory.add_with_links(&root);
            }
            for path in layer_stores.into_iter().chain(transient).chain(unread) {
                territory.add(&path);
            }
        }
        territory
    }

    pub(crate) fn of_roots(roots: &Roots) -> Result<Territory, StoreError> {
        let mut territory = Territory::default();
        for root in roots.all() {
            let dir = fcntl_dupfd_cloexec(root.dir(), 0).map_err(unseen(root.path()))?;
            territory.parts.push(Part { path: root.path().into(), dir });
        }
        for root in roots.layered() {
            territory.add_links(root.dir(), root.path());
        }
        for path in roots.unread() {
            territory.add(path);
        }
        Ok(territory)
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Territory) -> Territory {
        self.parts.extend(other.parts);
        self
    }

    /// Refuses a destination, which need not be there, if it is, lies in, or holds one of the directories. One whose
    /// parent cannot be reached is not refused, since nothing can be made there.
    pub fn check(&self, path: impl AsRef<Path>) -> Result<(), StoreError> {
        let path = path.as_ref();
        let (above, name) = match path.file_name() {
            Some(name) => {
                (path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new(".")), Some(name))
            }
            None => (path, None),
        };
        match ambient::open(above, LOOKUP | OFlags::DIRECTORY, Mode::empty()) {
            Ok(above) => self.check_in(above.as_fd(), name, path),
            Err(errno) if is_out_of_reach(errno) => Ok(()),
            Err(errno) => Err(unseen(path)(errno)),
        }
    }

    /// The same for a name in an open directory, or for the directory itself.
    pub(crate) fn check_in(&self, above: BorrowedFd<'_>, name: Option<&OsStr>, path: &Path) -> Result<(), StoreError> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let failed = |source| StoreError::Unseen { path: path.into(), source };
        let mounts = Mounts::read().map_err(failed)?;
        let site = Site::find(above, name, &mounts).map_err(failed)?;
        let mut places = Vec::new();
        for (number, part) in self.parts.iter().enumerate() {
            let unseen = |source| StoreError::Unseen { path: part.path.clone(), source };
            let way_up = way_up(part.dir.as_fd()).map_err(|errno| unseen(errno.into()))?;
            if let Some(overlap) = site.overlap(&way_up) {
                return Err(StoreError::Destination { path: path.into(), root: part.path.clone(), overlap });
            }
            places.extend(mounts.place_of(part.dir.as_fd()).map_err(unseen)?.map(|place| (number, place)));
        }
        for (number, place) in mounts.with_what_is_mounted_in(places) {
            if let (Some(overlap), Some(part)) = (site.overlap_of_places(&place), self.parts.get(number)) {
                return Err(StoreError::Destination { path: path.into(), root: part.path.clone(), overlap });
            }
        }
        Ok(())
    }

    /// What is not there, or out of reach, is nothing to write to.
    fn add(&mut self, path: &Path) {
        if let Ok(dir) = ambient::open(path, LOOKUP | OFlags::DIRECTORY, Mode::empty()) {
            self.parts.push(Part { path: path.into(), dir });
        }
    }

    fn add_with_links(&mut self, path: &Path) {
        if let Ok(dir) = ambient::open(path, LOOKUP | OFlags::DIRECTORY, Mode::empty()) {
            self.add_links(dir.as_fd(), path);
            self.parts.push(Part { path: path.into(), dir });
        }
    }

    fn add_links(&mut self, root: BorrowedFd<'_>, path: &Path) {
        for name in PARTS {
            let found = statat(root, name, AtFlags::SYMLINK_NOFOLLOW);
            if found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink)
                && let Ok(dir) = openat(root, name, LOOKUP | OFlags::DIRECTORY, Mode::empty())
            {
                self.parts.push(Part { path: path.join(name), dir });
            }
        }
    }
}

impl Site {
    fn find(above: BorrowedFd<'_>, name: Option<&OsStr>, mounts: &Mounts) -> io::Result<Site> {
        let mut site = Site { itself: Vec::new(), way_up: way_up(above)?, places: Vec::new() };
        let place = mounts.place_of(above)?;
        let Some(name) = name else {
            site.itself.extend(site.way_up.first());
            site.places.extend(place);
            return Ok(site);
        };
        site.places.extend(place.map(|place| place.join(name.as_encoded_bytes())));
        for flags in [LOOKUP | OFlags::NOFOLLOW, LOOKUP] {
            let found = match openat(above, name, flags, Mode::empty()) {
                Ok(found) => found,
                Err(errno) if is_out_of_reach(errno) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let (inode, kind, _) = look(found.as_fd())?;
            site.itself.push(inode);
            if kind == FileType::Directory {
                site.way_up.extend(way_up(found.as_fd())?);
            }
            site.places.extend(mounts.place_of(found.as_fd())?);
        }
        Ok(site)
    }

    /// How it lies to a directory, of which the way up is given.
    fn overlap(&self, way_up: &[Inode]) -> Option<Overlap> {
        let part = way_up.first()?;
        if self.itself.contains(part) {
            Some(Overlap::Is)
        } else if self.way_up.contains(part) {
            Some(Overlap::LiesIn)
        } else if way_up.iter().any(|above| self.itself.contains(above)) {
            Some(Overlap::Holds)
        } else {
            None
        }
    }

    fn overlap_of_places(&self, part: &Place) -> Option<Overlap> {
        let mut overlaps = self.places.iter().filter_map(|place| match (place.lies_in(part), part.lies_in(place)) {
            (true, true) => Some(Overlap::Is),
            (true, false) => Some(Overlap::LiesIn),
            (false, true) => Some(Overlap::Holds),
            (false, false) => None,
        });
        overlaps.next()
    }
}

/// A directory and all above it, as far as this process may look: what it may not pass, the places show.
fn way_up(from: BorrowedFd<'_>) -> Result<Vec<Inode>, Errno> {
    let (inode, _, mut mount) = look(from)?;
    let mut way = vec![inode];
    let mut here = match openat(from, "..", LOOKUP | OFlags::DIRECTORY, Mode::empty()) {
        Err(errno) if is_out_of_reach(errno) => return Ok(way),
        here => here?,
    };
    while way.len() < MAX_DEPTH {
        let (inode, _, of) = look(here.as_fd())?;
        // The root is its own parent. A directory that is mounted on one directly below it looks like its own parent
        // too, but in another mount.
        if way.last() == Some(&inode) && mount == of {
            return Ok(way);
        }
        way.push(inode);
        mount = of;
        here = match openat(&here, "..", LOOKUP | OFlags::DIRECTORY, Mode::empty()) {
            Err(errno) if is_out_of_reach(errno) => return Ok(way),
            here => here?,
        };
    }
    Err(Errno::LOOP)
}

/// An open file, its type, and the mount through which it was opened: 0 before Linux 5.8.
fn look(fd: BorrowedFd<'_>) -> Result<(Inode, FileType, u64), Errno> {
    let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID;
    let found = statx(fd, "", AtFlags::EMPTY_PATH, wanted)?;
    let mount = if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { found.stx_mnt_id };
    let inode = Inode { device: (found.stx_dev_major, found.stx_dev_minor), number: found.stx_ino };
    Ok((inode, FileType::from_raw_mode(found.stx_mode.into()), mount))
}

/// Whether a path leads nowhere, or not further for this process.
fn is_out_of_reach(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP | Errno::NAMETOOLONG)
}

fn unseen(path: &Path) -> impl Fn(Errno) -> StoreError {
    move |errno| StoreError::Unseen { path: path.into(), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mkdirat, openat, symlinkat};

    /// Errors that say nothing about the path, such as too many open files: it may still lead to a store.
    #[test]
    fn only_what_cannot_be_reached_is_passed_over() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO, Errno::INTR, Errno::PERM] {
            assert!(!is_out_of_reach(errno), "{errno:?}");
        }
    }

    /// Where there is no table of mounts, devices and inodes alone tell.
    #[test]
    fn devices_and_inodes_show_what_overlaps() {
        let dir = tempfile::tempdir().unwrap();
        let top = openat(CWD, dir.path(), LOOKUP, Mode::empty()).unwrap();
        for path in ["st", "st/overlay", "out"] {
            mkdirat(&top, path, Mode::RWXU).unwrap();
        }
        symlinkat("../st", &top, "out/link").unwrap();
        symlinkat("../st/overlay", &top, "out/inside").unwrap();
        let part = openat(CWD, dir.path().join("st"), LOOKUP, Mode::empty()).unwrap();
        let part = way_up(part.as_fd()).unwrap();
        let own = dir.path().file_name().unwrap();
        let rows: &[(&str, &OsStr, Option<Overlap>)] = &[
            ("", OsStr::new("st"), Some(Overlap::Is)),
            ("out", OsStr::new("link"), Some(Overlap::Is)),
            ("st", OsStr::new("new"), Some(Overlap::LiesIn)),
            ("st", OsStr::new("overlay"), Some(Overlap::LiesIn)),
            ("st/overlay", OsStr::new("new"), Some(Overlap::LiesIn)),
            ("out/link", OsStr::new("new"), Some(Overlap::LiesIn)),
            ("out", OsStr::new("inside"), Some(Overlap::LiesIn)),
            ("..", own, Some(Overlap::Holds)),
            ("out/../..", own, Some(Overlap::Holds)),
            ("", OsStr::new("st2"), None),
            ("", OsStr::new("out"), None),
            ("out", OsStr::new("new"), None),
        ];
        for (above, name, expected) in rows {
            let above = openat(CWD, dir.path().join(above), LOOKUP, Mode::empty()).unwrap();
            let site = Site::find(above.as_fd(), Some(name), &Mounts::default()).unwrap();
            assert_eq!(site.overlap(&part), *expected, "{name:?}");
        }
    }
}
