//! Whether a layer's files are what its description says: every finding, not only the first.

use std::io;

use super::{OutputError, TarSink};
use crate::base::digest::Digest;
use crate::contents::flow::{EntrySink, OpenContents};
use crate::contents::{ImageError, ReadError};
use crate::tar::Member;

/// How far a layer is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Verify {
    /// The description alone: tar-split, headers, and the sizes of files.
    Structure,
    /// Every file against its checksum as well.
    Crc,
    /// The whole against the layer's digest as well.
    #[default]
    Digest,
}

/// Reads everything, keeps what is wrong, and goes on.
pub(crate) struct CheckSink {
    level: Verify,
    /// The tar that nobody gets, for its digest; `None` after a finding, or where it is not wanted.
    tar: Option<TarSink<io::Sink>>,
    scratch: Vec<u8>,
    findings: Vec<ReadError>,
}

/// What a look at a layer gave.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) findings: Vec<ReadError>,
    /// `None` where it was not wanted, or would be that of damaged contents.
    pub(crate) digest: Option<Digest>,
}

impl CheckSink {
    pub(crate) fn new(level: Verify) -> CheckSink {
        let tar = (level == Verify::Digest).then(|| TarSink::new(io::sink(), level, true));
        let scratch = if level == Verify::Crc { vec![0; super::digest::BUFFER] } else { Vec::new() };
        CheckSink { level, tar, scratch, findings: Vec::new() }
    }

    fn found(&mut self, error: ReadError) {
        self.findings.push(error);
        self.tar = None;
        self.scratch.resize(super::digest::BUFFER, 0);
    }

    fn read(&mut self, contents: &OpenContents<'_>) -> Result<(), OutputError> {
        contents.read(&mut self.scratch, |_| Ok(()))
    }
}

impl EntrySink for CheckSink {
    type Output = Checked;
    type Error = OutputError;
    const EXACT: bool = false;

    fn opens_contents(&self) -> bool {
        self.level != Verify::Structure
    }

    fn member(&mut self, raw: &[u8], member: &Member, contents: Option<&OpenContents<'_>>) -> Result<(), OutputError> {
        if member.sparse && self.tar.take().is_some() {
            // Its files can be checked; there is no tar to take a digest of.
            self.scratch.resize(super::digest::BUFFER, 0);
        }
        let looked = match (&mut self.tar, contents) {
            (Some(tar), contents) => tar.member(raw, member, contents),
            (None, Some(contents)) => self.read(contents),
            (None, None) => Ok(()),
        };
        match looked {
            Err(OutputError::Image(ImageError::Read(error))) => {
                self.found(error);
                Ok(())
            }
            other => other,
        }
    }

    fn refused(&mut self, error: ReadError) -> Result<(), ReadError> {
        self.found(error);
        Ok(())
    }

    fn trailer(&mut self, raw: &[u8]) -> Result<(), OutputError> {
        self.tar.as_mut().map_or(Ok(()), |tar| tar.trailer(raw))
    }

    fn finish(self) -> Result<Checked, OutputError> {
        let written = self.tar.map(EntrySink::finish).transpose()?;
        Ok(Checked { findings: self.findings, digest: written.and_then(|written| written.digest) })
    }
}
