//! The tar again: literal bytes as they stand, files in their places, each as large as its header says.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, pread, retry_on_intr};

use super::members::{Chunks, External, Members};
use super::{PIECE, Reader, SplitFdError};

/// Gives the external files of a stream by their numbers.
///
/// A slice of open files is one. Another one may hold a few at a time: files are asked for in the order of
/// the stream, which is that of their numbers if cstor wrote it.
pub trait FileSupply {
    /// How many there are.
    fn count(&self) -> u32;

    /// The file of a number below [`Self::count`]. It is read from its beginning, wherever its offset stands.
    fn file(&mut self, number: u32) -> io::Result<BorrowedFd<'_>>;
}

impl<F: AsFd> FileSupply for &[F] {
    fn count(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn file(&mut self, number: u32) -> io::Result<BorrowedFd<'_>> {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        self.get(place).map(AsFd::as_fd).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Writes the tar that a stream and its files make up, and gives its size.
///
/// The headers in the stream are read: a file must stand where the contents of a member begin, and have the
/// size that its header says. What the bytes of a file were is not known; check the digest of the tar against
/// the layer's diff id. What was written before an error is not a tar.
pub fn reconstruct(stream: impl Read, mut files: impl FileSupply, out: impl Write) -> Result<u64, SplitFdError> {
    let reader = Reader::new(stream, files.count());
    rebuild(reader, out, |number, place, tar| {
        let file = files.file(number).map_err(|source| place.unreadable(source))?;
        tar.copy(place, file)
    })
}

/// Writes a tar of which `copy` writes the contents that are files.
pub(crate) fn rebuild<C: Chunks, W: Write>(
    chunks: C,
    out: W,
    mut copy: impl FnMut(C::File, Place<'_>, &mut Tar<W>) -> Result<(), SplitFdError>,
) -> Result<u64, SplitFdError> {
    let mut members = Members::new(chunks);
    let mut tar = Tar { out, written: 0, buffer: vec![0; PIECE] };
    while let Some(entry) = members.next_entry()? {
        tar.write(&entry.raw)?;
        if let Some(file) = members.file(&entry)? {
            let content = entry.member.as_ref().and_then(|member| member.content);
            let wanted = content.map_or(0, |content| content.size);
            let place = Place { name: members.name(), number: file.number(), wanted };
            copy(file, place, &mut tar)?;
            continue;
        }
        let mut buffer = std::mem::take(&mut tar.buffer);
        loop {
            let length = members.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            tar.write(buffer.get(..length).unwrap_or_default())?;
        }
        tar.buffer = buffer;
    }
    tar.out.flush().map_err(SplitFdError::Write)?;
    Ok(tar.written)
}

/// Where a file stands for contents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The member.
    pub(crate) name: &'a [u8],
    /// The file's number.
    pub(crate) number: u32,
    /// The size in the header.
    pub(crate) wanted: u64,
}

impl Place<'_> {
    pub(crate) fn unreadable(self, source: io::Error) -> SplitFdError {
        SplitFdError::File { name: self.name.to_vec(), number: self.number, source }
    }

    pub(crate) fn other_size(self, found: u64) -> SplitFdError {
        SplitFdError::Size { name: self.name.to_vec(), number: self.number, found, wanted: self.wanted }
    }

    /// Checks that a file is one, and has the size of the header.
    pub(crate) fn check(self, file: BorrowedFd<'_>) -> Result<(), SplitFdError> {
        let stat = fstat(file).map_err(|errno| self.unreadable(errno.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.unreadable(Errno::INVAL.into()));
        }
        match u64::try_from(stat.st_size).unwrap_or_default() {
            size if size == self.wanted => Ok(()),
            size => Err(self.other_size(size)),
        }
    }
}

/// A tar that is being put together.
pub(crate) struct Tar<W> {
    out: W,
    written: u64,
    buffer: Vec<u8>,
}

impl<W: Write> Tar<W> {
    /// Copies all of a file, which must have the size that its place wants.
    pub(crate) fn copy(&mut self, place: Place<'_>, file: BorrowedFd<'_>) -> Result<(), SplitFdError> {
        place.check(file)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut offset = 0;
        // One more read than needed finds a file that grows.
        loop {
            let length =
                retry_on_intr(|| pread(file, &mut *buffer, offset)).map_err(|errno| place.unreadable(errno.into()))?;
            offset += length as u64;
            if offset > place.wanted || length == 0 && offset < place.wanted {
                return Err(place.other_size(offset));
            }
            if length == 0 {
                break;
            }
            self.write(buffer.get(..length).unwrap_or_default())?;
        }
        self.buffer = buffer;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SplitFdError> {
        self.out.write_all(bytes).map_err(SplitFdError::Write)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}
