//! The error that any public call can be turned into.

use cstor_proto::LayerId;

pub use crate::access::helper::{BadDescriptor, Replaceable, SourceError};
pub use crate::base::account::{NoMemory, OverMemoryLimit};
pub use crate::base::interrupt::Interrupted;
pub use crate::base::kind::{ErrorKind, destination_kind};
pub use crate::contents::{BlobError, ContentProblem, DiskError, ImageError, ReadError, ReadProblem};
pub use crate::extract::{ExtractError, Obstacle};
#[cfg(feature = "jsonrpc")]
pub use crate::jsonrpc::{ProxyV1Error, RpcError, WireError};
pub use crate::oci::error::CopyError;
pub use crate::output::OutputError;
pub use crate::splitfd::{BadName, SplitFdError};
pub use crate::store::{LayerPart, Overlap, StoreError};
pub use crate::tar::tarsplit::{LineError, TarSplitError};
pub use crate::tar::{ChunkedError, HeaderError};
pub use crate::tree::{LookupError, LookupProblem, MergeError, MergeProblem};
pub use cstor_proto::{ChannelError, Refusal};

/// Any error of this library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// More memory was wanted than the operation may use.
    #[error(transparent)]
    Memory(#[from] OverMemoryLimit),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The headers of a layer.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The combination of layers.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The access to contents.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A path in the merged files.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// A mistake of this library.
    #[error("internal error: {0}; please report it")]
    Internal(&'static str),
    /// The output of a layer or of the files of an image.
    #[error(transparent)]
    Output(OutputError),
    /// The extraction.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The copy of an image.
    #[error(transparent)]
    Copy(CopyError),
    /// A splitfdstream.
    #[error(transparent)]
    SplitFd(#[from] SplitFdError),
    /// A request to another program, or the serving of one.
    #[cfg(feature = "jsonrpc")]
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// An image proxy, and the image that it gives.
    #[cfg(feature = "jsonrpc")]
    #[error(transparent)]
    ProxyV1(ProxyV1Error),
}

impl Error {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Interrupted(_) => ErrorKind::Interrupted,
            Error::Memory(_) => ErrorKind::Limit,
            Error::Store(error) => error.kind(),
            Error::Read(error) => error.kind(),
            Error::Merge(error) => error.kind(),
            Error::Source(error) => error.kind(),
            Error::Lookup(error) => error.kind(),
            Error::Internal(_) => ErrorKind::Failure,
            Error::Output(error) => error.kind(),
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
            Error::Read(error) => Some(error.layer),
            Error::Merge(error) => Some(error.layer),
            Error::Extract(ExtractError::Image(error)) => error.layer(),
            _ => None,
        }
    }
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Error {
        match error {
            ImageError::Interrupted(error) => error.into(),
            ImageError::Memory(error) => error.into(),
            ImageError::Store(error) => error.into(),
            ImageError::Read(error) => error.into(),
            ImageError::Merge(error) => error.into(),
            ImageError::Source(error) => error.into(),
            ImageError::Lookup(error) => error.into(),
            ImageError::Internal(mistake) => Error::Internal(mistake),
        }
    }
}

impl From<OutputError> for Error {
    fn from(error: OutputError) -> Error {
        match error {
            OutputError::Image(error) => error.into(),
            OutputError::SplitFd(error) => error.into(),
            error => Error::Output(error),
        }
    }
}

impl From<CopyError> for Error {
    fn from(error: CopyError) -> Error {
        match error {
            CopyError::Image(error) => error.into(),
            CopyError::Output(error) => error.into(),
            error => Error::Copy(error),
        }
    }
}

#[cfg(feature = "jsonrpc")]
impl From<ProxyV1Error> for Error {
    fn from(error: ProxyV1Error) -> Error {
        match error {
            ProxyV1Error::Extract(error) => error.into(),
            ProxyV1Error::Interrupted(error) => error.into(),
            error => Error::ProxyV1(error),
        }
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
