//! Reads container images straight out of podman's store: without root, without a mount, without a tar.
//!
//! A [`Storage`] is a store; images, containers and layers are found in it. [`Storage::with_helper`] gives it a helper for
//! files that belong to other users of the user namespace. A [`Rootfs`] is what a container of an image would see:
//!
//! ```
//! # use std::io::Read;
//! # use cstor_client::Storage;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
#![doc = include_str!("example_store.txt")]
//! let rootfs = Storage::open(root)?.image("localhost/demo")?.rootfs()?;
//! let mut text = String::new();
//! rootfs.open("/etc/app.conf")?.read_to_string(&mut text)?;
//! print!("{text}");
//! # Ok(())
//! # }
//! ```
//!
//! [`extract::Extractor`] turns images, containers and layers into directories by reflink, [`oci::Copier`] into images for
//! other programs, and [`Layer::export`] gives the exact tar of a layer. Errors are facts by floor: [`Error`] takes in all
//! of them, and has a [kind](ErrorKind).
//!
//! # Stability
//!
//! Before 1.0 a minor version may change what is public; the change log says so. Structures and enumerations that will
//! grow are `non_exhaustive`. Formats and the protocol of the helper have versions of their own.

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
pub use output::{Verify, toc};
pub use splitfd::dir as splitdirfdstream;
pub use storage::{
    Change, ChangeKind, Config, Container, History, Image, Layer, Manifest, ProxiedStorage, Rootfs, RootfsFile,
    Storage, Target, listing,
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
