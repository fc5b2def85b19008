//! The merged tree of an image as one tar: sorted, in PAX format, the same bytes for the same image.
//!
//! It is a new archive, not one of the image's layers: nothing of it can be checked against a digest of the
//! image, but every file is checked against its checksum.

use std::collections::HashMap;
use std::io::{BufWriter, Write};

use tar::{EntryType, Header};

use crate::access::{Chain, Escalating};
use crate::base::account::Charge;
use crate::base::host_xattrs::is_left_out_of_tars;
use crate::contents::flow::OpenContents;
use crate::contents::visit::visit;
use crate::output::OutputError;
use crate::tar::Time;
use crate::tree::{FinalTree, InodeKind, Meta, TreeEntry};

const BLOCK: usize = 512;
const BUFFER: usize = 256 * 1024;
/// What the octal fields of a ustar header hold.
const MAX_ID: u64 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;

/// Writes the tar of a merged tree.
pub(crate) fn write(
    tree: &FinalTree,
    (chain, source): (&Chain, &mut Escalating),
    out: impl Write,
) -> Result<u64, OutputError> {
    let out = BufWriter::with_capacity(BUFFER, out);
    let charge = chain.account().charge();
    let mut flat = Flat { out, written: 0, firsts: HashMap::new(), charge, buffer: vec![0; BUFFER] };
    visit(tree, (chain, source), true, |entry, contents| flat.member(entry, contents))?;
    // Two blocks of zeros end an archive.
    flat.bytes(&[0; 2 * BLOCK])?;
    flat.out.flush().map_err(OutputError::Write)?;
    Ok(flat.written)
}

struct Flat<W> {
    out: W,
    written: u64,
    /// The first names of inodes that have several, and what they are charged to.
    firsts: HashMap<u32, Vec<u8>>,
    charge: Charge,
    buffer: Vec<u8>,
}

impl<W: Write> Flat<W> {
    fn member(&mut self, entry: &TreeEntry<'_>, contents: Option<&OpenContents<'_>>) -> Result<(), OutputError> {
        let meta = entry.inode.meta();
        let mut header = Header::new_ustar();
        let mut records = Records::default();
        let mut path = entry.path.clone();
        let mut target: &[u8] = b"";
        let mut size = 0;
        let known = match entry.inode.kind() {
            InodeKind::Dir(_) => None,
            _ => self.firsts.get(&entry.inode_number).cloned(),
        };
        let kind = match (&known, entry.inode.kind()) {
            (Some(first), _) => {
                target = first;
                EntryType::Link
            }
            (None, InodeKind::Dir(_)) => {
                path.push(b'/');
                EntryType::Directory
            }
            (None, InodeKind::File { size: of_file, .. }) => {
                size = *of_file;
                EntryType::Regular
            }
            (None, InodeKind::Symlink(to)) => {
                target = to;
                EntryType::Symlink
            }
            (None, InodeKind::Fifo) => EntryType::Fifo,
            (None, &InodeKind::CharDevice { major, minor }) => device(&mut header, EntryType::Char, major, minor)?,
            (None, &InodeKind::BlockDevice { major, minor }) => device(&mut header, EntryType::Block, major, minor)?,
        };
        if known.is_none() && entry.inode.names() > 1 {
            self.charge.add(entry.path.len() + size_of::<(u32, Vec<u8>)>())?;
            self.firsts.insert(entry.inode_number, entry.path.clone());
        }
        header.set_entry_type(kind);
        if std::str::from_utf8(&path).is_err() || std::str::from_utf8(target).is_err() {
            // Values are UTF-8 unless this says that they are what they are (POSIX.1-2008, pax).
            records.add(b"hdrcharset", b"BINARY");
        }
        records.name(&mut header.as_old_mut().name, b"path", &path);
        records.name(&mut header.as_old_mut().linkname, b"linkpath", target);
        fill(&mut header, &mut records, meta, size, known.is_none());
        header.set_cksum();
        self.extension(&records)?;
        self.bytes(header.as_bytes())?;
        match contents {
            Some(contents) => self.contents(contents),
            None => Ok(()),
        }
    }

