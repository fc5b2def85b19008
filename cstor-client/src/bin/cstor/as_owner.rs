//! `--as-owner`: root becomes the owner of a store, before anything of the store is opened, and cstor starts anew.
//!
//! An owner can lay links that lead anywhere, and root would follow them. So the owner's rights are taken, not watched:
//! what follows is an ordinary rootless run. A process that has changed its user may not look at itself in /proc, and
//! its environment is root's; hence the second start. Standard input, output and error stay, and with them the
//! terminal, as with su(1): the owner has the same rights over the process as over any other of theirs.
#![allow(clippy::disallowed_methods, reason = "the process replaces itself and starts none beside it")]

use std::env;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cstor_client::error::StoreError;
use cstor_client::{Escaped, Location};
use nix::unistd::{self, Uid, User};
use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, fstat, open, openat, openat2, stat};
use rustix::io::Errno;

use crate::args::Store;
use crate::exit::Failure;

/// What is kept of root's environment; what configures podman or cstor is the owner's affair.
const KEPT: [&str; 5] = ["PATH", "TERM", "NO_COLOR", "LANG", "LC_ALL"];
const FLAG: &str = "--as-owner";

/// Root could not become the owner.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AsOwnerError {
    #[error("{}: belongs to uid {owner}, and only root can become another user", Escaped(path.as_os_str().as_encoded_bytes()))]
    NotRoot { path: PathBuf, owner: u32 },
    #[error("{}: is not a directory, and --as-owner follows no symbolic link", Escaped(path.as_os_str().as_encoded_bytes()))]
    NoDirectory { path: PathBuf },
    #[error("{}: leads through a symbolic link to a store of root", Escaped(path.as_os_str().as_encoded_bytes()))]
    Linked { path: PathBuf },
    #[error("uid {owner}: owns the store, but is not in the user database")]
    Unknown { owner: u32 },
    #[error("uid {owner}: cannot become this user: {source}")]
    Become { owner: u32, source: io::Error },
    #[error("uid {owner}: cstor cannot be started again as this user: {source}")]
    Start { owner: u32, source: io::Error },
}

impl AsOwnerError {
    /// Exit code and advice.
    pub(crate) fn class(&self) -> (u8, &'static str) {
        match self {
            AsOwnerError::NotRoot { .. } => (2, "run as root or as that user"),
            AsOwnerError::Linked { .. } => (2, "name the directory without links, or leave --as-owner out"),
            AsOwnerError::NoDirectory { .. } => (2, "name the directory of the store itself"),
            AsOwnerError::Unknown { .. } => (6, "run as that uid, for example with setpriv(1)"),
            AsOwnerError::Become { .. } => (6, "run as that user"),
            AsOwnerError::Start { .. } => (1, "install cstor where that user can execute it"),
        }
    }
}

/// Returns if this process is the owner already; else cstor starts anew as the owner.
pub(crate) fn become_owner(store: &Store) -> Result<(), Failure> {
    let Some(root) = &store.root else { return Ok(()) };
    let owner = owner_of(root)?;
    let own = unistd::geteuid();
    if owner == own {
        return Ok(());
    }
    if !own.is_root() {
        return Err(AsOwnerError::NotRoot { path: root.clone(), owner: owner.as_raw() }.into());
    }
    let location = Location::new(root).storage_options(&store.storage_opt);
    for additional in store.imagestore.iter().chain(location.additional_stores()) {
        let other = owner_of(additional)?;
        if !other.is_root() && other != owner {
            return Err(StoreError::ForeignStore { path: additional.clone(), owner: other.as_raw() }.into());
        }
    }
    let failed = |errno: nix::Error| AsOwnerError::Become { owner: owner.as_raw(), source: errno.into() };
    let user = User::from_uid(owner).map_err(failed)?.ok_or(AsOwnerError::Unknown { owner: owner.as_raw() })?;
    tracing::debug!(user = user.name, uid = owner.as_raw(), "becoming the owner of the store");
    let environment = environment(&user);
    let name = CString::new(user.name).map_err(|_| AsOwnerError::Unknown { owner: owner.as_raw() })?;
    // Groups first: who is not root any more cannot change them.
    unistd::initgroups(&name, user.gid).map_err(failed)?;
    close_inherited().map_err(|source| AsOwnerError::Become { owner: owner.as_raw(), source })?;
    unistd::setresgid(user.gid, user.gid, user.gid).map_err(failed)?;
    unistd::setresuid(owner, owner, owner).map_err(failed)?;
    let (name, arguments) = arguments();
    // By its link in /proc, since the owner may not search the directories of its path.
    let mut command = Command::new("/proc/self/exe");
    let source = command.arg0(name).args(arguments).env_clear().envs(environment).exec();
    Err(AsOwnerError::Start { owner: owner.as_raw(), source }.into())
}

/// Looks at a directory without opening it for reading.
fn owner_of(path: &Path) -> Result<Uid, Failure> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = openat(CWD, path, flags, Mode::empty()).and_then(fstat);
    match found {
        // A link on the way could have led from somebody's directory to a store of root's own, which root would read.
        Ok(found) if found.st_uid == 0 => match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            Err(Errno::LOOP) => Err(AsOwnerError::Linked { path: path.into() }.into()),
            _ => Ok(Uid::from_raw(0)),
        },
        Ok(found) => Ok(Uid::from_raw(found.st_uid)),
        Err(Errno::NOENT) => Err(StoreError::NoStore { path: path.into() }.into()),
        Err(Errno::NOTDIR | Errno::LOOP) => Err(AsOwnerError::NoDirectory { path: path.into() }.into()),
        Err(errno) => Err(StoreError::Open { path: path.into(), source: errno.into() }.into()),
    }
}

/// As after a login of the owner.
fn environment(user: &User) -> Vec<(&'static str, OsString)> {
    let mut environment: Vec<_> = KEPT.into_iter().filter_map(|name| Some((name, env::var_os(name)?))).collect();
    environment.push(("HOME", user.dir.clone().into_os_string()));
    environment.extend(["USER", "LOGNAME"].map(|name| (name, OsString::from(&user.name))));
    let runtime = format!("/run/user/{}", user.uid);
    if stat(&runtime).is_ok_and(|found| found.st_uid == user.uid.as_raw()) {
        environment.push(("XDG_RUNTIME_DIR", runtime.into()));
    }
    environment
}

/// The command line without the flag, which is an ordinary argument after `--`.
fn arguments() -> (OsString, Vec<OsString>) {
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "cstor".into());
    let mut flags = true;
    let kept = arguments.filter(|argument| {
        flags &= argument != "--";
        !flags || argument != FLAG
    });
    (name, kept.collect())
}

/// What root's shell left open is not for the owner. cstor itself has opened nothing yet.
fn close_inherited() -> io::Result<()> {
    let listing = open("/proc/self/fd", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut numbers: Vec<i32> = Vec::new();
    for entry in Dir::new(listing)? {
        numbers.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
    }
    for number in numbers.into_iter().filter(|&number| number > 2) {
        // The listing's own is closed already.
        let _ = unistd::close(number);
    }
    Ok(())
}
