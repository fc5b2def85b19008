//! The table of contents of a zstd:chunked or eStargz layer, as containers/storage keeps it: rows of JSON to members.
//!
//! It says everything that a tar header says but its bytes: names, types, owners, times, digests. What is in chunks and
//! where they lie in the compressed layer is passed over. Keys: pkg/chunked/internal/minimal/compression.go,
//! `FileMetadata`.

mod row;
mod table;

use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::vec;

use cstor_proto::RelPath;
use serde::de::DeserializeSeed;

use row::Row;
use table::{Parsed, Table};

use super::Entry;
use super::header::HeaderError;
use crate::base::account::{Charge, OverMemoryLimit};
use crate::base::digest::Digest;
use crate::base::interrupt::{Interrupt, Interrupted};

/// What containers/storage takes, uncompressed (pkg/chunked/compression_linux.go, `maxTocSize`).
const MAX_TOC: u64 = 150 << 20;
/// What is read of it at a time.
const BUFFER: usize = 128 * 1024;

/// What eStargz adds to a layer for its own use; podman does not unpack it (storage_linux.go, `mustSkipFile`).
const NOT_FILES: [&str; 3] = [".prefetch.landmark", ".no.prefetch.landmark", "stargz.index.json"];

/// Why a table of contents, or a row of it, cannot be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkedError {
    /// The caller asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The file itself.
    #[error("its table of contents cannot be read")]
    Read(#[source] io::Error),
    /// It is larger than what is ever written.
    #[error("its table of contents has more than {MAX_TOC} bytes")]
    TooLarge,
    /// Not JSON, or not a table of contents.
    #[error("its table of contents is damaged")]
    Json(#[source] serde_json::Error),
    /// Another version than 1.
    #[error("its table of contents has the version {0}")]
    Version(i64),
    /// A type of row that is not known.
    #[error("a row of its table of contents has the unknown type \"{}\"", cstor_proto::Escaped(.0.as_bytes()))]
    Type(String),
    /// A field that does not hold what it must.
    #[error("the field {0} of its row in the table of contents is damaged")]
    Field(&'static str),
    /// Contents without a digest.
    #[error("the table of contents has no digest of its contents")]
    NoDigest,
    /// An extended attribute, or the target of a link.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// More rows than there may be in memory.
    #[error("its table of contents: {0}")]
    Memory(#[from] OverMemoryLimit),
}

/// A table of contents: the members of a layer, in the order of its tar.
#[derive(Debug)]
pub(crate) struct Chunked {
    rows: vec::IntoIter<Row>,
    /// What the rows are charged to.
    charge: Charge,
}

impl Chunked {
    /// Reads all of it. The rows are kept, its text is not.
    pub(crate) fn read(file: impl Read, charge: Charge, interrupt: &Interrupt) -> Result<Chunked, ChunkedError> {
        let mut text = Limited { input: file, left: MAX_TOC, exceeded: false };
        let mut failed = None;
        let table = Table { charge, failed: &mut failed, interrupt };
        let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(BUFFER, &mut text));
        let parsed = table.deserialize(&mut json).and_then(|parsed| json.end().map(|()| parsed));
        drop(json);
        if text.exceeded {
            return Err(ChunkedError::TooLarge);
        }
        let Parsed { version, mut rows, charge, has_tar_split } = match (failed, parsed) {
            (Some(error), _) => return Err(error),
            (None, Err(error)) if error.is_io() => return Err(ChunkedError::Read(error.into())),
            (None, parsed) => parsed.map_err(ChunkedError::Json)?,
        };
        match version {
            Some(1) => {}
            Some(other) => return Err(ChunkedError::Version(other)),
            None => return Err(ChunkedError::Field("version")),
        }
        // Only zstd:chunked has a tar-split; of eStargz nothing else is different here.
        rows.retain(|row| has_tar_split || !NOT_FILES.contains(&row.name.as_str()));
        Ok(Chunked { rows: rows.into_iter(), charge })
    }

    /// The next member; its header was never there to be kept. An error names it.
    pub(crate) fn next_entry(&mut self) -> Option<Result<Entry, (Vec<u8>, ChunkedError)>> {
        let row = self.rows.next()?;
        let name = row.name.clone().into_bytes();
        Some(row.member().map(|member| Entry { raw: Vec::new(), member: Some(member) }).map_err(|error| (name, error)))
    }

    /// Under which digests the contents of files are, hard links included.
    pub(crate) fn digests(self) -> Digests {
        let Chunked { rows, charge } = self;
        let mut digests: HashMap<RelPath, Digest> = HashMap::new();
        let path = |name: &str| RelPath::clean(name.as_bytes()).ok();
        for row in rows {
            let digest = match row.kind.as_str() {
                "reg" => row.digest,
                "hardlink" => path(&row.link_name).and_then(|target| digests.get(&target).copied()),
                _ => None,
            };
            digests.extend(path(&row.name).zip(digest));
        }
        Digests { digests, _charge: charge }
    }
}

/// Digests by the paths of files, as the table of contents has them.
#[derive(Debug)]
pub(crate) struct Digests {
    digests: HashMap<RelPath, Digest>,
    /// What was charged for the rows; this takes less.
    _charge: Charge,
}

impl Digests {
    /// The digest of the file with this name in the tar.
    pub(crate) fn of(&self, name: &[u8]) -> Result<Digest, ChunkedError> {
        let path = RelPath::clean(as_go_writes(name).as_bytes()).ok();
        path.and_then(|path| self.digests.get(&path).copied()).ok_or(ChunkedError::NoDigest)
    }
}

/// Reads no more than so many bytes, and remembers that there were more.
struct Limited<R> {
    input: R,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(space)?;
        self.left = self.left.checked_sub(length as u64).ok_or_else(|| {
            self.exceeded = true;
            io::ErrorKind::FileTooLarge
        })?;
        Ok(length)
    }
}

/// A name as Go's encoding/json writes it: each byte that is not UTF-8 becomes U+FFFD.
fn as_go_writes(name: &[u8]) -> String {
    name.utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::account::Account;
    use crate::tar::{Kind, Member, Time};

    fn members(rows: &str) -> Result<Vec<Member>, ChunkedError> {
        let mut toc = Chunked::read(
            format!(r#"{{"version":1,"entries":[{rows}]}}"#).as_bytes(),
            Account::ample().charge(),
            &Interrupt::new(),
        )?;
        let entries = std::iter::from_fn(|| toc.next_entry());
        entries.map(|entry| entry.map(|entry| entry.member.unwrap()).map_err(|(_, error)| error)).collect()
    }

    /// The rows are of layers that podman 5.8.6 pulled, but for the attribute.
    #[test]
    fn rows_are_read_as_podman_writes_them() {
        let rows = r#"{"type":"dir","name":"bin/","mode":509,"modtime":"2026-11-23T18:28:31Z"},
            {"type":"reg","name":"opt/sizes/4097","mode":420,"size":4097,"uid":42,"gid":43,
             "modtime":"2026-11-23T18:28:31.5+01:00","xattrs":{"user.note":"AAE="},"offset":3146906,"endOffset":3151017,
             "digest":"sha256:e13f2e6c0a33006d0cec89c85a4c24409a2730a2f14f7bb59f0be43b218afa80"},
            {"type":"chunk","name":"opt/sizes/4097","offset":93350,"chunkSize":8048,"chunkOffset":93139},
            {"type":"reg","name":"opt/lower/.wh.gone","linkName":"old"},
            {"type":"hardlink","name":"opt/hard","linkName":"opt/big/blob","mode":384},
            {"type":"char","name":"null","devMajor":1,"devMinor":3},
            {"type":"reg","name":".prefetch.landmark","size":1}"#;
        let members = members(rows).unwrap();
        assert_eq!(members.len(), 5, "chunks and landmarks are no members");
        assert_eq!((members[0].header.mode, &members[0].header.kind), (0o775, &Kind::Dir));
        let file = &members[1];
        assert_eq!((file.header.uid, file.header.gid), (42, 43));
        assert_eq!(file.header.mtime, Time { seconds: 1_795_454_911, nanoseconds: 500_000_000 });
        assert_eq!(file.header.xattrs[0].value, [0, 1]);
        let content = file.content.unwrap();
        assert!(content.size == 4097 && content.crc.is_none() && content.digest.is_some());
        assert!(members[2].content.is_none() && members[2].header.mtime == Time::default());
        assert_eq!(members[3].header.kind, Kind::HardLink(b"opt/big/blob".to_vec()));
        assert_eq!(members[4].header.kind, Kind::CharDevice { major: 1, minor: 3 });
    }

    /// containers/storage writes the mode of the tar header; what the kernel adds for the kind is not the mode's.
    #[test]
    fn set_id_and_sticky_bits_are_kept() {
        for (mode, kept) in
            [(0o4755, 0o4755), (0o2755, 0o2755), (0o1777, 0o1777), (0o7777, 0o7777), (0o104_711, 0o4711)]
        {
            let members = members(&format!(r#"{{"type":"reg","name":"su","mode":{mode}}}"#)).unwrap();
            assert_eq!(members[0].header.mode, kept, "{mode:o}");
        }
    }

    #[test]
    fn damaged_rows_are_errors() {
        type Expected = fn(&ChunkedError) -> bool;
        let table: &[(&str, Expected)] = &[
            (r#"{"type":"reg"}"#, |e| matches!(e, ChunkedError::Json(_))),
            (r#"{"type":"reg","name":"a","size":-1}"#, |e| matches!(e, ChunkedError::Json(_))),
            (r#"{"type":"reg","name":"a","digest":"md5:1"}"#, |e| matches!(e, ChunkedError::Json(_))),
            (r#"{"type":"reg","name":"a","size":1}"#, |e| matches!(e, ChunkedError::NoDigest)),
            (r#"{"type":"door","name":"a"}"#, |e| matches!(e, ChunkedError::Type(_))),
            (r#"{"type":"dir","name":"a","modtime":"today"}"#, |e| matches!(e, ChunkedError::Field("modtime"))),
            (r#"{"type":"dir","name":"a","xattrs":{"user.a":"!"}}"#, |e| matches!(e, ChunkedError::Field("xattrs"))),
            (r#"{"type":"dir","name":"a","xattrs":{"a":""}}"#, |e| matches!(e, ChunkedError::Header(_))),
            (r#"{"type":"symlink","name":"a","linkName":"b\u0000"}"#, |e| matches!(e, ChunkedError::Field("linkName"))),
        ];
        for (row, expected) in table {
            let error = members(row).unwrap_err();
            assert!(expected(&error), "{row}: {error:?}");
        }
        let version =
            Chunked::read(&br#"{"version":2,"entries":[]}"#[..], Account::ample().charge(), &Interrupt::new())
                .unwrap_err();
        assert!(matches!(version, ChunkedError::Version(2)));
    }

    #[test]
    fn names_are_found_as_go_writes_them() {
        let rows = "{\"type\":\"reg\",\"name\":\"a\u{fffd}\u{fffd}\u{e9}\",\"size\":1,\"digest\":\"sha256:7ae95c260622412ceba6eb9f45d68f616cdc091a1d71d6c0a08b5875bb2c31dd\"}";
        let toc = Chunked::read(
            format!(r#"{{"version":1,"entries":[{rows}]}}"#).as_bytes(),
            Account::ample().charge(),
            &Interrupt::new(),
        )
        .unwrap();
        let digests = toc.digests();
        // The two first bytes of a longer sequence are one maximal part for Unicode, and two bytes for Go.
        assert!(digests.of(b"a\xe2\x82\xc3\xa9").is_ok());
        assert!(matches!(digests.of(b"a"), Err(ChunkedError::NoDigest)));
    }
}
