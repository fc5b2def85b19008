//! What a member's header means, after every extension was applied.

use cstor_proto::Escaped;

use crate::base::account::OverMemoryLimit;
use crate::base::kind::ErrorKind;
use crate::base::time::Time;

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
#[non_exhaustive]
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
