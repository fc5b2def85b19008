//! Reading chunks: literal bytes come in pieces, whatever length their chunk claims.

use std::io::{self, Read};

use super::{MAX_INLINE, PIECE, SplitFdError};

const PREFIX: usize = 8;

/// Reads a splitfdstream.
#[derive(Debug)]
pub struct Reader<R> {
    stream: Input<R>,
    files: u32,
    /// Of the literal chunk that is being read.
    left: u64,
    /// Where it begins.
    start: u64,
    buffer: Vec<u8>,
}

/// What comes next in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Literal bytes, at least one. A chunk may come in several pieces.
    Inline(&'a [u8]),
    /// All of the external file of this number.
    External(u32),
}

impl<R: Read> Reader<R> {
    /// Reads a stream that belongs to so many external files.
    pub fn new(stream: R, files: u32) -> Reader<R> {
        Reader { stream: Input { stream, offset: 0 }, files, left: 0, start: 0, buffer: Vec::new() }
    }

    /// The next piece; `None` at the end. After an error there is nothing more to read.
    #[allow(clippy::should_implement_trait, reason = "a piece borrows from the reader, which an iterator cannot lend")]
    pub fn next(&mut self) -> Result<Option<Piece<'_>>, SplitFdError> {
        if self.left == 0 {
            self.start = self.stream.offset;
            let mut prefix = [0; PREFIX];
            match self.stream.fill(&mut prefix)? {
                0 => return Ok(None),
                PREFIX => {}
                found => return Err(self.stream.short(self.start, (PREFIX - found) as u64)),
            }
            match i64::from_le_bytes(prefix) {
                i64::MIN => return Err(SplitFdError::Lowest { offset: self.start }),
                number @ 0.. => return self.external(number).map(Some),
                length => self.left = length.unsigned_abs(),
            }
            if self.left > MAX_INLINE {
                return Err(SplitFdError::LongChunk { offset: self.start, size: self.left });
            }
        }
        let piece = self.stream.piece(&mut self.buffer, &mut self.left, self.start)?;
        Ok(Some(Piece::Inline(piece)))
    }

    fn external<'a>(&self, number: i64) -> Result<Piece<'a>, SplitFdError> {
        let offset = self.start;
        let number = u32::try_from(number).map_err(|_| SplitFdError::Number { offset, number })?;
        if number >= self.files {
            return Err(SplitFdError::NoFile { offset, number, files: self.files });
        }
        Ok(Piece::External(number))
    }
}

/// A stream and how far it was read.
#[derive(Debug)]
pub(super) struct Input<R> {
    pub(super) stream: R,
    pub(super) offset: u64,
}

impl<R: Read> Input<R> {
    /// Fills `space`, or as much of it as the stream has.
    pub(super) fn fill(&mut self, space: &mut [u8]) -> Result<usize, SplitFdError> {
        let mut filled = 0;
        while let Some(rest) = space.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.stream.read(rest) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SplitFdError::Read(error)),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Reads the next bytes of a chunk of which so many are `left`.
    pub(super) fn piece<'b>(
        &mut self,
        buffer: &'b mut Vec<u8>,
        left: &mut u64,
        start: u64,
    ) -> Result<&'b [u8], SplitFdError> {
        let length = usize::try_from(*left).unwrap_or(PIECE).min(PIECE);
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let space = buffer.get_mut(..length).unwrap_or_default();
        let found = self.fill(space)?;
        if found < length {
            return Err(self.short(start, *left - found as u64));
        }
        *left -= length as u64;
        Ok(space)
    }

    pub(super) fn short(&self, offset: u64, missing: u64) -> SplitFdError {
        SplitFdError::Short { offset, missing }
    }
}
