//! Names and inodes, as a file system has them: hard links are names of one inode, and outlive each other. An inode whose
//! last name goes is freed, so that what upper layers hide costs nothing.
//!
//! Everything whose size an image chooses is charged to the operation's account.

use std::collections::BTreeMap;

use super::MergeProblem;
use super::inode::{Dentry, Inode, InodeId, InodeKind, Meta, Name, TreeEntry};
use crate::base::account::{Account, Charge, OverMemoryLimit};

/// Inodes at a time: at most 300 bytes each with an ordinary name, 600 MB in all.
const MAX_INODES: usize = 2_000_000;
const INODE: u64 = 300;
/// Bytes of a name that count as part of its inode.
const ORDINARY_NAME: usize = 64;
/// What a name takes that has no inode of its own: a further hard link, or a whiteout.
const FURTHER_NAME: usize = 96;

/// The files of an image, or of several layers of one.
#[derive(Debug)]
pub struct FinalTree {
    inodes: Vec<Inode>,
    /// The places of inodes that were freed.
    free: Vec<InodeId>,
    max_inodes: usize,
    /// Steps that symlinks have added to the ways of members so far.
    link_steps: u64,
    charge: Charge,
}

impl FinalTree {
    pub(crate) const ROOT: InodeId = InodeId(0);

    pub(crate) fn new(account: &Account) -> FinalTree {
        FinalTree {
            inodes: vec![Inode::implied_dir(0)],
            free: Vec::new(),
            max_inodes: account.inodes(MAX_INODES, INODE),
            link_steps: 0,
            charge: account.charge(),
        }
    }

