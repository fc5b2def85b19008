//! What can be wrong with a stream, the files that belong to it, or the tar that they make up.

use std::io;

use cstor_proto::Escaped;

use super::MAX_INLINE;
use crate::base::kind::{ErrorKind, destination_kind, kind_of_io};
use crate::tar::HeaderError;

/// A stream cannot be written, read, or made a tar of. Offsets count the bytes of the stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SplitFdError {
    /// The stream cannot be read.
    #[error("the stream: cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The stream, or the tar, cannot be written.
    #[error("the output: cannot be written: {0}")]
    Write(#[source] io::Error),
    /// The stream ends in the middle of a chunk.
    #[error("the stream: ends {missing} bytes before the end of the chunk at {offset}")]
    Short {
        /// Where the chunk begins.
        offset: u64,
        /// How many bytes are missing.
        missing: u64,
    },
    /// A chunk longer than the limit.
    #[error("the stream: the chunk at {offset} has {size} bytes; the limit is {MAX_INLINE}")]
    LongChunk {
        /// Where the chunk begins.
        offset: u64,
        /// What it claims to have.
        size: u64,
    },
    /// A prefix of −2⁶³, which stands for no length.
    #[error("the stream: the prefix at {offset} is the lowest number of all, which is not a length")]
    Lowest {
        /// Where the chunk begins.
        offset: u64,
    },
    /// The number of an external file that cannot be one.
    #[error("the stream: the chunk at {offset} is for file {number}; numbers have 32 bits")]
    Number {
        /// Where the chunk begins.
        offset: u64,
        /// The number.
        number: i64,
    },
    /// An external file, or a directory, that is not among those given.
    #[error("the stream: the chunk at {offset} is for file {number}, but there are {files}")]
    NoFile {
        /// Where the chunk begins.
        offset: u64,
        /// The number.
        number: u32,
        /// How many there are.
        files: u32,
    },
    /// A chunk of a type that does not exist.
    #[error("the stream: the chunk at {offset} is of the unknown type {found:#04x}")]
    Type {
        /// Where the chunk begins.
        offset: u64,
        /// The type.
        found: u8,
    },
    /// A chunk that must not be empty.
    #[error("the stream: the chunk at {offset} is empty")]
    Empty {
        /// Where the chunk begins.
        offset: u64,
    },
    /// The name of a file that is not below its directory.
    #[error("the stream: the chunk at {offset} has a name {problem}")]
    Name {
        /// Where the chunk begins.
        offset: u64,
        /// What is wrong with it.
        problem: BadName,
    },
    /// A file in the place of something else than all the contents of a member.
    #[error("the stream: file {number} stands where no contents of a member begin")]
    Misplaced {
        /// Its number.
        number: u32,
    },
    /// The size of a file is not the one in the header before it.
    #[error("\"{}\": file {number} has {found} bytes, its header says {wanted}", Escaped(name))]
    Size {
        /// The member.
        name: Vec<u8>,
        /// The number of the file.
        number: u32,
        /// Of the file.
        found: u64,
        /// In the header, or in the chunk.
        wanted: u64,
    },
    /// A file cannot be opened or read.
    #[error("\"{}\": file {number} cannot be read: {source}", Escaped(name))]
    File {
        /// The member.
        name: Vec<u8>,
        /// The number of the file.
        number: u32,
        /// Why.
        source: io::Error,
    },
    /// A header in the stream is damaged.
    #[error("the tar in the stream: after \"{}\": {source}", Escaped(after))]
    Header {
        /// The last member before it; empty for the first.
        after: Vec<u8>,
        /// What is wrong.
        source: HeaderError,
    },
    /// The stream has a sparse member, whose contents are not what its size says.
    #[error("the tar in the stream: after \"{}\": a sparse file, which a splitfdstream cannot hold", Escaped(after))]
    Sparse {
        /// The last member before it; empty for the first.
        after: Vec<u8>,
    },
    /// The stream ends within a member.
    #[error("the tar in the stream: ends within a member, after \"{}\"", Escaped(after))]
    CutShort {
        /// The last member whose header is complete.
        after: Vec<u8>,
    },
    /// More files than a consumer can hold open.
    #[error("the stream: needs more than {limit} open files at once")]
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
}

/// What is wrong with a name in a splitdirfdstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadName {
    /// No byte.
    #[error("that is empty")]
    Empty,
    /// More than 4096 bytes.
    #[error("of {0} bytes")]
    Long(u32),
    /// From the root.
    #[error("that is absolute")]
    Absolute,
    /// With a component `..`.
    #[error("that leads upwards")]
    Parent,
    /// With a zero byte.
    #[error("with a zero byte")]
    Nul,
}

impl SplitFdError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            SplitFdError::Read(error) | SplitFdError::File { source: error, .. } => kind_of_io(error),
            SplitFdError::Write(error) => destination_kind(error),
            SplitFdError::LongChunk { .. } | SplitFdError::TooManyFiles { .. } => ErrorKind::Limit,
            SplitFdError::Header { source, .. } => source.kind(),
            SplitFdError::Sparse { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Corrupt,
        }
    }
}
