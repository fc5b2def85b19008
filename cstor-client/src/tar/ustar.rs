//! One 512-byte header block: V7, ustar, star and GNU (POSIX.1-1988, star(5), tar(5)).
//!
//! The layout comes from the `tar` crate. Which of the formats a block has, and so what its fields mean,
//! follows Go's archive/tar (reader.go, `readHeader`), since the names in tar-split are what that reader
//! made of them.

use tar::Header as Block;

use super::header::HeaderError;

pub(super) const BLOCK: usize = 512;

/// The fields of a block, not yet changed by extensions.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) typeflag: u8,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) user_name: Vec<u8>,
    pub(super) group_name: Vec<u8>,
    pub(super) mtime: i64,
    pub(super) device: (u32, u32),
}

/// Parses one block.
pub(super) fn parse(bytes: &[u8; BLOCK]) -> Result<Fields, HeaderError> {
    let block = Block::from_byte_slice(bytes);
    check(bytes, &block.as_old().cksum)?;
    let old = block.as_old();
    let mut path = text(&old.name).to_vec();
    let mut device = (0, 0);
    let mut names: (&[u8], &[u8]) = (b"", b"");
    if let Some(gnu) = block.as_gnu() {
        device = (number(&gnu.dev_major, "devmajor")?, number(&gnu.dev_minor, "devminor")?);
        names = (text(&gnu.uname), text(&gnu.gname));
        // Writers before Go 1.8 put a prefix where GNU has its times.
        let times = [&gnu.atime, &gnu.ctime];
        if times.into_iter().any(|time| time[0] != 0 && numeric(time).is_none()) {
            path = prefixed(text(&bytes[345..500]), path);
        }
    } else if let Some(ustar) = block.as_ustar() {
        device = (number(&ustar.dev_major, "devmajor")?, number(&ustar.dev_minor, "devminor")?);
        names = (text(&ustar.uname), text(&ustar.gname));
        // star shortens the prefix for two times and ends the block with "tar\0".
        let prefix = if &bytes[508..512] == b"tar\0" { &ustar.prefix[..131] } else { &ustar.prefix[..] };
        path = prefixed(text(prefix), path);
    }
    Ok(Fields {
        typeflag: old.linkflag[0],
        path,
        link: text(&old.linkname).to_vec(),
        size: unsigned(&old.size, "size")?,
        mode: (signed(&old.mode, "mode")? & 0o7777) as u32,
        uid: unsigned(&old.uid, "uid")?,
        gid: unsigned(&old.gid, "gid")?,
        user_name: names.0.to_vec(),
        group_name: names.1.to_vec(),
        mtime: signed(&old.mtime, "mtime")?,
        device,
    })
}

fn prefixed(prefix: &[u8], path: Vec<u8>) -> Vec<u8> {
    if prefix.is_empty() { path } else { [prefix, b"/", &path].concat() }
}

/// The sum of the bytes with the checksum field as blanks; old tars summed signed bytes.
fn check(bytes: &[u8; BLOCK], field: &[u8; 8]) -> Result<(), HeaderError> {
    let stored = signed(field, "chksum")?;
    let (mut unsigned_sum, mut signed_sum) = (0i64, 0i64);
    for (place, &byte) in bytes.iter().enumerate() {
        let byte = if (148..156).contains(&place) { b' ' } else { byte };
        unsigned_sum += i64::from(byte);
        signed_sum += i64::from(byte as i8);
    }
    if stored == unsigned_sum || stored == signed_sum { Ok(()) } else { Err(HeaderError::Checksum) }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn number(field: &[u8], name: &'static str) -> Result<u32, HeaderError> {
    u32::try_from(signed(field, name)?).map_err(|_| HeaderError::Number(name))
}

fn unsigned(field: &[u8], name: &'static str) -> Result<u64, HeaderError> {
    u64::try_from(signed(field, name)?).map_err(|_| HeaderError::Number(name))
}

fn signed(field: &[u8], name: &'static str) -> Result<i64, HeaderError> {
    numeric(field).ok_or(HeaderError::Number(name))
}

/// Octal digits between blanks and NULs; or, where the top bit is set, a big-endian two's complement
/// number in the other bits (GNU tar manual, "Extensions").
fn numeric(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let top = if negative { i128::from(first) | !0x7f } else { i128::from(first & 0x7f) };
        let value = rest
            .iter()
            .try_fold(top, |value, &byte| value.checked_mul(256).map(|shifted| shifted | i128::from(byte)))?;
        return i64::try_from(value).ok();
    }
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = field.get(start..)?.split(blank).next()?;
    digits.iter().try_fold(0i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        let table: &[(&[u8], Option<i64>)] = &[
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"00000000001\0", Some(1)),
            (b"77777777777", Some(0o77777777777)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (b"\x80\0\0\0\0\0\0\x01\0\0\0\0", Some(1 << 32)),
            (b"\x80\0\0\0\0\xff\xff\xff", Some(0xff_ffff)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xae\x80", Some(-86400)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (field, value) in table {
            assert_eq!(numeric(field), *value, "{field:?}");
        }
    }
}
