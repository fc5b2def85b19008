//! What this process can see of the conditions for a user namespace, for naming a cause and for `doctor`.
//!
//! It reads the kernel's switches and looks at two programs. It starts nothing and decides nothing.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, getxattr, openat};
use rustix::io::{Errno, read};
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities, no_new_privs};

use super::subids::{self, Ids};

/// No file that is read here is larger: of the id files this is 30,000 lines, and of storage.conf a hundred times what
/// distributions have.
const MAX_FILE: usize = 1 << 20;

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
        let opened = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        opened.and_then(fstat).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o111 != 0
        })
    })
}

fn mapper(name: &'static str) -> Mapper {
    let Some(path) = on_path(name) else { return Mapper::Missing(name) };
    let able = || -> Result<bool, Errno> {
        let file = openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
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

/// A small file that is no regular one, or not small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unfit {
    #[error("not a regular file")]
    NotRegular,
    #[error("larger than {MAX_FILE} bytes")]
    TooLarge,
}

impl From<Unfit> for io::Error {
    fn from(unfit: Unfit) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, unfit)
    }
}

/// The bytes of a small regular file; `None` if there is no such file. What is found by a path from `/`, such as
/// configuration, is read here and nowhere else: a FIFO must not block, and /dev/zero not fill the memory.
pub(crate) fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        // A socket, or a device without a driver.
        Err(Errno::NXIO | Errno::NODEV) => return Err(Unfit::NotRegular.into()),
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Unfit::NotRegular.into());
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match read(&file, &mut buffer) {
            Ok(0) => return Ok(Some(bytes)),
            Ok(length) => bytes.extend(buffer.get(..length).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if bytes.len() > MAX_FILE {
            return Err(Unfit::TooLarge.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{ftruncate, mkdirat, mknodat, open, symlinkat};
    use std::os::unix::net::UnixListener;

    #[test]
    fn small_regular_files_are_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let create = |name: &str| open(at(name), OFlags::CREATE | OFlags::RDWR, Mode::from(0o600)).unwrap();
        rustix::io::write(create("text"), b"text").unwrap();
        create("empty");
        ftruncate(create("full"), MAX_FILE as u64).unwrap();
        ftruncate(create("larger"), MAX_FILE as u64 + 1).unwrap();
        ftruncate(create("huge"), 1 << 40).unwrap();
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
        mkdirat(CWD, at("dir"), Mode::from(0o700)).unwrap();
        symlinkat("/dev/zero", CWD, at("zero")).unwrap();
        symlinkat("loop", CWD, at("loop")).unwrap();
        symlinkat("text", CWD, at("link")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        let read = |name: &str| read_small(&at(name)).map_err(|error| error.to_string());
        let table = [
            ("text", Ok(Some(4))),
            ("link", Ok(Some(4))),
            ("empty", Ok(Some(0))),
            ("full", Ok(Some(MAX_FILE))),
            ("gone", Ok(None)),
            ("text/gone", Ok(None)),
            ("larger", Err("larger than 1048576 bytes")),
            ("huge", Err("larger than 1048576 bytes")),
            ("fifo", Err("not a regular file")),
            ("dir", Err("not a regular file")),
            ("zero", Err("not a regular file")),
            ("socket", Err("not a regular file")),
            ("loop", Err("Too many levels of symbolic links (os error 40)")),
        ];
        for (name, expected) in table {
            let found = read(name).map(|bytes| bytes.map(|bytes| bytes.len()));
            assert_eq!(found, expected.map_err(str::to_owned), "{name}");
        }
        // The kernel's own switches are regular files.
        assert!(read_small(Path::new("/proc/sys/kernel/osrelease")).unwrap().is_some());
    }
}
