//! A directory by the OCI's image layout: new, or one that gets another image. Blobs appear when all of them are
//! complete, then the marker, and index.json at last; before that nothing names them.
//!
//! Source: image-spec image-layout.md.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, flock, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::blob::Blob;
use super::error::CopyError;
use super::temporary::Temporary;
use super::{index, manifest};

pub(super) const BLOBS: &str = "blobs/sha256";
/// An index is a few hundred bytes an image; whoever has more has a registry.
const MAX_INDEX: u64 = 16 << 20;

/// A layout that is open for writing. Dropping it removes the directories that it made, if they are still empty.
pub(super) struct Layout {
    path: PathBuf,
    root: OwnedFd,
    blobs: OwnedFd,
    made_root: bool,
}

impl Layout {
    /// Opens a layout, or makes one where there is nothing yet.
    pub(super) fn open(path: &Path) -> Result<Layout, CopyError> {
        let failed = |action| move |errno: Errno| CopyError::Write { path: path.into(), action, source: errno.into() };
        let made_root = match mkdirat(CWD, path, Mode::from(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(failed("create the layout")(errno)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, path, flags, Mode::empty());
        let opened = opened.and_then(|root| Ok((made_blobs(&root)?, root)));
        let opened = opened.map_err(failed("open the layout"));
        if opened.is_err() && made_root {
            let _ = unlinkat(CWD, path, AtFlags::REMOVEDIR);
        }
        let (blobs, root) = opened?;
        Ok(Layout { path: path.into(), root, blobs, made_root })
    }

    /// Refuses a directory that holds something else, before anything is made in it.
    pub(super) fn check(path: &Path) -> Result<(), CopyError> {
        let not = |what| Err(CopyError::NotLayout { path: path.into(), what });
        let failed = |source| CopyError::Write { path: path.into(), action: "open the layout", source };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match openat(CWD, path, flags, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTDIR) => return not("is not a directory"),
            Err(errno) => return Err(failed(errno.into())),
        };
        if let Some(marker) = read(&root, "oci-layout").map_err(failed)? {
            return if index::is_marker(&marker) { Ok(()) } else { not("is a layout of an unknown version") };
        }
        for entry in Dir::read_from(&root).map_err(|errno| failed(errno.into()))? {
            let entry = entry.map_err(|errno| failed(errno.into()))?;
            // A copy that was killed leaves empty directories.
            if ![&b"."[..], b"..", b"blobs"].contains(&entry.file_name().to_bytes()) {
                return not("is neither empty nor an OCI layout");
            }
        }
        Ok(())
    }

    /// Whether a blob is there already.
    pub(super) fn has(&self, blob: Blob) -> bool {
        let found = statat(&self.blobs, blob.digest.hex(), AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|stat| u64::try_from(stat.st_size) == Ok(blob.size))
    }

    /// A file for a blob.
    pub(super) fn new_blob(&self) -> Result<Temporary<'_>, CopyError> {
        Temporary::create(self.blobs.as_fd()).map_err(|errno| self.failed("create a blob")(errno.into()))
    }

    pub(super) fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> CopyError {
        move |source| CopyError::Write { path: self.path.clone(), action, source }
    }

    /// Puts a blob of a few bytes in place.
    pub(super) fn write_blob(&self, bytes: &[u8], blob: Blob) -> Result<(), CopyError> {
        if self.has(blob) {
            return Ok(());
        }
        let file = self.new_blob()?;
        file.file().write_all(bytes).map_err(self.failed("write a blob"))?;
        self.publish(file, blob)
    }

    /// Gives a complete blob its name.
    pub(super) fn publish(&self, file: Temporary<'_>, blob: Blob) -> Result<(), CopyError> {
        let name = blob.digest.hex();
        file.publish(OsStr::new(&name)).map_err(|errno| self.failed("put a blob in place")(errno.into()))
    }

    /// Gives the image its tag, when its blobs are all in place.
    pub(super) fn tag(&self, image: Blob, tag: &str) -> Result<(), CopyError> {
        let failed = self.failed("write the index");
        // Another copy into the same layout must not lose its tag.
        flock(&self.root, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        let damaged = |source| CopyError::Index { path: self.path.clone(), source };
        let mut index = match read(&self.root, "index.json").map_err(&failed)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(damaged)?,
            None => index::empty(),
        };
        if index::add(&mut index, image, tag)?.is_none() {
            return Err(CopyError::NotLayout { path: self.path.clone(), what: "its index.json lists no manifests" });
        }
        for (name, bytes) in [("oci-layout", index::marker()?), ("index.json", manifest::to_json(&index)?)] {
            let file = Temporary::create(self.root.as_fd()).map_err(|errno| failed(errno.into()))?;
            file.file().write_all(&bytes).map_err(&failed)?;
            file.publish(OsStr::new(name)).map_err(|errno| failed(errno.into()))?;
        }
        Ok(())
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // They stay where anything is in them: all of them after a success.
        for directory in [BLOBS, "blobs"] {
            let _ = unlinkat(&self.root, directory, AtFlags::REMOVEDIR);
        }
        if self.made_root {
            let _ = unlinkat(CWD, &self.path, AtFlags::REMOVEDIR);
        }
    }
}

fn made_blobs(root: &OwnedFd) -> Result<OwnedFd, Errno> {
    for directory in ["blobs", BLOBS] {
        match mkdirat(root, directory, Mode::from(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    openat(root, BLOBS, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A small file of the layout; none if it is not there.
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
