//! What can go wrong between two frames.

use rustix::io::Errno;

/// A message could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The message does not fit a frame.
    #[error("the message has {0} bytes, more than the {limit} of a frame", limit = crate::MAX_FRAME)]
    TooLong(usize),
    /// Bytes follow the message.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// The value has no encoding.
    #[error("the message cannot be encoded")]
    Encode(#[source] postcard::Error),
    /// The bytes are no message.
    #[error("the bytes are no message")]
    Decode(#[source] postcard::Error),
}

/// A frame could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The peer is gone.
    #[error("the peer closed the connection")]
    Closed,
    /// The descriptor is no `AF_UNIX` `SOCK_SEQPACKET` socket.
    #[error("not a Unix socket of type SOCK_SEQPACKET")]
    NotAChannel,
    /// The frame was longer than the limit (`MSG_TRUNC`).
    #[error("a frame longer than {} bytes", crate::MAX_FRAME)]
    Truncated,
    /// Descriptors were lost (`MSG_CTRUNC`): surplus ones, no free numbers, or a security module.
    #[error("descriptors were dropped on the way")]
    DescriptorsLost,
    /// The kernel sent less than the frame.
    #[error("the frame was not sent whole")]
    Short,
    /// Encoding or decoding failed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Any other error number.
    #[error("the socket failed")]
    Io(#[source] Errno),
}
