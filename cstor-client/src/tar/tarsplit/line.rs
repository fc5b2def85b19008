//! One line of a tar-split file: a JSON object that is either raw bytes of the tar or a file that goes there.
//!
//! Keys: tar-split tar/storage/entry.go. The checksum of a file stands under `payload`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The most bytes of one segment: tar-split cuts what follows the last file at 1 MiB, and before a file
/// stand headers alone.
const MAX_SEGMENT: usize = 4 << 20;

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Bytes of the tar as they are.
    Segment(Vec<u8>),
    /// The contents of one member, which may be empty.
    File {
        /// The member's name as the header has it, not cleaned.
        name: Vec<u8>,
        /// In bytes.
        size: u64,
        /// CRC-64/GO-ISO of the contents; `None` for empty ones.
        crc: Option<u64>,
    },
}

/// Why a line cannot be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// Not JSON, or not an entry.
    #[error("not a tar-split entry")]
    Json(#[source] serde_json::Error),
    /// An entry of a type that tar-split does not define.
    #[error("unknown entry type {0}")]
    Type(u64),
    /// The entries are not numbered from 0 in steps of 1.
    #[error("position {found} where {wanted} belongs")]
    Position {
        /// What the line says.
        found: i64,
        /// What it must say.
        wanted: u64,
    },
    /// Invalid base64.
    #[error("invalid base64")]
    Base64(#[source] base64::DecodeError),
    /// A checksum that has not eight bytes.
    #[error("a checksum of {0} bytes")]
    Checksum(usize),
    /// Contents without a checksum.
    #[error("contents without a checksum")]
    NoChecksum,
    /// A size below zero.
    #[error("a size of {0}")]
    Size(i64),
    /// Both a name and a raw name.
    #[error("two names")]
    TwoNames,
    /// A segment that is too long.
    #[error("a segment of more than {MAX_SEGMENT} bytes")]
    LongSegment,
}

#[derive(Deserialize)]
struct Json<'a> {
    #[serde(rename = "type")]
    kind: u64,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    name_raw: Option<Text<'a>>,
    #[serde(default)]
    size: i64,
    #[serde(borrow, default)]
    payload: Option<Text<'a>>,
    position: i64,
}

/// A string that is copied only if it has escapes (serde borrows a `Cow` here, not one in an `Option`).
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Line {
    /// Parses the line that must have this position.
    pub(crate) fn parse(bytes: &[u8], position: u64) -> Result<Line, LineError> {
        let json: Json<'_> = serde_json::from_slice(bytes).map_err(LineError::Json)?;
        if u64::try_from(json.position) != Ok(position) {
            return Err(LineError::Position { found: json.position, wanted: position });
        }
        match json.kind {
            1 => json.file(),
            2 => json.segment(),
            kind => Err(LineError::Type(kind)),
        }
    }
}

impl Json<'_> {
    fn segment(self) -> Result<Line, LineError> {
        let text = self.payload.as_ref().map_or("", |payload| &payload.0);
        if text.len() / 4 * 3 > MAX_SEGMENT {
            return Err(LineError::LongSegment);
        }
        Ok(Line::Segment(decode(text)?))
    }

    fn file(self) -> Result<Line, LineError> {
        let name = match (self.name, self.name_raw) {
            (Some(_), Some(_)) => return Err(LineError::TwoNames),
            (Some(name), None) => name.0.into_owned().into_bytes(),
            (None, Some(raw)) => decode(&raw.0)?,
            (None, None) => Vec::new(),
        };
        let crc = match &self.payload {
            None => None,
            Some(payload) => {
                let bytes = decode(&payload.0)?;
                // Big-endian, as Go's hash.Hash appends it.
                let crc = bytes.as_slice().try_into().map_err(|_| LineError::Checksum(bytes.len()))?;
                Some(u64::from_be_bytes(crc))
            }
        };
        let size = u64::try_from(self.size).map_err(|_| LineError::Size(self.size))?;
        if size > 0 && crc.is_none() {
            return Err(LineError::NoChecksum);
        }
        Ok(Line::File { name, size, crc })
    }
}

fn decode(text: &str) -> Result<Vec<u8>, LineError> {
    STANDARD.decode(text).map_err(LineError::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_podman_writes_them() {
        // The first two are from a layer that podman 4.3.1 stored.
        let file = br#"{"type":1,"name":"bin/cat","size":44016,"payload":"GXWs86xlBPg=","position":3}"#;
        let wanted = Line::File { name: b"bin/cat".to_vec(), size: 44016, crc: Some(0x1975_acf3_ac65_04f8) };
        assert_eq!(Line::parse(file, 3).unwrap(), wanted);
        let dir = br#"{"type":1,"name":"etc/","payload":null,"position":1}"#;
        assert_eq!(Line::parse(dir, 1).unwrap(), Line::File { name: b"etc/".to_vec(), size: 0, crc: None });
        let raw = br#"{"type":1,"name_raw":"bGF0aW4xLen/","size":0,"position":9}"#;
        assert_eq!(Line::parse(raw, 9).unwrap(), Line::File { name: b"latin1-\xe9\xff".to_vec(), size: 0, crc: None });
        let escaped = br#"{"type":1,"name":"a\u003cb\n","payload":null,"position":0}"#;
        assert_eq!(Line::parse(escaped, 0).unwrap(), Line::File { name: b"a<b\n".to_vec(), size: 0, crc: None });
        assert_eq!(
            Line::parse(br#"{"type":2,"payload":"AAEC","position":0}"#, 0).unwrap(),
            Line::Segment(vec![0, 1, 2])
        );
        assert_eq!(Line::parse(br#"{"type":2,"payload":null,"position":0}"#, 0).unwrap(), Line::Segment(vec![]));
    }

    #[test]
    fn damaged_lines_are_errors() {
        type Expected = fn(&LineError) -> bool;
        let table: &[(&str, Expected)] = &[
            ("", |e| matches!(e, LineError::Json(_))),
            ("[1]", |e| matches!(e, LineError::Json(_))),
            (r#"{"type":1,"name":"a"}"#, |e| matches!(e, LineError::Json(_))),
            (r#"{"type":3,"position":0}"#, |e| matches!(e, LineError::Type(3))),
            (r#"{"type":1,"position":1}"#, |e| matches!(e, LineError::Position { found: 1, wanted: 0 })),
            (r#"{"type":1,"size":1,"payload":null,"position":0}"#, |e| matches!(e, LineError::NoChecksum)),
            (r#"{"type":1,"size":-1,"position":0}"#, |e| matches!(e, LineError::Size(-1))),
            (r#"{"type":1,"size":9223372036854775808,"position":0}"#, |e| matches!(e, LineError::Json(_))),
            (r#"{"type":1,"payload":"AAA=","position":0}"#, |e| matches!(e, LineError::Checksum(2))),
            (r#"{"type":2,"payload":"A!","position":0}"#, |e| matches!(e, LineError::Base64(_))),
            (r#"{"type":1,"name":"a","name_raw":"YQ==","position":0}"#, |e| matches!(e, LineError::TwoNames)),
        ];
        for (line, expected) in table {
            let error = Line::parse(line.as_bytes(), 0).unwrap_err();
            assert!(expected(&error), "{line}: {error:?}");
        }
    }
}
