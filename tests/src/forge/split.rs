//! Takes a tar apart as tar-split does (`tar/asm/disassemble.go`): every byte that is not a file's content goes
//! into segments, every header gives one file line with the CRC-64 of its content. Lenient on purpose: a damaged
//! archive must still give lines. GNU sparse members are not understood; podman refuses typeflag `S` as well.

use std::io::{Read, Write};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use crc::{CRC_64_GO_ISO, Crc, Table};
use serde::{Deserialize, Serialize};

/// ISO polynomial as Go's `hash/crc64` has it.
static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_GO_ISO);

/// The last bytes of an archive are recorded in pieces of this size.
const TAIL_PIECE: usize = 1 << 20;

/// pgzip compresses blocks of this size on their own and flushes between them.
const GZIP_BLOCK: usize = 1 << 20;

/// One line of a tar-split file, its keys in Go's order. Values no good line has can be set too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// 1 = file, 2 = segment.
    #[serde(rename = "type")]
    pub kind: i64,
    /// The final name, after PAX and GNU records; Go leaves it out when it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Base64 of a name that is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_raw: Option<String>,
    /// Left out when 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i128>,
    /// A segment's bytes, or a file's CRC-64, big-endian; null for a file of size 0.
    #[serde(default)]
    pub payload: Option<String>,
    /// Running number of the line, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<i64>,
}

impl Line {
    /// A segment; its position is given by [`number`].
    pub fn segment(bytes: &[u8]) -> Line {
        Line { kind: 2, name: None, name_raw: None, size: None, payload: Some(BASE64.encode(bytes)), position: None }
    }

    /// A file of this size with this content (the two differ for a link whose header claims a size).
    pub fn file(name: &[u8], size: i128, content: &[u8]) -> Line {
        let (name, name_raw) = match std::str::from_utf8(name) {
            Ok("") => (None, None),
            Ok(name) => (Some(name.to_owned()), None),
            Err(_) => (None, Some(BASE64.encode(name))),
        };
        let payload = (size > 0).then(|| BASE64.encode(CRC.checksum(content).to_be_bytes()));
        Line { kind: 1, name, name_raw, size: (size > 0).then_some(size), payload, position: None }
    }

    /// A segment's bytes, or a file's checksum.
    pub fn bytes(&self) -> Vec<u8> {
        self.payload.as_deref().map(|text| BASE64.decode(text).expect("base64")).unwrap_or_default()
    }
}

/// Numbers the lines from 0, as tar-split's packer does.
pub fn number(lines: &mut [Line]) {
    for (position, line) in lines.iter_mut().enumerate() {
        line.position = Some(position as i64);
    }
}

/// The lines of an archive. The last one is the empty segment that tar-split up to 0.11 writes at the end.
pub fn disassemble(tar: &[u8]) -> Vec<Line> {
    let clip = |range: std::ops::Range<usize>| &tar[range.start.min(tar.len())..range.end.min(tar.len())];
    let mut lines = Vec::new();
    let mut pending = 0; // first byte not yet in a line
    let mut at = 0;
    let (mut path, mut size_record) = (None, None);
    while at + 512 <= tar.len() && tar[at..at + 512].iter().any(|&byte| byte != 0) {
        let header = &tar[at..at + 512];
        let stated = octal_or_binary(&header[124..136]);
        let body = at + 512..(at + 512).saturating_add(stated);
        match header[156] {
            b'x' => {
                for (key, value) in records(clip(body.clone())).into_iter().filter(|(_, value)| !value.is_empty()) {
                    match key {
                        b"path" => path = Some(value.to_vec()),
                        b"size" => size_record = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
                        _ => {}
                    }
                }
                at = body.end.saturating_add(padding(stated));
            }
            b'L' => {
                path = Some(until_nul(clip(body.clone())).to_vec());
                at = body.end.saturating_add(padding(stated));
            }
            b'K' => at = body.end.saturating_add(padding(stated)),
            // A global header is a member of its own, without size, and its records belong to the segment before it.
            b'g' => {
                lines.push(Line::segment(clip(pending..body.end)));
                lines.push(Line::file(until_nul(&header[..100]), 0, b""));
                pending = body.end.min(tar.len());
                at = body.end.saturating_add(padding(stated));
            }
            flag => {
                let size = size_record.take().unwrap_or(stated);
                // Links, devices, directories and FIFOs have no content, whatever their header says.
                let stored = if (b'1'..=b'6').contains(&flag) { 0 } else { size };
                let name = path.take().unwrap_or_else(|| header_name(header));
                let content = at + 512..(at + 512).saturating_add(stored);
                lines.push(Line::segment(clip(pending..content.start)));
                lines.push(Line::file(&name, size as i128, clip(content.clone())));
                pending = content.end.min(tar.len());
                at = content.end.saturating_add(padding(stored));
            }
        }
    }
    // The reader stops behind the two zero blocks; what follows them is copied in pieces.
    let end = at.saturating_add(1024).min(tar.len());
    if pending < end {
        lines.push(Line::segment(&tar[pending..end]));
    }
    lines.extend(tar[end.max(pending)..].chunks(TAIL_PIECE).map(Line::segment));
    lines.push(Line::segment(b""));
    number(&mut lines);
    lines
}

fn padding(size: usize) -> usize {
    size.wrapping_neg() % 512
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len())]
}

/// The name with its ustar prefix; GNU's format keeps other things there.
fn header_name(header: &[u8]) -> Vec<u8> {
    let (name, prefix) = (until_nul(&header[..100]), until_nul(&header[345..500]));
    if &header[257..263] != b"ustar\0" || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

fn octal_or_binary(field: &[u8]) -> usize {
    if field[0] & 0x80 != 0 {
        return field[field.len() - 8..].iter().fold(0, |value, &byte| value << 8 | usize::from(byte));
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| (b'0'..=b'7').contains(*byte));
    digits.fold(0, |value, &byte| value << 3 | usize::from(byte - b'0'))
}

/// The well-formed PAX records up to the first that is not.
fn records(mut body: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut records = Vec::new();
    while let Some(space) = body.iter().position(|&byte| byte == b' ') {
        let length = std::str::from_utf8(&body[..space]).ok().and_then(|text| text.parse::<usize>().ok());
        let Some(record) = length.and_then(|length| body.get(space + 1..length)) else { break };
        let Some(equals) = record.iter().position(|&byte| byte == b'=') else { break };
        if record.last() != Some(&b'\n') {
            break;
        }
        records.push((&record[..equals], &record[equals + 1..record.len() - 1]));
        body = &body[space + 1 + record.len()..];
    }
    records
}

/// The text of a tar-split file before compression.
pub fn text(lines: &[Line]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).expect("a line is JSON");
        text.push(b'\n');
    }
    text
}

/// The lines of a tar-split file's text.
pub fn parse(text: &[u8]) -> Vec<Line> {
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("a tar-split line")).collect()
}

/// One gzip member as pgzip writes it: blocks of 1 MiB with a sync flush between them.
pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    for block in text.chunks(GZIP_BLOCK) {
        encoder.write_all(block).and_then(|()| encoder.flush()).expect("a vector takes everything");
    }
    encoder.finish().expect("a vector takes everything")
}

/// The inverse of [`gzip`], for any number of members.
pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut text).expect("gzip");
    text
}