    /// All paths, each directory before what is in it, siblings in the order of their bytes.
    pub fn entries(&self) -> impl Iterator<Item = TreeEntry<'_>> {
        self.entries_below(FinalTree::ROOT, Vec::new())
    }

    /// A path and all paths below it, in the same order.
    pub(super) fn entries_below(&self, top: InodeId, top_path: Vec<u8>) -> impl Iterator<Item = TreeEntry<'_>> {
        // Of each path that waits only the last name, and how long the path of its directory is: a directory with a long
        // path can have very many names.
        let mut waiting: Vec<(usize, &[u8], InodeId)> = vec![(top_path.len(), b"", top)];
        let mut path = top_path;
        std::iter::from_fn(move || {
            let (parent, name, id) = waiting.pop()?;
            path.truncate(parent);
            if !path.is_empty() && !name.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let first = waiting.len();
            waiting.extend(self.children(id).map(|(name, child)| (path.len(), name, child)));
            if let Some(new) = waiting.get_mut(first..) {
                new.reverse();
            }
            Some(self.entry(path.clone(), id))
        })
    }

    pub(super) fn entry(&self, path: Vec<u8>, id: InodeId) -> TreeEntry<'_> {
        TreeEntry { path, inode: self.inode(id), inode_number: id.0 }
    }

    /// What is at a path that leads through no symlink.
    pub(crate) fn find(&self, path: &[u8]) -> Option<&Inode> {
        self.id_at(path).map(|id| self.inode(id))
    }

    /// The names in the directory at a path; `None` for anything else.
    pub(crate) fn names(&self, path: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.id_at(path).into_iter().flat_map(|id| self.children(id)).map(|(name, _)| name)
    }

    fn id_at(&self, path: &[u8]) -> Option<InodeId> {
        let mut components = path.split(|&byte| byte == b'/').filter(|component| !component.is_empty());
        components.try_fold(FinalTree::ROOT, |id, component| self.child(id, component).map(|(_, child)| child))
    }

    /// A name in a directory, and what it stands for.
    pub(super) fn child(&self, dir: InodeId, name: &[u8]) -> Option<(&[u8], InodeId)> {
        let InodeKind::Dir(dir) = &self.inode(dir).kind else { return None };
        let (name, child) = dir.children.get_key_value(name)?;
        match child.dentry {
            Dentry::Inode(id) => Some((name, id)),
            Dentry::Whiteout => None,
        }
    }

    /// The names in a directory, in the order of their bytes; `None` for anything else.
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

    #[allow(clippy::indexing_slicing, reason = "ids are made by add(), and their places are never removed")]
    pub(crate) fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0 as usize]
    }

    #[allow(clippy::indexing_slicing, reason = "as inode()")]
    pub(super) fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.0 as usize]
    }

    /// One more than the highest id.
    pub(crate) fn inodes(&self) -> usize {
        self.inodes.len()
    }

    /// The account that it is charged to.
    pub(crate) fn account(&self) -> &Account {
        self.charge.account()
    }

    /// How many inodes there may be at a time.
    pub(super) fn max_inodes(&self) -> usize {
        self.max_inodes
    }

    /// Whether there are as many.
    pub(super) fn is_full(&self) -> bool {
        self.inodes.len() - self.free.len() >= self.max_inodes
    }

    /// The root of a layer. It has no name, and is not counted.
    pub(super) fn add_root(&mut self, layer: u16) -> InodeId {
        self.place(Inode::implied_dir(layer))
    }

    /// Adds an inode, which gets a name later.
    pub(super) fn add(&mut self, inode: Inode) -> Result<InodeId, OverMemoryLimit> {
        self.charge.add(inode.meta.cost())?;
        Ok(self.place(inode))
    }

    fn place(&mut self, inode: Inode) -> InodeId {
        if let Some(id) = self.free.pop() {
            *self.inode_mut(id) = inode;
            return id;
        }
        // There are at most two million, and one root a layer.
        let id = InodeId(u32::try_from(self.inodes.len()).unwrap_or(u32::MAX));
        self.inodes.push(inode);
        id
    }

    /// Gives an inode other metadata.
    pub(super) fn set_meta(&mut self, id: InodeId, meta: Meta) -> Result<(), OverMemoryLimit> {
        self.charge.add(meta.cost())?;
        let before = std::mem::replace(&mut self.inode_mut(id).meta, meta);
        self.charge.sub(before.cost());
        Ok(())
    }

    /// Takes the metadata of an inode, for [`Self::set_meta`].
    pub(super) fn take_meta(&mut self, id: InodeId) -> Meta {
        let meta = std::mem::take(&mut self.inode_mut(id).meta);
        self.charge.sub(meta.cost());
        meta
    }

    /// Counts a step that a symlink adds to the way to a member.
    pub(super) fn count_link_step(&mut self, limit: u64) -> Result<(), MergeProblem> {
        self.link_steps += 1;
        if self.link_steps > limit { Err(MergeProblem::LinkSteps(limit)) } else { Ok(()) }
    }

    /// Moves the metadata of one inode to another.
    pub(super) fn move_meta(&mut self, from: InodeId, to: InodeId) {
        let meta = std::mem::take(&mut self.inode_mut(from).meta);
        let before = std::mem::replace(&mut self.inode_mut(to).meta, meta);
        self.charge.sub(before.cost());
    }

    /// Gives a name in a directory to something; what had it loses it.
    pub(super) fn set_name(&mut self, dir: InodeId, name: &[u8], new: Name) -> Result<(), OverMemoryLimit> {
        self.charge_name(name, new.dentry)?;
        let replaced = match &mut self.inode_mut(dir).kind {
            InodeKind::Dir(dir) => dir.children.insert(name.into(), new),
            _ => None,
        };
        if let Some(replaced) = replaced {
            self.forget(name.len(), replaced.dentry);
        }
        Ok(())
    }

    fn charge_name(&mut self, name: &[u8], dentry: Dentry) -> Result<(), OverMemoryLimit> {
        let cost = match dentry {
            Dentry::Whiteout => FURTHER_NAME,
            Dentry::Inode(id) => match self.inode(id) {
                Inode { names: 0, kind, .. } => kind.cost(),
                _ => FURTHER_NAME,
            },
        };
        self.charge.add(name_cost(name.len()) + cost)?;
        if let Dentry::Inode(id) = dentry {
            self.inode_mut(id).names += 1;
        }
        Ok(())
    }

    /// Takes all names out of a directory.
    pub(super) fn clear(&mut self, dir: InodeId) {
        for (name, child) in self.take_children(dir) {
            self.forget(name.len(), child.dentry);
        }
    }

    /// Takes the names out of a directory; they stay charged, and their inodes keep them.
    pub(super) fn take_children(&mut self, dir: InodeId) -> BTreeMap<Box<[u8]>, Name> {
        match &mut self.inode_mut(dir).kind {
            InodeKind::Dir(dir) => std::mem::take(&mut dir.children),
            _ => BTreeMap::new(),
        }
    }

    /// Puts a name that was taken out of one directory into another; what had it there loses it.
    pub(super) fn move_name(&mut self, dir: InodeId, name: Box<[u8]>, moved: Name) {
        let length = name.len();
        let replaced = match &mut self.inode_mut(dir).kind {
            InodeKind::Dir(dir) => dir.children.insert(name, moved),
            _ => None,
        };
        if let Some(replaced) = replaced {
            self.forget(length, replaced.dentry);
        }
    }

    /// Takes one name out of a directory.
    pub(super) fn remove_name(&mut self, dir: InodeId, name: &[u8]) {
        let removed = match &mut self.inode_mut(dir).kind {
            InodeKind::Dir(dir) => dir.children.remove(name),
            _ => None,
        };
        if let Some(removed) = removed {
            self.forget(name.len(), removed.dentry);
        }
    }

    /// What had a name of this length has lost it; an inode without names is freed, with all that is in it.
    pub(super) fn forget(&mut self, length: usize, dentry: Dentry) {
        let mut pending = vec![(length, dentry)];
        while let Some((length, dentry)) = pending.pop() {
            self.charge.sub(name_cost(length));
            let id = match dentry {
                Dentry::Whiteout => {
                    self.charge.sub(FURTHER_NAME);
                    continue;
                }
                Dentry::Inode(id) => id,
            };
            let inode = self.inode_mut(id);
            inode.names = inode.names.saturating_sub(1);
            if inode.names > 0 {
                self.charge.sub(FURTHER_NAME);
                continue;
            }
            self.charge.sub(self.inode(id).kind.cost());
            pending.extend(self.take_children(id).into_iter().map(|(name, child)| (name.len(), child.dentry)));
            self.discard(id);
        }
    }

    /// Takes the only name from a directory that is about to be merged into another one.
    pub(super) fn uncharge_name(&mut self, length: usize, dir: InodeId) {
        self.charge.sub(name_cost(length) + self.inode(dir).kind.cost());
        self.inode_mut(dir).names = 0;
    }

    /// Frees an inode that has no name, and of which nothing is charged but its attributes.
    pub(super) fn discard(&mut self, id: InodeId) {
        let inode = std::mem::replace(self.inode_mut(id), Inode::new(0, Meta::default(), InodeKind::Fifo));
        self.charge.sub(inode.meta.cost());
        self.free.push(id);
    }
}

fn name_cost(length: usize) -> usize {
    length.saturating_sub(ORDINARY_NAME)
}
