//! splitfdstream: a tar in which the contents of files may be replaced by references to open files.
//!
//! A stream is a sequence of chunks without any frame. Each begins with a signed 64-bit little-endian number:
//! below zero, so many literal bytes follow; else it is the number of an external file, all of which stands
//! here. `docs/formats/splitfdstream.md` has the format and its sources. How files travel beside the stream
//! is not decided here: a [`FileConsumer`] takes them, a [`FileSupply`] gives them.
//!
//! ```
//! # use cstor_client::{Layer, Storage, splitfdstream::{self, Collect, DEFAULT_INLINE_THRESHOLD}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
#![doc = include_str!("../example_store.txt")]
//! let layer = Layer::open(&Storage::open(root)?, "aee32ac4")?;
//! let (mut stream, mut files) = (Vec::new(), Collect::new(200));
//! layer.splitfdstream(&mut stream, &mut files, DEFAULT_INLINE_THRESHOLD)?;
//! let files = files.into_files();
//! let size = splitfdstream::reconstruct(&stream[..], &files[..], std::io::sink())?;
//! assert_eq!(Some(size), layer.diff_size());
//! # Ok(())
//! # }
//! ```

mod consume;
pub mod dir;
mod error;
mod members;
mod read;
#[cfg(test)]
mod tests;
mod untar;
mod write;
#[cfg(feature = "zstd")]
mod zstd;

pub use consume::{Collect, ExternalFile, FileConsumer};
pub use error::{BadName, SplitFdError};
pub(crate) use members::Members;
#[cfg(feature = "jsonrpc")]
pub(crate) use members::{Chunk, Chunks, External};
pub use read::{Piece, Reader};
pub(crate) use untar::Place;
#[cfg(feature = "jsonrpc")]
pub(crate) use untar::rebuild;
pub use untar::{FileSupply, reconstruct};
pub use write::Writer;
#[cfg(feature = "zstd")]
pub use zstd::{Compressor, Decompressor};

/// Files below this size stand in the stream itself, in bytes: to pass a descriptor and open it costs more.
pub const DEFAULT_INLINE_THRESHOLD: u64 = 4096;
/// The longest literal chunk that is read: 256 MiB, as composefs-rs has it.
pub const MAX_INLINE: u64 = 256 << 20;
/// The media type of a layer as a stream. None is registered.
pub const MEDIA_TYPE: &str = "application/vnd.cstor.layer.v1.splitfdstream";
/// The media type of a stream that is one zstd frame or several.
pub const MEDIA_TYPE_ZSTD: &str = "application/vnd.cstor.layer.v1.splitfdstream+zstd";

/// The most that a writer gathers into one literal chunk, and a reader gives at a time.
pub(crate) const PIECE: usize = 256 * 1024;
