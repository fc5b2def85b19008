//! Which executable becomes the helper, and whether it may be trusted with what the namespace gives it.
//!
//! How it is started is in `launcher.rs`.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Stat, fstat};
use rustix::process::{getegid, geteuid, getgid, getuid};

use super::SourceError;
use super::embedded::is_prepared;
use super::seen::in_a_namespace;

use crate::base::ambient;

/// Where packages put the helper, if they fixed it when they built cstor.
const BUILT_IN_DIR: Option<&str> = option_env!("CSTOR_LIBEXECDIR");
/// What the kernel shows for an id that has none in this user namespace (/proc/sys/kernel/overflowuid).
const UNMAPPED: u32 = 65534;

/// What is to be run as the helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Executable {
    /// `cstor-helper`.
    Separate(PathBuf),
    /// The running program itself, which called `init_if_helper`.
    Myself(PathBuf),
}

/// Who could replace a helper executable by a program of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replaceable {
    /// Everybody.
    ByOthers,
    /// A group in which are more than its owner.
    ByGroup(u32),
    /// Its owner, who is neither root nor the user.
    ByOwner(u32),
}

impl fmt::Display for Replaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Replaceable::ByOthers => f.write_str("is writable by others"),
            Replaceable::ByGroup(gid) => write!(f, "is writable by the group {gid}"),
            Replaceable::ByOwner(uid) => write!(f, "belongs to the uid {uid}, who is neither root nor you"),
        }
    }
}

impl Executable {
    /// The one to run: the program itself where it is prepared, else `cstor-helper` from `CSTOR_HELPER`,
    /// from beside the executable, from `../libexec/cstor`, or from where it was built for.
    pub(crate) fn find() -> Result<Executable, SourceError> {
        let own = env::current_exe().map_err(|source| SourceError::Spawn { launcher: "cstor-helper", source })?;
        if is_prepared()? {
            return Ok(Executable::Myself(own));
        }
        let directory = own.parent().unwrap_or(Path::new("/"));
        if let Some(path) = named_by_user() {
            return check(&path)?.map(Executable::Separate).ok_or(SourceError::NamedHelper { path });
        }
        let places = [
            Some(directory.join("cstor-helper")),
            Some(directory.join("../libexec/cstor/cstor-helper")),
            BUILT_IN_DIR.map(|dir| Path::new(dir).join("cstor-helper")),
        ];
        for path in places.into_iter().flatten() {
            if let Some(found) = check(&path)? {
                return Ok(Executable::Separate(found));
            }
        }
        Err(SourceError::NoHelper { beside: own })
    }

    pub(crate) fn path(&self) -> &Path {
        let (Executable::Separate(path) | Executable::Myself(path)) = self;
        path
    }
}

/// Ignored where this process may have more rights than the user who set the variable.
fn named_by_user() -> Option<PathBuf> {
    let same_rights = getuid() == geteuid() && getgid() == getegid();
    let named = env::var_os("CSTOR_HELPER").filter(|path| same_rights && !path.is_empty()).map(PathBuf::from);
    // The helper is started in another directory.
    named.map(|path| std::path::absolute(&path).unwrap_or(path))
}

/// The path, if there is a file that nobody but root and the user may write to. Its directories are not looked at.
fn check(path: &Path) -> Result<Option<PathBuf>, SourceError> {
    let Ok(fd) = ambient::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { return Ok(None) };
    let Ok(stat) = fstat(&fd) else { return Ok(None) };
    match replaceable(&stat, geteuid().as_raw(), in_a_namespace, is_private) {
        Some(how) => Err(SourceError::UnsafeHelper { path: path.into(), how }),
        None => Ok(Some(path.into())),
    }
}

fn replaceable(
    stat: &Stat,
    user: u32,
    in_a_namespace: impl Fn() -> bool,
    is_private: impl Fn(u32, u32) -> bool,
) -> Option<Replaceable> {
    let (uid, gid) = (stat.st_uid, stat.st_gid);
    // In a namespace the host's root is shown so, and nobody there can act as an owner without an id.
    let trusted = uid == 0 || uid == user || uid == UNMAPPED && in_a_namespace();
    if !trusted {
        Some(Replaceable::ByOwner(uid))
    } else if stat.st_mode & 0o002 != 0 {
        Some(Replaceable::ByOthers)
    } else if stat.st_mode & 0o020 != 0 && gid != 0 && !is_private(uid, gid) {
        Some(Replaceable::ByGroup(gid))
    } else {
        None
    }
}

/// Whether the group is the owner's own, with nobody else in it, as distributions make one for each user.
fn is_private(uid: u32, gid: u32) -> bool {
    let owner = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    let group = nix::unistd::Group::from_gid(gid.into()).ok().flatten();
    owner.zip(group).is_some_and(|(owner, group)| {
        owner.gid.as_raw() == gid && group.name == owner.name && group.mem.iter().all(|member| *member == owner.name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_may_replace_the_helper() {
        let file = tempfile::tempfile().unwrap();
        let mut stat = fstat(&file).unwrap();
        const ME: u32 = 1000;
        let table = [
            (0o755, 0, 0, None),
            (0o755, ME, ME, None),
            (0o775, 0, 0, None),
            (0o775, ME, ME, None),
            (0o775, ME, 0, None),
            (0o775, ME, 50, Some(Replaceable::ByGroup(50))),
            (0o775, 0, 50, Some(Replaceable::ByGroup(50))),
            (0o755, 0, 50, None),
            (0o757, 0, 0, Some(Replaceable::ByOthers)),
            (0o777, ME, ME, Some(Replaceable::ByOthers)),
            (0o755, 1001, ME, Some(Replaceable::ByOwner(1001))),
            (0o755, UNMAPPED, UNMAPPED, Some(Replaceable::ByOwner(UNMAPPED))),
        ];
        let own_group = |uid, gid| uid == ME && gid == ME;
        for (mode, uid, gid, expected) in table {
            (stat.st_mode, stat.st_uid, stat.st_gid) = (0o100_000 | mode, uid, gid);
            assert_eq!(replaceable(&stat, ME, || false, own_group), expected, "{mode:o} {uid} {gid}");
        }
        (stat.st_mode, stat.st_uid, stat.st_gid) = (0o100_755, UNMAPPED, UNMAPPED);
        assert_eq!(replaceable(&stat, 0, || true, own_group), None, "the host's root, seen from a namespace");
        stat.st_mode = 0o100_775;
        assert_eq!(replaceable(&stat, 0, || true, own_group), Some(Replaceable::ByGroup(UNMAPPED)));
    }
}
