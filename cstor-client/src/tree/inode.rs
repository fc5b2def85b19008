//! What a tree is made of: inodes with their metadata, and names in directories.

use std::collections::BTreeMap;

use crate::base::digest::Digest;
use crate::tar::{Content, Header, Kind, Time, Xattr};

/// What a directory takes more than a file: a node of its map has room for eleven names.
const DIRECTORY: usize = 256;
/// What an attribute takes beside its name and value.
const ATTRIBUTE: usize = 96;

/// An inode's number in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct InodeId(pub(super) u32);

impl InodeId {
    pub(super) fn of(entry: &TreeEntry<'_>) -> InodeId {
        InodeId(entry.inode_number)
    }
}

/// A file, directory or anything else, whatever its names.
#[derive(Debug)]
pub struct Inode {
    pub(super) layer: u16,
    /// How many names it has; a root has no name.
    pub(super) names: u32,
    pub(super) meta: Meta,
    pub(super) kind: InodeKind,
}

/// What an inode is.
#[derive(Debug)]
pub enum InodeKind {
    /// A directory.
    #[allow(private_interfaces, reason = "children are reached through FinalTree::entries")]
    Dir(Dir),
    /// A regular file.
    File {
        /// In bytes.
        size: u64,
        /// CRC-64/GO-ISO of its contents; `None` for empty ones.
        crc: Option<u64>,
        /// SHA-256 of its contents, where the layer's description has it.
        digest: Option<Digest>,
    },
    /// A symbolic link to this target.
    Symlink(Box<[u8]>),
    /// A named pipe.
    Fifo,
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
}

/// The metadata of an inode, from its headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// The owner, as a container id.
    pub uid: u64,
    /// The group, as a container id.
    pub gid: u64,
    /// When the contents changed last.
    pub mtime: Time,
    /// Extended attributes, by their names. In a tree that is to be extracted, those that the result will not have are
    /// without their values.
    pub xattrs: Vec<Xattr>,
}

/// The attributes of which the values are wanted.
pub(crate) type Keep<'a> = &'a dyn Fn(&[u8]) -> bool;

/// The names in a directory.
#[derive(Debug, Default)]
pub(crate) struct Dir {
    pub(super) children: BTreeMap<Box<[u8]>, Name>,
    /// Hides what lower layers have here.
    pub(super) opaque: bool,
    /// No member stands for it; it only lies on the way to others.
    pub(super) implied: bool,
}

/// A name in a directory while layers are merged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) dentry: Dentry,
    /// Whether a member of this layer has this very name, not one that reaches it through a symlink.
    pub(super) stated: bool,
    /// Whether a whiteout of this layer hides what lower layers have here, whatever stands here now.
    pub(super) white: bool,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dentry {
    Inode(InodeId),
    /// Nothing, here and in lower layers.
    Whiteout,
}

/// A path of the tree and what is there.
#[derive(Debug)]
#[non_exhaustive]
pub struct TreeEntry<'a> {
    /// From the root, without a leading slash; empty for the root itself.
    pub path: Vec<u8>,
    /// What is there.
    pub inode: &'a Inode,
    /// Equal for two paths if they are hard links to each other.
    pub inode_number: u32,
}

/// What podman gives a directory that no member stands for (storage/pkg/archive, `MkdirAllAndChownNew`
/// with the mode 0777 under podman's umask of 022).
pub(super) const IMPLIED_MODE: u32 = 0o755;

impl Meta {
    /// The metadata of a header. Times before 1970 become 1970, as podman's untar has them.
    pub(super) fn of(header: &Header, keep: Keep<'_>) -> Meta {
        let kept = |xattr: &Xattr| Xattr {
            name: xattr.name.clone(),
            value: if keep(&xattr.name) { xattr.value.clone() } else { Vec::new() },
        };
        Meta {
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            mtime: header.mtime.max(Time::default()),
            xattrs: header.xattrs.iter().map(kept).collect(),
        }
    }

    /// What is charged for its attributes.
    pub(super) fn cost(&self) -> usize {
        self.xattrs.iter().map(|xattr| ATTRIBUTE + xattr.name.len() + xattr.value.len()).sum()
    }

    fn implied() -> Meta {
        Meta { mode: IMPLIED_MODE, ..Meta::default() }
    }
}

impl Inode {
    /// Without a name yet.
    pub(super) fn new(layer: u16, meta: Meta, kind: InodeKind) -> Inode {
        Inode { layer, names: 0, meta, kind }
    }

    /// A directory that no member stands for.
    pub(super) fn implied_dir(layer: u16) -> Inode {
        let dir = Dir { implied: true, ..Dir::default() };
        Inode::new(layer, Meta::implied(), InodeKind::Dir(dir))
    }

    /// How many names it has in the tree; `None` for the root.
    pub fn names(&self) -> u32 {
        self.names
    }

    /// What it is.
    pub fn kind(&self) -> &InodeKind {
        &self.kind
    }

    /// Its metadata.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The layer that it is from, counted from the base.
    pub fn layer(&self) -> usize {
        self.layer.into()
    }

    pub(crate) fn is_dir(&self) -> bool {
        matches!(self.kind, InodeKind::Dir(_))
    }

    /// Whether it is a directory that no member stands for.
    pub(crate) fn is_implied(&self) -> bool {
        matches!(&self.kind, InodeKind::Dir(dir) if dir.implied)
    }
}

impl InodeKind {
    /// What is charged for it when it gets its first name.
    pub(super) fn cost(&self) -> usize {
        match self {
            InodeKind::Dir(_) => DIRECTORY,
            InodeKind::Symlink(target) => target.len(),
            _ => 0,
        }
    }

    /// The kind of a header that stands for an inode of its own.
    pub(super) fn of(header: &Header, content: Option<Content>) -> Option<InodeKind> {
        Some(match &header.kind {
            Kind::File => {
                let Content { size, crc, digest } = content.unwrap_or(Content { size: 0, crc: None, digest: None });
                InodeKind::File { size, crc, digest }
            }
            Kind::Symlink(target) => InodeKind::Symlink(target.as_slice().into()),
            &Kind::CharDevice { major, minor } => InodeKind::CharDevice { major, minor },
            &Kind::BlockDevice { major, minor } => InodeKind::BlockDevice { major, minor },
            Kind::Dir => InodeKind::Dir(Dir::default()),
            Kind::Fifo => InodeKind::Fifo,
            Kind::HardLink(_) | Kind::PaxGlobal => return None,
        })
    }
}
