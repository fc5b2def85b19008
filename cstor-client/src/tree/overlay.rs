//! A layer's tree over the tree of the layers below it, as overlayfs combines them.
//!
//! Documentation/filesystems/overlayfs.rst: a directory over a directory shows both, with the metadata of
//! the upper one; anything else hides what is below.

use super::final_tree::FinalTree;
use super::inode::{Dentry, Dir, InodeId, InodeKind};
use crate::base::interrupt::{Interrupt, Interrupted};

impl FinalTree {
    /// Lays the tree below `upper` over this one.
    pub(super) fn overlay(&mut self, upper: InodeId, interrupt: &Interrupt) -> Result<(), Interrupted> {
        // Pairs of directories of which the lower one becomes what a reader sees.
        let mut pairs = vec![(FinalTree::ROOT, upper)];
        while let Some((lower, upper)) = pairs.pop() {
            self.merge_dir(lower, upper, &mut pairs, interrupt)?;
        }
        Ok(())
    }

    fn merge_dir(
        &mut self,
        lower: InodeId,
        upper: InodeId,
        pairs: &mut Vec<(InodeId, InodeId)>,
        interrupt: &Interrupt,
    ) -> Result<(), Interrupted> {
        let (implied, opaque) = match &self.inode(upper).kind {
            &InodeKind::Dir(Dir { implied, opaque, .. }) => (implied, opaque),
            _ => (false, false),
        };
        let mtime = self.inode(lower).meta.mtime;
        // Every layer has a root, also where its tar does not name it.
        if !implied || lower != FinalTree::ROOT {
            self.move_meta(upper, lower);
        }
        let layer = self.inode(upper).layer;
        let into = self.inode_mut(lower);
        into.layer = layer;
        if implied {
            // podman made it when it unpacked; that time is not known here.
            into.meta.mtime = mtime;
        }
        if opaque {
            self.clear(lower);
        }
        for (name, child) in self.take_children(upper) {
            interrupt.check()?;
            let below = match &self.inode(lower).kind {
                InodeKind::Dir(below) => below.children.get(&name).map(|name| name.dentry),
                _ => None,
            };
            match (below, child.dentry) {
                (Some(Dentry::Inode(known)), Dentry::Inode(new))
                    if self.inode(known).is_dir() && self.inode(new).is_dir() =>
                {
                    pairs.push((known, new));
                    // Its name; the directory goes when it is merged.
                    self.uncharge_name(name.len(), new);
                }
                (_, Dentry::Inode(_)) => self.move_name(lower, name, child),
                (_, Dentry::Whiteout) => {
                    self.remove_name(lower, &name);
                    self.forget(name.len(), Dentry::Whiteout);
                }
            }
        }
        self.discard(upper);
        Ok(())
    }
}
