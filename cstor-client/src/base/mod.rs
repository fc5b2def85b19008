//! What everything else stands on: it knows nothing of stores, layers or images.

pub(crate) mod account;
pub(crate) mod ambient;
pub(crate) mod beneath;
pub(crate) mod descent;
pub(crate) mod descriptors;
pub(crate) mod digest;
pub(crate) mod hashed;
pub(crate) mod host_xattrs;
pub mod interrupt;
pub(crate) mod kind;
pub(crate) mod mounts;
pub(crate) mod parallel;
pub(crate) mod path;
pub mod progress;
pub(crate) mod small_file;
pub(crate) mod sweep;
pub mod temporary;
pub(crate) mod time;
