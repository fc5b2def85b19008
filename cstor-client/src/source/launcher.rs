//! Which executable becomes the helper, and which program carries it into the user namespace.
//!
//! The only place where a process is started.
#![allow(clippy::disallowed_methods, reason = "this is the place where the helper is started")]

use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::process::{getegid, geteuid, getgid, getpid, getuid};
use rustix::thread::gettid;

use super::SourceError;
use crate::proxy;

/// The argument by which a program that embeds the library recognises that it is to be the helper.
/// An environment variable would turn every such program into one that inherits it.
pub(crate) const HELPER_MARK: &str = "--cstor-userns-helper";

/// Where packages put the helper, if they fixed it when they built cstor.
const BUILT_IN_DIR: Option<&str> = option_env!("CSTOR_LIBEXECDIR");

/// What is to be run as the helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Executable {
    /// `cstor-helper`.
    Separate(PathBuf),
    /// The running program itself, which called `init_if_helper`.
    Myself(PathBuf),
}

/// How the namespace is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Launcher {
    /// `podman unshare`.
    Podman,
    /// Not at all: root, or inside the namespace already.
    None,
}

impl Launcher {
    pub(super) fn for_this_process() -> Launcher {
        if geteuid().is_root() { Launcher::None } else { Launcher::Podman }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Launcher::Podman => "podman",
            Launcher::None => "cstor-helper",
        }
    }

    /// Starts the helper with `socket` as standard input.
    ///
    /// PDEATHSIG comes when the thread ends that forked (prctl(2), PR_SET_PDEATHSIG), not the process. A caller's
    /// thread may be one of many that end before the store is closed, so unless it is the main one a thread of its
    /// own starts the helper, and stays until the second result is dropped.
    pub(super) fn start(
        self,
        executable: &Executable,
        socket: OwnedFd,
    ) -> Result<(Child, Option<Sender<()>>), SourceError> {
        let (Executable::Separate(path) | Executable::Myself(path)) = executable;
        let mut command = match self {
            Launcher::Podman => {
                let mut command = Command::new("podman");
                command.arg("unshare").arg(path);
                command
            }
            Launcher::None => Command::new(path),
        };
        // cstor-helper has no use for it; any other program recognises what it was taken for.
        command.arg(HELPER_MARK);
        // A process group of its own, so that Ctrl-C at a terminal reaches only the client.
        command.process_group(0).current_dir("/");
        command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::piped());
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => SourceError::NoLauncher { launcher: self.name() },
            _ => SourceError::Spawn { launcher: self.name(), source },
        };
        if gettid() == getpid() {
            return Ok((command.spawn().map_err(failed)?, None));
        }
        let (started, child) = channel();
        let (kept, until_dropped) = channel::<()>();
        let parent = move || {
            let child = command.spawn();
            // It has the helper's end of the socket: while that is open here, the end of the helper is not seen.
            drop(command);
            if started.send(child).is_ok() {
                until_dropped.recv().unwrap_or_default();
            }
        };
        thread::Builder::new().name("helper's parent".to_owned()).spawn(parent).map_err(failed)?;
        let child = child.recv().map_err(|_| failed(io::ErrorKind::BrokenPipe.into()))?.map_err(failed)?;
        Ok((child, Some(kept)))
    }
}

impl Executable {
    /// The one to run: the program itself where it is prepared, else `cstor-helper` from `CSTOR_HELPER`,
    /// from beside the executable, from `../libexec/cstor`, or from where it was built for.
    pub(crate) fn find() -> Result<Executable, SourceError> {
        let own = env::current_exe().map_err(|source| SourceError::Spawn { launcher: "cstor-helper", source })?;
        if proxy::is_prepared()? {
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
}

/// Ignored where the rights of this process are not those of whoever set the variable.
fn named_by_user() -> Option<PathBuf> {
    let same_rights = getuid() == geteuid() && getgid() == getegid();
    env::var_os("CSTOR_HELPER").filter(|path| same_rights && !path.is_empty()).map(PathBuf::from)
}

/// The path, if there is a file that not everybody may replace.
fn check(path: &Path) -> Result<Option<PathBuf>, SourceError> {
    let Ok(fd) = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { return Ok(None) };
    match fstat(&fd) {
        Ok(stat) if stat.st_mode & 0o002 != 0 => Err(SourceError::UnsafeHelper { path: path.into() }),
        Ok(_) => Ok(Some(path.into())),
        Err(_) => Ok(None),
    }
}
