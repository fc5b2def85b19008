//! How the helper gets into the user namespace.
//!
//! The only place where a process is started, an image proxy too. Which executable it is, is decided in `executable.rs`; how it is spoken
//! to, in `process.rs`.
#![allow(clippy::disallowed_methods, reason = "this is the place where programs are started")]

use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getegid, geteuid, kill_process_group};

use super::SourceError;
use super::executable::Executable;
use super::options::Launcher;
use super::seen;
use super::subids::{self, Ids, Range};
use crate::base::ambient;
use crate::base::interrupt::{Interrupt, Interrupted};

/// The argument by which a program that embeds the library recognises that it is to be the helper.
/// An environment variable would turn every such program into one that inherits it.
pub(crate) const HELPER_MARK: &str = "--cstor-userns-helper";

/// One program and one system call, or one write to /proc, each of which takes a millisecond.
const STEP_PATIENCE: Duration = Duration::from_secs(5);
const STEP_PAUSE: Duration = Duration::from_micros(200);
/// What is kept of the output of newuidmap.
const MAX_OUTPUT: u64 = 4096;

/// One way into the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `podman unshare`.
    Podman,
    /// `buildah unshare`.
    Buildah,
    /// The helper unshares, newuidmap and newgidmap map.
    NewUidMap,
    /// Not at all: this process has the rights, and passes them on.
    None,
}

impl Way {
    /// The ways to try, the first one first.
    pub(crate) fn of(launcher: Launcher) -> &'static [Way] {
        match launcher {
            Launcher::Auto if geteuid().is_root() => &[Way::None],
            // A capability that is not in the ambient set does not outlive exec, so this may fail.
            Launcher::Auto if seen::reads_everything() => &[Way::None, Way::Podman],
            Launcher::Auto => &[Way::Podman, Way::NewUidMap],
            Launcher::Podman => &[Way::Podman],
            Launcher::Buildah => &[Way::Buildah],
            Launcher::NewUidMap => &[Way::NewUidMap],
            Launcher::None => &[Way::None],
        }
    }

    /// The program that does it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Podman => "podman",
            Way::Buildah => "buildah",
            Way::NewUidMap => "newuidmap",
            Way::None => "cstor-helper",
        }
    }

    /// The same for people, who do not know the helper as its own launcher.
    pub(crate) fn described(self) -> &'static str {
        if self == Way::None { "no launcher" } else { self.name() }
    }

    /// Starts the helper with `socket` as standard input. It waits for `Hello` then, or for its launcher.
    pub(in crate::access) fn start(
        self,
        executable: &Executable,
        socket: OwnedFd,
        interrupt: &Interrupt,
    ) -> Result<Child, SourceError> {
        let path = executable.path();
        let mut command = match self {
            Way::Podman | Way::Buildah => {
                let mut command = Command::new(self.name());
                command.arg("unshare").arg(path).arg(HELPER_MARK);
                command
            }
            Way::NewUidMap | Way::None => {
                let mut command = Command::new(path);
                command.arg(HELPER_MARK);
                command
            }
        };
        // Looked for before anything is started, so that what is missing is said at once.
        let maps = match self {
            Way::NewUidMap => Some((ranges(Ids::User)?, ranges(Ids::Group)?)),
            _ => None,
        };
        command.args(maps.as_ref().map(|_| cstor_helper::UNSHARE));
        // A process group of its own: Ctrl-C at a terminal reaches only the client, and the client can end all of it.
        command.process_group(0).current_dir("/");
        command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| self.not_started(source))?;
        if let Some((users, groups)) = maps {
            let mapped = await_namespace(&mut child, interrupt).and_then(|()| {
                write_map("newuidmap", child.id(), geteuid().as_raw(), &users, interrupt)?;
                write_map("newgidmap", child.id(), getegid().as_raw(), &groups, interrupt)
            });
            if let Err(error) = mapped {
                kill(&mut child);
                return Err(error);
            }
        }
        Ok(child)
    }

    fn not_started(self, source: std::io::Error) -> SourceError {
        match source.kind() {
            ErrorKind::NotFound => SourceError::NoLauncher { launcher: self.name() },
            _ => SourceError::Spawn { launcher: self.name(), source },
        }
    }
}

