//! What reading an image, a container or a layer can meet.

use cstor_proto::LayerId;

use super::ReadError;
use crate::access::helper::SourceError;
use crate::base::account::OverMemoryLimit;
use crate::base::interrupt::Interrupted;
use crate::base::kind::ErrorKind;
use crate::store::StoreError;
use crate::tree::MergeError;

/// An image, a container or a layer cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[non_exhaustive]
pub enum ImageError {
    /// The caller asked to stop.
    Interrupted(#[from] Interrupted),
    /// More memory was wanted than the operation may use.
    Memory(#[from] OverMemoryLimit),
    /// The store.
    Store(#[from] StoreError),
    /// The members of a layer, or their contents.
    Read(#[from] ReadError),
    /// The combination of layers.
    Merge(#[from] MergeError),
    /// The helper.
    Source(#[from] SourceError),
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
