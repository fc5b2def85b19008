//! What a member's header means, after every extension was applied.

use cstor_proto::Escaped;

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
    /// Extended attributes, by name.
    pub xattrs: Vec<Xattr>,
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

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// With its namespace, such as `user.note`.
    pub name: Vec<u8>,
    /// The bytes.
    pub value: Vec<u8>,
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
        }
        assert_eq!(Time { seconds: i64::MAX, nanoseconds: 0 }.rfc3339(), None);
    }
}
