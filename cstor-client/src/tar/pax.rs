//! PAX records: `length keyword=value\n`, where the length counts itself (POSIX.1-2001, pax "Extended Header").
//!
//! Values are bytes and may hold newlines, as those of extended attributes do.

use super::Time;
use super::header::{HeaderError, Xattr, checked_xattr, sorted_xattrs};

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the records of one member override.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) user_name: Option<Vec<u8>>,
    pub(super) group_name: Option<Vec<u8>>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<Xattr>,
    /// `GNU.sparse.*`: the name and the size after expansion, which are what tar-split describes.
    pub(super) sparse: Option<Sparse>,
}

#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
}

impl Records {
    /// Parses the records in the contents of an `x` header.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Records, HeaderError> {
        let mut records = Records::default();
        while !bytes.is_empty() {
            let (keyword, value, rest) = split_record(bytes).ok_or(HeaderError::Pax)?;
            records.apply(keyword, value)?;
            bytes = rest;
        }
        records.xattrs = sorted_xattrs(records.xattrs)?;
        Ok(records)
    }

    fn apply(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        match keyword {
            // An empty value takes a record back (pax, "Extended Header"); Go's reader, and so podman, leaves
            // the header's own field, and no extended attribute.
            b"size" | b"uid" | b"gid" | b"mtime" if value.is_empty() => {}
            b"path" => self.path = Some(name(value)?),
            b"linkpath" => self.link = Some(name(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"uname" => self.user_name = Some(value.to_vec()),
            b"gname" => self.group_name = Some(value.to_vec()),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.name" => self.sparse().name = Some(name(value)?),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse().size = Some(decimal(value)?),
            _ if keyword.starts_with(b"GNU.sparse.") => {
                self.sparse();
            }
            _ => {
                if let Some(attribute) = keyword.strip_prefix(XATTR).filter(|_| !value.is_empty()) {
                    self.xattr(attribute, value)?;
                }
            }
        }
        Ok(())
    }

    fn sparse(&mut self) -> &mut Sparse {
        self.sparse.get_or_insert_default()
    }

    fn xattr(&mut self, attribute: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        self.xattrs.push(checked_xattr(attribute, value)?);
        Ok(())
    }
}

/// Keyword, value, and what follows the record.
pub(super) fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(bytes.get(..blank)?).ok()?).ok()?;
    let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    let (keyword, value) = (record.get(..equals)?, record.get(equals + 1..)?);
    if keyword.is_empty() || keyword.contains(&0) {
        return None;
    }
    Some((keyword, value, bytes.get(length..)?))
}

/// A NUL would end the name early for the kernel and not for us; an empty name names nothing.
fn name(value: &[u8]) -> Result<Vec<u8>, HeaderError> {
    if value.is_empty() || value.contains(&0) { Err(HeaderError::Pax) } else { Ok(value.to_vec()) }
}

pub(super) fn decimal(digits: &[u8]) -> Result<u64, HeaderError> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HeaderError::Pax);
    }
    let text = std::str::from_utf8(digits).map_err(|_| HeaderError::Pax)?;
    text.parse().map_err(|_| HeaderError::Pax)
}

/// Seconds with an optional fraction, of which nanoseconds are kept and the rest is cut off.
fn time(value: &[u8]) -> Result<Time, HeaderError> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let mut parts = digits.splitn(2, |&byte| byte == b'.');
    let whole = i64::try_from(decimal(parts.next().unwrap_or_default())?).map_err(|_| HeaderError::Pax)?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(HeaderError::Pax);
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Ok(match (negative, nanoseconds) {
        (false, _) => Time { seconds: whole, nanoseconds },
        (true, 0) => Time { seconds: -whole, nanoseconds: 0 },
        (true, _) => Time { seconds: -whole - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_bytes_with_lengths() {
        let bytes = b"18 path=with\nline\n30 mtime=1700000000.123456789\n28 SCHILY.xattr.user.k=\0\n\xff=\n13 uid=70000\n12 size=123\n\n";
        assert!(Records::parse(bytes).is_err(), "a newline follows the last record");
        let records = Records::parse(&bytes[..bytes.len() - 13]).unwrap();
        assert_eq!(records.path.unwrap(), b"with\nline");
        assert_eq!(records.mtime.unwrap(), Time { seconds: 1_700_000_000, nanoseconds: 123_456_789 });
        assert_eq!(records.xattrs, [Xattr { name: b"user.k".to_vec(), value: b"\0\n\xff=".to_vec() }]);
        assert_eq!(records.uid, Some(70000));
    }

    #[test]
    fn times_count_forward_before_1970() {
        let table: &[(&[u8], i64, u32)] = &[
            (b"0", 0, 0),
            (b"1.5", 1, 500_000_000),
            (b"1.1234567899", 1, 123_456_789),
            (b"-1", -1, 0),
            (b"-1.25", -2, 750_000_000),
            (b"-0.000000001", -1, 999_999_999),
        ];
        for (text, seconds, nanoseconds) in table {
            assert_eq!(time(text), Ok(Time { seconds: *seconds, nanoseconds: *nanoseconds }));
        }
        for text in [&b""[..], b"x", b"1.x", b"--1", b"+1", b"99999999999999999999"] {
            assert!(time(text).is_err());
        }
    }

    #[test]
    fn damaged_records_are_errors() {
        let long_name = [b"302 SCHILY.xattr.user.".as_slice(), &[b'n'; 277], b"=x\n"].concat();
        let table: &[&[u8]] = &[
            b"12 path=xx",
            b"11 path=xx",
            b"99 path=x\n",
            b"0 path=x\n",
            b"x path=x\n",
            b"9 path=\n",
            b"10 path=\0\n",
            b"7 =abc\n",
            b"8 novalue\n",
            b"24 SCHILY.xattr.nodot=x\n",
            &long_name,
        ];
        for bytes in table {
            assert!(Records::parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
