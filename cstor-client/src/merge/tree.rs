//! Names and inodes, as a file system has them: hard links are names of one inode, and outlive each other.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::entry::{Content, Header, Kind, Time, Xattr};

/// An inode's number in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct InodeId(u32);

/// The files of an image, or of several layers of one.
#[derive(Debug)]
pub struct FinalTree {
    inodes: Vec<Inode>,
}

/// A file, directory or anything else, whatever its names.
#[derive(Debug)]
pub struct Inode {
    pub(crate) layer: u16,
    pub(crate) meta: Meta,
    pub(crate) kind: InodeKind,
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
        /// CRC-64/GO-ISO of its contents; none for empty ones.
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
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
}

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
    pub(super) fn of(header: &Header) -> Meta {
        Meta {
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            mtime: header.mtime.max(Time::default()),
            xattrs: header.xattrs.clone(),
        }
    }

    fn implied() -> Meta {
        Meta { mode: IMPLIED_MODE, ..Meta::default() }
    }
}

impl Inode {
    /// A directory that no member stands for.
    pub(super) fn implied_dir(layer: u16) -> Inode {
        let dir = Dir { implied: true, ..Dir::default() };
        Inode { layer, meta: Meta::implied(), kind: InodeKind::Dir(dir) }
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

impl FinalTree {
    pub(crate) const ROOT: InodeId = InodeId(0);

    pub(crate) fn new() -> FinalTree {
        FinalTree { inodes: vec![Inode::implied_dir(0)] }
    }

    /// All paths, each directory before what is in it, siblings in the order of their bytes.
    pub fn entries(&self) -> impl Iterator<Item = TreeEntry<'_>> {
        let mut stack = vec![(Vec::new(), FinalTree::ROOT)];
        std::iter::from_fn(move || {
            let (path, id) = stack.pop()?;
            let inode = self.inode(id);
            let first = stack.len();
            for (name, child) in self.children(id) {
                stack.push((join(&path, name), child));
            }
            if let Some(new) = stack.get_mut(first..) {
                new.reverse();
            }
            Some(TreeEntry { path, inode, inode_number: id.0 })
        })
    }

    /// What is at a path that leads through no symlink.
    pub(crate) fn find(&self, path: &[u8]) -> Option<&Inode> {
        self.id_at(path).map(|id| self.inode(id))
    }

    /// The names in the directory at a path; none for anything else.
    pub(crate) fn names(&self, path: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.id_at(path).into_iter().flat_map(|id| self.children(id)).map(|(name, _)| name)
    }

    fn id_at(&self, path: &[u8]) -> Option<InodeId> {
        let mut components = path.split(|&byte| byte == b'/').filter(|component| !component.is_empty());
        components.try_fold(FinalTree::ROOT, |id, component| match &self.inode(id).kind {
            InodeKind::Dir(dir) => match dir.children.get(component)?.dentry {
                Dentry::Inode(child) => Some(child),
                Dentry::Whiteout => None,
            },
            _ => None,
        })
    }

    /// The names in a directory, in the order of their bytes; none for anything else.
    pub(crate) fn children(&self, id: InodeId) -> impl Iterator<Item = (&[u8], InodeId)> {
        let children = match &self.inode(id).kind {
            InodeKind::Dir(dir) => Some(dir.children.iter()),
            _ => None,
        };
        children.into_iter().flatten().filter_map(|(name, child)| match child.dentry {
            Dentry::Inode(id) => Some((&**name, id)),
            Dentry::Whiteout => None,
        })
    }

    #[allow(clippy::indexing_slicing, reason = "ids are made by add() and inodes are never removed")]
    pub(crate) fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0 as usize]
    }

    #[allow(clippy::indexing_slicing, reason = "as inode()")]
    pub(super) fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.0 as usize]
    }

    /// How many inodes there ever were: one more than the highest id.
    pub(crate) fn inodes(&self) -> usize {
        self.inodes.len()
    }

    pub(super) fn add(&mut self, inode: Inode) -> InodeId {
        // `LayerTree` stops long before four billion.
        let id = InodeId(u32::try_from(self.inodes.len()).unwrap_or(u32::MAX));
        self.inodes.push(inode);
        id
    }
}

impl InodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A path one component longer.
pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// A path's parent, empty for a name at the root, and its last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}
