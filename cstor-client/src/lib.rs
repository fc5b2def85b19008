//! Reads container images straight out of podman's store: without root, without a mount, without a tar.
//!
//! [`Storage`] finds images and layers, [`ProxiedStorage`] does so with a helper for files that belong to
//! other users of the user namespace, and [`extract::Extractor`] turns an image into a directory by
//! reflink. `docs/architecture.md` shows how the modules hang together.
//!
//! ```
//! # use cstor_client::Storage;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
#![doc = include_str!("example_store.txt")]
//! let storage = Storage::open(root)?;
//! for layer in storage.image("localhost/demo")?.layers()? {
//!     println!("{} {:?}", layer.id(), layer.diff_size());
//! }
//! # Ok(())
//! # }
//! ```

mod access;
mod base;
mod contents;
#[cfg(feature = "cli")]
pub mod doctor;
pub mod error;
pub mod extract;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(feature = "jsonrpc")]
pub mod jsonrpc;
pub mod oci;
mod output;
mod splitfd;
mod storage;
mod store;
pub mod tar;
pub mod tree;

pub use access::helper::init_if_helper;
pub use base::digest::{Digest, ImageId};
pub use base::kind::ErrorKind;
pub use base::{interrupt, progress, temporary};
pub use contents::Entries;
pub use cstor_proto::{Escaped, LayerId};
pub use error::Error;
pub use output::{Level, toc};
pub use splitfd::dir as splitdirfdstream;
pub use storage::{
    Change, ChangeKind, Config, Container, History, Image, Layer, Manifest, ProxiedStorage, Rootfs, RootfsFile,
    Storage, Target, Verify, listing,
};
pub use store::{ContainerState, ContainerStatus, ContainerStatuses, Location, discover};

/// splitfdstream: layers as streams with files beside them; `docs/formats/splitfdstream.md` has the format.
pub mod splitfdstream {
    pub use crate::output::splitfd::Split;
    pub use crate::splitfd::*;
}

/// What can be said about the helper: when it is used, what carries it into the user namespace, and what it must have
/// given up. See `docs/protocol.md` for what it does.
pub mod helper {
    pub use crate::access::helper::{HelperOptions, HelperPolicy, Launcher};
}
