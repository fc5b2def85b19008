//! The exact tar of a layer: the header bytes as they were, the contents from the files.

use std::io::Write;

use super::OutputError;
use super::check::Verify;
use super::digest::{BUFFER, Hasher};
use crate::base::digest::Digest;
use crate::contents::flow::{EntrySink, OpenContents};
use crate::tar::Member;

/// Writes a tar, and hashes it if asked to.
pub(crate) struct TarSink<W: Write> {
    out: W,
    /// Whether files are checked against their checksums.
    checked: bool,
    hasher: Option<Hasher>,
    /// What is to be written next; it goes out, and to the hasher, when it is full.
    buffer: Vec<u8>,
    used: usize,
    written: u64,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written<W> {
    pub(crate) out: W,
    pub(crate) size: u64,
    pub(crate) digest: Option<Digest>,
}

impl<W: Write> TarSink<W> {
    pub(crate) fn new(out: W, level: Verify, hash: bool) -> TarSink<W> {
        let checked = level > Verify::Structure;
        TarSink { out, checked, hasher: hash.then(Hasher::start), buffer: vec![0; BUFFER], used: 0, written: 0 }
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), OutputError> {
        while !bytes.is_empty() {
            let space = self.space()?;
            let length = bytes.len().min(space.len());
            let (now, later) = bytes.split_at(length);
            for (to, from) in space.iter_mut().zip(now) {
                *to = *from;
            }
            self.used += length;
            bytes = later;
        }
        Ok(())
    }

    /// Room in the buffer, never none.
    fn space(&mut self) -> Result<&mut [u8], OutputError> {
        if self.used == self.buffer.len() {
            self.flush()?;
        }
        Ok(self.buffer.get_mut(self.used..).unwrap_or_default())
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        let full = self.buffer.get(..self.used).unwrap_or_default();
        self.out.write_all(full).map_err(OutputError::Write)?;
        self.written += self.used as u64;
        if let Some(hasher) = &mut self.hasher {
            self.buffer = hasher.exchange((std::mem::take(&mut self.buffer), self.used))?;
        }
        self.used = 0;
        Ok(())
    }
}

impl<W: Write> EntrySink for TarSink<W> {
    type Output = Written<W>;
    type Error = OutputError;
    const EXACT: bool = true;

    fn member(&mut self, raw: &[u8], _: &Member, contents: Option<&OpenContents<'_>>) -> Result<(), OutputError> {
        self.append(raw)?;
        let Some(contents) = contents else { return Ok(()) };
        let mut reader = if self.checked { contents.reader() } else { contents.reader_of_size() };
        loop {
            match reader.fill(self.space()?)? {
                0 => return Ok(()),
                length => self.used += length,
            }
        }
    }

    fn trailer(&mut self, raw: &[u8]) -> Result<(), OutputError> {
        self.append(raw)
    }

    fn finish(mut self) -> Result<Written<W>, OutputError> {
        self.flush()?;
        self.out.flush().map_err(OutputError::Write)?;
        let digest = self.hasher.map(Hasher::finish).transpose()?;
        Ok(Written { out: self.out, size: self.written, digest })
    }
}
