//! Ambient authority: everything that this process does by a path of its own, not beneath a descriptor that it was given.
//!
//! Nothing of an image or a layer is ever named so. What is: directories that the user names (roots of stores, the
//! directory above a destination), configuration files, and what the kernel says in /proc. `.clippy.toml` forbids
//! `rustix::fs::open` elsewhere, and `tests/tests/project/floors.rs` the use of `CWD`.
#![allow(clippy::disallowed_methods, reason = "this is the place")]

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::path::Arg;

/// Opens a path.
pub(crate) fn open(path: impl Arg, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, mode)
}

/// Looks at a path.
pub(crate) fn stat(path: impl Arg, flags: AtFlags) -> Result<Stat, Errno> {
    rustix::fs::statat(CWD, path, flags)
}

/// The target of a link of /proc.
pub(crate) fn read_link(path: impl Arg) -> Result<std::ffi::CString, Errno> {
    rustix::fs::readlinkat(CWD, path, Vec::new())
}

/// Changes the mode of a file that is open with `O_PATH`, through its link in /proc.
pub(crate) fn chmod(path: impl Arg, mode: Mode) -> Result<(), Errno> {
    rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())
}

/// Gives a file that has no name yet one in a directory, through its link in /proc (open(2), `O_TMPFILE`).
pub(crate) fn link(own: impl Arg, directory: impl AsFd, name: impl Arg) -> Result<(), Errno> {
    rustix::fs::linkat(CWD, own, directory, name, AtFlags::SYMLINK_FOLLOW)
}

/// A line of /proc/self/status: what follows `key` and a colon.
pub(crate) fn status(key: &str) -> Option<String> {
    let mut status = [0; 4096];
    let file = open("/proc/self/status", OFlags::RDONLY, Mode::empty()).ok()?;
    let length = rustix::io::read(&file, &mut status).ok()?;
    let text = std::str::from_utf8(status.get(..length)?).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}
