//! What a proxy sends through a pipe.
//!
//! The proxy closes its end only when `FinishPipe` was asked for, and answers that when it has written everything. So
//! the question goes out first, then the pipe is drained, and the end of the data is only believed once the answer came.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::{Errno, read};

use super::ProxyV1Error;
use super::conversation::Conversation;
use crate::base::digest::Digest;
use crate::base::hashed::Hashed;

/// Data that comes through a pipe. Its end is an error unless the proxy says that everything was sent.
#[derive(Debug)]
pub struct Pipe<'c> {
    conversation: &'c mut Conversation,
    /// `None` at the end, and after an error.
    fd: Option<OwnedFd>,
    method: &'static str,
}

impl<'c> Pipe<'c> {
    /// Takes over the pipe that came with the answer to `method`.
    pub(super) fn open(
        conversation: &'c mut Conversation,
        method: &'static str,
        id: u32,
        fds: Vec<OwnedFd>,
    ) -> Result<Pipe<'c>, ProxyV1Error> {
        let is_pipe = |fd: &OwnedFd| {
            let stat = fstat(fd)?;
            // Another reader, or no writer, must not make this one wait.
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
            Ok::<_, Errno>(FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
        };
        let fd = fds.into_iter().next().filter(|fd| id != 0 && is_pipe(fd) == Ok(true));
        if fd.is_none() {
            return Err(ProxyV1Error::NoPipe { program: conversation.program().to_owned(), method });
        }
        conversation.send("FinishPipe", &[id.into()])?;
        Ok(Pipe { conversation, fd, method })
    }

    /// Reads all of a small document before the deadline.
    pub(super) fn read_document(mut self, what: &'static str, limit: usize) -> Result<Vec<u8>, ProxyV1Error> {
        let deadline = self.conversation.deadline(self.method);
        let (mut document, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            let length = self.read_before(&mut buffer, Some(deadline))?;
            if length == 0 {
                return Ok(document);
            }
            document.extend_from_slice(buffer.get(..length).unwrap_or_default());
            if document.len() > limit {
                let program = self.conversation.program().to_owned();
                return Err(ProxyV1Error::LongDocument { program, what, limit });
            }
        }
    }

    /// Reads what there is, waiting for it; nothing at the end. Without a deadline each piece has the proxy's patience.
    fn read_before(&mut self, space: &mut [u8], deadline: Option<Instant>) -> Result<usize, ProxyV1Error> {
        loop {
            let Some(fd) = &self.fd else { return Ok(0) };
            match read(fd, &mut *space) {
                Ok(0) => return self.finish().map(|()| 0),
                Ok(length) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let deadline = deadline.unwrap_or_else(|| self.conversation.deadline(self.method));
                    self.conversation.wait(Some(fd.as_fd()), self.method, deadline)?;
                }
                Err(errno) => {
                    let program = self.conversation.program().to_owned();
                    return Err(ProxyV1Error::Pipe { program, method: self.method, source: errno.into() });
                }
            }
        }
    }

    /// Gives it up. With nobody to read it, the proxy stops writing, and answers.
    fn abandon(&mut self) {
        if self.fd.take().is_some() {
            self.conversation.leave_unread();
        }
    }

    /// Takes the answer to `FinishPipe`.
    fn finish(&mut self) -> Result<(), ProxyV1Error> {
        self.fd = None;
        self.conversation.receive("FinishPipe", 0).map(drop)
    }
}

impl Read for Pipe<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.read_before(space, None).map_err(io::Error::other)
    }
}

impl Drop for Pipe<'_> {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// A blob. Its end is an error unless size and digest are those that it was asked for by.
#[derive(Debug)]
pub struct Blob<'c> {
    pipe: Pipe<'c>,
    digest: Digest,
    size: u64,
    read: Hashed<()>,
}

impl<'c> Blob<'c> {
    pub(super) fn new(pipe: Pipe<'c>, digest: Digest, size: u64) -> Blob<'c> {
        Blob { pipe, digest, size, read: Hashed::new(()) }
    }

    fn read_checked(&mut self, space: &mut [u8]) -> Result<usize, ProxyV1Error> {
        if space.is_empty() || self.pipe.fd.is_none() {
            return Ok(0);
        }
        let (blob, wanted) = (self.digest, self.size);
        let length = match self.pipe.read_before(space, None) {
            Ok(length) => length,
            // The proxy compares too. If everything came, what is wrong is better said in our own words; else it knows why.
            Err(ProxyV1Error::Refused { .. }) if self.read.size() == wanted && self.check().is_err() => 0,
            Err(error) => return Err(error),
        };
        self.read.update(space.get(..length).unwrap_or_default());
        if self.read.size() > wanted {
            self.pipe.abandon();
            return Err(ProxyV1Error::BlobSize { blob, found: self.read.size(), wanted });
        }
        if length == 0 {
            self.check()?;
        }
        Ok(length)
    }

    /// Checks what was read against what was asked for.
    fn check(&self) -> Result<(), ProxyV1Error> {
        let blob = self.digest;
        if self.read.size() != self.size {
            return Err(ProxyV1Error::BlobSize { blob, found: self.read.size(), wanted: self.size });
        }
        match self.read.digest() {
            found if found == blob => Ok(()),
            found => Err(ProxyV1Error::BlobDigest { blob, found }),
        }
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.read_checked(space).map_err(io::Error::other)
    }
}
