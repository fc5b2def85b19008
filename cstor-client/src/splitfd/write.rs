//! Writing chunks: literal bytes are gathered, so that a chunk is neither empty nor longer than it must be.

use std::io::Write;

use super::{PIECE, SplitFdError};

/// Writes a splitfdstream.
///
/// ```
/// # use cstor_client::splitfdstream::{Piece, Reader, Writer};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut writer = Writer::new(Vec::new());
/// writer.inline(b"some")?;
/// writer.inline(b"thing")?;
/// writer.external(0)?;
/// let stream = writer.finish()?;
/// let mut reader = Reader::new(&stream[..], 1);
/// assert_eq!(reader.next()?, Some(Piece::Inline(b"something")));
/// assert_eq!(reader.next()?, Some(Piece::External(0)));
/// assert_eq!(reader.next()?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    pending: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`, in few large pieces.
    pub fn new(out: W) -> Writer<W> {
        Writer { out, pending: Vec::new() }
    }

    /// Appends literal bytes. What fits into one chunk is not split.
    pub fn inline(&mut self, bytes: &[u8]) -> Result<(), SplitFdError> {
        if self.pending.len() + bytes.len() > PIECE {
            self.flush()?;
        }
        let mut pieces = bytes.chunks(PIECE).peekable();
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_some() {
                self.chunk(piece)?;
            } else {
                self.pending.extend_from_slice(piece);
            }
        }
        Ok(())
    }

    /// Appends all of the external file of this number, counted from 0 in the list of files.
    pub fn external(&mut self, number: u32) -> Result<(), SplitFdError> {
        self.flush()?;
        self.out.write_all(&i64::from(number).to_le_bytes()).map_err(SplitFdError::Write)
    }

    /// Ends the chunk of literal bytes: what follows goes into another one.
    #[cfg(feature = "jsonrpc")]
    pub(crate) fn end_chunk(&mut self) -> Result<(), SplitFdError> {
        self.flush()
    }

    /// Completes the stream and gives back where it was written.
    pub fn finish(mut self) -> Result<W, SplitFdError> {
        self.flush()?;
        self.out.flush().map_err(SplitFdError::Write)?;
        Ok(self.out)
    }

    fn flush(&mut self) -> Result<(), SplitFdError> {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            self.chunk(&pending)?;
        }
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    /// Writes one chunk of 1 to [`PIECE`] bytes.
    fn chunk(&mut self, bytes: &[u8]) -> Result<(), SplitFdError> {
        let prefix = -(bytes.len() as i64);
        self.out.write_all(&prefix.to_le_bytes()).map_err(SplitFdError::Write)?;
        self.out.write_all(bytes).map_err(SplitFdError::Write)
    }
}
