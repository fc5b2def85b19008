//! The members of a layer that nothing describes: the layer that a container writes to has no tar-split and no table
//! of contents, only a directory.
//!
//! It is looked through once, and becomes the members that a tar of it would have: whiteouts under the names of AUFS
//! (`marks.rs`), owners as container ids (`owners.rs`), metadata that `force_mask` keeps aside (`overridden.rs`). What
//! is not carried into a tar by podman is not here either: sockets, and attributes other than `user.` and file
//! capabilities (containers/storage pkg/archive/archive.go, `readSecurityXattrToTarHeader`, but for `security.ima`).

mod attributes;
mod error;
mod marks;
mod overridden;
mod owners;
mod walk;

pub use error::DiskError;
pub(crate) use walk::walk;
