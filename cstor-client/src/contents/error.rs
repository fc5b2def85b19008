//! What can be wrong with a layer's description, its members, and their contents.

use std::io;

use cstor_proto::{Escaped, InvalidPath, LayerId, Refusal};

use super::blob::BlobError;
use crate::access::Chain;
use crate::base::digest::Digest;
use crate::base::interrupt::Interrupted;
use crate::base::kind::{ErrorKind, kind_of_io};
use crate::contents::DiskError;
use crate::store::chain::ChainLayer;
use crate::tar::tarsplit::{LineError, TarSplitError};
use crate::tar::{ArchiveProblem, ChunkedError, Content, HeaderError};

/// A layer's description cannot be read, or one of its members not understood.
#[derive(Debug, thiserror::Error)]
#[error("layer {layer:.12}: {}{problem}", match name { Some(name) => format!("\"{}\": ", Escaped(name)), None => String::new() })]
pub struct ReadError {
    /// The layer.
    pub layer: LayerId,
    /// The member, as its name stands in the tar.
    pub name: Option<Vec<u8>>,
    /// What is wrong.
    #[source]
    pub problem: ReadProblem,
}

/// What is wrong with a layer's description or a member.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadProblem {
    /// The caller asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The tar-split file.
    #[error(transparent)]
    TarSplit(#[from] TarSplitError),
    /// The table of contents.
    #[error(transparent)]
    Chunked(#[from] ChunkedError),
    /// A layer of which nobody has the tar.
    #[error("only its table of contents was pulled: the tar cannot be rebuilt, only extracted")]
    TocOnly,
    /// The tar in an additional layer store.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A layer that nothing describes but its directory.
    #[error("a container writes to it, so there is no tar of it to rebuild")]
    NoTar,
    /// A file of such a layer.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A name that cannot be one in a file system.
    #[error(transparent)]
    Name(#[from] InvalidPath),
    /// The members do not add up to the size of the tar.
    #[error("its members add up to {found} bytes, layers.json says {wanted}")]
    Total {
        /// What the tar-split file describes.
        found: u64,
        /// `diff-size`.
        wanted: u64,
    },
    /// A tar of another digest than the layer has.
    #[error("its tar has the digest {found}, layers.json says {wanted}")]
    Digest {
        /// Of the tar.
        found: Digest,
        /// `diff-digest`.
        wanted: Digest,
    },
    /// A sparse member, whose stored form the tar-split does not describe.
    #[error("a sparse file: the tar cannot be rebuilt, only extracted")]
    Sparse,
    /// The contents of a file.
    #[error(transparent)]
    Content(#[from] ContentProblem),
}

/// What is wrong with the contents of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentProblem {
    /// It could not be opened.
    #[error("its contents cannot be opened: {0}")]
    Refused(Refusal),
    /// It has another size than its header says.
    #[error("it has {found} bytes, its header says {wanted}")]
    Size {
        /// Of the file.
        found: u64,
        /// In the header.
        wanted: u64,
    },
    /// Its checksum is not the one in the tar-split.
    #[error("its contents are damaged: CRC-64 {found:016x}, its tar-split entry says {wanted:016x}")]
    Crc {
        /// Of the contents.
        found: u64,
        /// In the tar-split.
        wanted: u64,
    },
    /// Its digest is not the one in the table of contents.
    #[error("its contents are damaged: {found}, its table of contents says {wanted}")]
    Digest {
        /// Of the contents.
        found: Digest,
        /// In the table of contents.
        wanted: Digest,
    },
    /// It could not be read.
    #[error("its contents cannot be read: {0}")]
    Read(#[source] io::Error),
    /// It has another size than when its directory was read.
    #[error("it had {wanted} bytes a moment ago, and has {found} now")]
    Changed {
        /// Now.
        found: u64,
        /// Before.
        wanted: u64,
    },
    /// It is no longer there, or something else is.
    #[error("it was there a moment ago, and is not now")]
    Gone,
    /// It disappeared with its layer.
    #[error("its layer was removed while it was read")]
    Vanished,
}

impl ReadError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match &self.problem {
            ReadProblem::TarSplit(TarSplitError::LongLine { .. })
            | ReadProblem::TarSplit(TarSplitError::Line { source: LineError::LongSegment, .. })
            | ReadProblem::Chunked(ChunkedError::TooLarge | ChunkedError::Memory(_)) => ErrorKind::Limit,
            ReadProblem::Header(error)
            | ReadProblem::Chunked(ChunkedError::Header(error))
            | ReadProblem::Blob(BlobError::Tar(ArchiveProblem::Header(error))) => error.kind(),
            ReadProblem::Chunked(ChunkedError::Version(_))
            | ReadProblem::Sparse
            | ReadProblem::NoTar
            | ReadProblem::TocOnly => ErrorKind::Unsupported,
            ReadProblem::Chunked(ChunkedError::Read(error)) => kind_of_io(error),
            ReadProblem::Blob(BlobError::Compression(_)) => ErrorKind::Unsupported,
            ReadProblem::Interrupted(_)
            | ReadProblem::Blob(BlobError::Interrupted(_))
            | ReadProblem::Chunked(ChunkedError::Interrupted(_)) => ErrorKind::Interrupted,
            ReadProblem::Blob(BlobError::Read(error)) if error.raw_os_error().is_some() => kind_of_io(error),
            ReadProblem::Disk(problem) => problem.kind(),
            ReadProblem::Content(problem) => problem.kind(),
            ReadProblem::TarSplit(_)
            | ReadProblem::Chunked(_)
            | ReadProblem::Blob(_)
            | ReadProblem::Name(_)
            | ReadProblem::Total { .. }
            | ReadProblem::Digest { .. } => ErrorKind::Corrupt,
        }
    }
}

impl ContentProblem {
    /// For contents of a layer that cannot be opened: a file that is missing is damage, unless podman has removed its
    /// layer since the chain was opened. `content` is `None` where nothing is known but a name.
    pub(crate) fn unopened(
        chain: &Chain,
        layer: &ChainLayer,
        content: Option<Content>,
        refusal: Refusal,
    ) -> ContentProblem {
        match (refusal, content) {
            (Refusal::NotFound, _) if chain.is_lost(&layer.record) => ContentProblem::Vanished,
            (refusal, Some(content)) => ContentProblem::refused(content, refusal),
            (refusal, None) => ContentProblem::Refused(refusal),
        }
    }

    /// For contents that cannot be opened: what only the disk had told of can be gone by now.
    pub(crate) fn refused(content: Content, refusal: Refusal) -> ContentProblem {
        match (content, refusal) {
            (
                Content { crc: None, digest: None, .. },
                Refusal::NotFound | Refusal::NotRegular | Refusal::NotDirectory,
            ) => ContentProblem::Gone,
            _ => ContentProblem::Refused(refusal),
        }
    }

    /// For contents of another size than they should have: damage, unless nothing but the disk said so.
    pub(crate) fn size(content: Content, found: u64) -> ContentProblem {
        let wanted = content.size;
        match content {
            Content { crc: None, digest: None, .. } => ContentProblem::Changed { found, wanted },
            _ => ContentProblem::Size { found, wanted },
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            ContentProblem::Refused(Refusal::NotFound | Refusal::NotRegular | Refusal::NotDirectory) => {
                ErrorKind::Corrupt
            }
            ContentProblem::Refused(Refusal::Unmapped | Refusal::Denied) => ErrorKind::Permission,
            ContentProblem::Refused(Refusal::Busy) => ErrorKind::Limit,
            ContentProblem::Refused(Refusal::Io(errno)) => kind_of_io(&io::Error::from_raw_os_error(*errno)),
            ContentProblem::Read(error) => kind_of_io(error),
            ContentProblem::Vanished | ContentProblem::Gone | ContentProblem::Changed { .. } => ErrorKind::Changed,
            ContentProblem::Size { .. } | ContentProblem::Crc { .. } | ContentProblem::Digest { .. } => {
                ErrorKind::Corrupt
            }
        }
    }
}
