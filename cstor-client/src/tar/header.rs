//! What a member's header means, after every extension was applied.

use cstor_proto::Escaped;

use crate::base::account::OverMemoryLimit;
use crate::base::kind::ErrorKind;

/// A member's metadata. Names and targets are bytes as the tar has them, not cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission, set-id and sticky bits: the lower twelve.
    pub mode: u32,
    /// The owner, as a container id.
    pub uid: u64,
    /// The group, as a container id.
    pub gid: u64,
    /// The owner's name, if the tar has one; only its number counts.
    pub user_name: Vec<u8>,
    /// The group's name, likewise.
    pub group_name: Vec<u8>,
    /// When the contents changed last.
    pub mtime: Time,
    /// Extended attributes, sorted by their names, each of which comes once.
    pub xattrs: Vec<Xattr>,
}

impl Header {
    /// About what it takes while it is kept, in bytes.
    pub(crate) fn size_in_memory(&self) -> usize {
        let target = match &self.kind {
            Kind::HardLink(target) | Kind::Symlink(target) => target.len(),
            _ => 0,
        };
        let xattrs = self.xattrs.iter().map(|xattr| size_of::<Xattr>() + xattr.name.len() + xattr.value.len());
        size_of::<Header>() + self.path.len() + target + xattrs.sum::<usize>()
    }
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its contents follow.
    File,
    /// Another name for an earlier member.
    HardLink(Vec<u8>),
    /// A symbolic link with this target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A directory.
    Dir,
    /// A named pipe.
    Fifo,
    /// Records for all members that follow; nothing in a file system.
    PaxGlobal,
}

/// A point in time with nanoseconds; the latter count forward also before 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Time {
    /// As RFC 3339 in UTC; none for years that have not four digits.
    pub fn rfc3339(self) -> Option<String> {
        let (days, second) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400));
        // Years that begin in March, in eras of 400 of them: leap days come last, and months have a pattern.
        let shifted = days.checked_add(719_468)?;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        if !(0..=9999).contains(&year) {
            return None;
        }
        let fraction = match self.nanoseconds {
            0 => String::new(),
            nanoseconds => format!(".{nanoseconds:09}").trim_end_matches('0').to_owned(),
        };
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"))
    }
}

impl Time {
    /// The time that RFC 3339 says, with or without a zone of its own.
    pub(crate) fn parse_rfc3339(text: &str) -> Option<Time> {
        let digits = |range: std::ops::Range<usize>| {
            let digits = text.get(range).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
            digits.parse::<i64>().ok()
        };
        let marks = |place: usize, mark: u8| text.as_bytes().get(place).is_some_and(|&byte| byte == mark);
        if !(marks(4, b'-') && marks(7, b'-') && marks(10, b'T') && marks(13, b':') && marks(16, b':')) {
            return None;
        }
        let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
        let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
        let rest = text.get(19..)?;
        let zone = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
        let fraction = rest.get(..rest.len() - zone.len())?;
        let fraction =
            if fraction.is_empty() { "" } else { fraction.strip_prefix('.').filter(|f| !f.contains('.'))? };
        let nanoseconds = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
        let nanoseconds = nanoseconds.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
        let offset = match zone.as_bytes() {
            b"Z" => 0,
            [sign @ (b'+' | b'-'), h1, h0, b':', m1, m0] if [h1, h0, m1, m0].iter().all(|c| c.is_ascii_digit()) => {
                let number = |tens: &u8, ones: &u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
                let offset = number(h1, h0) * 3600 + number(m1, m0) * 60;
                if *sign == b'-' { -offset } else { offset }
            }
            _ => return None,
        };
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        // The same calendar as above, whose years begin in March.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + (153 * month + 2) / 5 + day - 1;
        let days = era * 146_097 + day_of_era - 719_468;
        Some(Time { seconds: days * 86_400 + hour * 3600 + minute * 60 + second - offset, nanoseconds })
    }
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// With its namespace, such as `user.note`.
    pub name: Vec<u8>,
    /// The bytes.
    pub value: Vec<u8>,
}

/// The longest value that the kernel takes (`XATTR_SIZE_MAX`) and the longest name (`XATTR_NAME_MAX`).
const MAX_XATTR_VALUE: usize = 65536;
const MAX_XATTR_NAME: usize = 255;
/// What the names of all attributes of a file have at most, each with its NUL: more the kernel does not list
/// (`XATTR_LIST_MAX`, linux/limits.h).
pub(crate) const MAX_XATTR_LIST: usize = 65536;
/// The longest target of a symlink: `PATH_MAX`, with the NUL (symlink(2)).
const MAX_TARGET: usize = 4095;

/// Whether a file can have all of these attributes.
pub(crate) fn fits_list(xattrs: &[Xattr]) -> bool {
    xattrs.iter().map(|xattr| xattr.name.len() + 1).sum::<usize>() <= MAX_XATTR_LIST
}

/// Attributes by their names; of several of one name the last one counts.
pub(super) fn sorted_xattrs(mut xattrs: Vec<Xattr>) -> Result<Vec<Xattr>, HeaderError> {
    // The sort keeps the order of equals, and what is removed is the second of two.
    xattrs.reverse();
    xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    xattrs.dedup_by(|second, first| second.name == first.name);
    if fits_list(&xattrs) { Ok(xattrs) } else { Err(HeaderError::XattrList(MAX_XATTR_LIST)) }
}

