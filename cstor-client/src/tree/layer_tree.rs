//! One layer's members as podman's untar would place them in an empty directory.
//!
//! The rules are those of `Unpack` in containers/storage pkg/archive/archive.go: names are cleaned
//! lexically, then looked up as in a chroot, so that a symlink of the layer on the way is followed;
//! missing directories on the way are made; the last component is never followed.

use std::cmp::Ordering;

use cstor_proto::{InvalidPath, RelPath};

use super::MergeProblem;
use super::final_tree::FinalTree;
use super::inode::{Dentry, Dir, Inode, InodeId, InodeKind, Keep, Meta, Name};
use super::whiteout::{Meaning, classify};
use crate::tar::{Kind, MAX_XATTR_LIST, Member, Xattr, fits_list};

/// Symlinks on the way to one file, as for the kernel (namei.h, `MAXSYMLINKS`).
const MAX_LINKS: usize = 40;
/// Directories on the way to one file; deeper trees cannot be removed again by many tools.
const MAX_DEPTH: usize = 1024;
/// Steps that symlinks add to the ways of all members together: 40 links of 4 kB on the way to each member would take
/// minutes. A million members below a link with eight components need no more.
const MAX_LINK_STEPS: u64 = 8_000_000;
/// NAME_MAX of linux/limits.h.
const MAX_COMPONENT: usize = 255;

/// A layer that is being built inside the tree that it will be laid over.
pub(crate) struct LayerTree<'a> {
    tree: &'a mut FinalTree,
    layer: u16,
    root: InodeId,
    keep: Keep<'a>,
}

/// Where a name is looked up.
struct Place {
    dir: InodeId,
    /// Whether the way there led through no symlink.
    literal: bool,
}

