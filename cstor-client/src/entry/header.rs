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
