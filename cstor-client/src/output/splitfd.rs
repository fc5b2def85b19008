//! A layer as a stream: headers and padding as its tar-split has them, small files in it, others beside it.

use std::io::Write;

use rustix::fs::fstat;

use crate::contents::ImageError;
use crate::contents::flow::{EntrySink, OpenContents};
use crate::output::OutputError;
use crate::splitfd::{ExternalFile, FileConsumer, PIECE, SplitFdError, Writer};
use crate::tar::Member;

/// What a layer was split into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Split {
    /// External files; no checksum was checked against their contents, since nobody read them.
    pub external_files: u32,
    /// The bytes of them.
    pub external_bytes: u64,
    /// The bytes of the tar that stand in the stream: headers, padding, and small files, which were checked.
    pub inline_bytes: u64,
}

impl Split {
    /// Puts contents into the stream, by way of `buffer`.
    pub(super) fn inline(
        &mut self,
        contents: &OpenContents<'_>,
        buffer: &mut Vec<u8>,
        mut write: impl FnMut(&[u8]) -> Result<(), SplitFdError>,
    ) -> Result<(), OutputError> {
        buffer.resize(PIECE, 0);
        contents.read(buffer, |piece| {
            self.inline_bytes += piece.len() as u64;
            Ok(write(piece)?)
        })
    }
}

/// Writes the stream, and passes the files beside it on.
pub(crate) struct SplitSink<W, F> {
    writer: Writer<W>,
    files: F,
    inline_threshold: u64,
    split: Split,
    buffer: Vec<u8>,
}

impl<W: Write, F: FileConsumer> SplitSink<W, F> {
    pub(crate) fn new(out: W, files: F, inline_threshold: u64) -> SplitSink<W, F> {
        SplitSink { writer: Writer::new(out), files, inline_threshold, split: Split::default(), buffer: Vec::new() }
    }

    fn external(&mut self, name: &[u8], contents: &OpenContents<'_>) -> Result<(), OutputError> {
        let (number, size) = (self.split.external_files, contents.size());
        check_size(contents)?;
        self.files.take(ExternalFile { number, name, size, fd: std::os::fd::AsFd::as_fd(contents) })?;
        self.writer.external(number)?;
        self.split.external_files = number.checked_add(1).ok_or(SplitFdError::TooManyFiles { limit: usize::MAX })?;
        self.split.external_bytes = self.split.external_bytes.saturating_add(size);
        Ok(())
    }
}

/// Looks at the size once more: since the file was opened, others before it were passed on.
pub(crate) fn check_size(contents: &OpenContents<'_>) -> Result<(), ImageError> {
    // A file that cannot be looked at is reported by its reader.
    let now = fstat(contents).ok().and_then(|stat| u64::try_from(stat.st_size).ok());
    match now.filter(|&now| now != contents.size()) {
        Some(found) => Err(contents.cut_short(found)),
        None => Ok(()),
    }
}

impl<W: Write, F: FileConsumer> EntrySink for SplitSink<W, F> {
    type Output = Split;
    type Error = OutputError;
    const EXACT: bool = true;

    fn member(&mut self, raw: &[u8], member: &Member, contents: Option<&OpenContents<'_>>) -> Result<(), OutputError> {
        self.trailer(raw)?;
        match contents {
            None => Ok(()),
            Some(contents) if contents.size() < self.inline_threshold => {
                self.split.inline(contents, &mut self.buffer, |piece| self.writer.inline(piece))
            }
            Some(contents) => self.external(&member.header.path, contents),
        }
    }

    fn trailer(&mut self, raw: &[u8]) -> Result<(), OutputError> {
        self.writer.inline(raw)?;
        self.split.inline_bytes += raw.len() as u64;
        Ok(())
    }

    fn finish(self) -> Result<Split, OutputError> {
        self.writer.finish()?;
        Ok(self.split)
    }
}
