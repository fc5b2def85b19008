//! From tar-split lines to members: the segment before a file holds its header.
//!
//! A segment is, in this order: the padding of the member before, extension headers (PAX `x`, GNU `L` and
//! `K`) with their contents, the header itself. Only the trailer follows the last file.

use super::Time;
use super::header::{Header, HeaderError, Kind, checked_target};
use super::pax::{Records, Sparse};
use super::ustar::{self, BLOCK, Fields};
use super::{Content, Entry, MAX_HEADERS, Member};
use crate::base::account::Charge;
use crate::tar::tarsplit::Line;

/// The longest PAX extension, as Go's reader has it (archive/tar, `maxSpecialFileSize`), and the longest
/// GNU name.
pub(super) const MAX_PAX: u64 = 1 << 20;
pub(super) const MAX_GNU_NAME: u64 = 64 << 10;

/// Puts members together, one line after the other.
#[derive(Debug)]
pub(crate) struct Assembler {
    /// Bytes since the last member.
    pending: Vec<u8>,
    /// What they are charged to.
    charge: Charge,
    /// How many of them pad the last member.
    padding: usize,
    /// Bytes of the tar so far.
    total: u64,
    sparse: bool,
}

/// A member cannot be put together.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(crate) struct AssembleError {
    /// The name in the tar-split entry; `None` where the entry has not come yet.
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) source: HeaderError,
}

impl Assembler {
    pub(crate) fn new(charge: Charge) -> Assembler {
        Assembler { pending: Vec::new(), charge, padding: 0, total: 0, sparse: false }
    }

    /// Takes one line; gives the member that it completes.
    pub(crate) fn take(&mut self, line: Line) -> Result<Option<Entry>, AssembleError> {
        match line {
            Line::Segment(bytes) => {
                self.total = self.total.saturating_add(bytes.len() as u64);
                self.expect(bytes.len()).map_err(|source| AssembleError { name: None, source })?;
                if self.pending.is_empty() {
                    self.pending = bytes;
                } else {
                    self.pending.extend(bytes);
                }
                Ok(None)
            }
            Line::File { name, size, crc } => match self.member(&name, size, crc) {
                Ok(member) => {
                    self.charge.sub(self.pending.len());
                    Ok(Some(Entry { raw: std::mem::take(&mut self.pending), member: Some(member) }))
                }
                Err(source) => Err(AssembleError { name: Some(name), source }),
            },
        }
    }

    /// Makes room for so many bytes more.
    fn expect(&mut self, bytes: usize) -> Result<(), HeaderError> {
        if self.pending.len() + bytes > MAX_HEADERS {
            return Err(HeaderError::LongHeaders(MAX_HEADERS));
        }
        Ok(self.charge.add(bytes)?)
    }

    /// Whether there was a sparse member, whose stored form is not described.
    pub(crate) fn is_sparse(&self) -> bool {
        self.sparse
    }

    /// What follows the last member, and the size of the whole tar.
    pub(crate) fn finish(self) -> (Entry, u64) {
        (Entry { raw: self.pending, member: None }, self.total)
    }

    fn member(&mut self, name: &[u8], entry_size: u64, crc: Option<u64>) -> Result<Member, HeaderError> {
        // What the padding is made of means nothing.
        let headers = self.pending.get(self.padding..).ok_or(HeaderError::Short)?;
        let parsed = parse(headers)?;
        // Go leaves out nothing of a name, but an empty one has no key in the JSON.
        if parsed.header.path != name && parsed.header.kind != Kind::PaxGlobal {
            return Err(HeaderError::OtherName(parsed.header.path));
        }
        let has_content = parsed.header.kind == Kind::File;
        if parsed.size != entry_size {
            return Err(HeaderError::OtherSize { header: parsed.size, entry: entry_size });
        }
        let size = if has_content { entry_size } else { 0 };
        self.total = self.total.saturating_add(size);
        self.padding = match parsed.after {
            After::Padding(size) => (BLOCK - (size % BLOCK as u64) as usize) % BLOCK,
            After::Nothing => 0,
        };
        let sparse = has_content && matches!(parsed.after, After::Nothing);
        self.sparse |= sparse;
        let content = (size > 0).then_some(Content { size, crc, digest: None });
        Ok(Member { header: parsed.header, content, sparse })
    }
}

pub(super) struct Parsed {
    pub(super) header: Header,
    /// The size of the contents, after expansion of sparse ones.
    pub(super) size: u64,
    /// What of them a tar holds: a sparse member's map and data.
    pub(super) stored: u64,
    pub(super) after: After,
}

/// What the next segment begins with.
pub(super) enum After {
    /// Zeros up to the next block behind this many bytes.
    Padding(u64),
    /// The next header: tar-split keeps neither the stored form nor the padding of a sparse member.
    Nothing,
}

