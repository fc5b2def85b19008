//! A plain tar as a stream: its members in order, each with its exact header bytes, and the contents of the current
//! one. Sparse contents come as data and holes, whatever way they are stored. It decompresses nothing, and what a
//! global PAX header says of later members is not applied to them, as in Go's archive/tar.

mod error;
mod map;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, Read};

use crate::tar::assemble::{Extensions, combine, header};
use crate::tar::sparse::{self, Extent, PaxMap};
use crate::tar::ustar::{self, BLOCK, Fields};
use crate::tar::{Content, Entry, Header, HeaderError, Kind, MAX_HEADERS, Member};
pub(super) use error::compression;
pub use error::{ArchiveError, ArchiveProblem};

/// Reads a tar from its beginning to its end.
///
/// ```
/// # use cstor_client::tar::{Archive, Piece};
/// # let mut tar = tar::Builder::new(Vec::new());
/// # let mut header = tar::Header::new_ustar();
/// # header.set_size(5);
/// # tar.append_data(&mut header, "greeting", &b"hello"[..])?;
/// # let bytes = tar.into_inner()?;
/// let mut archive = Archive::new(bytes.as_slice());
/// let mut buffer = [0; 4096];
/// while let Some(placed) = archive.next_entry()? {
///     let Some(member) = placed.entry.member else { break };
///     assert_eq!(member.header.path, b"greeting");
///     while let Some(piece) = archive.read_content(&mut buffer)? {
///         assert_eq!(piece, Piece::Data(5));
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Archive<R> {
    input: R,
    /// Bytes read so far.
    offset: u64,
    /// Bytes of the current member that were not yet read, and then its padding.
    stored: u64,
    padding: usize,
    /// The expanded contents: their size, what of them was given, and the data still to come.
    size: u64,
    given: u64,
    extents: VecDeque<Extent>,
    ended: bool,
    /// Whether it is known to be a tar, so that a damaged beginning is not taken for something else.
    is_tar: bool,
}

/// An entry and where it is.
#[derive(Debug)]
#[non_exhaustive]
pub struct Placed {
    /// The entry. Its contents are those of [`Archive::read_content`]: for a sparse member the expanded ones, for a
    /// global PAX header its records, for the end of the archive all that follows its first block.
    pub entry: Entry,
    /// Where `entry.raw` begins in the archive.
    pub offset: u64,
    /// How many bytes of it pad the member before.
    pub padding: usize,
    /// The type in the header. A member of a type that file systems do not have is a [`Kind::File`] with the
    /// contents that its size says; 0 for the end of the archive.
    pub typeflag: u8,
    /// How many bytes of contents follow `entry.raw` in the archive; less than their size if they are sparse.
    pub stored: u64,
}

/// A piece of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// This many bytes are in the buffer.
    Data(usize),
    /// This many zeros, which are not stored.
    Hole(u64),
}

impl<R: Read> Archive<R> {
    /// Begins with the first byte of the input, which is read in small pieces: it should be buffered.
    pub fn new(input: R) -> Archive<R> {
        let extents = VecDeque::new();
        Archive { input, offset: 0, stored: 0, padding: 0, size: 0, given: 0, extents, ended: false, is_tar: false }
    }

    /// The same for what can be nothing but a tar.
    pub(crate) fn of_tar(input: R) -> Archive<R> {
        Archive { is_tar: true, ..Archive::new(input) }
    }

    /// Where it reads from.
    pub(crate) fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// Takes it that the contents of the current member are not in the input.
    pub(crate) fn leave_out_content(&mut self) {
        self.stored = 0;
        self.size = self.given;
        self.extents.clear();
    }

