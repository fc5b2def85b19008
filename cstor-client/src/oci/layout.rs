//! A directory by the OCI's image layout: new, or one that gets another image. A new one grows in a private directory
//! beside its place. In one that is there, blobs appear when all of them are complete, then the marker, and index.json
//! at last; before that nothing names them, and if anything goes wrong they disappear again.
//!
//! Source: image-spec image-layout.md.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, RenameFlags, Stat, flock, mkdirat, openat, renameat, renameat_with,
    statat, unlinkat,
};
use rustix::io::Errno;

use super::blob::{Blob, NewBlob};
use super::error::CopyError;
use super::{index, manifest};
use crate::base::ambient;
use crate::base::interrupt::Interrupt;
use crate::base::temporary::{Appeared, Incomplete, NewDirectory, is_temporary_name, remove_dead};

pub(super) const BLOBS: &str = "blobs/sha256";
const MARKER: &str = "oci-layout";
const INDEX: &str = "index.json";
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// An index is a few hundred bytes an image; more belongs in a registry.
const MAX_INDEX: u64 = 16 << 20;
/// Another copy holds the lock while it gives its blobs their names, and seldom while it writes one again.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A layout that is open for writing. Nothing of it shows before a [`Publication`].
pub(super) struct Layout {
    path: PathBuf,
    root: OwnedFd,
    /// Where its blobs are, if there are any yet.
    blobs: Option<OwnedFd>,
    /// A new one, until it is complete.
    new: Option<NewDirectory>,
    interrupt: Interrupt,
}

impl Layout {
    /// Opens a layout, or makes one where there is nothing yet.
    pub(super) fn open(path: &Path, interrupt: &Interrupt) -> Result<Layout, CopyError> {
        let interrupt = interrupt.clone();
        let failed = |action| move |errno: Errno| CopyError::Write { path: path.into(), action, source: errno.into() };
        let found = match ambient::open(path, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => None,
            found => Some(found.map_err(failed("open the layout"))?),
        };
        let Some(root) = found else {
            let new = NewDirectory::create(path, &interrupt).map_err(failed("create the layout"))?;
            let root = new.directory().try_clone_to_owned().map_err(|source| CopyError::Write {
                path: path.into(),
                action: "create the layout",
                source,
            })?;
            return Ok(Layout { path: path.into(), root, blobs: None, new: Some(new), interrupt });
        };
        let blobs = match openat(&root, BLOBS, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => None,
            blobs => Some(blobs.map_err(failed("open the layout"))?),
        };
        remove_dead_beside(path, &interrupt);
        remove_dead(root.as_fd(), path, OsStr::new(""), &interrupt);
        if let Some(blobs) = &blobs {
            remove_dead(blobs.as_fd(), &path.join(BLOBS), OsStr::new(""), &interrupt);
        }
        Ok(Layout { path: path.into(), root, blobs, new: None, interrupt })
    }

