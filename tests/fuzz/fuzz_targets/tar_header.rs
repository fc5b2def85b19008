//! A tar of any headers, read by us and by the `tar` crate: where both take it, they must see the same. Where they
//! differ by choice is said below, each with its reason. What we read must also be all that there is, byte by byte.
//!
//! Input: a byte of which the lowest bit says whether the rest is a tar, or the program of one (`tar.rs`).

#![no_main]

use std::io::Read;

use cstor_client::tar::{Archive, Kind, Piece};
use cstor_fuzz::tar::{BLOCK, assemble};
use libfuzzer_sys::fuzz_target;

/// What is compared of the contents of one member: sparse ones may have exabytes.
const MAX_CONTENT: usize = 256 * 1024;

/// A member as it is compared.
struct Ours {
    path: Vec<u8>,
    kind: Kind,
    typeflag: u8,
    raw: Vec<u8>,
    padding: usize,
    size: u64,
    stored: u64,
    sparse: bool,
    mode: u32,
    uid: u64,
    gid: u64,
    seconds: i64,
    content: Vec<u8>,
}

impl std::fmt::Debug for Ours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, raw) = (self.path.escape_ascii(), self.raw.escape_ascii());
        write!(f, "{path} ({:?}, type {}, {} of {} bytes) {raw}", self.kind, self.typeflag, self.stored, self.size)
    }
}

fn ours(tar: &[u8]) -> Vec<Ours> {
    let (mut archive, mut members, mut at) = (Archive::new(tar), Vec::new(), 0);
    let mut buffer = vec![0; 4096];
    while let Ok(Some(placed)) = archive.next_entry() {
        assert_eq!(placed.offset, at as u64, "nothing is passed over");
        let raw = placed.entry.raw;
        assert!(tar[at..].starts_with(&raw), "its bytes as they are");
        at = at.saturating_add(raw.len()).saturating_add(usize::try_from(placed.stored).unwrap_or(usize::MAX));
        let Some(member) = placed.entry.member else {
            let mut left = 0;
            while let Ok(Some(Piece::Data(length))) = archive.read_content(&mut buffer) {
                left += length;
            }
            assert_eq!(at + left, tar.len(), "the end is the end");
            break;
        };
        let size = member.content.map_or(0, |content| content.size);
        let (mut content, mut whole) = (Vec::new(), 0u64);
        loop {
            match archive.read_content(&mut buffer) {
                Ok(Some(Piece::Data(length))) => {
                    assert!(length > 0, "a piece is not empty");
                    whole += length as u64;
                    content.extend(buffer[..length].iter().take(MAX_CONTENT - content.len().min(MAX_CONTENT)));
                }
                Ok(Some(Piece::Hole(length))) => {
                    assert!(length > 0 && member.sparse, "a hole in what is sparse");
                    whole += length;
                    let shown =
                        usize::try_from(length).unwrap_or(usize::MAX).min(MAX_CONTENT - content.len().min(MAX_CONTENT));
                    content.resize(content.len() + shown, 0);
                }
                Ok(None) => break,
                // Cut short: the next header is not there either.
                Err(_) => return members,
            }
        }
        assert_eq!(whole, size, "contents are as long as their size");
        let header = member.header;
        assert!(header.mode <= 0o7777 && header.mtime.nanoseconds < 1_000_000_000);
        members.push(Ours {
            path: header.path,
            kind: header.kind,
            typeflag: placed.typeflag,
            raw,
            padding: placed.padding,
            size,
            stored: placed.stored,
            sparse: member.sparse,
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            seconds: header.mtime.seconds,
            content,
        });
    }
    members
}

/// The headers before a member's own, with their contents, and its own.
fn headers(member: &Ours) -> (Vec<(Vec<u8>, Vec<u8>)>, Vec<u8>) {
    let (mut rest, mut extensions) = (&member.raw[member.padding..], Vec::new());
    loop {
        let (block, after) = rest.split_at(BLOCK);
        if !matches!(block[156], b'x' | b'L' | b'K') {
            return (extensions, block.to_vec());
        }
        let size = tar::Header::from_byte_slice(block).entry_size().expect("a size that we took") as usize;
        extensions.push((block.to_vec(), after[..size].to_vec()));
        rest = &after[size.next_multiple_of(BLOCK)..];
    }
}

