//! What the helper gives up, in the order in which the kernel lets it.
//!
//! Before the first byte: inherited descriptors, the session, the working directory. After `Hello`, which
//! brings the roots: limits, capabilities and ids, the way back to them, the rest of the file system
//! (Landlock), and all system calls but a few (seccomp).
#![allow(clippy::disallowed_methods, reason = "it reads /proc, before Landlock closes it")]

pub(crate) mod caps;
pub(crate) mod landlock;
pub(crate) mod limits;
pub(crate) mod seccomp;

use cstor_proto::{Channel, Confinement, Enforced};
use rustix::fd::OwnedFd;
use rustix::fs::{Dir, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{
    DumpableBehavior, Signal, chdir, getgid, getppid, getuid, set_dumpable_behavior, set_parent_process_death_signal,
    setsid, umask,
};
use rustix::thread::set_no_new_privs;

use crate::exit::Exit;

/// Capabilities and sandboxes belong to a thread: with a second one they would hold for half a process.
pub(crate) fn check_single_thread() -> Result<(), Exit> {
    match numbers_in("/proc/self/task") {
        Ok(tasks) if tasks.len() == 1 => Ok(()),
        Ok(_) => Err(Exit::Threads),
        Err(_) => Err(Exit::Confinement),
    }
}

/// Closes what was inherited and leaves the caller's session and directory.
///
/// Every descriptor of the caller that is not close-on-exec comes through `podman unshare`; one of a
/// host directory is all that CVE-2024-21626 needed.
pub(crate) fn leave_surroundings() -> Result<(), Exit> {
    let open_fds = numbers_in("/proc/self/fd").map_err(|_| Exit::Confinement)?;
    for fd in open_fds.into_iter().filter(|&fd| fd > 2) {
        // The descriptor of the listing itself is among them and closed already.
        let _ = nix::unistd::close(fd);
    }
    // Fails where the helper leads its process group already; then it has left it too.
    let _ = setsid();
    umask(Mode::from(0o077));
    chdir("/").map_err(|_| Exit::Confinement)
}

/// Enters a user namespace of its own, which gets its maps from outside.
pub(crate) fn enter_namespace() -> Result<(), Exit> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(|_| Exit::Namespace)
}

/// Whether that namespace is what the client said it would be when it sends `Hello`: with maps in which
/// the user is id 0. The capabilities are there since the namespace was made.
pub(crate) fn check_namespace() -> Result<(), Exit> {
    match (getuid().is_root(), getgid().is_root()) {
        (true, true) => Ok(()),
        _ => Err(Exit::Namespace),
    }
}

/// Drops every privilege but reading beneath the roots, and reports what holds now.
pub(crate) fn confine(channel: &Channel, roots: &[OwnedFd]) -> Result<Confinement, Exit> {
    limits::lower().map_err(|_| Exit::Confinement)?;
    caps::close_the_way_back().map_err(|_| Exit::Confinement)?;
    let nobody = caps::become_nobody().map_err(|_| Exit::Confinement)?;
    caps::keep_dac_read_search().map_err(|_| Exit::Confinement)?;
    end_with_launcher(channel)?;
    // /proc is out of reach behind Landlock, and the calls that read back are behind seccomp.
    let mut report = report(nobody).map_err(|_| Exit::Confinement)?;
    report.landlock = landlock::close_in(roots).map_err(|_| Exit::Confinement)?;
    report.seccomp = seccomp::install().map_err(|_| Exit::Confinement)?;
    Ok(report)
}

/// Ends with the launcher, can be traced by nobody, and gains no privileges. After the change of ids, which clears the
/// first two (prctl(2)).
pub(crate) fn end_with_launcher(channel: &Channel) -> Result<(), Exit> {
    // An extra beside end-of-file, which is what normally ends the helper. Not where the client started it without a
    // launcher: the signal comes already when that thread of the client ends.
    if !socket_peercred(channel).is_ok_and(|client| Some(client.pid) == getppid()) {
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|_| Exit::Confinement)?;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|_| Exit::Confinement)?;
    set_no_new_privs(true).map_err(|_| Exit::Confinement)
}

pub(crate) fn report(nobody: bool) -> Result<Confinement, Errno> {
    let (effective, regainable) = caps::held()?;
    Ok(Confinement {
        effective,
        regainable,
        no_new_privs: rustix::thread::no_new_privs()?,
        nobody,
        landlock: Enforced::Not,
        seccomp: false,
        mapped_uids: limits::mapped_ids("/proc/self/uid_map")?,
        mapped_gids: limits::mapped_ids("/proc/self/gid_map")?,
    })
}

/// The numeric names in a directory of /proc.
fn numbers_in(dir: &str) -> Result<Vec<i32>, Errno> {
    let fd = open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut numbers = Vec::new();
    for entry in Dir::new(fd)? {
        if let Some(number) = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok()) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}