    /// Refuses a directory that holds something else, before anything is made in it.
    pub(super) fn check(path: &Path) -> Result<(), CopyError> {
        let not = |what| Err(CopyError::NotLayout { path: path.into(), what });
        let failed = |source| CopyError::Write { path: path.into(), action: "open the layout", source };
        let root = match ambient::open(path, DIRECTORY, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT) => {
                // It would be in the way of the new layout.
                return match ambient::stat(path, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => not("is a symbolic link that leads nowhere"),
                    Err(_) => Ok(()),
                };
            }
            Err(Errno::NOTDIR) => return not("is not a directory"),
            Err(errno) => return Err(failed(errno.into())),
        };
        if let Some(marker) = read(&root, MARKER).map_err(failed)? {
            return if index::is_marker(&marker) { Ok(()) } else { not("is a layout of an unknown version") };
        }
        for entry in Dir::read_from(&root).map_err(|errno| failed(errno.into()))? {
            let entry = entry.map_err(|errno| failed(errno.into()))?;
            let name = entry.file_name().to_bytes();
            // A copy that was killed while it gave names leaves blobs, and what the next one removes.
            if ![&b"."[..], b"..", b"blobs"].contains(&name) && !is_temporary_name(name) {
                return not("is neither empty nor an OCI layout");
            }
        }
        Ok(())
    }

    /// What stops the copy.
    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Whether a blob is there already.
    pub(super) fn has(&self, blob: Blob) -> bool {
        self.blobs.as_ref().is_some_and(|blobs| has(blobs.as_fd(), blob))
    }

    /// A file for a blob.
    pub(super) fn new_blob(&self) -> Result<NewBlob<'_>, CopyError> {
        let directory = self.blobs.as_ref().unwrap_or(&self.root);
        Incomplete::create(directory.as_fd(), OsStr::new(""))
            .map_err(|errno| self.failed("create a blob")(errno.into()))
    }

    pub(super) fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> CopyError {
        move |source| CopyError::Write { path: self.path.clone(), action, source }
    }

    /// Begins to give names. Other copies into the same layout wait until the end, so that none of them relies on a blob
    /// that disappears again.
    pub(super) fn publication(&self) -> Result<Publication<'_>, CopyError> {
        let failed = |errno: Errno| self.failed("put blobs in place")(errno.into());
        loop {
            match flock(&self.root, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => self.interrupt.sleep(LOCK_PAUSE)?,
                Err(Errno::INTR) => {}
                locked => break locked.map_err(failed)?,
            }
        }
        let index = statat(&self.root, INDEX, AtFlags::SYMLINK_NOFOLLOW).ok();
        let mut publication =
            Publication { layout: self, blobs: None, directories: Vec::new(), added: Vec::new(), index };
        publication.blobs = Some(publication.make_blobs().map_err(failed)?);
        Ok(publication)
    }

    /// Gives a new layout its name, when everything is in it; false if something has the name by now.
    pub(super) fn appear(&self) -> Result<bool, CopyError> {
        match self.new.as_ref().map_or(Ok(()), NewDirectory::publish) {
            Err(Errno::EXIST) => Ok(false),
            published => published.map(|()| true).map_err(|errno| self.failed("put the layout in place")(errno.into())),
        }
    }
}

/// Files get their names, under the layout's lock. Dropping it takes from the layout what it has added, unless the
/// image has its tag.
pub(super) struct Publication<'l> {
    layout: &'l Layout,
    blobs: Option<OwnedFd>,
    /// Those that were made, the innermost last.
    directories: Vec<&'static str>,
    /// What appeared in the layout, by their paths.
    added: Vec<String>,
    /// The index as it was.
    index: Option<Stat>,
}

