//! What this process can see of the conditions for a user namespace, for naming a cause and for `doctor`.
//!
//! It reads the kernel's switches and looks at two programs. It starts nothing and decides nothing.

use std::env;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, getxattr};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities, no_new_privs};

use super::subids::{self, Ids};
use crate::base::ambient;
use crate::base::small_file::read_small;

/// The two programs that write id maps: set-uid root, or with file capabilities.
pub(crate) const MAPPERS: [&str; 2] = ["newuidmap", "newgidmap"];

/// A program that must have rights of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mapper {
    /// Not on PATH.
    Missing(&'static str),
    /// There, but neither set-uid root nor with file capabilities, or on a file system mounted nosuid.
    Powerless(PathBuf),
    /// As it must be.
    Able(PathBuf),
}

/// The conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `no_new_privs` of this thread, which every child inherits: set-uid programs get no rights.
    pub(crate) no_new_privs: bool,
    /// The switch that forbids user namespaces, if one does.
    pub(crate) forbidden_by: Option<&'static str>,
    /// Whether AppArmor takes the capabilities in them from programs without a profile.
    pub(crate) apparmor: bool,
    pub(crate) mappers: [Mapper; 2],
    /// Which of the two files has no range for this user.
    pub(crate) without_range: Option<&'static str>,
}

impl Seen {
    pub(crate) fn now() -> Seen {
        Seen {
            no_new_privs: no_new_privs().unwrap_or(false),
            forbidden_by: forbidden_by(),
            apparmor: restricted_by_apparmor(),
            mappers: MAPPERS.map(mapper),
            // What cannot be read or means nothing is another error, and is no reason to name this one.
            without_range: [Ids::User, Ids::Group]
                .into_iter()
                .find(|ids| subids::own(*ids).is_ok_and(|ranges| ranges.is_empty()))
                .map(Ids::file),
        }
    }
}

/// Whether the effective capabilities of this thread reach every file.
pub(crate) fn reads_everything() -> bool {
    geteuid().is_root() || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_READ_SEARCH))
}

/// Whether this process is in a user namespace: the first one maps every id to itself (user_namespaces(7)).
pub(crate) fn in_a_namespace() -> bool {
    let map = read_small(Path::new("/proc/self/uid_map")).ok().flatten().unwrap_or_default();
    let fields: Vec<&[u8]> = map.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).collect();
    fields != [b"0".as_slice(), b"0", b"4294967295"]
}

/// user_namespaces(7); the second is Debian's.
fn forbidden_by() -> Option<&'static str> {
    [
        ("/proc/sys/user/max_user_namespaces", "user.max_user_namespaces"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "kernel.unprivileged_userns_clone"),
    ]
    .into_iter()
    .find(|(path, _)| number(path) == Some(0))
    .map(|(_, switch)| switch)
}

/// Ubuntu's, since 23.10.
pub(crate) fn restricted_by_apparmor() -> bool {
    number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_some_and(|value| value != 0)
}

fn number(path: &str) -> Option<u64> {
    let text = read_small(Path::new(path)).ok()??;
    std::str::from_utf8(&text).ok()?.trim().parse().ok()
}

/// The first program of this name on PATH, as a shell finds it.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let places = env::var_os("PATH")?;
    env::split_paths(&places).map(|place| place.join(name)).find(|path| {
        let opened = ambient::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        opened.and_then(fstat).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o111 != 0
        })
    })
}

fn mapper(name: &'static str) -> Mapper {
    let Some(path) = on_path(name) else { return Mapper::Missing(name) };
    let able = || -> Result<bool, Errno> {
        let file = ambient::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&file)?;
        if fstatvfs(&file)?.f_flag.contains(StatVfsMountFlags::NOSUID) {
            return Ok(false);
        }
        let set_uid = stat.st_mode & 0o4000 != 0 && stat.st_uid == 0;
        // An xattr is not to be had through O_PATH.
        Ok(set_uid || getxattr(&path, "security.capability", &mut [0_u8; 64][..]).is_ok())
    };
    // What cannot be looked at is not blamed.
    if able().unwrap_or(true) { Mapper::Able(path) } else { Mapper::Powerless(path) }
}
