//! The tar again, with files opened below the directories that were given, and nowhere else.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use super::super::SplitFdError;
use super::super::untar::Tar;
use super::{Piece, Reader};

/// Writes the tar that a stream and its directories make up, and gives its size.
///
/// It checks what [`crate::splitfdstream::reconstruct`] checks. Files are opened below their directory; no
/// symlink is followed on the way.
pub fn reconstruct<D: AsFd>(stream: impl Read, directories: &[D], out: impl Write) -> Result<u64, SplitFdError> {
    let mut reader = Reader::new(stream, u32::try_from(directories.len()).unwrap_or(u32::MAX));
    let mut tar = Tar::new(out);
    let mut number = 0;
    while let Some(piece) = reader.next()? {
        match piece {
            Piece::Metadata(bytes) | Piece::Inline(bytes) => tar.inline(bytes)?,
            Piece::File { size, directory, name } => {
                let wanted = tar.contents(number)?;
                if size != wanted {
                    return Err(tar.other_size(number, size, wanted));
                }
                let opened = match directories.get(directory as usize) {
                    Some(directory) => open(directory, name),
                    None => Err(Errno::NOENT),
                };
                let file = opened.map_err(|errno| tar.unreadable(number, errno.into()))?;
                tar.copy(number, file.as_fd(), size)?;
                number = number.saturating_add(1);
            }
        }
    }
    tar.finish()
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