/// Starts another program with `socket` as standard input, found as the shell finds it. Its arguments may be paths, so it
/// stays in this directory.
#[cfg(feature = "jsonrpc")]
pub(in crate::access) fn start_program(words: &[String], socket: OwnedFd) -> std::io::Result<Child> {
    let Some((program, arguments)) = words.split_first() else { return Err(ErrorKind::NotFound.into()) };
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn()
}

/// Makes reading give what is there, and no more.
pub(in crate::access) fn unblock(stderr: &ChildStderr) -> Result<(), Errno> {
    fcntl_setfl(stderr, fcntl_getfl(stderr)? | OFlags::NONBLOCK)
}

/// Ends the launcher and what it started, and nothing else.
pub(in crate::access) fn kill(child: &mut Child) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        // Its number may be another's by now.
        return;
    }
    if let Ok(pid) = i32::try_from(child.id())
        && let Some(group) = Pid::from_raw(pid)
    {
        // Not waited for yet, so the number still means this group; the helper may have a session of its own, which
        // end of file and the death of its parent end.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// The ranges that are to be mapped; without one the helper would reach nobody's files but the user's.
fn ranges(ids: Ids) -> Result<Vec<Range>, SourceError> {
    let ranges = subids::own(ids)?;
    if ranges.is_empty() {
        return Err(SourceError::NoSubordinateIds {
            user: subids::Owner::of_this_process().to_string(),
            file: ids.file(),
        });
    }
    Ok(ranges)
}

/// Waits until the helper has left this process's user namespace; there is nothing to map before.
fn await_namespace(child: &mut Child, interrupt: &Interrupt) -> Result<(), SourceError> {
    let namespace = |who: &str| ambient::read_link(Path::new("/proc").join(who).join("ns/user"));
    let launcher = Way::NewUidMap.name();
    let ours = namespace("self").map_err(|errno| SourceError::Spawn { launcher, source: errno.into() })?;
    let deadline = Instant::now() + STEP_PATIENCE;
    while Instant::now() < deadline {
        if namespace(&child.id().to_string()).is_ok_and(|theirs| theirs != ours) {
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(SourceError::Died { status: Some(status), stderr: output(child) });
        }
        interrupt.sleep(STEP_PAUSE)?;
    }
    Err(SourceError::NoNamespace { waited: STEP_PATIENCE })
}

/// Runs newuidmap or newgidmap: id 0 is this user, and all subordinate ids follow.
fn write_map(
    program: &'static str,
    pid: u32,
    own: u32,
    ranges: &[Range],
    interrupt: &Interrupt,
) -> Result<(), SourceError> {
    let mut command = Command::new(program);
    command.args([pid.to_string(), "0".to_owned(), own.to_string(), "1".to_owned()]);
    let mut inside: u32 = 1;
    for range in ranges {
        command.args([inside, range.first, range.count].map(|number| number.to_string()));
        inside = inside.saturating_add(range.count);
    }
    command.process_group(0).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| match source.kind() {
        ErrorKind::NotFound => SourceError::NoLauncher { launcher: program },
        _ => SourceError::Spawn { launcher: program, source },
    })?;
    match await_exit(&mut child, interrupt) {
        Ok(Some(status)) if status.success() => Ok(()),
        Err(interrupted) => {
            kill(&mut child);
            Err(interrupted.into())
        }
        Ok(status) => {
            kill(&mut child);
            Err(SourceError::Unmappable { program, status, stderr: output(&mut child) })
        }
    }
}

/// `None` if it does not end.
fn await_exit(child: &mut Child, interrupt: &Interrupt) -> Result<Option<ExitStatus>, Interrupted> {
    let deadline = Instant::now() + STEP_PATIENCE;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(Some(status));
        }
        interrupt.sleep(STEP_PAUSE)?;
    }
    Ok(None)
}

/// What a program printed that has ended. What it started may still hold the pipe, and is not waited for.
fn output(child: &mut Child) -> Vec<u8> {
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take()
        && unblock(&stderr).is_ok()
    {
        // Whatever could be read is better than nothing.
        let _ = stderr.take(MAX_OUTPUT).read_to_end(&mut said);
    }
    said
}
