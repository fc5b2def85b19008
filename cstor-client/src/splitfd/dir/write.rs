//! Writing chunks; bytes of one kind that follow one another are gathered.

use std::io::Write;

use super::{FILE, INLINE, METADATA, check_name};
use crate::splitfd::{PIECE, SplitFdError};

/// Writes a splitdirfdstream.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    kind: u8,
    pending: Vec<u8>,
    /// Bytes of the stream so far, without those that are pending.
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`, in few large pieces.
    pub fn new(out: W) -> Writer<W> {
        Writer { out, kind: METADATA, pending: Vec::new(), written: 0 }
    }

    /// Appends bytes of the tar that are no contents: headers and padding.
    pub fn metadata(&mut self, bytes: &[u8]) -> Result<(), SplitFdError> {
        self.gather(METADATA, bytes)
    }

    /// Appends contents.
    pub fn inline(&mut self, bytes: &[u8]) -> Result<(), SplitFdError> {
        self.gather(INLINE, bytes)
    }

    /// Appends a file of this size, by the number of a directory and its name below it.
    pub fn file(&mut self, size: u64, directory: u32, name: &[u8]) -> Result<(), SplitFdError> {
        self.flush()?;
        check_name(name).map_err(|problem| SplitFdError::Name { offset: self.written, problem })?;
        // At most 4096.
        let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
        self.write(&[FILE])?;
        self.write(&size.to_le_bytes())?;
        self.write(&directory.to_le_bytes())?;
        self.write(&length.to_le_bytes())?;
        self.write(name)
    }

    /// Completes the stream and gives back where it was written.
    pub fn finish(mut self) -> Result<W, SplitFdError> {
        self.flush()?;
        self.out.flush().map_err(SplitFdError::Write)?;
        Ok(self.out)
    }

    fn gather(&mut self, kind: u8, bytes: &[u8]) -> Result<(), SplitFdError> {
        if kind != self.kind || self.pending.len() + bytes.len() > PIECE {
            self.flush()?;
        }
        self.kind = kind;
        for piece in bytes.chunks(PIECE) {
            if self.pending.len() + piece.len() > PIECE {
                self.flush()?;
            }
            self.pending.extend_from_slice(piece);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SplitFdError> {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            self.write(&[self.kind])?;
            // At most PIECE.
            self.write(&u32::try_from(pending.len()).unwrap_or(u32::MAX).to_le_bytes())?;
            self.write(&pending)?;
        }
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SplitFdError> {
        self.out.write_all(bytes).map_err(SplitFdError::Write)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}
