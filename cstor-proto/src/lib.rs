//! What crosses cstor's privilege boundary: the message types, their limits, their encoding and the channel that carries them.
//!
//! Both sides depend on this crate. It opens no file and decides nothing; `docs/protocol.md` describes the same thing in
//! prose.

mod channel;
mod codec;
mod error;
mod ids;
mod message;
mod relpath;

pub use channel::Channel;
pub use codec::{decode, encode};
pub use error::{ChannelError, CodecError};
pub use ids::{InvalidId, LayerHandle, LayerId, StoreIndex};
pub use message::{
    Confinement, Enforced, Fault, LayerDir, MAGIC, MAX_BATCH, MAX_FRAME, MAX_HANDLES, MAX_ROOTS, MAX_XATTR_NAME,
    MAX_XATTR_VALUE, Ready, Refusal, Reply, Request, VERSION, VersionRange,
};
pub use relpath::{Escaped, InvalidPath, MAX_PATH, RelPath};