/// A target that a symlink can have.
pub(super) fn checked_target(target: &[u8]) -> Result<(), HeaderError> {
    match target.len() {
        0 => Err(HeaderError::NoTarget),
        length if length > MAX_TARGET => Err(HeaderError::LongTarget { length, limit: MAX_TARGET }),
        _ => Ok(()),
    }
}

/// An attribute that a file system can take.
pub(super) fn checked_xattr(name: &[u8], value: &[u8]) -> Result<Xattr, HeaderError> {
    let in_namespace = name.iter().position(|&byte| byte == b'.').is_some_and(|dot| dot > 0 && dot + 1 < name.len());
    if !in_namespace || name.len() > MAX_XATTR_NAME || name.contains(&0) {
        return Err(HeaderError::XattrName(name.to_vec()));
    }
    if value.len() > MAX_XATTR_VALUE {
        return Err(HeaderError::LongXattr { name: name.to_vec(), limit: MAX_XATTR_VALUE });
    }
    Ok(Xattr { name: name.to_vec(), value: value.to_vec() })
}

/// Why header bytes cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The bytes are no whole number of blocks, or end early.
    #[error("its header is cut short")]
    Short,
    /// Blocks follow the header.
    #[error("{0} bytes follow its header")]
    Trailing(usize),
    /// The checksum in the header is another than that of its bytes.
    #[error("the checksum of its header is wrong")]
    Checksum,
    /// A numeric field that holds no number.
    #[error("the field {0} of its header holds no number")]
    Number(&'static str),
    /// A PAX record that is damaged.
    #[error("a PAX record is damaged")]
    Pax,
    /// A PAX or GNU extension that is longer than the limit.
    #[error("an extension header has more than {0} bytes")]
    LongExtension(u64),
    /// Two GNU extensions that say the same of one member.
    #[error("two GNU extension headers give it a name, or a link target")]
    TwoLongNames,
    /// A header type that no file system object corresponds to.
    #[error("header type {} is not supported", Escaped(&[*.0]))]
    Type(u8),
    /// An extended attribute whose name has no namespace, is too long or holds a NUL.
    #[error("an extended attribute has the invalid name \"{}\"", Escaped(.0))]
    XattrName(Vec<u8>),
    /// An extended attribute that is longer than any file system takes.
    #[error("the extended attribute \"{}\" is longer than {limit} bytes", Escaped(name))]
    LongXattr {
        /// Its name.
        name: Vec<u8>,
        /// The limit.
        limit: usize,
    },
    /// More attributes than a file can have.
    #[error("the names of its extended attributes have more than {0} bytes in all")]
    XattrList(usize),
    /// A symlink that leads nowhere.
    #[error("a symbolic link without a target")]
    NoTarget,
    /// A symlink whose target is longer than a path can be.
    #[error("a symbolic link with a target of {length} bytes, more than the {limit} that one can have")]
    LongTarget {
        /// In bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Headers, or what stands between two members, without an end.
    #[error("more than {0} bytes stand before the contents of the next member")]
    LongHeaders(usize),
    /// More memory than the operation may use.
    #[error(transparent)]
    Memory(#[from] OverMemoryLimit),
    /// The name in the header is not the one in the tar-split entry.
    #[error("its tar-split entry is called \"{}\"", Escaped(.0))]
    OtherName(Vec<u8>),
    /// The size in the header is not the one in the tar-split entry.
    #[error("its header says {header} bytes, its tar-split entry {entry}")]
    OtherSize {
        /// In the header.
        header: u64,
        /// In the entry.
        entry: u64,
    },
}

impl HeaderError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            HeaderError::LongExtension(_)
            | HeaderError::LongXattr { .. }
            | HeaderError::XattrList(_)
            | HeaderError::LongHeaders(_)
            | HeaderError::Memory(_) => ErrorKind::Limit,
            HeaderError::Type(_) => ErrorKind::Unsupported,
            HeaderError::Short
            | HeaderError::Trailing(_)
            | HeaderError::Checksum
            | HeaderError::Number(_)
            | HeaderError::Pax
            | HeaderError::TwoLongNames
            | HeaderError::XattrName(_)
            | HeaderError::NoTarget
            | HeaderError::LongTarget { .. }
            | HeaderError::OtherName(_)
            | HeaderError::OtherSize { .. } => ErrorKind::Corrupt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        // The texts are what `date -u --iso-8601=ns` says.
        let table = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, 123_456_789, "2023-11-14T22:13:20.123456789Z"),
            (951_782_400, 500_000_000, "2000-02-29T00:00:00.5Z"),
            (-86_400, 0, "1969-12-31T00:00:00Z"),
            (4_102_444_800, 0, "2100-01-01T00:00:00Z"),
        ];
        for (seconds, nanoseconds, text) in table {
            assert_eq!(Time { seconds, nanoseconds }.rfc3339().unwrap(), text);
            assert_eq!(Time::parse_rfc3339(text), Some(Time { seconds, nanoseconds }));
        }
        assert_eq!(Time { seconds: i64::MAX, nanoseconds: 0 }.rfc3339(), None);
        let zoned = Time { seconds: 1_709_204_400, nanoseconds: 250_000_000 };
        assert_eq!(Time::parse_rfc3339("2024-02-29T12:00:00.25+01:00"), Some(zoned));
        for text in [
            "",
            "2024-02-29",
            "2024-13-01T00:00:00Z",
            "2024-02-29T12:00:00",
            "2024-02-29T12:00:00.2.5Z",
            "x024-02-29T12:00:00Z",
            "2024-02-29T12:00:00+1:00",
        ] {
            assert_eq!(Time::parse_rfc3339(text), None, "{text}");
        }
    }
}