/// What extension headers say of the next member.
#[derive(Default)]
pub(super) struct Extensions {
    pax: Option<Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Extensions {
    /// How long the contents of a header may be that extends the next one; `None` if it is not such a header.
    pub(super) fn limit(typeflag: u8) -> Option<u64> {
        match typeflag {
            b'x' => Some(MAX_PAX),
            b'L' | b'K' => Some(MAX_GNU_NAME),
            _ => None,
        }
    }

    /// Takes the contents of a header that has a limit.
    pub(super) fn take(&mut self, typeflag: u8, content: &[u8]) -> Result<(), HeaderError> {
        let target = match typeflag {
            b'x' => {
                self.pax = Some(Records::parse(content)?);
                return Ok(());
            }
            b'L' => &mut self.name,
            _ => &mut self.link,
        };
        let text = content.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        if target.replace(text).is_some() { Err(HeaderError::TwoLongNames) } else { Ok(()) }
    }
}

/// Parses the headers of one member, which end with its own.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Parsed, HeaderError> {
    let mut extensions = Extensions::default();
    loop {
        let (block, rest) = bytes.split_first_chunk::<BLOCK>().ok_or(HeaderError::Short)?;
        let fields = ustar::parse(block)?;
        if let Some(limit) = Extensions::limit(fields.typeflag) {
            let (content, after) = contents(rest, fields.size, limit)?;
            extensions.take(fields.typeflag, content)?;
            bytes = after;
        } else if fields.typeflag == b'g' {
            // Its records stand in the segment without their padding.
            if rest.len() as u64 != fields.size {
                return Err(HeaderError::Short);
            }
            let after = After::Padding(fields.size);
            return Ok(Parsed { size: 0, stored: fields.size, after, header: header(fields, Kind::PaxGlobal) });
        } else if !rest.is_empty() {
            return Err(HeaderError::Trailing(rest.len()));
        } else {
            return combine(fields, extensions);
        }
    }
}

/// The contents of an extension header, and what follows their padding.
fn contents(bytes: &[u8], size: u64, limit: u64) -> Result<(&[u8], &[u8]), HeaderError> {
    if size > limit {
        return Err(HeaderError::LongExtension(limit));
    }
    let size = size as usize;
    let rest = bytes.get(size.next_multiple_of(BLOCK)..).ok_or(HeaderError::Short)?;
    Ok((bytes.get(..size).ok_or(HeaderError::Short)?, rest))
}

pub(super) fn combine(mut fields: Fields, extensions: Extensions) -> Result<Parsed, HeaderError> {
    let mut pax = extensions.pax.unwrap_or_default();
    let stored = pax.size.unwrap_or(fields.size);
    let sparse = pax.sparse.take();
    // PAX over GNU over the header's own fields, as in Go (reader.go, `next`).
    replace(&mut fields.path, extensions.name);
    replace(&mut fields.link, extensions.link);
    replace(&mut fields.path, pax.path);
    replace(&mut fields.link, pax.link);
    replace(&mut fields.uid, pax.uid);
    replace(&mut fields.gid, pax.gid);
    let (size, after) = match &sparse {
        Some(Sparse { size, .. }) => (size.unwrap_or(stored), After::Nothing),
        None => (stored, After::Padding(stored)),
    };
    replace(&mut fields.path, sparse.and_then(|sparse| sparse.name));
    let link = std::mem::take(&mut fields.link);
    let (major, minor) = fields.device;
    let kind = match fields.typeflag {
        // V7 had no type for directories (reader.go, `readHeader`).
        0 if fields.path.ends_with(b"/") => Kind::Dir,
        0 | b'0' => Kind::File,
        b'1' => Kind::HardLink(link),
        b'2' => {
            checked_target(&link)?;
            Kind::Symlink(link)
        }
        b'3' => Kind::CharDevice { major, minor },
        b'4' => Kind::BlockDevice { major, minor },
        b'5' => Kind::Dir,
        b'6' => Kind::Fifo,
        other => return Err(HeaderError::Type(other)),
    };
    // Links and the like have no contents, whatever size their header claims.
    let after = if kind == Kind::File { after } else { After::Nothing };
    let mut header = header(fields, kind);
    replace(&mut header.mtime, pax.mtime);
    replace(&mut header.user_name, pax.user_name);
    replace(&mut header.group_name, pax.group_name);
    header.xattrs = pax.xattrs;
    Ok(Parsed { header, size, stored, after })
}

pub(super) fn header(fields: Fields, kind: Kind) -> Header {
    Header {
        path: fields.path,
        kind,
        mode: fields.mode,
        uid: fields.uid,
        gid: fields.gid,
        user_name: fields.user_name,
        group_name: fields.group_name,
        mtime: Time { seconds: fields.mtime, nanoseconds: 0 },
        xattrs: Vec::new(),
    }
}

fn replace<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}
