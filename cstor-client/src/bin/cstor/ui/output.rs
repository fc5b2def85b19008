//! A file that appears under its name only when it is complete.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cstor_client::Error;
use cstor_client::error::SinkError;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};

use crate::exit::Failure;

/// Standard output without the buffer for lines that Rust puts before it.
pub(crate) fn stdout() -> Result<File, Failure> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// A file under a temporary name beside its own; dropping it removes it.
#[derive(Debug)]
pub(crate) struct NewFile {
    directory: OwnedFd,
    path: PathBuf,
    name: OsString,
    temporary: OsString,
    file: File,
    complete: bool,
}

impl NewFile {
    /// Creates it beside where it will be.
    pub(crate) fn create(path: &Path) -> Result<NewFile, Failure> {
        let failed = |source: io::Error| Failure::File { path: path.into(), source };
        let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?;
        let above = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let directory = openat(CWD, above, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let temporary = OsString::from(format!(".cstor-{:016x}", RandomState::new().build_hasher().finish()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&directory, &temporary, flags, Mode::from(0o666)).map_err(|errno| failed(errno.into()))?;
        let (path, name) = (path.to_owned(), name.to_owned());
        Ok(NewFile { directory, path, name, temporary, file: file.into(), complete: false })
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
        renameat(&self.directory, &self.temporary, &self.directory, &self.name)
            .map_err(|errno| Failure::File { path: self.path.clone(), source: errno.into() })?;
        self.complete = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.complete {
            // Nothing more can be done about it.
            let _ = unlinkat(&self.directory, &self.temporary, AtFlags::empty());
        }
    }
}
