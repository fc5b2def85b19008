//! A layer as a splitdirfdstream: files by their names below the layer's `diff` directory, number 0.

use std::collections::HashSet;
use std::io::Write;

use cstor_proto::RelPath;

use crate::contents::flow::{EntrySink, OpenContents};
use crate::output::OutputError;
use crate::output::splitfd::{Split, check_size};
use crate::splitfd::dir::Writer;
use crate::tar::{Header, Kind, Member};

/// Writes the stream.
pub(crate) struct DirSink<W> {
    writer: Writer<W>,
    inline_threshold: u64,
    split: Split,
    /// Names of the layer that a path must not lead through.
    symlinks: HashSet<Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> DirSink<W> {
    pub(crate) fn new(out: W, inline_threshold: u64) -> DirSink<W> {
        let (split, symlinks, buffer) = (Split::default(), HashSet::new(), Vec::new());
        DirSink { writer: Writer::new(out), inline_threshold, split, symlinks, buffer }
    }

    /// The name by which a receiver finds a member.
    fn name(&self, path: &[u8]) -> Option<RelPath> {
        let name = RelPath::clean(path).ok()?;
        let bytes = name.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let through_link =
            slashes.filter_map(|(place, _)| bytes.get(..place)).any(|above| self.symlinks.contains(above));
        (!through_link && std::str::from_utf8(bytes).is_ok()).then_some(name)
    }

    fn note(&mut self, header: &Header) {
        let link = match &header.kind {
            Kind::Symlink(_) => true,
            // Another name of a symlink is one, too.
            Kind::HardLink(target) => {
                RelPath::clean(target).is_ok_and(|target| self.symlinks.contains(target.as_bytes()))
            }
            _ => return,
        };
        if let Ok(name) = RelPath::clean(&header.path)
            && link
        {
            self.symlinks.insert(name.as_bytes().to_vec());
        }
    }
}

impl<W: Write> EntrySink for DirSink<W> {
    type Output = Split;
    type Error = OutputError;
    const EXACT: bool = true;

    fn member(&mut self, raw: &[u8], member: &Member, contents: Option<&OpenContents<'_>>) -> Result<(), OutputError> {
        self.trailer(raw)?;
        self.note(&member.header);
        let Some(contents) = contents else { return Ok(()) };
        let name = match contents.size() < self.inline_threshold {
            true => None,
            false => self.name(&member.header.path),
        };
        let Some(name) = name else {
            return self.split.inline(contents, &mut self.buffer, |piece| self.writer.inline(piece));
        };
        check_size(contents)?;
        self.writer.file(contents.size(), 0, name.as_bytes())?;
        self.split.external_files = self.split.external_files.saturating_add(1);
        self.split.external_bytes = self.split.external_bytes.saturating_add(contents.size());
        Ok(())
    }

    fn trailer(&mut self, raw: &[u8]) -> Result<(), OutputError> {
        self.writer.metadata(raw)?;
        self.split.inline_bytes += raw.len() as u64;
        Ok(())
    }

    fn finish(self) -> Result<Split, OutputError> {
        self.writer.finish()?;
        Ok(self.split)
    }
}