    /// The next member; then, once, an entry without one for the end of the archive; then none. What was not read of
    /// the contents of the member before is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Placed>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        self.skip()?;
        let (offset, mut raw) = (self.offset, Vec::new());
        let padding = std::mem::take(&mut self.padding);
        // As in Go, an archive may end before the padding of its last member.
        let padded = self.append(&mut raw, padding).map_err(|problem| self.error(problem))? == padding;
        let begin = self.offset;
        let found = if padded { self.headers(&mut raw) } else { Ok(None) };
        match found {
            Ok(Some((entry, typeflag))) => {
                let entry = Entry { raw, member: Some(entry) };
                Ok(Some(Placed { entry, offset, padding, typeflag, stored: self.stored }))
            }
            Ok(None) => {
                self.ended = true;
                let padding = padding.min(raw.len());
                Ok(Some(Placed { entry: Entry { raw, member: None }, offset, padding, typeflag: 0, stored: 0 }))
            }
            Err(problem @ (ArchiveProblem::Header(_) | ArchiveProblem::Truncated)) if begin == 0 && !self.is_tar => {
                let is_tar = raw.first_chunk().is_some_and(|block| ustar::parse(block).is_ok());
                Err(ArchiveError { offset: begin, problem: if is_tar { problem } else { error::not_tar(&raw) } })
            }
            Err(problem @ (ArchiveProblem::Header(_) | ArchiveProblem::SparseMap)) => {
                Err(ArchiveError { offset: begin, problem })
            }
            Err(problem) => Err(self.error(problem)),
        }
    }

    /// The next piece of the current entry's contents, at most as much as the buffer holds; `None` at their end.
    pub fn read_content(&mut self, buffer: &mut [u8]) -> Result<Option<Piece>, ArchiveError> {
        if self.ended {
            let length = self.read(buffer)?;
            return Ok((length > 0).then_some(Piece::Data(length)));
        }
        while self.extents.front().is_some_and(|extent| extent.length == 0) {
            self.extents.pop_front();
        }
        let data = self.extents.front_mut().filter(|extent| extent.start <= self.given);
        let Some(extent) = data else {
            let end = self.extents.front().map_or(self.size, |extent| extent.start);
            let hole = end.saturating_sub(self.given);
            self.given = end;
            return Ok((hole > 0).then_some(Piece::Hole(hole)));
        };
        let room = usize::try_from(extent.length).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.read(buffer.get_mut(..room).unwrap_or_default())?;
        if length == 0 && room > 0 {
            return Err(self.error(ArchiveProblem::Truncated));
        }
        if let Some(extent) = self.extents.front_mut() {
            extent.start = extent.start.saturating_add(length as u64);
            extent.length = extent.length.saturating_sub(length as u64);
        }
        self.given = self.given.saturating_add(length as u64);
        self.stored = self.stored.saturating_sub(length as u64);
        Ok(Some(Piece::Data(length)))
    }

    /// How many bytes of the archive were read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads a header with all that extends it.
    fn headers(&mut self, raw: &mut Vec<u8>) -> Result<Option<(Member, u8)>, ArchiveProblem> {
        let mut extensions = Extensions::default();
        let mut pax_map = PaxMap::None;
        let mut is_first = true;
        loop {
            let start = raw.len();
            if self.append(raw, BLOCK)? == 0 && is_first {
                return Ok(None);
            }
            let block = raw.get(start..).and_then(|block| block.first_chunk()).ok_or(ArchiveProblem::Truncated)?;
            if is_first && block.iter().all(|&byte| byte == 0) {
                return Ok(None);
            }
            let fields = ustar::parse(block)?;
            let Some(limit) = Extensions::limit(fields.typeflag) else {
                return self.member(raw, start, fields, extensions, pax_map).map(Some);
            };
            let limit = limit.min(MAX_HEADERS.saturating_sub(raw.len()) as u64);
            if fields.size > limit {
                return Err(HeaderError::LongExtension(limit).into());
            }
            let (start, size) = (raw.len(), fields.size as usize);
            self.append(raw, size.next_multiple_of(BLOCK))?;
            let content = raw.get(start..).and_then(|padded| padded.get(..size)).ok_or(ArchiveProblem::Truncated)?;
            extensions.take(fields.typeflag, content)?;
            if fields.typeflag == b'x' {
                pax_map = sparse::pax(content).ok_or(ArchiveProblem::SparseMap)?;
            }
            is_first = false;
        }
    }

    fn member(
        &mut self,
        raw: &mut Vec<u8>,
        start: usize,
        mut fields: Fields,
        extensions: Extensions,
        pax_map: PaxMap,
    ) -> Result<(Member, u8), ArchiveProblem> {
        let typeflag = fields.typeflag;
        if typeflag == b'g' {
            let (size, header) = (fields.size, header(fields, Kind::PaxGlobal));
            return Ok((self.begin(header, size, size, None), typeflag));
        }
        if typeflag != 0 && !(b'0'..=b'6').contains(&typeflag) {
            fields.typeflag = b'0';
        }
        let parsed = combine(fields, extensions)?;
        if parsed.header.kind != Kind::File {
            return Ok((self.begin(parsed.header, 0, 0, None), typeflag));
        }
        let (mut stored, mut size) = (parsed.stored, parsed.size);
        let extents = if typeflag == b'S' {
            let (extents, real_size) = self.gnu_map(raw, start)?;
            size = real_size;
            Some(extents)
        } else {
            match pax_map {
                PaxMap::None => {
                    size = stored;
                    None
                }
                PaxMap::Records(extents) => Some(extents),
                PaxMap::BeforeData => {
                    let begin = raw.len();
                    let extents = self.text_map(raw, stored)?;
                    stored = stored.checked_sub((raw.len() - begin) as u64).ok_or(ArchiveProblem::SparseMap)?;
                    Some(extents)
                }
            }
        };
        if extents.as_ref().is_some_and(|extents| !sparse::fits(extents, size, stored)) {
            return Err(ArchiveProblem::SparseMap);
        }
        Ok((self.begin(parsed.header, size, stored, extents), typeflag))
    }

    fn begin(&mut self, header: Header, size: u64, stored: u64, extents: Option<Vec<Extent>>) -> Member {
        (self.size, self.stored, self.given) = (size, stored, 0);
        let sparse = extents.is_some();
        self.extents = extents.map_or_else(|| [Extent { start: 0, length: stored }].into(), Into::into);
        self.padding = (BLOCK - (stored % BLOCK as u64) as usize) % BLOCK;
        Member { header, content: (size > 0).then_some(Content { size, crc: None, digest: None }), sparse }
    }

    fn skip(&mut self) -> Result<(), ArchiveError> {
        let skipped = io::copy(&mut (&mut self.input).take(self.stored), &mut io::sink());
        let skipped = skipped.map_err(|error| self.error(ArchiveProblem::Read(error)))?;
        self.offset = self.offset.saturating_add(skipped);
        if skipped < self.stored {
            return Err(self.error(ArchiveProblem::Truncated));
        }
        self.stored = 0;
        Ok(())
    }

    /// Appends what follows, less at the end of the archive; gives how much that was.
    fn append(&mut self, raw: &mut Vec<u8>, length: usize) -> Result<usize, ArchiveProblem> {
        let read = (&mut self.input).take(length as u64).read_to_end(raw).map_err(ArchiveProblem::Read)?;
        self.offset = self.offset.saturating_add(read as u64);
        Ok(read)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            match self.input.read(buffer) {
                Ok(length) => {
                    self.offset = self.offset.saturating_add(length as u64);
                    return Ok(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(ArchiveProblem::Read(error))),
            }
        }
    }

    fn error(&self, problem: ArchiveProblem) -> ArchiveError {
        ArchiveError { offset: self.offset, problem }
    }
}
