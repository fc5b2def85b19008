//! The tar of a layer with contents that only the kernel sees: sendfile(2) moves them from the page cache.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::fs::sendfile;
use rustix::io::{Errno, retry_on_intr};

use super::OutputError;
use crate::contents::flow::{EntrySink, OpenContents};
use crate::tar::Member;

/// What one sendfile(2) is to transfer, so that an interrupt is noticed in time.
const MOST: u64 = 16 << 20;

/// Writes a tar and checks sizes alone.
pub(crate) struct UncheckedTarSink<W> {
    out: W,
    /// Headers that wait for contents, so that small ones go out together.
    pending: Vec<u8>,
    written: u64,
}

impl<W: Write + AsFd> UncheckedTarSink<W> {
    pub(crate) fn new(out: W) -> UncheckedTarSink<W> {
        UncheckedTarSink { out, pending: Vec::new(), written: 0 }
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        self.out.write_all(&self.pending).map_err(OutputError::Write)?;
        self.out.flush().map_err(OutputError::Write)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Gives false if the output is of a kind that the kernel does not move to.
    fn send(&mut self, contents: &OpenContents<'_>) -> Result<bool, OutputError> {
        let mut offset = 0;
        while offset < contents.size() {
            contents.check_interrupt()?;
            let length = usize::try_from((contents.size() - offset).min(MOST)).unwrap_or(usize::MAX);
            match retry_on_intr(|| sendfile(&self.out, contents, Some(&mut offset), length)) {
                Ok(0) => return Err(contents.cut_short(offset).into()),
                Ok(sent) => self.written += sent as u64,
                // A file that is open for appending, or a file system without it.
                Err(Errno::INVAL | Errno::NOSYS) if offset == 0 => return Ok(false),
                Err(errno) => return Err(OutputError::Write(io::Error::from(errno))),
            }
        }
        Ok(true)
    }

    fn copy(&mut self, contents: &OpenContents<'_>) -> Result<(), OutputError> {
        let mut buffer = vec![0; super::digest::BUFFER];
        contents.read(&mut buffer, |piece| {
            self.written += piece.len() as u64;
            self.out.write_all(piece).map_err(OutputError::Write)
        })
    }
}

impl<W: Write + AsFd> EntrySink for UncheckedTarSink<W> {
    type Output = u64;
    type Error = OutputError;
    const EXACT: bool = true;

    fn member(&mut self, raw: &[u8], _: &Member, contents: Option<&OpenContents<'_>>) -> Result<(), OutputError> {
        self.pending.extend_from_slice(raw);
        if let Some(contents) = contents {
            self.flush()?;
            if !self.send(contents)? {
                self.copy(contents)?;
            }
        } else if self.pending.len() >= super::digest::BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn trailer(&mut self, raw: &[u8]) -> Result<(), OutputError> {
        self.pending.extend_from_slice(raw);
        Ok(())
    }

    fn finish(mut self) -> Result<u64, OutputError> {
        self.flush()?;
        Ok(self.written)
    }
}
