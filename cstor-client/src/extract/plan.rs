//! What is to be placed: every path once, each directory before what is in it, and what will be lost.
//!
//! It looks at the merged tree only; it opens and writes nothing.

use std::collections::HashMap;

use cstor_proto::{MAX_PATH, RelPath};

use super::Devices;
use super::error::ExtractError;
use super::meta::{Policy, Target};
use super::report::Losses;
use crate::base::account::Charge;
use crate::base::interrupt::Interrupt;
use crate::contents::ImageError;
use crate::tree::{FinalTree, Inode, InodeId, InodeKind, Meta};

/// All contents together; more is a mistake, or an attempt to fill a disk with clones.
pub(super) const MAX_BYTES: u64 = 16 << 40;

/// The directories of a result, and the sums.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// The root first; each before what is in it.
    pub(super) dirs: Vec<PlannedDir<'a>>,
    /// The first name of each inode that has several: it gets the contents, the others are linked to it.
    firsts: HashMap<InodeId, FirstName<'a>>,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) symlinks: u64,
    pub(super) hard_links: u64,
    pub(super) losses: Losses,
    /// Files with contents of which no checksum is known.
    pub(super) without_checksum: u64,
    /// Whether some file is out of reach for its owner's rights, so that the helper will be needed.
    pub(super) needs_helper: bool,
    /// What the plan takes beside the tree.
    _charge: Option<Charge>,
}

/// A directory of a result.
#[derive(Debug)]
pub(super) struct PlannedDir<'a> {
    /// The directory that it is in, by its place in [`Plan::dirs`]; its own for the root.
    parent: usize,
    /// Its name there; empty for the root.
    name: &'a [u8],
    /// How long its path is.
    length: usize,
    pub(super) inode: InodeId,
    /// What a rootless user may do below it.
    searchable: bool,
}

/// A name of an inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FirstName<'a> {
    /// Its directory, by its place in [`Plan::dirs`].
    pub(super) dir: usize,
    pub(super) name: &'a [u8],
}

/// What to do for one name of a directory.
#[derive(Debug)]
pub(super) enum Step<'a> {
    Dir,
    File,
    Symlink(&'a [u8]),
    Fifo,
    Device {
        block: bool,
        major: u32,
        minor: u32,
    },
    /// A further name of an inode.
    Link(&'a FirstName<'a>),
    /// A device that is left out.
    Skip,
}

impl<'a> Plan<'a> {
    /// Plans the whole tree.
    pub(super) fn of(
        tree: &'a FinalTree,
        policy: &Policy,
        devices: Devices,
        interrupt: &Interrupt,
    ) -> Result<Plan<'a>, ExtractError> {
        let mut plan = Plan::default();
        let root = tree.inode(FinalTree::ROOT);
        policy.count_losses(root.meta(), Target::FileOrDir, &mut plan.losses);
        check_owner(root.meta(), || b"/".to_vec(), policy)?;
        let searchable = may(root.meta(), 0o1);
        let mut charge = tree.account().charge();
        let mut pending = vec![PlannedDir { parent: 0, name: b"", length: 0, inode: FinalTree::ROOT, searchable }];
        while let Some(dir) = pending.pop() {
            let place = plan.dirs.len();
            let first = pending.len();
            let PlannedDir { inode: id, length, searchable, .. } = dir;
            plan.dirs.push(dir);
            for (name, id) in tree.children(id) {
                interrupt.check()?;
                let inode = tree.inode(id);
                let length = length + usize::from(length > 0) + name.len();
                if length > MAX_PATH {
                    let start = plan.path_of(place, name).into_iter().take(64).collect();
                    return Err(ExtractError::LongPath { start, limit: MAX_PATH });
                }
                if inode.names() > 1 {
                    if plan.firsts.contains_key(&id) {
                        plan.hard_links += u64::from(!is_skipped(inode, devices));
                        continue;
                    }
                    charge.add(size_of::<(InodeId, FirstName<'_>)>()).map_err(ImageError::from)?;
                    plan.firsts.insert(id, FirstName { dir: place, name });
                }
                plan.count(inode, place, name, policy, devices)?;
                if let InodeKind::File { size: 1.., .. } = inode.kind() {
                    plan.needs_helper |= !(searchable && may(inode.meta(), 0o4));
                }
                if inode.is_dir() {
                    let searchable = searchable && may(inode.meta(), 0o1);
                    pending.push(PlannedDir { parent: place, name, length, inode: id, searchable });
                }
            }
            // The stack gives them back in their order.
            if let Some(new) = pending.get_mut(first..) {
                new.reverse();
            }
        }
        plan._charge = Some(charge);
        if plan.bytes > MAX_BYTES {
            return Err(ExtractError::TooMuch { bytes: plan.bytes, limit: MAX_BYTES });
        }
        Ok(plan)
    }

    #[allow(clippy::indexing_slicing, reason = "places come from the plan's own list")]
    pub(super) fn dir(&self, place: usize) -> &PlannedDir<'a> {
        &self.dirs[place]
    }