impl Publication<'_> {
    fn make_blobs(&mut self) -> Result<OwnedFd, Errno> {
        for directory in ["blobs", BLOBS] {
            match mkdirat(&self.layout.root, directory, Mode::from(0o777)) {
                Ok(()) => self.directories.push(directory),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        openat(&self.layout.root, BLOBS, DIRECTORY, Mode::empty())
    }

    fn blobs(&self) -> BorrowedFd<'_> {
        self.blobs.as_ref().unwrap_or(&self.layout.root).as_fd()
    }

    /// Whether a blob is there, and stays.
    pub(super) fn has(&self, blob: Blob) -> bool {
        has(self.blobs(), blob)
    }

    /// Gives a complete blob its name; false if it was there already.
    pub(super) fn put(&mut self, file: NewBlob<'_>, blob: Blob) -> Result<bool, CopyError> {
        if self.has(blob) {
            return Ok(false);
        }
        let published = file.publish_in(self.blobs(), OsStr::new(&blob.digest.hex()));
        let appeared = published.map_err(|errno| self.layout.failed("put a blob in place")(errno.into()))?;
        self.note(appeared, format!("{BLOBS}/{}", blob.digest.hex()));
        Ok(true)
    }

    /// Puts a blob of a few bytes in place.
    pub(super) fn put_bytes(&mut self, bytes: &[u8], blob: Blob) -> Result<(), CopyError> {
        if self.has(blob) {
            return Ok(());
        }
        let file = self.layout.new_blob()?;
        file.file().write_all(bytes).map_err(self.layout.failed("write a blob"))?;
        self.put(file, blob).map(drop)
    }

    /// Moves a blob from another layout on the same file system; false if it was there already.
    pub(super) fn move_from(&mut self, other: &Publication<'_>, blob: Blob) -> Result<bool, CopyError> {
        if self.has(blob) {
            return Ok(false);
        }
        let name = blob.digest.hex();
        let failed = |errno: Errno| self.layout.failed("put a blob in place")(errno.into());
        let appeared = match renameat_with(other.blobs(), &name, self.blobs(), &name, RenameFlags::NOREPLACE) {
            Ok(()) => Appeared::New,
            // Of another size, or the file system cannot tell.
            Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => {
                renameat(other.blobs(), &name, self.blobs(), &name).map_err(failed)?;
                Appeared::Replaced
            }
            Err(errno) => return Err(failed(errno)),
        };
        self.note(appeared, format!("{BLOBS}/{name}"));
        Ok(true)
    }

    fn note(&mut self, appeared: Appeared, path: String) {
        // What has replaced something damaged may stay: nobody misses that.
        if appeared == Appeared::New {
            self.added.push(path);
        }
    }

    /// Gives the image its tag, when its blobs are all in place.
    pub(super) fn tag(mut self, image: Blob, tag: &str) -> Result<(), CopyError> {
        let layout = self.layout;
        let failed = layout.failed("write the index");
        let damaged = |source| CopyError::Index { path: layout.path.clone(), source };
        let mut index = match read(&layout.root, INDEX).map_err(&failed)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(damaged)?,
            None => index::empty(),
        };
        if index::add(&mut index, image, tag)?.is_none() {
            return Err(CopyError::NotLayout { path: layout.path.clone(), what: "its index.json lists no manifests" });
        }
        for (name, bytes) in [(MARKER, index::marker()?), (INDEX, manifest::to_json(&index)?)] {
            let file = Incomplete::create(layout.root.as_fd(), OsStr::new(name));
            let file = file.map_err(|errno| failed(errno.into()))?;
            file.file().write_all(&bytes).map_err(&failed)?;
            let appeared = file.publish_in(layout.root.as_fd(), OsStr::new(name));
            self.note(appeared.map_err(|errno| failed(errno.into()))?, name.to_owned());
        }
        self.added.clear();
        self.directories.clear();
        Ok(())
    }
}

impl Drop for Publication<'_> {
    fn drop(&mut self) {
        let root = &self.layout.root;
        let now = statat(root, INDEX, AtFlags::SYMLINK_NOFOLLOW).ok();
        // A program that knows nothing of the lock has changed the index: it may rely on what was added.
        if is_same(self.index.as_ref(), now.as_ref()) {
            for path in &self.added {
                if let Err(errno) = unlinkat(root, path, AtFlags::empty()) {
                    tracing::warn!(%path, %errno, "could not be removed");
                }
            }
        }
        for directory in self.directories.iter().rev() {
            // It stays where anything is in it.
            let _ = unlinkat(root, *directory, AtFlags::REMOVEDIR);
        }
        // If that fails, closing the layout does it.
        let _ = flock(root, FlockOperation::Unlock);
    }
}

/// Beside a layout stays what a copy leaves that is killed at its last call, when the new layout is complete.
fn remove_dead_beside(path: &Path, interrupt: &Interrupt) {
    let Some(name) = path.file_name() else { return };
    let above = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(parent) = ambient::open(above, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        remove_dead(parent.as_fd(), above, name, interrupt);
    }
}

fn has(blobs: BorrowedFd<'_>, blob: Blob) -> bool {
    let found = statat(blobs, blob.digest.hex(), AtFlags::SYMLINK_NOFOLLOW);
    found.is_ok_and(|stat| u64::try_from(stat.st_size) == Ok(blob.size))
}

fn is_same(one: Option<&Stat>, other: Option<&Stat>) -> bool {
    let facts = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    one.map(facts) == other.map(facts)
}

/// A small file of the layout, or `None` if it is not there.
fn read(root: &OwnedFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(root, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let mut bytes = Vec::new();
    file.take(MAX_INDEX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_INDEX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(Some(bytes)) }
}
