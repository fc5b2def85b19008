//! Why an extraction failed. Whatever it was, nothing is left at the destination.

use std::io;
use std::path::PathBuf;

use cstor_proto::Escaped;
use rustix::io::Errno;

use super::report::Losses;
use crate::error::{Error, ErrorKind, destination_advice, destination_kind};
use crate::interrupt::Interrupted;
use crate::sink::splitfd::SplitFdError;
use crate::source::SourceError;
use crate::store::StoreError;

/// An image could not be extracted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The image could not be read.
    #[error(transparent)]
    Image(Box<Error>),
    /// Something could not be done at the destination.
    #[error("{}: cannot {action}: {source}", Escaped(path))]
    Destination {
        /// Below the destination, or the destination itself.
        path: Vec<u8>,
        /// What could not be done.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The destination is there already.
    #[error("{}: {what}", path.display())]
    Occupied {
        /// The destination.
        path: PathBuf,
        /// What stands there.
        what: &'static str,
    },
    /// The file system cannot clone the store's files, but the caller insists on it.
    #[error("{}: the contents cannot be reflinked to here: {source}", path.display())]
    NoReflink {
        /// The destination.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The result would lose something, and the caller wants none of that.
    #[error("the image: a result would be without: {0}")]
    Lossy(Losses),
    /// The image has a device, and the caller wants that to be an error.
    #[error("\"{}\": a device node", Escaped(path))]
    Device {
        /// Its path.
        path: Vec<u8>,
    },
    /// Only root creates devices.
    #[error("--devices create: device nodes can be created by root alone")]
    DevicesNeedRoot,
    /// An owner that no file can have.
    #[error("\"{}\": the owner {uid}:{gid} does not fit the kernel's 32 bits", Escaped(path))]
    Owner {
        /// The file.
        path: Vec<u8>,
        /// The user.
        uid: u64,
        /// The group.
        gid: u64,
    },
    /// A path that symlinks of a layer made longer than the kernel takes.
    #[error("\"{}…\": a path of more than {limit} bytes", Escaped(start))]
    LongPath {
        /// How it begins.
        start: Vec<u8>,
        /// In bytes.
        limit: usize,
    },
    /// All contents together are more than the limit.
    #[error("the image: its files have {bytes} bytes in all, more than {limit}")]
    TooMuch {
        /// In all.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// What the caller does before placing failed.
    #[error("the extraction: what was to be done before placing failed: {0}")]
    Hook(#[source] io::Error),
    /// The caller asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl ExtractError {
    pub(super) fn destination(path: &[u8], action: &'static str, errno: Errno) -> ExtractError {
        ExtractError::Destination { path: path.to_vec(), action, source: errno.into() }
    }

    pub(super) fn stream(error: SplitFdError) -> ExtractError {
        Error::from(error).into()
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ExtractError::Image(error) => error.kind(),
            ExtractError::Destination { source, .. } => destination_kind(source),
            ExtractError::Occupied { .. } | ExtractError::NoReflink { .. } => ErrorKind::Destination,
            ExtractError::Lossy(_) | ExtractError::Device { .. } => ErrorKind::Unsupported,
            ExtractError::DevicesNeedRoot | ExtractError::Owner { .. } => ErrorKind::Permission,
            ExtractError::LongPath { .. } | ExtractError::TooMuch { .. } => ErrorKind::Limit,
            ExtractError::Hook(_) => ErrorKind::Failure,
            ExtractError::Interrupted(_) => ErrorKind::Interrupted,
        }
    }

    pub(crate) fn advice(&self) -> Option<&'static str> {
        Some(match self {
            ExtractError::Image(error) => error.own_advice()?,
            ExtractError::Destination { source, .. } => destination_advice(source),
            // Everything else that can stand there, it does not replace.
            ExtractError::Occupied { what: "is not empty", .. } => {
                "choose a directory that does not exist, or --replace"
            }
            ExtractError::Occupied { .. } => "choose a directory that does not exist",
            ExtractError::NoReflink { .. } => {
                "extract to the file system of the store, if it can reflink, or use --reflink auto"
            }
            ExtractError::Lossy(_) => "run as root, or without --strict",
            ExtractError::Device { .. } => "use --devices skip, or --devices create as root",
            ExtractError::DevicesNeedRoot => "run as root, or use --devices skip",
            ExtractError::Owner { .. } => "use --no-same-owner",
            _ => return None,
        })
    }
}

impl From<Error> for ExtractError {
    fn from(error: Error) -> ExtractError {
        match error {
            error if error.kind() == ErrorKind::Interrupted => Interrupted.into(),
            error => ExtractError::Image(Box::new(error)),
        }
    }
}

impl From<StoreError> for ExtractError {
    fn from(error: StoreError) -> ExtractError {
        Error::from(error).into()
    }
}

impl From<SourceError> for ExtractError {
    fn from(error: SourceError) -> ExtractError {
        Error::from(error).into()
    }
}
