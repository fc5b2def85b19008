//! Standard output for what can be long: without the buffer for lines that Rust puts before it, and without waiting for
//! a reader that does not read when the command is to stop.
#![allow(clippy::disallowed_methods, reason = "it opens standard output once more, through /proc")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cstor_client::interrupt::Interrupt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;

use crate::exit::Failure;

/// How long a wait goes on without looking whether to stop.
const SLICE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Standard output.
#[derive(Debug)]
pub(crate) struct Stdout {
    file: File,
    /// Set where writing does not block, so that waiting is done here.
    interrupt: Option<Interrupt>,
}

impl Stdout {
    /// Opens it anew if it is a pipe, which makes it one that does not block, for nobody but us.
    pub(crate) fn open(interrupt: Interrupt) -> Result<Stdout, Failure> {
        let inherited = io::stdout().as_fd().try_clone_to_owned()?;
        let is_pipe = fstat(&inherited).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        let reopened = is_pipe.then(reopen).and_then(Result::ok);
        Ok(match reopened {
            Some(pipe) => Stdout { file: pipe.into(), interrupt: Some(interrupt) },
            // Another user's pipe, or no pipe.
            None => Stdout { file: inherited.into(), interrupt: None },
        })
    }

    fn wait(&self, interrupt: &Interrupt) -> io::Result<()> {
        loop {
            interrupt.check().map_err(io::Error::other)?;
            let mut watched = [PollFd::new(&self.file, PollFlags::OUT)];
            match poll(&mut watched, Some(&SLICE)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn reopen() -> Result<OwnedFd, Errno> {
    open("/proc/self/fd/1", OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (self.file.write(bytes), &self.interrupt) {
                (Err(error), Some(interrupt)) if error.kind() == io::ErrorKind::WouldBlock => self.wait(interrupt)?,
                (written, _) => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Standard output as it was inherited, for what the kernel itself moves there.
pub(crate) struct Inherited(File);

impl Inherited {
    pub(crate) fn open() -> Result<Inherited, Failure> {
        Ok(Inherited(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }
}

impl AsFd for Inherited {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Write for Inherited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
