//! The tar again: literal bytes as they stand, files in their places, each as large as its header says.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::fstat;
use rustix::io::{pread, retry_on_intr};

use super::{PIECE, Piece, Reader, SplitFdError};
use crate::entry::{Scanner, Stop};

/// Gives the external files of a stream by their numbers.
///
/// A slice of open files is one. Another one may hold a few at a time: files are asked for in the order of
/// the stream, which is that of their numbers if cstor wrote it.
pub trait FileSupply {
    /// How many there are.
    fn count(&self) -> u32;

    /// The file of a number below [`Self::count`]. It is read from its beginning, wherever its offset stands.
    fn file(&mut self, number: u32) -> io::Result<BorrowedFd<'_>>;
}

impl<F: AsFd> FileSupply for &[F] {
    fn count(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn file(&mut self, number: u32) -> io::Result<BorrowedFd<'_>> {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        self.get(place).map(AsFd::as_fd).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Writes the tar that a stream and its files make up, and gives its size.
///
/// The headers in the stream are read: a file must stand where the contents of a member begin, and have the
/// size that its header says. What the bytes of a file were is not known; hold the digest of the tar against
/// the layer's diff id. What was written before an error is no tar.
pub fn reconstruct(stream: impl Read, mut files: impl FileSupply, out: impl Write) -> Result<u64, SplitFdError> {
    let mut reader = Reader::new(stream, files.count());
    let mut tar = Tar::new(out);
    while let Some(piece) = reader.next()? {
        match piece {
            Piece::Inline(bytes) => tar.inline(bytes)?,
            Piece::External(number) => tar.external(number, &mut files)?,
        }
    }
    tar.finish()
}

/// A tar that is being put together.
pub(super) struct Tar<W> {
    out: W,
    scanner: Scanner,
    written: u64,
    buffer: Vec<u8>,
}

impl<W: Write> Tar<W> {
    pub(super) fn new(out: W) -> Tar<W> {
        Tar { out, scanner: Scanner::new(true), written: 0, buffer: Vec::new() }
    }

    pub(super) fn inline(&mut self, bytes: &[u8]) -> Result<(), SplitFdError> {
        self.scanner.take(bytes).map_err(|stop| {
            let after = self.scanner.name().to_vec();
            match stop {
                Stop::Header(source) => SplitFdError::Header { after, source },
                Stop::Sparse => SplitFdError::Sparse { after },
            }
        })?;
        self.write(bytes)
    }

    fn external(&mut self, number: u32, files: &mut impl FileSupply) -> Result<(), SplitFdError> {
        let wanted = self.contents(number)?;
        let file = files.file(number).map_err(|source| self.unreadable(number, source))?;
        self.copy(number, file, wanted)
    }

    /// The size of the contents that file `number` is to stand for.
    pub(super) fn contents(&mut self, number: u32) -> Result<u64, SplitFdError> {
        self.scanner.take_contents().ok_or(SplitFdError::Misplaced { number })
    }

    /// Copies all of a file, which must have this size.
    pub(super) fn copy(&mut self, number: u32, file: BorrowedFd<'_>, wanted: u64) -> Result<(), SplitFdError> {
        let stat = fstat(file).map_err(|errno| self.unreadable(number, errno.into()))?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        if size != wanted {
            return Err(self.other_size(number, size, wanted));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(PIECE, 0);
        let mut offset = 0;
        // One more read than needed finds a file that grows.
        loop {
            let length = retry_on_intr(|| pread(file, &mut *buffer, offset))
                .map_err(|errno| self.unreadable(number, errno.into()))?;
            offset += length as u64;
            if offset > wanted || length == 0 && offset < wanted {
                return Err(self.other_size(number, offset, wanted));
            }
            if length == 0 {
                break;
            }
            self.write(buffer.get(..length).unwrap_or_default())?;
        }
        self.buffer = buffer;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<u64, SplitFdError> {
        if !self.scanner.may_end() {
            return Err(SplitFdError::CutShort { after: self.scanner.name().to_vec() });
        }
        self.out.flush().map_err(SplitFdError::Write)?;
        Ok(self.written)
    }

    pub(super) fn unreadable(&self, number: u32, source: io::Error) -> SplitFdError {
        SplitFdError::File { name: self.scanner.name().to_vec(), number, source }
    }

    pub(super) fn other_size(&self, number: u32, found: u64, wanted: u64) -> SplitFdError {
        SplitFdError::Size { name: self.scanner.name().to_vec(), number, found, wanted }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SplitFdError> {
        self.out.write_all(bytes).map_err(SplitFdError::Write)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}
