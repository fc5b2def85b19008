//! What can go wrong between two messages. Each of these ends the connection.

use std::io;
use std::time::Duration;

use crate::base::interrupt::Interrupted;
use crate::base::kind::ErrorKind;

/// A connection that cannot be used any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The socket.
    #[error("the socket: {0}")]
    Socket(#[source] io::Error),
    /// The peer has closed the connection while something was to be sent.
    #[error("the peer has closed the connection")]
    Closed,
    /// The peer has closed the connection within a message, or where one had to follow.
    #[error("the peer has closed the connection before it was done")]
    CutShort,
    /// The peer sends nothing.
    #[error("the peer has sent nothing for {waited:?}")]
    Silent {
        /// How long.
        waited: Duration,
    },
    /// The peer does not complete a message.
    #[error("the peer has not completed a message within {waited:?}")]
    Slow {
        /// How long.
        waited: Duration,
    },
    /// The peer does not read.
    #[error("the peer has read nothing for {waited:?}")]
    Stuck {
        /// How long.
        waited: Duration,
    },
    /// So many descriptors of the user are on their way that the kernel takes no more.
    #[error("too many descriptors of this user are on their way to somewhere for more than {waited:?}")]
    InFlight {
        /// How long.
        waited: Duration,
    },
    /// Something else than an object.
    #[error("a message begins with the byte {found:#04x} and not with a brace")]
    NoObject {
        /// The byte.
        found: u8,
    },
    /// An object with too much in one another.
    #[error("a message has more than {limit} objects and arrays in one another")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A message that is too long.
    #[error("a message has more than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// What is between the braces is not JSON.
    #[error("a message is not JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    /// JSON, but not JSON-RPC.
    #[error("a message is not JSON-RPC: {0}")]
    NotRpc(#[source] serde_json::Error),
    /// A value that has no form in JSON.
    #[error("a message cannot be written: {0}")]
    Unwritable(#[source] serde_json::Error),
    /// Descriptors were lost, since this process may have no more of them.
    #[error("descriptors were lost: this process may have no more of them")]
    DescriptorsLost,
    /// Fewer descriptors than announced.
    #[error("a message announces {wanted} descriptors, {found} came")]
    Missing {
        /// Announced.
        wanted: usize,
        /// Before the next message.
        found: usize,
    },
    /// Descriptors that belong to no message.
    #[error("{found} descriptors came with a message that does not announce them")]
    Surplus {
        /// How many.
        found: usize,
    },
    /// More descriptors than can be taken.
    #[error("a message has {wanted} descriptors; the limit is {limit}")]
    TooMany {
        /// Announced.
        wanted: u64,
        /// The limit.
        limit: usize,
    },
    /// The caller asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl WireError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            WireError::DescriptorsLost | WireError::TooMany { .. } | WireError::InFlight { .. } => ErrorKind::Limit,
            WireError::Interrupted(_) => ErrorKind::Interrupted,
            _ => ErrorKind::Failure,
        }
    }
}
