//! The table of contents of a layer, whiteouts and all, without opening a file unless digests are wanted.

use super::OutputError;
use crate::contents::flow::{EntrySink, OpenContents};
use crate::output::toc::{TakeRow, TocEntry};
use crate::tar::Member;

/// Makes a row of each member.
pub(crate) struct TocSink<'a> {
    take: TakeRow<'a>,
    digests: bool,
    /// Where the next bytes stand in the tar.
    offset: u64,
}

impl<'a> TocSink<'a> {
    pub(crate) fn new(digests: bool, take: TakeRow<'a>) -> TocSink<'a> {
        TocSink { take, digests, offset: 0 }
    }
}

impl EntrySink for TocSink<'_> {
    type Output = ();
    type Error = OutputError;
    const EXACT: bool = false;

    fn opens_contents(&self) -> bool {
        self.digests
    }

    fn member(&mut self, raw: &[u8], member: &Member, contents: Option<&OpenContents<'_>>) -> Result<(), OutputError> {
        self.offset += raw.len() as u64;
        let mut row = TocEntry::of_header(&member.header);
        if let Some(content) = member.content {
            row.size = content.size;
            // Of a layer without headers nobody knows the offsets.
            if !raw.is_empty() {
                row.offset = self.offset;
            }
            self.offset += content.size;
        }
        if let Some(contents) = contents {
            row.set_digest(contents)?;
        }
        (self.take)(row)
    }

    fn trailer(&mut self, _: &[u8]) -> Result<(), OutputError> {
        Ok(())
    }

    fn finish(self) -> Result<(), OutputError> {
        Ok(())
    }
}
