//! Tables of contents: the members of a layer or the files of an image as JSON.
//!
//! The keys are those of eStargz (containerd/stargz-snapshotter docs/estargz.md, "TOC"); there are no
//! chunks, since nothing is compressed.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufWriter, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::ser::{Error as _, SerializeSeq, Serializer};

use crate::access::{Chain, Escalating};
use crate::base::account::Account;
use crate::base::digest::Digest;
use crate::contents::flow::OpenContents;
use crate::contents::visit::visit;
use crate::output::OutputError;
use crate::tar::{Header, Kind, Time, Xattr};
use crate::tree::{FinalTree, InodeKind, TreeEntry, is_marker};

/// The version of the format.
const VERSION: u32 = 1;
/// What is written at a time.
const BUFFER: usize = 64 * 1024;

/// A table of contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Toc {
    /// Always 1.
    pub version: u32,
    /// In the order of the tar; for an image, each directory before what is in it.
    pub entries: Vec<TocEntry>,
}

/// One member or file. What does not apply is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TocEntry {
    /// The path; a directory's ends with a slash. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// The path in base64, where it is not UTF-8. eStargz has no such key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_raw: Option<String>,
    /// `dir`, `reg`, `symlink`, `hardlink`, `char`, `block` or `fifo`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Of the contents, in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub size: u64,
    /// RFC 3339 in UTC, with a fraction if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modtime: Option<String>,
    /// The target of a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_name: Option<String>,
    /// Permission, set-id and sticky bits.
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: u64,
    /// The owner.
    #[serde(skip_serializing_if = "is_zero")]
    pub uid: u64,
    /// The group.
    #[serde(skip_serializing_if = "is_zero")]
    pub gid: u64,
    /// The owner's name, if the header has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// The group's name, if the header has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    /// Where the contents begin in the layer's tar.
    #[serde(skip_serializing_if = "is_zero")]
    pub offset: u64,
    /// A device's major number.
    #[serde(skip_serializing_if = "is_zero")]
    pub dev_major: u64,
    /// A device's minor number.
    #[serde(skip_serializing_if = "is_zero")]
    pub dev_minor: u64,
    /// How many names the file has in an image; 0 for layers, whose headers do not say.
    #[serde(rename = "NumLink")]
    pub num_link: u64,
    /// Extended attributes, their values in base64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
    /// SHA-256 of the contents, where they were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The same: a file is one chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_digest: Option<Digest>,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Toc {
    /// Leaves out whiteouts and what marks directories as opaque, which a layer's table has and an image's has not.
    #[must_use]
    pub fn without_whiteouts(mut self) -> Toc {
        self.entries.retain(|entry| !entry.is_whiteout());
        self
    }

    /// Collects rows, charging them to an account.
    pub(crate) fn collect(
        account: &Account,
        rows: impl FnOnce(TakeRow<'_>) -> Result<(), OutputError>,
    ) -> Result<Toc, OutputError> {
        let (mut toc, mut charge) = (Toc { version: VERSION, entries: Vec::new() }, account.charge());
        rows(&mut |row| {
            charge.add(row.size_in_memory())?;
            toc.entries.push(row);
            Ok(())
        })?;
        Ok(toc)
    }
}

/// Takes one row after the other.
pub(crate) type TakeRow<'a> = &'a mut dyn FnMut(TocEntry) -> Result<(), OutputError>;

/// Gives the rows of an image: its files, with their digests if `read` is set, else without opening any.
pub(crate) fn of_tree(
    tree: &FinalTree,
    (chain, source): (&Chain, &mut Escalating),
    read: bool,
    take: TakeRow<'_>,
) -> Result<(), OutputError> {
    // The first names of files that have several.
    let (mut firsts, mut charge): (HashMap<u32, String>, _) = (HashMap::new(), chain.account().charge());
    visit(tree, (chain, source), read, |entry, contents| {
        let first = firsts.get(&entry.inode_number);
        // Its attributes are in the row of the first name.
        let mut row = TocEntry::of_inode(entry, first.is_none());
        row.num_link = entry.inode.names().into();
        match first {
            Some(first) => row = TocEntry { kind: "hardlink", link_name: Some(first.clone()), size: 0, ..row },
            None if row.num_link > 1 => {
                charge.add(row.name.len() + size_of::<(u32, String)>())?;
                firsts.insert(entry.inode_number, row.name.clone());
            }
            None => {}
        }
        if let Some(contents) = contents {
            row.set_digest(contents)?;
        }
        take(row)
    })
}

/// Writes a table of contents whose rows come one after the other: none is kept.
pub(crate) fn write(
    out: impl Write,
    pretty: bool,
    rows: impl FnOnce(TakeRow<'_>) -> Result<(), OutputError>,
) -> Result<(), OutputError> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let mut failed = None;
    let rows = Streamed(RefCell::new(Some((rows, &mut failed))));
    let table = Table { version: VERSION, entries: rows };
    let written = if pretty {
        table.serialize(&mut serde_json::Serializer::pretty(&mut out))
    } else {
        table.serialize(&mut serde_json::Serializer::new(&mut out))
    };
    drop(table);
    match (failed, written) {
        (Some(error), _) => Err(error),
        (None, written) => {
            let end = |()| writeln!(out).and_then(|()| out.flush());
            written.map_err(io::Error::from).and_then(end).map_err(OutputError::Write)
        }
    }
}

