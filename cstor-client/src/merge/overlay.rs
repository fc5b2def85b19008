//! A layer's tree over the tree of the layers below it, as overlayfs combines them.
//!
//! Documentation/filesystems/overlayfs.rst: a directory over a directory shows both, with the metadata of
//! the upper one; anything else hides what is below.

use super::tree::{Dentry, Dir, FinalTree, InodeId, InodeKind};

impl FinalTree {
    /// Lays the tree below `upper` over this one.
    pub(super) fn overlay(&mut self, upper: InodeId) {
        let root_stated = matches!(&self.inode(upper).kind, InodeKind::Dir(dir) if !dir.implied);
        let lower_meta = self.inode(FinalTree::ROOT).meta.clone();
        self.merge_dirs(FinalTree::ROOT, upper);
        if !root_stated {
            // Every layer has a root, also where its tar does not name it.
            self.inode_mut(FinalTree::ROOT).meta = lower_meta;
        }
    }

    /// Both are directories; the lower one becomes what a reader sees. It goes as deep as names do.
    fn merge_dirs(&mut self, lower: InodeId, upper: InodeId) {
        let from = self.inode_mut(upper);
        let layer = from.layer;
        let mut meta = std::mem::take(&mut from.meta);
        let dir = match &mut from.kind {
            InodeKind::Dir(dir) => std::mem::take(dir),
            _ => Dir::default(),
        };
        let into = self.inode_mut(lower);
        if dir.implied {
            // podman made it when it unpacked; that time is not known here.
            meta.mtime = into.meta.mtime;
        }
        (into.layer, into.meta) = (layer, meta);
        if let InodeKind::Dir(below) = &mut into.kind
            && dir.opaque
        {
            below.children.clear();
        }
        for (name, child) in dir.children {
            let known = match &self.inode(lower).kind {
                InodeKind::Dir(below) => below.children.get(&name).map(|name| name.dentry),
                _ => None,
            };
            if let (Some(Dentry::Inode(known)), Dentry::Inode(new)) = (known, child.dentry)
                && self.inode(known).is_dir()
                && self.inode(new).is_dir()
            {
                self.merge_dirs(known, new);
                continue;
            }
            if let InodeKind::Dir(below) = &mut self.inode_mut(lower).kind {
                match child.dentry {
                    Dentry::Whiteout => below.children.remove(&name),
                    Dentry::Inode(_) => below.children.insert(name, child),
                };
            }
        }
    }
}
