//! What can go wrong with a request, as its client sees it.

use std::io;
use std::path::PathBuf;

use cstor_proto::Escaped;

use super::WireError;
use crate::base::digest::Digest;
use crate::base::kind::ErrorKind;
use crate::error::ExtractError;
use crate::splitfd::SplitFdError;

/// A request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// Nobody serves there.
    #[error("{}: cannot be connected to: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection has ended.
    #[error("the connection: {0}")]
    Wire(#[from] WireError),
    /// A stream of this connection was not read to its end.
    #[error("the connection: an earlier answer was not taken in full")]
    OutOfStep,
    /// The server does not do it.
    #[error("the server: {}", Escaped(message.as_bytes()))]
    Refused {
        /// The code of JSON-RPC.
        code: i64,
        /// What it says.
        message: String,
        /// The class of the error, if the server says so.
        kind: Option<ErrorKind>,
        /// How many descriptors the answer would have, where that is the reason.
        count: Option<u64>,
    },
    /// Something else than what was asked for.
    #[error("the server: sent {what} where it has no place")]
    Unexpected {
        /// What it sent.
        what: &'static str,
    },
    /// An answer of another form.
    #[error("the server: {what} has another form: {source}")]
    Form {
        /// What it sent.
        what: &'static str,
        /// What is different.
        source: serde_json::Error,
    },
    /// More or fewer descriptors than belong to an answer.
    #[error("the server: {what} came with {found} descriptors, not {wanted}")]
    Descriptors {
        /// What it sent.
        what: &'static str,
        /// How many there were.
        found: usize,
        /// How many belong to it.
        wanted: usize,
    },
    /// It speaks an older protocol.
    #[error("the server: speaks version {}, which has no GetLayerTarSplit", Escaped(version.as_bytes()))]
    Version {
        /// The version.
        version: String,
    },
    /// The members do not add up to the size that was announced.
    #[error("the layer: has {found} bytes, {wanted} were announced")]
    Size {
        /// What came.
        found: u64,
        /// What was announced.
        wanted: u64,
    },
    /// Another number of files than was announced.
    #[error("the layer: has {found} files, {wanted} were announced")]
    Count {
        /// What came.
        found: u64,
        /// What was announced.
        wanted: u64,
    },
    /// A tar of another digest than announced.
    #[error("the layer: has the digest {found}, {wanted} was announced")]
    Digest {
        /// Of the tar.
        found: Digest,
        /// What was announced.
        wanted: Digest,
    },
    /// Another layer came the second time.
    #[error("the layer: changed while it was read")]
    Changed,
    /// A stream is damaged.
    #[error(transparent)]
    Stream(Box<SplitFdError>),
    /// The extraction.
    #[error(transparent)]
    Extract(Box<ExtractError>),
}

impl From<SplitFdError> for RpcError {
    fn from(error: SplitFdError) -> RpcError {
        RpcError::Stream(Box::new(error))
    }
}

impl From<ExtractError> for RpcError {
    fn from(error: ExtractError) -> RpcError {
        RpcError::Extract(Box::new(error))
    }
}

impl RpcError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            RpcError::Connect { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Permission,
                _ => ErrorKind::Failure,
            },
            RpcError::Wire(error) => error.kind(),
            RpcError::Refused { kind, .. } => kind.unwrap_or(ErrorKind::Failure),
            RpcError::Size { .. } | RpcError::Count { .. } | RpcError::Digest { .. } => ErrorKind::Corrupt,
            RpcError::Version { .. } => ErrorKind::Unsupported,
            RpcError::Changed => ErrorKind::Changed,
            RpcError::Stream(error) => error.kind(),
            RpcError::Extract(error) => error.kind(),
            RpcError::OutOfStep
            | RpcError::Unexpected { .. }
            | RpcError::Form { .. }
            | RpcError::Descriptors { .. } => ErrorKind::Failure,
        }
    }
}
