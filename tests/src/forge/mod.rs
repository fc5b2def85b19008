//! Forges containers-storage directories (overlay driver) out of a description, so that a test can damage exactly
//! one thing of an otherwise good store. It never asks podman for help; `oracle` proves on podman that what it makes
//! is what podman makes and reads.

pub mod member;
#[cfg(test)]
mod oracle;
pub mod split;
pub mod store;
pub mod trial;
mod unpack;

pub use member::{
    Kind, MTIME, Member, block_device, char_device, dir, fifo, file, global_header, hard_link, opaque, other, record,
    symlink, whiteout,
};
pub use split::Line;
pub use store::{Forged, Image, Layer, Store};
pub use trial::{Outcome, Subject, Trial};
