//! Contents that stood in streams, one after the other in a file without a name, on the file system of the result, until
//! it is known which of them survive.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, ftruncate};
use rustix::io::Errno;

use super::clone::{Fill, FillError, Filler, write_at};
use super::error::ExtractError;
use super::plan::MAX_BYTES;
use crate::base::temporary::without_name;
use crate::contents::ContentProblem;
use crate::tar::Content;

/// What errors call the file.
const NAME: &str = "contents";

/// The file, and where it ends.
pub(super) struct Aside {
    file: OwnedFd,
    size: u64,
}

impl Aside {
    pub(super) fn create(root: BorrowedFd<'_>) -> Result<Aside, ExtractError> {
        let file = without_name(root, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        Ok(Aside { file, size: 0 })
    }

    /// Where what is appended next begins.
    pub(super) fn end(&self) -> u64 {
        self.size
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), ExtractError> {
        if self.size > MAX_BYTES {
            return Err(ExtractError::TooMuch { bytes: self.size, limit: MAX_BYTES });
        }
        self.size = write_at(self.file.as_fd(), bytes, self.size).map_err(failed)?;
        Ok(())
    }

    /// Appends zeros, without writing them.
    pub(super) fn append_hole(&mut self, length: u64) -> Result<(), ExtractError> {
        let size = self.size.saturating_add(length);
        if size > MAX_BYTES {
            return Err(ExtractError::TooMuch { bytes: size, limit: MAX_BYTES });
        }
        ftruncate(&self.file, size).map_err(failed)?;
        self.size = size;
        Ok(())
    }

    /// Fills an empty file with the contents that begin at `start`.
    pub(super) fn copy(
        &self,
        start: u64,
        content: Content,
        to: BorrowedFd<'_>,
        filler: &mut Filler<'_>,
    ) -> Result<(), FillError> {
        filler.copy(Fill { from: self.file.as_fd(), start, to, content }).map_err(|error| match error {
            // Both files lie at the destination.
            FillError::Source(ContentProblem::Read(error)) => unreadable(Errno::from_io_error(&error)),
            FillError::Source(_) => unreadable(None),
            error => error,
        })
    }
}

fn failed(errno: Errno) -> ExtractError {
    ExtractError::destination(NAME.as_bytes(), "keep contents aside", errno)
}

fn unreadable(errno: Option<Errno>) -> FillError {
    FillError::Destination("read contents kept aside", errno.unwrap_or(Errno::IO))
}
