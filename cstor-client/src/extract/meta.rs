//! Which metadata a result gets, and in which order the kernel lets it be set.
//!
//! It comes from the headers, never from the files of the store, whose owners and attributes may be
//! mapped (`security.capability` reads as another version there).

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown, fsetxattr, futimens, utimensat,
};
use rustix::io::Errno;

use super::report::Losses;
use crate::base::host_xattrs::belongs_to_host;
use crate::tar::Xattr;
use crate::tree::Meta;

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// What may be set, which depends on who extracts and on the options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// Set owners, and what only their owner or root may set.
    pub(super) owners: bool,
    pub(super) set_id: bool,
    pub(super) root: bool,
    /// The bits that the kernel takes away at creation.
    pub(super) umask: u32,
    pub(super) own_ids: (u32, u32),
}

/// What kind of inode an attribute is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    FileOrDir,
    /// Symlinks and special files take no `user.` attributes (xattr(7)).
    Other,
}

/// What becomes of an extended attribute.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    /// Set after the mode, which it would otherwise lose to.
    KeepAcl,
    /// Of no use to any other system, or dangerous there; not counted.
    Drop,
    LoseCapability,
    Lose,
}

impl Policy {
    pub(super) fn fate(&self, name: &[u8], target: Target) -> Fate {
        if belongs_to_host(name) {
            return Fate::Drop;
        }
        match name {
            b"security.capability" if self.root && self.owners => Fate::Keep,
            b"security.capability" => Fate::LoseCapability,
            b"system.posix_acl_access" | b"system.posix_acl_default" if self.root && self.owners => Fate::KeepAcl,
            _ if name.starts_with(b"user.") && target == Target::FileOrDir => Fate::Keep,
            _ => Fate::Lose,
        }
    }

    /// Whether a result can have an attribute, on a file or directory.
    pub(super) fn keeps(&self, name: &[u8]) -> bool {
        matches!(self.fate(name, Target::FileOrDir), Fate::Keep | Fate::KeepAcl)
    }

    /// The mode that an inode gets.
    pub(super) fn mode(&self, meta: &Meta) -> u32 {
        if self.set_id { meta.mode } else { meta.mode & !SET_ID }
    }

    /// Counts what of an inode's metadata is lost.
    pub(super) fn count_losses(&self, meta: &Meta, target: Target, losses: &mut Losses) {
        if target == Target::FileOrDir && self.mode(meta) != meta.mode {
            losses.set_id += 1;
        }
        for xattr in &meta.xattrs {
            match self.fate(&xattr.name, target) {
                Fate::LoseCapability => losses.capabilities += 1,
                Fate::Lose => losses.xattrs += 1,
                Fate::Keep | Fate::KeepAcl | Fate::Drop => {}
            }
        }
    }

    /// The mode to create a file with, and whether it must be changed afterwards.
    pub(super) fn creation_mode(&self, meta: &Meta) -> (Mode, bool) {
        let mode = self.mode(meta);
        if !meta.xattrs.is_empty() {
            // A file without write permission takes no attributes, even through a descriptor opened for writing.
            return (Mode::from(0o600), true);
        }
        // Cloning and chown take set-id bits away; the umask takes others.
        (Mode::from(mode & 0o777), mode & (!0o777 | self.umask) != 0)
    }

    /// Sets everything on an open file or directory, except contents. The order matters: chown clears
    /// set-id bits and capabilities, the final mode may forbid attributes, and all of it changes times.
    pub(super) fn apply(&self, fd: BorrowedFd<'_>, meta: &Meta, set_mode: bool) -> Result<(), (&'static str, Errno)> {
        if let Some((uid, gid)) = self.owner(meta) {
            fchown(fd, Some(uid), Some(gid)).map_err(|errno| ("set the owner", errno))?;
        }
        let set = |xattr: &Xattr| {
            fsetxattr(fd, xattr.name.as_slice(), &xattr.value, XattrFlags::empty())
                .map_err(|errno| ("set an extended attribute", errno))
        };
        let of_fate =
            |fate: Fate| meta.xattrs.iter().filter(move |xattr| self.fate(&xattr.name, Target::FileOrDir) == fate);
        of_fate(Fate::Keep).try_for_each(set)?;
        if set_mode {
            fchmod(fd, Mode::from(self.mode(meta))).map_err(|errno| ("set the mode", errno))?;
        }
        of_fate(Fate::KeepAcl).try_for_each(set)?;
        futimens(fd, &times(meta)).map_err(|errno| ("set the times", errno))
    }

