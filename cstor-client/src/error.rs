//! The classes of errors, which the exit codes are made of, and the error that any public call can be turned into.

use std::io;

use cstor_proto::LayerId;
use rustix::io::Errno;

pub use crate::disk::DiskError;
pub use crate::entry::{ChunkedError, HeaderError};
pub use crate::extract::ExtractError;
#[cfg(feature = "jsonrpc")]
pub use crate::jsonrpc::ProxyV1Error;
pub use crate::layer::{BlobError, ContentProblem, ReadError, ReadProblem};
pub use crate::merge::{MergeError, MergeProblem};
pub use crate::sink::SinkError;
pub use crate::sink::oci::error::CopyError;
pub use crate::sink::splitfd::{BadName, SplitFdError};
pub use crate::source::{BadDescriptor, Replaceable, SourceError};
pub use crate::store::{LayerPart, Overlap, StoreError};
pub use crate::tarsplit::{LineError, TarSplitError};

/// What an error means to whoever must react.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Anything without a class of its own.
    Failure,
    /// What was asked for is not there, or not unique.
    NotFound,
    /// The store contradicts itself.
    Corrupt,
    /// Valid, but more than this reader can do.
    Unsupported,
    /// The rights do not suffice, with or without the helper.
    Permission,
    /// The helper could not be started, died, or broke the protocol.
    Helper,
    /// Somebody holds the store's lock.
    Busy,
    /// The store changed while it was read.
    Changed,
    /// The destination cannot take the result.
    Destination,
    /// A limit was exceeded.
    Limit,
    /// The caller asked to stop.
    Interrupted,
}

/// Any error of this library.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[non_exhaustive]
pub enum Error {
    /// The store.
    Store(#[from] StoreError),
    /// The headers of a layer.
    Read(#[from] ReadError),
    /// The combination of layers.
    Merge(#[from] MergeError),
    /// The access to contents.
    Source(#[from] SourceError),
    /// The output of a layer.
    Sink(#[from] SinkError),
    /// The extraction.
    Extract(#[from] ExtractError),
    /// The copy of an image.
    Copy(#[from] CopyError),
    /// A splitfdstream.
    SplitFd(#[from] SplitFdError),
    /// A request to another program, or the serving of one.
    #[cfg(feature = "jsonrpc")]
    Rpc(#[from] crate::jsonrpc::RpcError),
    /// An image proxy, and the image that it gives.
    #[cfg(feature = "jsonrpc")]
    ProxyV1(#[from] ProxyV1Error),
}

impl Error {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Store(error) => error.kind(),
            Error::Read(error) => error.kind(),
            Error::Merge(error) => error.kind(),
            Error::Source(error) => error.kind(),
            Error::Sink(error) => error.kind(),
            Error::Extract(error) => error.kind(),
            Error::Copy(error) => error.kind(),
            Error::SplitFd(error) => error.kind(),
            #[cfg(feature = "jsonrpc")]
            Error::Rpc(error) => error.kind(),
            #[cfg(feature = "jsonrpc")]
            Error::ProxyV1(error) => error.kind(),
        }
    }

    /// The layer whose description or contents it is about, if it is about those of one.
    pub fn layer(&self) -> Option<LayerId> {
        match self {
            Error::Read(error) | Error::Sink(SinkError::Read(error)) => Some(error.layer),
            Error::Merge(error) => Some(error.layer),
            Error::Extract(ExtractError::Image(error)) => error.layer(),
            _ => None,
        }
    }

    /// What to do about it, where that is more than its class says.
    pub(crate) fn own_advice(&self) -> Option<&'static str> {
        match self {
            Error::Store(error) => error.advice(),
            Error::Read(error) => error.advice(),
            Error::Sink(SinkError::Read(error)) => error.advice(),
            Error::Merge(_) | Error::Sink(_) => None,
            Error::Source(error) => error.advice(),
            Error::Extract(error) => error.advice(),
            Error::Copy(error) => error.advice(),
            Error::SplitFd(error) => error.advice(),
            #[cfg(feature = "jsonrpc")]
            Error::Rpc(error) => error.advice(),
            #[cfg(feature = "jsonrpc")]
            Error::ProxyV1(error) => error.advice(),
        }
    }

    /// What the user can do about it.
    pub fn advice(&self) -> &'static str {
        self.own_advice().unwrap_or(match self.kind() {
            ErrorKind::Failure => "see the cause above",
            ErrorKind::NotFound => "check the name",
            ErrorKind::Corrupt => "the store is damaged: `podman system check` may repair it, or pull the image again",
            ErrorKind::Unsupported => "cstor cannot do this",
            ErrorKind::Permission => "run as the owner of the store",
            ErrorKind::Helper => "try `podman unshare true`, or -v for details",
            ErrorKind::Busy => "try again later",
            ErrorKind::Changed => "try again",
            ErrorKind::Destination => "choose another destination, or make room there",
            ErrorKind::Limit => "raise the limit that is named (for descriptors: ulimit -n)",
            ErrorKind::Interrupted => "nothing was left behind",
        })
    }
}

/// An error with its causes, the innermost one last.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some messages quote their cause already.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The class of an error number of the store's file system.
pub(crate) fn kind_of_io(error: &io::Error) -> ErrorKind {
    match Errno::from_io_error(error) {
        Some(Errno::ACCESS | Errno::PERM) => ErrorKind::Permission,
        Some(Errno::MFILE | Errno::NFILE) => ErrorKind::Limit,
        Some(Errno::IO) => ErrorKind::Corrupt,
        _ => ErrorKind::Failure,
    }
}