impl<'a> LayerTree<'a> {
    pub(super) fn new(tree: &'a mut FinalTree, layer: u16, keep: Keep<'a>) -> LayerTree<'a> {
        let root = tree.add_root(layer);
        LayerTree { tree, layer, root, keep }
    }

    /// The root of the layer.
    pub(super) fn root(self) -> InodeId {
        self.root
    }

    /// Places one member; gives the inode that it is a name of, if it is one.
    pub(crate) fn add(&mut self, member: &Member) -> Result<Option<InodeId>, MergeProblem> {
        let header = &member.header;
        if header.kind == Kind::PaxGlobal {
            return Ok(None);
        }
        let path = match RelPath::clean(&header.path) {
            Err(InvalidPath::Root) => return self.add_root(member).map(|()| None),
            Err(InvalidPath::TooLong(_)) if depth(&header.path) > MAX_DEPTH => {
                return Err(MergeProblem::TooDeep(MAX_DEPTH));
            }
            path => path?,
        };
        if depth(path.as_bytes()) > MAX_DEPTH {
            return Err(MergeProblem::TooDeep(MAX_DEPTH));
        }
        let (parents, last) = path.split();
        let parents = || parents.split(|&byte| byte == b'/').filter(|component| !component.is_empty());
        match classify(parents(), last)? {
            Meaning::Ignored => Ok(None),
            Meaning::Opaque => {
                let place = self.parent(parents())?;
                self.dir_mut(place.dir).opaque = true;
                Ok(None)
            }
            // What is gone has nothing below it.
            Meaning::Whiteout(_) if self.is_white(parents()) => Ok(None),
            Meaning::Whiteout(name) => {
                let place = self.parent(parents())?;
                self.white_out(place.dir, name)?;
                Ok(None)
            }
            Meaning::Member => {
                check_component(last)?;
                let place = self.parent(parents())?;
                let inode = self.inode_for(member, &place, last)?;
                Ok(Some(self.put(&place, last, inode)?))
            }
        }
    }

    fn add_root(&mut self, member: &Member) -> Result<(), MergeProblem> {
        if member.header.kind != Kind::Dir {
            return Err(MergeProblem::RootKind);
        }
        self.tree.set_meta(self.root, Meta::of(&member.header, self.keep))?;
        self.dir_mut(self.root).implied = false;
        Ok(())
    }

    /// The inode that a member names: a new one, or for a hard link that of its target.
    fn inode_for(&mut self, member: &Member, place: &Place, last: &[u8]) -> Result<InodeId, MergeProblem> {
        let header = &member.header;
        if let Kind::HardLink(target) = &header.kind {
            // What has this name now is removed before the link is made; a target below or behind it is gone as well.
            let before = self.dir_mut(place.dir).children.remove(last);
            let id = self.link_target(target)?;
            if let Some(before) = before {
                self.dir_mut(place.dir).children.insert(last.into(), before);
            }
            // A link's header carries metadata too, and the last one counts; only the mode of a symlink stays.
            let is_symlink = matches!(self.tree.inode(id).kind, InodeKind::Symlink(_));
            let before = self.tree.take_meta(id);
            let mut meta = Meta::of(header, self.keep);
            if is_symlink {
                meta.mode = before.mode;
            }
            meta.xattrs = united(before.xattrs, meta.xattrs)?;
            self.tree.set_meta(id, meta)?;
            return Ok(id);
        }
        let Some(kind) = InodeKind::of(header, member.content) else { return Err(MergeProblem::LinkTarget) };
        self.new_inode(Inode::new(self.layer, Meta::of(header, self.keep), kind))
    }

    fn link_target(&mut self, target: &[u8]) -> Result<InodeId, MergeProblem> {
        let target = RelPath::clean(target).map_err(|_| MergeProblem::LinkTarget)?;
        let (parents, name) = target.split();
        let parents = parents.split(|&byte| byte == b'/').filter(|component| !component.is_empty());
        let found = self.walk(parents, false).map_err(|_| MergeProblem::LinkTarget)?;
        match self.dir(found.dir).children.get(name).map(|name| name.dentry) {
            Some(Dentry::Inode(id)) if self.tree.inode(id).is_dir() => Err(MergeProblem::LinkToDirectory),
            Some(Dentry::Inode(id)) => Ok(id),
            Some(Dentry::Whiteout) | None => Err(MergeProblem::LinkTarget),
        }
    }

    /// Puts an inode at a name: two directories become one, anything else replaces what was there. Gives the inode that
    /// is there now.
    fn put(&mut self, place: &Place, name: &[u8], id: InodeId) -> Result<InodeId, MergeProblem> {
        let before = self.dir(place.dir).children.get(name).copied();
        if place.literal && before.is_some_and(|name| name.stated) {
            return Err(MergeProblem::Duplicate);
        }
        let stated = place.literal || before.is_some_and(|name| name.stated);
        let white = before.is_some_and(|name| name.white);
        if self.tree.inode(id).is_dir() {
            match before.map(|name| name.dentry) {
                Some(Dentry::Inode(known)) if self.tree.inode(known).is_dir() => {
                    self.tree.move_meta(id, known);
                    self.tree.discard(id);
                    self.dir_mut(known).implied = false;
                    if let Some(name) = self.dir_mut(place.dir).children.get_mut(name) {
                        name.stated = stated;
                    }
                    return Ok(known);
                }
                _ => self.dir_mut(id).opaque = white,
            }
        }
        self.tree.set_name(place.dir, name, Name { dentry: Dentry::Inode(id), stated, white })?;
        Ok(id)
    }

    /// Marks a name as gone in lower layers; what this layer has there stays.
    fn white_out(&mut self, dir: InodeId, name: &[u8]) -> Result<(), MergeProblem> {
        match self.dir_mut(dir).children.get_mut(name) {
            Some(known) => {
                known.white = true;
                if let Dentry::Inode(id) = known.dentry
                    && self.tree.inode(id).is_dir()
                {
                    self.dir_mut(id).opaque = true;
                }
            }
            None => {
                let whiteout = Name { dentry: Dentry::Whiteout, stated: false, white: true };
                self.tree.set_name(dir, name, whiteout)?;
            }
        }
        Ok(())
    }

    /// Whether a whiteout of this layer stands on the way, with nothing in its place.
    fn is_white<'n>(&self, components: impl Iterator<Item = &'n [u8]>) -> bool {
        let mut dir = self.root;
        for component in components {
            match self.dir(dir).children.get(component).map(|name| name.dentry) {
                Some(Dentry::Inode(id)) => dir = id,
                Some(Dentry::Whiteout) => return true,
                None => return false,
            }
        }
        false
    }

    /// The directory that holds a member, made where it is missing.
    fn parent<'n>(&mut self, components: impl Iterator<Item = &'n [u8]>) -> Result<Place, MergeProblem> {
        self.walk(components, true)
    }

    /// Walks down from the root, following symlinks of this layer.
    fn walk<'n>(&mut self, components: impl Iterator<Item = &'n [u8]>, create: bool) -> Result<Place, MergeProblem> {
        let mut stack = vec![self.root];
        let mut links = 0;
        for component in components {
            check_component(component)?;
            if let Some(target) = self.enter(&mut stack, component, create)? {
                self.follow(target, &mut stack, &mut links)?;
            }
        }
        let dir = stack.last().copied().unwrap_or(self.root);
        Ok(Place { dir, literal: links == 0 })
    }

    /// Goes where a link leads, and where links on the way there lead. Nothing is made there.
    fn follow(&mut self, target: Box<[u8]>, stack: &mut Vec<InodeId>, links: &mut usize) -> Result<(), MergeProblem> {
        // Targets that are being walked, each with what is done of it, the innermost last.
        let mut targets = vec![(target, 0)];
        loop {
            count_link(links)?;
            if targets.last().is_some_and(|(target, _)| target.starts_with(b"/")) {
                stack.truncate(1);
            }
            let next = loop {
                let Some((target, done)) = targets.last_mut() else { return Ok(()) };
                let Some(component) = next_component(target, done) else {
                    targets.pop();
                    continue;
                };
                self.tree.count_link_step(MAX_LINK_STEPS)?;
                if component == b".." {
                    if stack.len() > 1 {
                        stack.pop();
                    }
                    continue;
                }
                if let Some(next) = self.enter(stack, component, false).map_err(dangling)? {
                    break next;
                }
            };
            targets.push((next, 0));
        }
    }

    /// Goes down by one component; gives the target if it is a symlink.
    fn enter(
        &mut self,
        stack: &mut Vec<InodeId>,
        component: &[u8],
        create: bool,
    ) -> Result<Option<Box<[u8]>>, MergeProblem> {
        let current = stack.last().copied().unwrap_or(self.root);
        if stack.len() > MAX_DEPTH {
            return Err(MergeProblem::TooDeep(MAX_DEPTH));
        }
        let name = self.dir(current).children.get(component).copied();
        match name.map(|name| name.dentry) {
            Some(Dentry::Inode(id)) => match &self.tree.inode(id).kind {
                InodeKind::Dir(_) => {
                    stack.push(id);
                    Ok(None)
                }
                InodeKind::Symlink(target) => Ok(Some(target.clone())),
                _ => Err(MergeProblem::BelowNonDirectory),
            },
            missing if create => {
                let id = self.new_inode(Inode::implied_dir(self.layer))?;
                let white = missing == Some(Dentry::Whiteout);
                self.dir_mut(id).opaque = white;
                self.tree.set_name(current, component, Name { dentry: Dentry::Inode(id), stated: false, white })?;
                stack.push(id);
                Ok(None)
            }
            _ => Err(MergeProblem::Dangling),
        }
    }

    fn new_inode(&mut self, inode: Inode) -> Result<InodeId, MergeProblem> {
        if self.tree.is_full() {
            return Err(MergeProblem::TooMany(self.tree.max_inodes()));
        }
        Ok(self.tree.add(inode)?)
    }

    fn dir(&self, id: InodeId) -> &Dir {
        static EMPTY: Dir = Dir { children: std::collections::BTreeMap::new(), opaque: false, implied: true };
        match &self.tree.inode(id).kind {
            InodeKind::Dir(dir) => dir,
            _ => &EMPTY,
        }
    }

    #[allow(clippy::unreachable, reason = "only ids of directories are walked")]
    fn dir_mut(&mut self, id: InodeId) -> &mut Dir {
        match &mut self.tree.inode_mut(id).kind {
            InodeKind::Dir(dir) => dir,
            _ => unreachable!("only ids of directories are walked"),
        }
    }
}

