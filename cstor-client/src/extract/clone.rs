//! The contents of one file: cloned where the file system can, else read and written, checked on the way.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{SeekFrom, fstat, ftruncate, ioctl_ficlone, seek};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use crate::base::interrupt::{Interrupt, Interrupted};
use crate::contents::ContentProblem;
use crate::contents::Sum;
use crate::tar::Content;

/// Large enough that the system calls do not count, small enough for a cache.
const BUFFER: usize = 256 * 1024;
/// Zeros that are summed up between two looks at whether to stop.
const HOLE: u64 = 64 << 20;

/// Whether contents are cloned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Reflink {
    /// Where the file system can.
    #[default]
    Auto,
    /// Or not at all: an extraction that would have to copy fails before it places anything.
    Always,
    /// Never.
    Never,
}

/// How contents came to be where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    Cloned,
    Copied,
}

/// What went wrong, and on which side.
#[derive(Debug)]
pub(super) enum FillError {
    Source(ContentProblem),
    Destination(&'static str, Errno),
    /// Neither: the caller wants to stop.
    Interrupted(Interrupted),
}

/// A file to be filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fill<'a> {
    pub(super) from: BorrowedFd<'a>,
    /// Where the contents begin in it; to be cloned, they must be all of it.
    pub(super) start: u64,
    pub(super) to: BorrowedFd<'a>,
    pub(super) content: Content,
}

/// Fills files; one for each thread, since it holds a buffer.
pub(super) struct Filler<'a> {
    reflink: Reflink,
    verify: bool,
    buffer: Vec<u8>,
    interrupt: &'a Interrupt,
}