/// What the records of PAX headers say, if each is one line and there are no two of one keyword.
fn records(extensions: &[(Vec<u8>, Vec<u8>)]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (_, content) in extensions.iter().filter(|(block, _)| block[156] == b'x') {
        for line in content.strip_suffix(b"\n").unwrap_or(content).split(|&byte| byte == b'\n') {
            if line.is_empty() && content.is_empty() {
                continue;
            }
            let blank = line.iter().position(|&byte| byte == b' ')?;
            let equals = line.iter().position(|&byte| byte == b'=')?;
            let length = std::str::from_utf8(&line[..blank]).ok()?.parse::<usize>().ok()?;
            if length != line.len() + 1 || equals < blank {
                return None;
            }
            let (keyword, value) = (line[blank + 1..equals].to_vec(), line[equals + 1..].to_vec());
            if records.iter().any(|(known, _)| *known == keyword) {
                return None;
            }
            records.push((keyword, value));
        }
    }
    Some(records)
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, rest)) = data.split_first() else { return };
    let tar = if mode & 1 == 1 { rest.to_vec() } else { assemble(rest) };
    let members = ours(&tar);
    let mut archive = tar::Archive::new(&tar[..]);
    let mut theirs = archive.entries().expect("an archive at its beginning");
    for ours in &members {
        let Some(Ok(mut entry)) = theirs.next() else { return };
        let (extensions, block) = headers(ours);
        // The crate takes an extension without a magic for a member of its own.
        let has_magic = |block: &[u8]| {
            let header = tar::Header::from_byte_slice(block);
            header.as_gnu().is_some() || header.as_ustar().is_some()
        };
        if !extensions.iter().all(|(block, _)| has_magic(block)) {
            return;
        }
        let header = entry.header().clone();
        // Both are a regular file.
        let typeflag = if ours.typeflag == 0 { b'0' } else { ours.typeflag };
        assert_eq!(header.entry_type().as_byte(), typeflag, "{ours:?}");
        // In Go and here a link, a directory or a device has no contents, whatever size its header claims.
        let claimed = entry.size();
        if !matches!(ours.kind, Kind::File | Kind::PaxGlobal) && claimed > 0 {
            return;
        }
        // The crate splits PAX records at newlines, and the first of two counts; POSIX says that the length does, and
        // the last one.
        let records = records(&extensions);
        let has = |keyword: &[u8]| {
            records
                .as_ref()
                .and_then(|records| records.iter().find(|(known, _)| known == keyword))
                .map(|(_, value)| value)
        };
        let is_plain = records.is_some();
        // The crate knows only GNU's old form.
        let pax_sparse =
            records.as_ref().is_none_or(|all| all.iter().any(|(name, _)| name.starts_with(b"GNU.sparse.")));
        if !is_plain && has_size(&extensions) {
            return;
        }
        // Records of all members are described by no other header.
        if ours.typeflag == b'g' {
            // But the crate takes the size of a PAX header before it for theirs.
            if !extensions.is_empty() {
                return;
            }
        } else if !pax_sparse && is_plain {
            let long = |flag: u8| extensions.iter().find(|(block, _)| block[156] == flag).map(|(_, content)| content);
            let one_nul = |content: &[u8]| !content.strip_suffix(b"\0").unwrap_or(content).contains(&0);
            // Go and POSIX take the PAX record, the crate the GNU one; a GNU name ends at its first NUL here.
            let is_clear = |flag: u8, keyword: &[u8]| match long(flag) {
                Some(content) => has(keyword).is_none() && one_nul(content),
                None => true,
            };
            // Before 1.8 Go wrote a prefix where GNU has its times; star ends the prefix early.
            let in_header = long(b'L').is_none() && has(b"path").is_none();
            let gnu_prefix = header.as_gnu().is_some() && block[345..500].iter().any(|&byte| byte != 0);
            let star = header.as_ustar().is_some() && &block[508..512] == b"tar\0";
            if is_clear(b'L', b"path") && !(in_header && (gnu_prefix || star)) {
                assert_eq!(entry.path_bytes().as_ref(), ours.path, "{ours:?}");
            }
            if let Kind::HardLink(target) | Kind::Symlink(target) = &ours.kind
                && is_clear(b'K', b"linkpath")
            {
                assert_eq!(entry.link_name_bytes().unwrap_or_default().as_ref(), target, "{ours:?}");
            }
        }
        if let Ok(mode) = header.mode() {
            assert_eq!(mode & 0o7777, ours.mode, "{ours:?}");
        }
        // The crate reads a negative number in base 256 as a large one; and as a record only what has digits alone.
        let digits = |value: Option<&Vec<u8>>| {
            value.is_none_or(|value| !value.is_empty() && value.iter().all(u8::is_ascii_digit))
        };
        if ours.typeflag != b'g' && is_plain {
            if digits(has(b"uid")) && digits(has(b"gid")) {
                assert!(header.uid().map_or(true, |uid| uid == ours.uid), "{ours:?}");
                assert!(header.gid().map_or(true, |gid| gid == ours.gid), "{ours:?}");
            }
            if has(b"mtime").is_none() && ours.seconds >= 0 {
                assert!(header.mtime().map_or(true, |time| i64::try_from(time) == Ok(ours.seconds)), "{ours:?}");
            }
        }
        let gnu_sparse = ours.typeflag == b'S';
        if pax_sparse || gnu_sparse != ours.sparse {
            // Its stored form is what the crate takes for the contents.
            if ours.kind == Kind::File && claimed < ours.stored {
                return;
            }
            continue;
        }
        if ours.kind == Kind::File || ours.kind == Kind::PaxGlobal {
            assert_eq!(claimed, if ours.kind == Kind::File { ours.size } else { ours.stored }, "{ours:?}");
            let mut content = Vec::new();
            entry.by_ref().take(MAX_CONTENT as u64).read_to_end(&mut content).expect("bytes in memory");
            assert_eq!(content, ours.content, "{:?}", ours.path);
        }
    }
});

/// Whether a PAX header may say a size that only one of both reads.
fn has_size(extensions: &[(Vec<u8>, Vec<u8>)]) -> bool {
    extensions.iter().any(|(block, content)| block[156] == b'x' && content.windows(5).any(|window| window == b"size="))
}