fn depth(path: &[u8]) -> usize {
    path.split(|&byte| byte == b'/').filter(|component| !component.is_empty()).count()
}

fn check_component(component: &[u8]) -> Result<(), MergeProblem> {
    match component.len() {
        length if length > MAX_COMPONENT => Err(MergeProblem::LongComponent(length)),
        _ => Ok(()),
    }
}

/// Counts one more link on the way to a member.
fn count_link(links: &mut usize) -> Result<(), MergeProblem> {
    *links += 1;
    if *links > MAX_LINKS { Err(MergeProblem::LinkLoop(MAX_LINKS)) } else { Ok(()) }
}

/// The next component of a link's target that means something, from byte `done` on.
fn next_component<'t>(target: &'t [u8], done: &mut usize) -> Option<&'t [u8]> {
    loop {
        let rest = target.get(*done..).filter(|rest| !rest.is_empty())?;
        let component = rest.split(|&byte| byte == b'/').next()?;
        *done += component.len() + 1;
        if !matches!(component, b"" | b".") {
            return Some(component);
        }
    }
}

/// All attributes of two lists, each sorted by names; of the same name that of the second list. There are no more in all
/// than one file can have.
fn united(before: Vec<Xattr>, new: Vec<Xattr>) -> Result<Vec<Xattr>, MergeProblem> {
    if before.is_empty() {
        return Ok(new);
    }
    let (mut before, mut new) = (before.into_iter().peekable(), new.into_iter().peekable());
    let mut united = Vec::with_capacity(before.len() + new.len());
    loop {
        let order = match (before.peek(), new.peek()) {
            (Some(old), Some(new)) => old.name.cmp(&new.name),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        match order {
            Ordering::Less => united.extend(before.next()),
            Ordering::Greater => united.extend(new.next()),
            Ordering::Equal => {
                before.next();
                united.extend(new.next());
            }
        }
    }
    if fits_list(&united) { Ok(united) } else { Err(MergeProblem::Attributes(MAX_XATTR_LIST)) }
}

fn dangling(problem: MergeProblem) -> MergeProblem {
    match problem {
        MergeProblem::BelowNonDirectory | MergeProblem::TooDeep(_) => problem,
        _ => MergeProblem::Dangling,
    }
}
