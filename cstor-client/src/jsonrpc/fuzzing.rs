//! For `tests/fuzz`: what a peer sends, as plain values.

use std::os::fd::OwnedFd;

use super::wire::{Connection, Frame, Limits, Patience};
use crate::base::interrupt::Interrupt;

/// The head of a received message.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    /// What is to be done.
    pub method: Option<String>,
    /// The id, as JSON.
    pub id: Option<String>,
    /// How many descriptors came with it.
    pub files: usize,
    /// Whether it says that it is JSON-RPC 2.0.
    pub is_version_2: bool,
    /// The code of its error.
    pub refusal: Option<i64>,
}

/// `wire/connection.rs`: all messages up to the end of the stream or the first that is refused.
pub fn listen(socket: OwnedFd, longest: usize, most_files: usize) -> (Vec<Heard>, bool) {
    let limits = Limits { message: longest, files: most_files };
    let mut connection = Connection::new(socket, limits, Patience::default(), Interrupt::new());
    let mut all = Vec::new();
    loop {
        let message = match connection.receive() {
            Ok(Some(message)) => message,
            ended => return (all, ended.is_ok()),
        };
        all.push(Heard {
            method: message.method().map(str::to_owned),
            id: message.id().and_then(|id| serde_json::to_string(id).ok()),
            files: message.files.len(),
            is_version_2: message.is_version_2(),
            refusal: message.refusal().map(|refusal| refusal.code),
        });
    }
}

/// `wire/frame.rs`: where the object ends at the beginning of `bytes`, which arrive in two parts; fails where there
/// is none.
pub fn end_of_object(bytes: &[u8], first_part: usize) -> Result<Option<usize>, ()> {
    let mut frame = Frame::default();
    match frame.end_in(bytes.get(..first_part).unwrap_or(bytes)) {
        Ok(None) => frame.end_in(bytes).map_err(drop),
        found => found.map_err(drop),
    }
}

pub use super::proxy_v1::parse_reply;
