//! tar-split, one line and whole files: what a line says must be what a naive reader of JSON finds in it; the members of
//! a file must be those of the tar that the file describes; and the lines of a tar must give its members back.
//!
//! Input: a byte that says which of the four, in its lowest bits: a line; a compressed file; its text; the program of
//! a tar (`tar.rs`).

#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cstor_client::tar::{Archive, Entry, Kind};
use cstor_client::fuzzing::{self, SplitLayer, SplitLine};
use cstor_fuzz::tar::{BLOCK, Lines, assemble, gzip};
use libfuzzer_sys::fuzz_target;

/// Tars up to this size are put together.
const MAX_TAR: u64 = 4 << 20;

fn line(bytes: &[u8]) {
    let Some(line) = fuzzing::tar_split_line(bytes, 0) else { return };
    let Some(json) = cstor_fuzz::json(bytes) else { return };
    assert_eq!(json["position"], 0);
    let text = |key: &str| json[key].as_str();
    let decoded = |key: &str| text(key).map(|text| STANDARD.decode(text).expect("base64"));
    match line {
        SplitLine::Segment(bytes) => {
            assert_eq!((json["type"].as_u64(), bytes), (Some(2), decoded("payload").unwrap_or_default()));
        }
        SplitLine::File(name, size, crc) => {
            let wanted = text("name").map(|name| name.as_bytes().to_vec()).or(decoded("name_raw")).unwrap_or_default();
            assert_eq!((json["type"].as_u64(), name), (Some(1), wanted));
            assert_eq!(size, if json["size"].is_null() { 0 } else { json["size"].as_u64().expect("a size") });
            assert_eq!(crc.map(|crc| crc.to_be_bytes().to_vec()), decoded("payload"));
        }
    }
}

/// The members of the tar that a file describes, whose contents are zeros.
fn rebuild(layer: &SplitLayer) {
    let mut total = 0u64;
    for entry in &layer.entries {
        let member = entry.member.as_ref();
        let content = member.and_then(|member| member.content);
        if let Some(member) = member {
            assert!(content.is_none() || member.header.kind == Kind::File, "only files have contents");
        }
        total = total.saturating_add(entry.raw.len() as u64).saturating_add(content.map_or(0, |content| content.size));
    }
    assert_eq!(layer.total, total, "the size of the tar is that of its parts");
    // The map of a sparse member, which is not described, may also be damaged where it means nothing.
    let has_map = layer.entries.iter().any(|entry| entry.raw.windows(11).any(|window| window == b"GNU.sparse."));
    if layer.sparse || has_map || total > MAX_TAR {
        return;
    }
    let mut tar = Vec::new();
    for entry in &layer.entries {
        tar.extend(&entry.raw);
        let size = entry.member.as_ref().and_then(|member| member.content).map_or(0, |content| content.size);
        tar.resize(tar.len() + size as usize, 0);
    }
    let mut archive = Archive::new(&tar[..]);
    for entry in layer.entries.iter().filter(|entry| entry.member.is_some()) {
        let wanted = &entry.member.as_ref().expect("a member").header;
        let found = archive.next_entry().expect("a member is one in a tar too").expect("no end before it");
        assert_eq!(&found.entry.member.expect("no end before it").header, wanted);
    }
}

/// The lines of a tar, as far as podman would write them.
fn lines(tar: &[u8]) -> (Vec<u8>, Vec<Entry>) {
    let (mut lines, mut entries, mut archive) = (Lines::default(), Vec::new(), Archive::new(tar));
    while let Ok(Some(placed)) = archive.next_entry() {
        let Some(member) = &placed.entry.member else {
            lines.segment(&placed.entry.raw);
            break;
        };
        let size = member.content.map_or(0, |content| content.size);
        let header = &placed.entry.raw[placed.entry.raw.len().saturating_sub(BLOCK)..];
        // Header types that no file corresponds to, and links that claim contents, are refused; a tar-split does not
        // describe what is stored of a sparse member.
        let claims = member.header.kind != Kind::File
            && header.get(124..136).is_some_and(|size| size.iter().any(|&byte| !matches!(byte, b'0' | b' ' | 0)));
        let has_map = placed.entry.raw.windows(11).any(|window| window == b"GNU.sparse.");
        if !matches!(placed.typeflag, 0 | b'0'..=b'6') || member.sparse || claims || has_map {
            break;
        }
        // A PAX size of something without contents, likewise.
        if member.header.kind != Kind::File && placed.entry.raw.windows(5).any(|window| window == b"size=") {
            break;
        }
        lines.segment(&placed.entry.raw);
        lines.file(&member.header.path, size, (size > 0).then_some(7));
        entries.push(placed.entry);
    }
    (lines.text, entries)
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, rest)) = data.split_first() else { return };
    let file = match mode & 3 {
        0 => return line(rest),
        1 => rest.to_vec(),
        2 => gzip(rest),
        _ => {
            let (text, entries) = lines(&assemble(rest));
            let layer = fuzzing::tar_split(&gzip(&text)).expect("lines of a tar");
            for (wanted, found) in entries.iter().zip(&layer.entries) {
                let (wanted_member, member) =
                    (wanted.member.as_ref().expect("one"), found.member.as_ref().expect("one"));
                assert_eq!((&wanted.raw, &wanted_member.header), (&found.raw, &member.header));
                let size = |content: Option<cstor_client::tar::Content>| content.map(|content| content.size);
                assert_eq!(size(wanted_member.content), size(member.content));
            }
            return rebuild(&layer);
        }
    };
    if let Some(layer) = fuzzing::tar_split(&file) {
        rebuild(&layer);
    }
});
