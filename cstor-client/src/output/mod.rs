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
pub use check::Level;
pub(crate) use tar::TarSink;
pub(crate) use toc_sink::TocSink;
pub(crate) use unchecked::UncheckedTarSink;

use crate::base::account::OverMemoryLimit;
use crate::base::interrupt::Interrupted;
use crate::base::kind::{ErrorKind, destination_kind};
use crate::contents::ReadError;
use crate::splitfd::SplitFdError;

/// A sink could not take a member, or not complete its output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The contents of a member are damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The output cannot be written.
    #[error("the output: cannot be written: {0}")]
    Write(#[source] io::Error),
    /// A stream with files beside it.
    #[error(transparent)]
    SplitFd(Box<SplitFdError>),
    /// The caller asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// More memory was wanted than the operation may use.
    #[error(transparent)]
    Memory(#[from] OverMemoryLimit),
    /// A thread that works on the output has ended.
    #[error("the output: a thread that works on it ended unexpectedly")]
    Thread,
}

impl From<SplitFdError> for SinkError {
    fn from(error: SplitFdError) -> SinkError {
        match error {
            SplitFdError::Write(error) => SinkError::Write(error),
            error => SinkError::SplitFd(Box::new(error)),
        }
    }
}

impl SinkError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            SinkError::Read(error) => error.kind(),
            SinkError::Write(error) => destination_kind(error),
            SinkError::SplitFd(error) => error.kind(),
            SinkError::Interrupted(_) => ErrorKind::Interrupted,
            SinkError::Memory(_) => ErrorKind::Limit,
            SinkError::Thread => ErrorKind::Failure,
        }
    }

    /// Whether the reader of the output has gone away.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, SinkError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
