//! The members of a layer whose tar lies beside its files, compressed: one of an additional layer store.
//!
//! Contents are opened as everywhere, by their names; what the tar has of them becomes the checksum that they are held
//! against.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use crate::base::interrupt::{Interrupt, Interrupted};
use crate::tar::crc64::Crc64;
use crate::tar::{
    Archive, ArchiveError, ArchiveProblem, Decoder, DecoderError, Entry, HeaderError, Kind, MAX_HEADERS, Piece, Placed,
};

/// What is read of contents at a time.
const PIECE: usize = 64 * 1024;

/// A blob, read from its beginning.
pub(super) struct Blob {
    archive: Archive<Decoder<File>>,
    buffer: Vec<u8>,
    interrupt: Interrupt,
}

/// Why a blob cannot be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The caller asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// It cannot be read or decompressed.
    #[error("its blob cannot be read")]
    Read(#[source] io::Error),
    /// A way of compression that is not known here.
    #[error("its blob is compressed with {0}, which is not supported")]
    Compression(&'static str),
    /// The tar in it is damaged.
    #[error("the tar of its blob {0}")]
    Tar(#[source] ArchiveProblem),
}

impl Blob {
    pub(super) fn open(file: OwnedFd, interrupt: &Interrupt) -> Result<Blob, BlobError> {
        let tar = Decoder::open(File::from(file)).map_err(|error| match error {
            DecoderError::Read(error) => BlobError::Read(error),
            DecoderError::Method(method) => BlobError::Compression(method),
        })?;
        Ok(Blob { archive: Archive::of_tar(tar), buffer: vec![0; PIECE], interrupt: interrupt.clone() })
    }

    /// The next member with the checksum of its contents, then once what follows the last one, then `None`.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, BlobError> {
        let Some(Placed { mut entry, typeflag, .. }) = self.archive.next_entry().map_err(explain)? else {
            return Ok(None);
        };
        let kind = entry.member.as_ref().map(|member| member.header.kind.clone());
        match kind {
            // All that follows the last member, and the records of a global header, belong to the bytes before.
            None | Some(Kind::PaxGlobal) => {
                while let Some(Piece::Data(length)) = self.archive.read_content(&mut self.buffer).map_err(explain)? {
                    self.interrupt.check()?;
                    if entry.raw.len() + length > MAX_HEADERS {
                        return Err(BlobError::Tar(HeaderError::LongHeaders(MAX_HEADERS).into()));
                    }
                    entry.raw.extend_from_slice(self.buffer.get(..length).unwrap_or_default());
                }
            }
            Some(_) if !matches!(typeflag, 0 | b'0'..=b'6' | b'S') => {
                return Err(BlobError::Tar(HeaderError::Type(typeflag).into()));
            }
            Some(_) => {
                let crc = self.checksum()?;
                if let Some(content) = entry.member.as_mut().and_then(|member| member.content.as_mut()) {
                    content.crc = Some(crc);
                }
            }
        }
        Ok(Some(entry))
    }

    fn checksum(&mut self) -> Result<u64, BlobError> {
        let mut sum = Crc64::new();
        while let Some(piece) = self.archive.read_content(&mut self.buffer).map_err(explain)? {
            self.interrupt.check()?;
            match piece {
                Piece::Data(length) => sum.update(self.buffer.get(..length).unwrap_or_default()),
                Piece::Hole(length) => sum.zeros(length),
            }
        }
        Ok(sum.value())
    }
}

fn explain(error: ArchiveError) -> BlobError {
    match error.problem {
        ArchiveProblem::Read(error) => BlobError::Read(error),
        problem => BlobError::Tar(problem),
    }
}
