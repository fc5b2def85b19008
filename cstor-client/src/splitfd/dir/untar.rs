//! The tar again, with files opened below the directories that were given, and nowhere else.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use super::{Piece, Reader};
use crate::splitfd::SplitFdError;
use crate::splitfd::members::{Chunk, Chunks, External};
use crate::splitfd::untar::rebuild;

/// Writes the tar that a stream and its directories make up, and gives its size.
///
/// It checks what [`crate::splitfdstream::reconstruct`] checks. Files are opened below their directory; no
/// symlink is followed on the way.
pub fn reconstruct<D: AsFd>(stream: impl Read, directories: &[D], out: impl Write) -> Result<u64, SplitFdError> {
    let reader = Reader::new(stream, u32::try_from(directories.len()).unwrap_or(u32::MAX));
    rebuild(Numbered { reader, files: 0 }, out, |named, place, tar| {
        if named.size != place.wanted {
            return Err(place.other_size(named.size));
        }
        let opened = match directories.get(named.directory as usize) {
            Some(directory) => open(directory, &named.name),
            None => Err(Errno::NOENT),
        };
        tar.copy(place, opened.map_err(|errno| place.unreadable(errno.into()))?.as_fd())
    })
}

/// Counts the files of a stream.
struct Numbered<R> {
    reader: Reader<R>,
    files: u32,
}

struct NamedFile {
    number: u32,
    size: u64,
    directory: u32,
    name: Vec<u8>,
}

impl External for NamedFile {
    fn number(&self) -> u32 {
        self.number
    }
}

impl<R: Read> Chunks for Numbered<R> {
    type File = NamedFile;

    fn next_chunk(&mut self, bytes: &mut Vec<u8>) -> Result<Chunk<NamedFile>, SplitFdError> {
        Ok(match self.reader.next()? {
            Some(Piece::Metadata(piece) | Piece::Inline(piece)) => {
                bytes.extend_from_slice(piece);
                Chunk::Bytes
            }
            Some(Piece::File { size, directory, name }) => {
                let number = self.files;
                self.files = number.saturating_add(1);
                Chunk::File(NamedFile { number, size, directory, name: name.to_vec() })
            }
            None => Chunk::End,
        })
    }
}

fn open(directory: impl AsFd, name: &[u8]) -> Result<std::os::fd::OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let confined = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(directory, name, flags, Mode::empty(), confined)?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(Errno::INVAL),
    }
}