impl<'a> Filler<'a> {
    pub(super) fn new(reflink: Reflink, verify: bool, interrupt: &'a Interrupt) -> Filler<'a> {
        Filler { reflink, verify, buffer: Vec::new(), interrupt }
    }

    /// Asked between two pieces: one file can take hours, and a hole of terabytes comes out of an image of kilobytes.
    pub(super) fn check_interrupt(&self) -> Result<(), FillError> {
        self.interrupt.check().map_err(FillError::Interrupted)
    }

    /// Fills an empty file. `uncloneable` remembers that the pair of file systems cannot clone, so that
    /// not every file asks again.
    pub(super) fn fill(&mut self, file: Fill<'_>, uncloneable: &AtomicBool) -> Result<Filled, FillError> {
        if self.reflink != Reflink::Never && !uncloneable.load(Ordering::Relaxed) {
            match ioctl_ficlone(file.to, file.from) {
                Ok(()) => {
                    if self.verify {
                        self.check(file)?;
                    }
                    return Ok(Filled::Cloned);
                }
                Err(errno) if cannot_clone(errno) && self.reflink == Reflink::Auto => {
                    // Other errors of this list are about one file.
                    if matches!(errno, Errno::XDEV | Errno::OPNOTSUPP | Errno::NOTTY) {
                        uncloneable.store(true, Ordering::Relaxed);
                    }
                }
                Err(Errno::IO) => return Err(FillError::Source(ContentProblem::Read(Errno::IO.into()))),
                Err(errno) => return Err(FillError::Destination("clone its contents", errno)),
            }
        }
        self.copy(file)?;
        Ok(Filled::Copied)
    }

    /// Fills an empty file by reading and writing, and never clones.
    pub(super) fn copy(&mut self, file: Fill<'_>) -> Result<(), FillError> {
        let end = self.read(file, |offset, bytes| {
            let written = write_at(file.to, bytes, offset);
            written.map(drop).map_err(|errno| FillError::Destination("write a file", errno))
        })?;
        if end < file.content.size {
            ftruncate(file.to, file.content.size).map_err(|errno| FillError::Destination("extend a file", errno))?;
        }
        Ok(())
    }

    fn check(&mut self, file: Fill<'_>) -> Result<(), FillError> {
        self.read(file, |_, _| Ok(())).map(drop)
    }

    /// Reads all data of a file, leaving out its holes, and checks the whole. Gives the end of the last data.
    fn read(
        &mut self,
        file: Fill<'_>,
        mut data: impl FnMut(u64, &[u8]) -> Result<(), FillError>,
    ) -> Result<u64, FillError> {
        self.buffer.resize(BUFFER, 0);
        let source = |errno: Errno| FillError::Source(ContentProblem::Read(io::Error::from(errno)));
        let mut sum = Sum::of(file.content);
        let mut offset = 0;
        let mut end = 0;
        while offset < file.content.size {
            let start = next_data(file, offset).map_err(source)?;
            self.zeros(&mut sum, start - offset)?;
            offset = start;
            let stop = next_hole(file, offset).map_err(source)?;
            while offset < stop {
                self.check_interrupt()?;
                let room = usize::try_from(stop - offset).unwrap_or(BUFFER).min(BUFFER);
                let Some(buffer) = self.buffer.get_mut(..room) else { break };
                let length = retry_on_intr(|| pread(file.from, &mut *buffer, file.start + offset)).map_err(source)?;
                let bytes = buffer.get(..length).unwrap_or_default();
                if bytes.is_empty() {
                    return Err(FillError::Source(ContentProblem::size(file.content, offset)));
                }
                sum.update(bytes);
                data(offset, bytes)?;
                offset += length as u64;
                end = offset;
            }
        }
        if matches!(sum, Sum::None) {
            // What ends before its size was no hole: nothing but the disk had said the size, a moment ago.
            let now = fstat(file.from).map_err(source)?.st_size.unsigned_abs().saturating_sub(file.start);
            if now < file.content.size {
                return Err(FillError::Source(ContentProblem::size(file.content, now)));
            }
        }
        sum.check().map(|()| end).map_err(FillError::Source)
    }

    /// Takes a hole, which may be as large as a file can be, piece by piece.
    fn zeros(&self, sum: &mut Sum, mut count: u64) -> Result<(), FillError> {
        while count > 0 {
            self.check_interrupt()?;
            let length = count.min(HOLE);
            sum.zeros(length);
            count -= length;
        }
        Ok(())
    }
}

/// Whether cloning this one file failed for a reason that copying does not share.
fn cannot_clone(errno: Errno) -> bool {
    matches!(errno, Errno::XDEV | Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::PERM | Errno::TXTBSY)
}

/// Where data begins at or after `offset`; the end where there is only a hole.
fn next_data(file: Fill<'_>, offset: u64) -> Result<u64, Errno> {
    match seek(file.from, SeekFrom::Data(file.start + offset)) {
        Ok(data) => Ok(data.saturating_sub(file.start).clamp(offset, file.content.size)),
        Err(Errno::NXIO) => Ok(file.content.size),
        // A file system that knows no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(offset),
        Err(errno) => Err(errno),
    }
}

/// Where the data at `offset` ends.
fn next_hole(file: Fill<'_>, offset: u64) -> Result<u64, Errno> {
    if offset >= file.content.size {
        return Ok(file.content.size);
    }
    match seek(file.from, SeekFrom::Hole(file.start + offset)) {
        Ok(hole) if hole > file.start + offset => Ok((hole - file.start).min(file.content.size)),
        Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => Ok(file.content.size),
        Err(errno) => Err(errno),
    }
}

/// Writes all of the bytes from an offset on, and gives the offset behind them.
pub(super) fn write_at(fd: BorrowedFd<'_>, mut bytes: &[u8], mut offset: u64) -> Result<u64, Errno> {
    while !bytes.is_empty() {
        let written = retry_on_intr(|| pwrite(fd, bytes, offset))?;
        if written == 0 {
            return Err(Errno::IO);
        }
        offset += written as u64;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn an_interrupt_ends_one_large_file() {
        const SIZE: u64 = 1 << 44;
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let stop = Interrupt::new();
        stop.raise();
        let mut filler = Filler::new(Reflink::Never, false, &stop);
        // A checksum has the zeros of a hole in it; without one there is only data to read.
        for (size, crc) in [(SIZE, Some(1)), (1, None)] {
            let content = Content { size, crc, digest: None };
            if size == 1 {
                write_at(from.as_fd(), b"x", 0).unwrap();
            }
            let file = Fill { from: from.as_fd(), start: 0, to: to.as_fd(), content };
            let ended = filler.fill(file, &AtomicBool::new(false));
            assert!(matches!(ended, Err(FillError::Interrupted(_))), "{size}: {ended:?}");
        }
    }

    /// What a container cuts off between the look at its size and the copy does not become a hole.
    #[test]
    fn a_file_that_shrinks_is_no_hole() {
        let (never, uncloneable) = (Interrupt::new(), AtomicBool::new(false));
        for (left, size) in [(0, 8893), (100, 8893), (8892, 8893), (1 << 20, (1 << 20) + 1)] {
            let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
            write_at(from.as_fd(), &vec![7; left], 0).unwrap();
            let mut filler = Filler::new(Reflink::Never, false, &never);
            let content = Content { size, crc: None, digest: None };
            let ended = filler.fill(Fill { from: from.as_fd(), start: 0, to: to.as_fd(), content }, &uncloneable);
            assert!(
                matches!(ended, Err(FillError::Source(ContentProblem::Changed { found, .. })) if found == left as u64),
                "{left} of {size}: {ended:?}"
            );
        }
    }
}
