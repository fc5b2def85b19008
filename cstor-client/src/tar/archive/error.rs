//! Why a tar cannot be read.

use std::io;

use crate::tar::HeaderError;

/// A tar cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{problem}, at byte {offset}")]
pub struct ArchiveError {
    /// How far it was read; for a damaged header, where that begins.
    pub offset: u64,
    /// Why.
    #[source]
    pub problem: ArchiveProblem,
}

/// Why a tar cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveProblem {
    /// Reading failed.
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The end comes within a member.
    #[error("ends within a member")]
    Truncated,
    /// It does not begin with a header.
    #[error("is not a tar")]
    NotTar,
    /// It is compressed.
    #[error("is compressed with {0}")]
    Compressed(&'static str),
    /// A header is damaged.
    #[error("a member cannot be understood: {0}")]
    Header(#[source] HeaderError),
    /// The map of a sparse member is damaged.
    #[error("the map of a sparse member is damaged")]
    SparseMap,
}

impl From<HeaderError> for ArchiveProblem {
    fn from(error: HeaderError) -> ArchiveProblem {
        ArchiveProblem::Header(error)
    }
}

/// What bytes are that are no header.
pub(super) fn not_tar(bytes: &[u8]) -> ArchiveProblem {
    compression(bytes).map_or(ArchiveProblem::NotTar, ArchiveProblem::Compressed)
}

/// What data that begin so are compressed with.
pub(crate) fn compression(bytes: &[u8]) -> Option<&'static str> {
    let table: [(&[u8], &str); 4] =
        [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2")];
    table.into_iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, name)| name)
}
