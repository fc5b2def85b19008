//! A file that appears under its name only when it is complete. What is there and is no file, such as a FIFO or
//! /dev/null, is written to and not replaced.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cstor_client::Error;
use cstor_client::error::SinkError;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::exit::Failure;

/// A file under a temporary name beside its own, which dropping it removes.
#[derive(Debug)]
pub(crate) struct NewFile {
    directory: OwnedFd,
    path: PathBuf,
    name: OsString,
    /// None where there is nothing to rename: what was there is written to, or the file has its name.
    temporary: Option<OsString>,
    file: File,
}

impl NewFile {
    /// Creates it beside where it will be.
    pub(crate) fn create(path: &Path) -> Result<NewFile, Failure> {
        let failed = |source: io::Error| Failure::File { path: path.into(), source };
        let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?;
        let above = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let directory = openat(CWD, above, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let (path, name) = (path.to_owned(), name.to_owned());
        if let Some(file) = no_file(&directory, &name).map_err(|errno| failed(errno.into()))? {
            return Ok(NewFile { directory, path, name, temporary: None, file: file.into() });
        }
        let temporary = OsString::from(format!(".cstor-{:016x}", RandomState::new().build_hasher().finish()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&directory, &temporary, flags, Mode::from(0o666)).map_err(|errno| failed(errno.into()))?;
        Ok(NewFile { directory, path, name, temporary: Some(temporary), file: file.into() })
    }

    /// Where to write its contents.
    pub(crate) fn writer(&self) -> &File {
        &self.file
    }

    /// Says which file it was that could not be written.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Library(error) => match *error {
                Error::Sink(SinkError::Write(source)) => Failure::File { path: self.path.clone(), source },
                error => error.into(),
            },
            other => other,
        }
    }

    /// Gives it its name, in place of what had it before.
    pub(crate) fn publish(mut self) -> Result<(), Failure> {
        let Some(temporary) = &self.temporary else { return Ok(()) };
        renameat(&self.directory, temporary, &self.directory, &self.name)
            .map_err(|errno| Failure::File { path: self.path.clone(), source: errno.into() })?;
        self.temporary = None;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nothing more can be done about it.
            let _ = unlinkat(&self.directory, temporary, AtFlags::empty());
        }
    }
}

/// Opens what is there under a name for writing, if it is anything but a file or a directory.
fn no_file(directory: &OwnedFd, name: &OsStr) -> Result<Option<OwnedFd>, Errno> {
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
