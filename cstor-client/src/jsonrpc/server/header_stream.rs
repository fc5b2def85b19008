//! The stream of container-libs pull request 651: splitfdstream's chunks, but a header is one chunk, all contents are
//! beside the stream, and neither padding nor the end of the archive is in it. It is not the layer's tar.
//!
//! There every header is written anew by Go's archive/tar; here it is the layer's own, whose meaning is the same.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use crate::contents::flow::{EntrySink, OpenContents};
use crate::output::OutputError;
use crate::output::splitfd::check_size;
use crate::splitfd::SplitFdError;
use crate::splitfd::Writer;
use crate::tar::Member;

const BLOCK: u64 = 512;

/// Writes the stream and keeps the files.
pub(super) struct HeaderSink<W> {
    writer: Writer<W>,
    files: Vec<OwnedFd>,
    /// How many bytes before the next header pad the contents before it.
    padding: usize,
}

impl<W: Write> HeaderSink<W> {
    pub(super) fn new(out: W) -> HeaderSink<W> {
        HeaderSink { writer: Writer::new(out), files: Vec::new(), padding: 0 }
    }

    fn external(&mut self, name: &[u8], contents: &OpenContents<'_>) -> Result<(), OutputError> {
        check_size(contents)?;
        let too_many = SplitFdError::TooManyFiles { limit: u32::MAX as usize };
        let number = u32::try_from(self.files.len()).map_err(|_| too_many)?;
        let failed = |source| SplitFdError::File { name: name.to_vec(), number, source };
        self.files.push(contents.as_fd().try_clone_to_owned().map_err(failed)?);
        Ok(self.writer.external(number)?)
    }
}

impl<W: Write> EntrySink for HeaderSink<W> {
    type Output = (W, Vec<OwnedFd>);
    type Error = OutputError;
    const EXACT: bool = true;

    fn member(&mut self, raw: &[u8], member: &Member, contents: Option<&OpenContents<'_>>) -> Result<(), OutputError> {
        let padding = std::mem::take(&mut self.padding);
        self.writer.inline(raw.get(padding..).unwrap_or_default())?;
        self.writer.end_chunk()?;
        if let Some(contents) = contents {
            self.external(&member.header.path, contents)?;
            self.padding = (contents.size().next_multiple_of(BLOCK) - contents.size()) as usize;
        }
        Ok(())
    }

    fn trailer(&mut self, _: &[u8]) -> Result<(), OutputError> {
        Ok(())
    }

    fn finish(self) -> Result<(W, Vec<OwnedFd>), OutputError> {
        Ok((self.writer.finish()?, self.files))
    }
}
