//! A launcher, or another program, that was started: what it prints, and its end.
//!
//! What it prints is kept for people; how it ends decides nothing, since a launcher can end well when its helper was
//! killed.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStderr, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::SourceError;
use super::executable::Executable;
use super::launcher::{self, Way};
use crate::base::interrupt::{Hold, Interrupt};

/// What is kept of its error output.
const MAX_STDERR: usize = 4096;
/// What a program gets for ending by itself after an interrupt.
const LAST_PATIENCE: Duration = Duration::from_millis(100);
/// A pipe holds at most a mebibyte (/proc/sys/fs/pipe-max-size) that was printed before the end.
const MAX_LAST_READS: usize = (1 << 20) / MAX_STDERR;

/// A running launcher, with the helper or on the way to it.
#[derive(Debug)]
pub(crate) struct Started {
    child: Child,
    stderr: Option<ChildStderr>,
    said: VecDeque<u8>,
    ended: bool,
    /// It must end before this process does.
    _hold: Hold,
}

impl Started {
    pub(in crate::access) fn start(
        way: Way,
        executable: &Executable,
        socket: OwnedFd,
        interrupt: &Interrupt,
    ) -> Result<Started, SourceError> {
        let hold = interrupt.hold();
        let child = way.start(executable, socket, interrupt)?;
        Started::watch(child, hold).map_err(|errno| SourceError::Spawn { launcher: way.name(), source: errno.into() })
    }

    /// Starts a program that is no launcher with `socket` as its standard input.
    #[cfg(feature = "jsonrpc")]
    pub(crate) fn program(words: &[String], socket: OwnedFd, interrupt: &Interrupt) -> std::io::Result<Started> {
        let hold = interrupt.hold();
        Ok(Started::watch(launcher::start_program(words, socket)?, hold)?)
    }

    fn watch(mut child: Child, hold: Hold) -> Result<Started, Errno> {
        let stderr = child.stderr.take();
        let started = Started { child, stderr, said: VecDeque::new(), ended: false, _hold: hold };
        // On an error, dropping it ends it.
        started.stderr.as_ref().map_or(Ok(()), launcher::unblock)?;
        Ok(started)
    }

    /// What to watch for output; `None` once it is closed.
    pub(crate) fn stderr(&self) -> Option<BorrowedFd<'_>> {
        self.stderr.as_ref().map(AsFd::as_fd)
    }

    /// Keeps the end of what was printed, and says whether there was something; a launcher that prints without end is not
    /// waited for.
    pub(crate) fn read_stderr(&mut self) -> bool {
        let mut buffer = [0; MAX_STDERR];
        let Some(stderr) = &mut self.stderr else { return false };
        match stderr.read(&mut buffer) {
            Ok(0) => self.stderr = None,
            Ok(length) => {
                self.said.extend(buffer.get(..length).unwrap_or_default());
                let surplus = self.said.len().saturating_sub(MAX_STDERR);
                self.said.drain(..surplus);
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.stderr = None,
        }
        false
    }

    /// What was printed so far, or the end of it.
    pub(crate) fn said(&self) -> Vec<u8> {
        self.said.iter().copied().collect()
    }

    /// Waits for the launcher, which ends after the helper, and kills it if it does not, or if there is no time left for
    /// waiting. The socket must be closed.
    pub(crate) fn await_end(&mut self, patience: Duration, interrupt: &Interrupt) -> Option<ExitStatus> {
        let patience = if interrupt.is_raised() { patience.min(LAST_PATIENCE) } else { patience };
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_micros(200);
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.ended = true;
                self.read_rest();
                return Some(status);
            }
            // A full pipe would keep it from ending.
            self.read_stderr();
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        if !interrupt.is_raised() {
            tracing::warn!(pid = self.child.id(), "a program that was started does not end; killing it");
        }
        self.kill();
        None
    }

    /// Reads what is left after the end, but not for ever: another process may hold the pipe.
    fn read_rest(&mut self) {
        let mut reads = 0;
        while reads < MAX_LAST_READS && self.read_stderr() {
            reads += 1;
        }
    }

    /// Ends it and all of its process group at once.
    pub(crate) fn kill(&mut self) {
        if !self.ended {
            self.ended = true;
            launcher::kill(&mut self.child);
            self.read_rest();
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.kill();
    }
}
