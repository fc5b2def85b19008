//! What layers contain, open: their members from whatever describes them, and the contents of their files, checked.

mod blob;
pub(crate) mod disk;
pub(crate) mod entries;
pub(crate) mod error;
pub(crate) mod flow;
mod image_error;
pub(crate) mod merged;
mod sum;
pub(crate) mod visit;

pub use blob::BlobError;
pub use disk::DiskError;
pub use entries::Entries;
pub use error::{ContentProblem, ReadError, ReadProblem};
pub use image_error::ImageError;
pub(crate) use sum::Sum;
