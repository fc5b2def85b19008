//! A stream as the members of its tar: each with its contents in the stream or as a file beside it.
//!
//! It does not look into files, and gives no meaning to members together.

use std::io::{self, Read};

use super::{Piece, Reader, SplitFdError};
use crate::tar::{Archive, ArchiveError, ArchiveProblem, Entry, HeaderError, Kind, Piece as Contents};

/// Where a stream's bytes and files come from.
pub(crate) trait Chunks {
    /// A file that belongs to the stream.
    type File: External;

    /// Gives the next bytes in `bytes`, which is empty, or the next file.
    fn next_chunk(&mut self, bytes: &mut Vec<u8>) -> Result<Chunk<Self::File>, SplitFdError>;
}

/// A file that belongs to a stream.
pub(crate) trait External {
    /// Its number, for errors.
    fn number(&self) -> u32;
}

/// What comes next in a stream.
pub(crate) enum Chunk<F> {
    Bytes,
    File(F),
    End,
}

impl External for u32 {
    fn number(&self) -> u32 {
        *self
    }
}

impl<R: Read> Chunks for Reader<R> {
    type File = u32;

    fn next_chunk(&mut self, bytes: &mut Vec<u8>) -> Result<Chunk<u32>, SplitFdError> {
        Ok(match self.next()? {
            Some(Piece::Inline(piece)) => {
                bytes.extend_from_slice(piece);
                Chunk::Bytes
            }
            Some(Piece::External(number)) => Chunk::File(number),
            None => Chunk::End,
        })
    }
}

/// The members of a stream's tar.
pub(crate) struct Members<C: Chunks> {
    archive: Archive<Bytes<C>>,
    /// The name of the last member.
    name: Vec<u8>,
}

impl<C: Chunks> Members<C> {
    pub(crate) fn new(chunks: C) -> Members<C> {
        Members {
            archive: Archive::of_tar(Bytes { chunks, pending: Vec::new(), read: 0, file: None }),
            name: Vec::new(),
        }
    }

    /// The next member, then once what follows them, then `None`.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, SplitFdError> {
        let placed = self.archive.next_entry().map_err(|error| explain(error, &self.name))?;
        let Some(placed) = placed else { return Ok(None) };
        if let Some(member) = &placed.entry.member {
            let after = || self.name.clone();
            if member.sparse {
                return Err(SplitFdError::Sparse { after: after() });
            }
            if !matches!(placed.typeflag, 0 | b'0'..=b'6' | b'g') {
                return Err(SplitFdError::Header { after: after(), source: HeaderError::Type(placed.typeflag) });
            }
            self.name.clone_from(&member.header.path);
        }
        Ok(Some(placed.entry))
    }

    /// The file that stands for the contents of this member, which is the current one; `None` if they are in the
    /// stream.
    pub(crate) fn file(&mut self, entry: &Entry) -> Result<Option<C::File>, SplitFdError> {
        let member = entry.member.as_ref().filter(|member| member.content.is_some());
        if member.is_none_or(|member| member.header.kind != Kind::File) {
            return Ok(None);
        }
        let file = self.archive.input().take_file()?;
        if file.is_some() {
            self.archive.leave_out_content();
        }
        Ok(file)
    }

    /// Reads contents that are in the stream, and after the last member all that is left of it; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SplitFdError> {
        match self.archive.read_content(buffer).map_err(|error| explain(error, &self.name))? {
            Some(Contents::Data(length)) => Ok(length),
            // Sparse members, which alone have holes, were refused.
            Some(Contents::Hole(_)) | None => Ok(0),
        }
    }

    /// The name of the current member.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }
}

fn explain(error: ArchiveError, name: &[u8]) -> SplitFdError {
    let after = name.to_vec();
    match error.problem {
        ArchiveProblem::Read(error) => error.downcast().unwrap_or_else(SplitFdError::Read),
        ArchiveProblem::Header(source) => SplitFdError::Header { after, source },
        ArchiveProblem::SparseMap => SplitFdError::Sparse { after },
        ArchiveProblem::Truncated | ArchiveProblem::NotTar | ArchiveProblem::Compressed(_) => {
            SplitFdError::CutShort { after }
        }
    }
}

/// The bytes of a stream up to its next file; to read on where a file stands is an error.
struct Bytes<C: Chunks> {
    chunks: C,
    pending: Vec<u8>,
    /// How many of the pending bytes were read.
    read: usize,
    file: Option<C::File>,
}

impl<C: Chunks> Bytes<C> {
    /// The file that stands here.
    fn take_file(&mut self) -> Result<Option<C::File>, SplitFdError> {
        self.refill()?;
        Ok(if self.read == self.pending.len() { self.file.take() } else { None })
    }

    fn refill(&mut self) -> Result<(), SplitFdError> {
        if self.read < self.pending.len() || self.file.is_some() {
            return Ok(());
        }
        self.pending.clear();
        self.read = 0;
        if let Chunk::File(file) = self.chunks.next_chunk(&mut self.pending)? {
            self.file = Some(file);
        }
        Ok(())
    }
}

impl<C: Chunks> Read for Bytes<C> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.refill().map_err(io::Error::other)?;
        let bytes = self.pending.get(self.read..).unwrap_or_default();
        let length = bytes.len().min(space.len());
        if let (Some(space), Some(bytes)) = (space.get_mut(..length), bytes.get(..length)) {
            space.copy_from_slice(bytes);
        }
        self.read += length;
        match &self.file {
            Some(file) if length == 0 => Err(io::Error::other(SplitFdError::Misplaced { number: file.number() })),
            _ => Ok(length),
        }
    }
}
