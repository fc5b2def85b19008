//! What can keep an image from being copied, beside what its layers and the store have to say.

use std::io;
use std::path::PathBuf;

use cstor_proto::LayerId;

use crate::base::digest::{Digest, ImageId};
use crate::base::interrupt::Interrupted;
use crate::base::kind::{ErrorKind, destination_kind};
use crate::contents::ImageError;
use crate::output::OutputError;
use crate::store::StoreError;

/// An image could not be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A layer cannot be read, or not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The caller asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// A layer of which nobody knows what its tar should be.
    #[error("layer {layer:.12}: layers.json has no digest and size of its tar: it cannot be checked")]
    NoDigest {
        /// The layer.
        layer: LayerId,
    },
    /// The stored configuration is another one than the manifest names.
    #[error("image {image:.12}: its configuration has the digest {found}, its manifest says {wanted}")]
    ConfigDigest {
        /// The image.
        image: ImageId,
        /// Of the configuration.
        found: Digest,
        /// In the manifest.
        wanted: String,
    },
    /// The stored manifest has no configuration or no layers that could be understood.
    #[error("image {image:.12}: its manifest cannot be understood")]
    Manifest {
        /// The image.
        image: ImageId,
        /// Why.
        source: serde_json::Error,
    },
    /// A manifest or an index cannot be made.
    #[error("the manifest: cannot be made")]
    Describe(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something could not be done at the destination.
    #[error("{}: cannot {action}: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What could not be done.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A directory that holds something else.
    #[error("{}: {what}", path.display())]
    NotLayout {
        /// The directory.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The index of an existing layout cannot be understood.
    #[error("{}: index.json cannot be understood", path.display())]
    Index {
        /// The layout.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A form of output that does not exist.
    #[error("{0}")]
    Impossible(&'static str),
    /// A thread ended unexpectedly.
    #[error("the output: a thread that works on it ended unexpectedly")]
    Thread,
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> CopyError {
        CopyError::Image(error.into())
    }
}

impl CopyError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            CopyError::Image(error) => error.kind(),
            CopyError::Output(error) => error.kind(),
            CopyError::Interrupted(_) => ErrorKind::Interrupted,
            CopyError::NoDigest { .. } | CopyError::Impossible(_) => ErrorKind::Unsupported,
            CopyError::ConfigDigest { .. } | CopyError::Manifest { .. } => ErrorKind::Corrupt,
            CopyError::Write { source, .. } => destination_kind(source),
            CopyError::NotLayout { .. } | CopyError::Index { .. } => ErrorKind::Destination,
            CopyError::Describe(_) | CopyError::Thread => ErrorKind::Failure,
        }
    }
}