    fn contents(&mut self, contents: &OpenContents<'_>) -> Result<(), OutputError> {
        let Flat { out, written, buffer, .. } = self;
        contents.read(buffer, |piece| {
            *written += piece.len() as u64;
            out.write_all(piece).map_err(OutputError::Write)
        })?;
        self.pad()
    }

    /// The extension header that holds what the ustar header cannot.
    fn extension(&mut self, records: &Records) -> Result<(), OutputError> {
        if records.0.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        set_text(&mut header.as_old_mut().name, b"PaxHeader");
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.0.len() as u64);
        header.set_cksum();
        self.bytes(header.as_bytes())?;
        self.bytes(&records.0)?;
        self.pad()
    }

    fn pad(&mut self) -> Result<(), OutputError> {
        let used = usize::try_from(self.written % BLOCK as u64).unwrap_or_default();
        let zeros = [0; BLOCK];
        self.bytes(zeros.get(..(BLOCK - used) % BLOCK).unwrap_or_default())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes).map_err(OutputError::Write)
    }
}

fn device(header: &mut Header, kind: EntryType, major: u32, minor: u32) -> Result<EntryType, OutputError> {
    header.set_device_major(major).map_err(OutputError::Write)?;
    header.set_device_minor(minor).map_err(OutputError::Write)?;
    Ok(kind)
}

fn fill(header: &mut Header, records: &mut Records, meta: &Meta, size: u64, with_xattrs: bool) {
    header.set_mode(meta.mode);
    header.set_uid(records.number(b"uid", meta.uid, MAX_ID));
    header.set_gid(records.number(b"gid", meta.gid, MAX_ID));
    header.set_size(records.number(b"size", size, MAX_SIZE));
    header.set_mtime(records.time(meta.mtime));
    if with_xattrs {
        for xattr in meta.xattrs.iter().filter(|xattr| !is_left_out_of_tars(&xattr.name)) {
            records.add(&[b"SCHILY.xattr.", xattr.name.as_slice()].concat(), &xattr.value);
        }
    }
}

/// As much of a text as fits; bytes that need a record are replaced here.
fn set_text(field: &mut [u8; 100], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = if from.is_ascii() { *from } else { b'_' };
    }
}

/// PAX records, each with its length in front.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn add(&mut self, keyword: &[u8], value: &[u8]) {
        // The length counts its own digits.
        let rest = keyword.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend([length.to_string().as_bytes(), b" ", keyword, b"=", value, b"\n"].concat());
    }

    /// Puts a name into its field, or as much of it as fits and all of it into a record.
    fn name(&mut self, field: &mut [u8; 100], keyword: &[u8], name: &[u8]) {
        if name.len() > field.len() || !name.is_ascii() {
            self.add(keyword, name);
        }
        set_text(field, name);
    }

    fn number(&mut self, keyword: &[u8], value: u64, limit: u64) -> u64 {
        if value <= limit {
            return value;
        }
        self.add(keyword, value.to_string().as_bytes());
        0
    }

    /// Trees have no times before 1970.
    fn time(&mut self, time: Time) -> u64 {
        let seconds = u64::try_from(time.seconds).unwrap_or_default();
        if time.nanoseconds != 0 || seconds > MAX_SIZE {
            let digits = format!("{seconds}.{:09}", time.nanoseconds);
            self.add(b"mtime", digits.trim_end_matches('0').trim_end_matches('.').as_bytes());
        }
        seconds.min(MAX_SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        let table: &[(&[u8], usize, &[u8])] = &[(b"path", 1, b"9 path=n\n"), (b"path", 2, b"11 path=nn\n")];
        for (keyword, length, record) in table {
            let mut records = Records::default();
            records.add(keyword, &vec![b'n'; *length]);
            assert_eq!(records.0, *record);
        }
        for length in 0..1200 {
            let mut records = Records::default();
            records.add(b"k", &vec![b'n'; length]);
            let digits = records.0.split(|&byte| byte == b' ').next().unwrap();
            assert_eq!(std::str::from_utf8(digits).unwrap(), records.0.len().to_string());
        }
    }
}
