//! Reading chunks; lengths are checked before anything is kept, names before anybody can open them.

use std::io::Read;

use super::{FILE, INLINE, MAX_NAME, METADATA, check_name};
use crate::splitfd::read::Input;
use crate::splitfd::{BadName, MAX_INLINE, SplitFdError};

/// Reads a splitdirfdstream.
#[derive(Debug)]
pub struct Reader<R> {
    stream: Input<R>,
    directories: u32,
    kind: u8,
    /// Of the chunk of bytes that is being read.
    left: u64,
    /// Where it begins.
    start: u64,
    buffer: Vec<u8>,
}

/// What comes next in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the tar that are no contents, at least one. A chunk may come in several pieces.
    Metadata(&'a [u8]),
    /// Contents, in pieces likewise.
    Inline(&'a [u8]),
    /// So many bytes from the beginning of a file.
    File {
        /// All that it has.
        size: u64,
        /// The number of its directory.
        directory: u32,
        /// Its name below the directory: relative, and without `..`.
        name: &'a [u8],
    },
}

impl<R: Read> Reader<R> {
    /// Reads a stream that belongs to so many directories.
    pub fn new(stream: R, directories: u32) -> Reader<R> {
        let stream = Input { stream, offset: 0 };
        Reader { stream, directories, kind: METADATA, left: 0, start: 0, buffer: Vec::new() }
    }

    /// The next piece; `None` at the end. After an error there is nothing more to read.
    #[allow(clippy::should_implement_trait, reason = "a piece borrows from the reader, which an iterator cannot lend")]
    pub fn next(&mut self) -> Result<Option<Piece<'_>>, SplitFdError> {
        while self.left == 0 {
            self.start = self.stream.offset;
            let mut kind = [0];
            if self.stream.fill(&mut kind)? == 0 {
                return Ok(None);
            }
            let [kind] = kind;
            match kind {
                METADATA | INLINE => self.left = u64::from(self.number()?),
                FILE => return self.file().map(Some),
                found => return Err(SplitFdError::Type { offset: self.start, found }),
            }
            self.kind = kind;
            if self.left > MAX_INLINE {
                return Err(SplitFdError::LongChunk { offset: self.start, size: self.left });
            }
            // Contents may be empty, metadata not.
            if self.left == 0 && kind == METADATA {
                return Err(SplitFdError::Empty { offset: self.start });
            }
        }
        let kind = self.kind;
        let piece = self.stream.piece(&mut self.buffer, &mut self.left, self.start)?;
        Ok(Some(if kind == METADATA { Piece::Metadata(piece) } else { Piece::Inline(piece) }))
    }

    fn file(&mut self) -> Result<Piece<'_>, SplitFdError> {
        let offset = self.start;
        let size = u64::from_le_bytes(self.bytes()?);
        let directory = self.number()?;
        if directory >= self.directories {
            return Err(SplitFdError::NoFile { offset, number: directory, files: self.directories });
        }
        let length = self.number()?;
        let bad = |problem| SplitFdError::Name { offset, problem };
        if length as usize > MAX_NAME {
            return Err(bad(BadName::Long(length)));
        }
        let mut left = u64::from(length);
        let name = self.stream.piece(&mut self.buffer, &mut left, offset)?;
        check_name(name).map_err(bad)?;
        Ok(Piece::File { size, directory, name })
    }

    fn number(&mut self) -> Result<u32, SplitFdError> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], SplitFdError> {
        let mut bytes = [0; N];
        match self.stream.fill(&mut bytes)? {
            found if found < N => Err(self.stream.short(self.start, (N - found) as u64)),
            _ => Ok(bytes),
        }
    }
}