    /// Sets owner and times of what cannot be opened: a symlink or special file.
    pub(super) fn apply_at(&self, dir: impl AsFd, name: &[u8], meta: &Meta) -> Result<(), (&'static str, Errno)> {
        if let Some((uid, gid)) = self.owner(meta) {
            chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| ("set the owner", errno))?;
        }
        utimensat(&dir, name, &times(meta), AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| ("set the times", errno))
    }

    /// The owner to set, unless it is this process's already. The plan has refused ids that do not fit.
    fn owner(&self, meta: &Meta) -> Option<(Uid, Gid)> {
        let ids = (u32::try_from(meta.uid).ok()?, u32::try_from(meta.gid).ok()?);
        (self.owners && ids != self.own_ids).then(|| (Uid::from_raw(ids.0), Gid::from_raw(ids.1)))
    }
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime.seconds, tv_nsec: meta.mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_kept_dropped_or_counted() {
        let user = Policy { owners: false, set_id: false, root: false, umask: 0o22, own_ids: (1000, 1000) };
        let root = Policy { owners: true, set_id: true, root: true, umask: 0o22, own_ids: (0, 0) };
        let table: &[(&str, Target, Fate, Fate)] = &[
            ("user.note", Target::FileOrDir, Fate::Keep, Fate::Keep),
            ("user.note", Target::Other, Fate::Lose, Fate::Lose),
            ("user.overlay.opaque", Target::FileOrDir, Fate::Drop, Fate::Drop),
            ("trusted.overlay.redirect", Target::FileOrDir, Fate::Drop, Fate::Drop),
            ("user.fuseoverlayfs.override_stat", Target::FileOrDir, Fate::Drop, Fate::Drop),
            ("user.containers.override_stat", Target::FileOrDir, Fate::Drop, Fate::Drop),
            ("user.virtfs.mode", Target::FileOrDir, Fate::Drop, Fate::Drop),
            ("security.capability", Target::FileOrDir, Fate::LoseCapability, Fate::Keep),
            ("security.selinux", Target::FileOrDir, Fate::Drop, Fate::Drop),
            ("security.other", Target::FileOrDir, Fate::Lose, Fate::Lose),
            ("trusted.foo", Target::FileOrDir, Fate::Lose, Fate::Lose),
            ("system.posix_acl_access", Target::FileOrDir, Fate::Lose, Fate::KeepAcl),
        ];
        for (name, target, by_user, by_root) in table {
            assert_eq!(user.fate(name.as_bytes(), *target), *by_user, "{name}");
            assert_eq!(root.fate(name.as_bytes(), *target), *by_root, "{name}");
        }
    }

    #[test]
    fn modes_are_set_at_creation_where_the_kernel_lets_them() {
        let user = Policy { owners: false, set_id: false, root: false, umask: 0o22, own_ids: (1000, 1000) };
        let table = [(0o644, 0o644, false), (0o666, 0o666, true), (0o4755, 0o755, false), (0o1644, 0o644, true)];
        for (mode, at_creation, later) in table {
            let meta = Meta { mode, ..Meta::default() };
            assert_eq!(user.creation_mode(&meta), (Mode::from(at_creation), later), "{mode:o}");
        }
        let kept = Policy { set_id: true, ..user };
        assert_eq!(kept.creation_mode(&Meta { mode: 0o4755, ..Meta::default() }), (Mode::from(0o755), true));
    }
}
