//! The wire: JSON objects back to back over a `SOCK_STREAM` socket, each with the descriptors that it announces.
//!
//! The framing is that of the crate jsonrpc-fdpass 0.1: an object ends where its last brace closes, `"fds": N` at its
//! top says how many descriptors belong to it, and those are the next N that arrive, the first ones with its first byte
//! and what one `sendmsg` cannot carry with single spaces behind it. Which methods there are is not decided here.

mod connection;
mod error;
mod frame;
mod message;
mod patience;

pub(super) use connection::{Connection, Limits};
pub use error::WireError;
#[cfg(fuzzing)]
pub(super) use frame::Frame;
pub(super) use message::{Id, Message, Notification, Rejection, Reply, Request};
pub use patience::Patience;

/// The most descriptors that the kernel takes with one message (`SCM_MAX_FD`, include/net/scm.h).
pub(super) const MOST_IN_BATCH: usize = 253;
