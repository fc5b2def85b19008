//! The members of a layer's tar: the exact header bytes, what they mean, and the contents that follow.
//!
//! One record serves both readers: who rebuilds the tar writes `raw` and the contents, who only wants
//! the meaning reads `member`. A layer that was pulled by a table of contents has members without `raw`.

mod archive;
mod assemble;
mod chunked;
pub(crate) mod crc64;
mod decoder;
mod header;
mod pax;
mod sparse;
pub(crate) mod tarsplit;
mod ustar;

pub use crate::base::time::Time;
pub use archive::{Archive, ArchiveError, ArchiveProblem, Piece, Placed};
pub(crate) use assemble::{AssembleError, Assembler};
pub use chunked::ChunkedError;
pub(crate) use chunked::{Chunked, Digests};
pub(crate) use decoder::{Decoder, DecoderError};
pub use header::{Header, HeaderError, Kind, Xattr};
pub(crate) use header::{MAX_XATTR_LIST, fits_list};

use crate::base::digest::Digest;

/// All header bytes of one member: a GNU sparse map of a terabyte in pieces of a megabyte has 24.
pub(crate) const MAX_HEADERS: usize = 32 << 20;

/// One member of a tar, or what follows the last one.
#[derive(Debug)]
pub struct Entry {
    /// The bytes up to the contents: padding of the member before, PAX and GNU extension blocks, header.
    pub raw: Vec<u8>,
    /// `None` for the end of the archive.
    pub member: Option<Member>,
}

/// What a header means, and what follows it.
#[derive(Debug)]
pub struct Member {
    /// The parsed header.
    pub header: Header,
    /// The contents that follow, if any.
    pub content: Option<Content>,
    /// Whether the tar has the contents in a form without holes, which the tar-split does not keep:
    /// `content` is about the file as it was unpacked.
    pub sparse: bool,
}

/// Contents that follow a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// In bytes.
    pub size: u64,
    /// CRC-64/GO-ISO, which a tar-split has of everything.
    pub crc: Option<u64>,
    /// SHA-256, where the layer has a table of contents for want of a tar-split, or to find its files by.
    pub digest: Option<Digest>,
}
