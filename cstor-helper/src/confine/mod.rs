//! What the helper gives up, in the order in which the kernel lets it.
//!
//! Before the first byte: inherited descriptors, the session, the working directory. After `Hello`, which
//! brings the roots: limits, capabilities, the way back to privileges.

mod caps;
mod limits;

use cstor_proto::{Confinement, Enforced};
use rustix::fs::{Dir, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Signal, chdir, set_dumpable_behavior, set_parent_process_death_signal, setsid, umask,
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

/// Drops every privilege but reading, and reports what holds now.
pub(crate) fn confine() -> Result<Confinement, Exit> {
    limits::lower().map_err(|_| Exit::Confinement)?;
    caps::keep_dac_read_search().map_err(|_| Exit::Confinement)?;
    // An extra beside end-of-file, which is what normally ends the helper: the parent is the launcher.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|_| Exit::Confinement)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|_| Exit::Confinement)?;
    set_no_new_privs(true).map_err(|_| Exit::Confinement)?;
    report().map_err(|_| Exit::Confinement)
}

fn report() -> Result<Confinement, Errno> {
    let (effective, regainable) = caps::held()?;
    Ok(Confinement {
        effective,
        regainable,
        no_new_privs: rustix::thread::no_new_privs()?,
        nobody: false,
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
