//! Why an extraction failed. Whatever it was, nothing is left at the destination.

use std::io;
use std::path::PathBuf;

use cstor_proto::{Escaped, LayerId, Refusal};
use rustix::io::Errno;

use super::report::Losses;
use crate::error::{Error, ErrorKind, kind_of_io};
use crate::layer::kind_of_refusal;
use crate::source::SourceError;
use crate::store::StoreError;

/// An image could not be extracted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The image could not be read.
    #[error(transparent)]
    Image(Box<Error>),
    /// A file of a layer is not what its header says.
    #[error("layer {layer:.12}: \"{}\": {problem}", Escaped(path))]
    Content {
        /// The layer.
        layer: LayerId,
        /// The file.
        path: Vec<u8>,
        /// What is wrong.
        #[source]
        problem: ContentProblem,
    },
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
    #[error("the result would lose something: {0}")]
    Lossy(Losses),
    /// The image has a device, and the caller wants that to be an error.
    #[error("\"{}\": a device node", Escaped(path))]
    Device {
        /// Its path.
        path: Vec<u8>,
    },
    /// Only root creates devices.
    #[error("device nodes can be created by root alone")]
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
    #[error("the files have {bytes} bytes in all, more than {limit}")]
    TooMuch {
        /// In all.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// What is wrong with the contents of a file.
#[derive(Debug, thiserror::Error)]
pub enum ContentProblem {
    /// It could not be opened.
    #[error("its contents cannot be opened: {0}")]
    Refused(Refusal),
    /// It has another size than its header says.
    #[error("it has {found} bytes, its header says {wanted}")]
    Size {
        /// Of the file.
        found: u64,
        /// In the header.
        wanted: u64,
    },
    /// Its checksum is not the one in the tar-split.
    #[error("its contents are damaged: CRC-64 {found:016x}, its tar-split entry says {wanted:016x}")]
    Crc {
        /// Of the contents.
        found: u64,
        /// In the tar-split.
        wanted: u64,
    },
    /// It could not be read.
    #[error("its contents cannot be read: {0}")]
    Read(#[source] io::Error),
    /// It disappeared with its layer.
    #[error("its layer was removed while it was read")]
    Vanished,
}

impl ExtractError {
    pub(super) fn destination(path: &[u8], action: &'static str, errno: Errno) -> ExtractError {
        ExtractError::Destination { path: path.to_vec(), action, source: errno.into() }
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ExtractError::Image(error) => error.kind(),
            ExtractError::Content { problem, .. } => match problem {
                ContentProblem::Refused(refusal) => kind_of_refusal(*refusal),
                ContentProblem::Read(error) => kind_of_io(error),
                ContentProblem::Vanished => ErrorKind::Changed,
                ContentProblem::Size { .. } | ContentProblem::Crc { .. } => ErrorKind::Corrupt,
            },
            ExtractError::Destination { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::MFILE | Errno::NFILE) => ErrorKind::Limit,
                _ => ErrorKind::Destination,
            },
            ExtractError::Occupied { .. } | ExtractError::NoReflink { .. } => ErrorKind::Destination,
            ExtractError::Lossy(_) | ExtractError::Device { .. } => ErrorKind::Unsupported,
            ExtractError::DevicesNeedRoot | ExtractError::Owner { .. } => ErrorKind::Permission,
            ExtractError::LongPath { .. } | ExtractError::TooMuch { .. } => ErrorKind::Limit,
            ExtractError::Interrupted => ErrorKind::Interrupted,
        }
    }

    pub(crate) fn advice(&self) -> Option<&'static str> {
        Some(match self {
            ExtractError::Image(error) => error.advice(),
            ExtractError::Occupied { .. } => "choose a directory that does not exist, or --replace",
            ExtractError::NoReflink { .. } => {
                "extract to the file system of the store, if it can reflink, or use --reflink auto"
            }
            ExtractError::Lossy(_) => "run as root, or without --strict",
            ExtractError::Device { .. } => "use --devices skip, or --devices create as root",
            ExtractError::DevicesNeedRoot => "run as root, or use --devices skip",
            ExtractError::Owner { .. } => "use --no-same-owner",
            ExtractError::Content { problem: ContentProblem::Refused(Refusal::Denied | Refusal::Unmapped), .. } => {
                "let the helper open it (--helper auto), and check /etc/subuid and /etc/subgid"
            }
            _ => return None,
        })
    }
}

impl From<Error> for ExtractError {
    fn from(error: Error) -> ExtractError {
        match error {
            Error::Source(SourceError::Interrupted) => ExtractError::Interrupted,
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