#[derive(Serialize)]
struct Table<R: Serialize> {
    version: u32,
    entries: R,
}

/// Rows that are made while they are written, once.
struct Streamed<'a, F>(RefCell<Option<(F, &'a mut Option<OutputError>)>>);

impl<F: FnOnce(TakeRow<'_>) -> Result<(), OutputError>> Serialize for Streamed<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let Some((rows, failed)) = self.0.take() else { return list.end() };
        let mut unwritten = None;
        let made = rows(&mut |row| {
            list.serialize_element(&row).map_err(|error| {
                unwritten = Some(error);
                OutputError::Thread
            })
        });
        match (unwritten, made) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => list.end(),
            (None, Err(error)) => {
                *failed = Some(error);
                Err(S::Error::custom("no further rows"))
            }
        }
    }
}

impl TocEntry {
    /// The row of a header, whatever its contents.
    pub(crate) fn of_header(header: &Header) -> TocEntry {
        let (kind, target, device) = match &header.kind {
            Kind::File | Kind::PaxGlobal => ("reg", None, None),
            Kind::HardLink(target) => ("hardlink", Some(target.as_slice()), None),
            Kind::Symlink(target) => ("symlink", Some(target.as_slice()), None),
            Kind::CharDevice { major, minor } => ("char", None, Some((*major, *minor))),
            Kind::BlockDevice { major, minor } => ("block", None, Some((*major, *minor))),
            Kind::Dir => ("dir", None, None),
            Kind::Fifo => ("fifo", None, None),
        };
        let mut entry = TocEntry::named(&header.path, kind, target, device);
        entry.set_meta(header.mode, (header.uid, header.gid), header.mtime, &header.xattrs);
        entry.user_name = non_empty(&header.user_name);
        entry.group_name = non_empty(&header.group_name);
        entry
    }

    /// Whether it says something of lower layers, and is no file.
    pub(crate) fn is_whiteout(&self) -> bool {
        is_marker(self.name.as_bytes())
    }

    /// About what it takes while it is kept, in bytes.
    fn size_in_memory(&self) -> usize {
        let texts = [&self.name_raw, &self.modtime, &self.link_name, &self.user_name, &self.group_name];
        let texts = texts.into_iter().flatten().chain([&self.name]).map(String::len);
        let xattrs = self.xattrs.iter().map(|(name, value)| 2 * size_of::<String>() + name.len() + value.len());
        size_of::<TocEntry>() + texts.chain(xattrs).sum::<usize>()
    }

    fn of_inode(entry: &TreeEntry<'_>, with_xattrs: bool) -> TocEntry {
        let mut path = entry.path.clone();
        let mut size = 0;
        let (kind, target, device) = match entry.inode.kind() {
            InodeKind::Dir(_) => {
                path.push(b'/');
                ("dir", None, None)
            }
            InodeKind::File { size: of_file, .. } => {
                size = *of_file;
                ("reg", None, None)
            }
            InodeKind::Symlink(target) => ("symlink", Some(&**target), None),
            InodeKind::Fifo => ("fifo", None, None),
            InodeKind::CharDevice { major, minor } => ("char", None, Some((*major, *minor))),
            InodeKind::BlockDevice { major, minor } => ("block", None, Some((*major, *minor))),
        };
        let meta = entry.inode.meta();
        let mut row = TocEntry::named(&path, kind, target, device);
        let xattrs = if with_xattrs { meta.xattrs.as_slice() } else { &[] };
        row.set_meta(meta.mode, (meta.uid, meta.gid), meta.mtime, xattrs);
        row.size = size;
        row
    }

    fn named(path: &[u8], kind: &'static str, target: Option<&[u8]>, device: Option<(u32, u32)>) -> TocEntry {
        let (major, minor) = device.unwrap_or_default();
        TocEntry {
            name: text(path),
            name_raw: std::str::from_utf8(path).is_err().then(|| STANDARD.encode(path)),
            kind,
            link_name: target.map(text),
            dev_major: major.into(),
            dev_minor: minor.into(),
            ..TocEntry::default()
        }
    }

    fn set_meta(&mut self, mode: u32, ids: (u64, u64), mtime: Time, xattrs: &[Xattr]) {
        self.mode = mode.into();
        (self.uid, self.gid) = ids;
        self.modtime = mtime.rfc3339();
        self.xattrs = xattrs.iter().map(|xattr| (text(&xattr.name), STANDARD.encode(&xattr.value))).collect();
    }

    pub(crate) fn set_digest(&mut self, contents: &OpenContents<'_>) -> Result<(), OutputError> {
        let digest = contents.digest()?;
        (self.digest, self.chunk_digest) = (Some(digest), Some(digest));
        Ok(())
    }
}

/// JSON has no other strings.
pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().first().map(|_| char::REPLACEMENT_CHARACTER));
        text
    })
}

fn non_empty(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| text(bytes))
}