    /// The path of a directory from the destination's root; empty for the root itself.
    pub(super) fn path(&self, place: usize) -> Vec<u8> {
        self.path_of(place, b"")
    }

    /// The path of a name in a directory.
    pub(super) fn path_of(&self, place: usize, name: &[u8]) -> Vec<u8> {
        // From the end to the beginning: a directory knows the one that it is in.
        let mut names = vec![name];
        let mut dir = self.dir(place);
        while !dir.name.is_empty() {
            names.push(dir.name);
            dir = self.dir(dir.parent);
        }
        names.reverse();
        if name.is_empty() {
            names.pop();
        }
        names.join(&b'/')
    }

    /// What to do for the name of an inode in the directory at `place`.
    pub(super) fn step<'s>(
        &'s self,
        inode: &'s Inode,
        id: InodeId,
        place: usize,
        name: &[u8],
        devices: Devices,
    ) -> Step<'s> {
        if is_skipped(inode, devices) {
            return Step::Skip;
        }
        if let Some(first) = self.firsts.get(&id)
            && (first.dir != place || first.name != name)
        {
            return Step::Link(first);
        }
        match inode.kind() {
            InodeKind::Dir(_) => Step::Dir,
            InodeKind::File { .. } => Step::File,
            InodeKind::Symlink(target) => Step::Symlink(target),
            InodeKind::Fifo => Step::Fifo,
            &InodeKind::CharDevice { major, minor } => Step::Device { block: false, major, minor },
            &InodeKind::BlockDevice { major, minor } => Step::Device { block: true, major, minor },
        }
    }

    fn count(
        &mut self,
        inode: &Inode,
        place: usize,
        name: &[u8],
        policy: &Policy,
        devices: Devices,
    ) -> Result<(), ExtractError> {
        let mut target = Target::Other;
        match inode.kind() {
            InodeKind::Dir(_) => target = Target::FileOrDir,
            &InodeKind::File { size, crc, digest } => {
                target = Target::FileOrDir;
                self.files += 1;
                self.bytes = self.bytes.saturating_add(size);
                self.without_checksum += u64::from(size > 0 && crc.is_none() && digest.is_none());
            }
            InodeKind::Symlink(_) => self.symlinks += 1,
            InodeKind::Fifo => {}
            InodeKind::CharDevice { .. } | InodeKind::BlockDevice { .. } => {
                if devices == Devices::Fail {
                    return Err(ExtractError::Device { path: self.path_of(place, name) });
                }
                if devices == Devices::Create && !policy.root {
                    return Err(ExtractError::DevicesNeedRoot);
                }
                if is_skipped(inode, devices) {
                    self.losses.devices += 1;
                    return Ok(());
                }
            }
        }
        policy.count_losses(inode.meta(), target, &mut self.losses);
        check_owner(inode.meta(), || self.path_of(place, name), policy)
    }
}

fn check_owner(meta: &Meta, path: impl FnOnce() -> Vec<u8>, policy: &Policy) -> Result<(), ExtractError> {
    let &Meta { uid, gid, .. } = meta;
    // The highest value means "no change" to chown(2).
    if policy.owners && uid.max(gid) >= u64::from(u32::MAX) {
        return Err(ExtractError::Owner { path: path(), uid, gid });
    }
    Ok(())
}

/// The place of a file in its layer: the same as in the result.
pub(super) fn source_path(path: Vec<u8>) -> Result<RelPath, ExtractError> {
    let start = path.iter().copied().take(64).collect();
    RelPath::from_clean(path).map_err(|_| ExtractError::LongPath { start, limit: MAX_PATH })
}

/// Whether an inode is a device that is left out. A device 0:0 always is: it is overlayfs's whiteout, and
/// acts as one wherever the result becomes a layer.
fn is_skipped(inode: &Inode, devices: Devices) -> bool {
    match *inode.kind() {
        InodeKind::CharDevice { major, minor } | InodeKind::BlockDevice { major, minor } => {
            devices != Devices::Create || (major, minor) == (0, 0)
        }
        _ => false,
    }
}

/// Whether the owner of a rootless store has a right (of 4, 2, 1) on an inode: as its owner, of its group,
/// or as anybody else. Container id 0 is the user; an own group among the others is not considered.
fn may(meta: &Meta, right: u32) -> bool {
    let shift = match (meta.uid, meta.gid) {
        (0, _) => 6,
        (_, 0) => 3,
        _ => 0,
    };
    meta.mode >> shift & right != 0
}
