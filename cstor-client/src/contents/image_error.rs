//! What reading an image, a container or a layer can meet.

use cstor_proto::LayerId;

use super::ReadError;
use crate::access::helper::SourceError;
use crate::base::account::OverMemoryLimit;
use crate::base::interrupt::Interrupted;
use crate::base::kind::ErrorKind;
use crate::store::StoreError;
use crate::tree::{LookupError, MergeError};

/// An image, a container or a layer cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The caller asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// More memory was wanted than the operation may use.
    #[error(transparent)]
    Memory(#[from] OverMemoryLimit),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The members of a layer, or their contents.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The combination of layers.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The helper.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A path in the merged files.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// A mistake of this library.
    #[error("internal error: {0}; please report it")]
    Internal(&'static str),
}

impl ImageError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ImageError::Interrupted(_) => ErrorKind::Interrupted,
            ImageError::Memory(_) => ErrorKind::Limit,
            ImageError::Store(error) => error.kind(),
            ImageError::Read(error) => error.kind(),
            ImageError::Merge(error) => error.kind(),
            ImageError::Source(error) => error.kind(),
            ImageError::Lookup(error) => error.kind(),
            ImageError::Internal(_) => ErrorKind::Failure,
        }
    }

    /// The layer whose description or contents it is about, if it is about those of one.
    pub fn layer(&self) -> Option<LayerId> {
        match self {
            ImageError::Read(error) => Some(error.layer),
            ImageError::Merge(error) => Some(error.layer),
            _ => None,
        }
    }
}
