//! What the members of a layer, or the files of an image, can become. Each file is one answer; the loop that feeds them
//! is `contents/flow.rs`.

mod check;
mod digest;
pub(crate) mod flat;
pub(crate) mod splitdirfd;
pub(crate) mod splitfd;
mod tar;
pub mod toc;
mod toc_sink;
mod unchecked;

use std::io;

pub(crate) use check::CheckSink;
pub use check::Verify;
pub(crate) use tar::TarSink;
pub(crate) use toc_sink::TocSink;
pub(crate) use unchecked::UncheckedTarSink;

use crate::base::account::OverMemoryLimit;
use crate::base::kind::{ErrorKind, destination_kind};
use crate::contents::{ImageError, ReadError};
use crate::splitfd::SplitFdError;
use crate::store::StoreError;

/// A sink could not take a member, or not complete its output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// What is to be written cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The output cannot be written.
    #[error("the output: cannot be written: {0}")]
    Write(#[source] io::Error),
    /// A stream with files beside it.
    #[error(transparent)]
    SplitFd(SplitFdError),
    /// A thread that works on the output has ended.
    #[error("the output: a thread that works on it ended unexpectedly")]
    Thread,
}

impl From<SplitFdError> for OutputError {
    fn from(error: SplitFdError) -> OutputError {
        match error {
            SplitFdError::Write(error) => OutputError::Write(error),
            error => OutputError::SplitFd(error),
        }
    }
}

impl From<ReadError> for OutputError {
    fn from(error: ReadError) -> OutputError {
        OutputError::Image(error.into())
    }
}

impl From<OverMemoryLimit> for OutputError {
    fn from(error: OverMemoryLimit) -> OutputError {
        OutputError::Image(error.into())
    }
}

impl From<StoreError> for OutputError {
    fn from(error: StoreError) -> OutputError {
        OutputError::Image(error.into())
    }
}

impl OutputError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            OutputError::Image(error) => error.kind(),
            OutputError::Write(error) => destination_kind(error),
            OutputError::SplitFd(error) => error.kind(),
            OutputError::Thread => ErrorKind::Failure,
        }
    }

    /// Whether the reader of the output has gone away.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, OutputError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
