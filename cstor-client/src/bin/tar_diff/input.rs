//! A tar that was named on the command line: read once from where it stands; of a regular file two ranges can be
//! looked at again.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cstor_client::tar::{Archive, ArchiveError};
use rustix::fs::{CWD, FileType, Mode, OFlags, SeekFrom, fstat, openat, seek};
use rustix::io::{pread, retry_on_intr};

use crate::contents::mismatch;
use crate::exit::Trouble;

/// What is read at a time.
pub(crate) const CHUNK: usize = 128 << 10;

#[derive(Debug)]
pub(crate) struct Input {
    name: Vec<u8>,
    file: OwnedFd,
    /// Where the tar begins in a regular file.
    begin: Option<u64>,
}

/// Bytes of an input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Input, Trouble> {
        let name = path.as_os_str().as_bytes();
        let (name, file) = if name == b"-" {
            (&b"standard input"[..], io::stdin().as_fd().try_clone_to_owned())
        } else {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
            (name, openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from))
        };
        let file = file.map_err(|error| Trouble::Open { name: name.to_vec(), error })?;
        let is_regular = fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        let begin = if is_regular { seek(&file, SeekFrom::Current(0)).ok() } else { None };
        Ok(Input { name: name.to_vec(), file, begin })
    }

    pub(crate) fn archive(&self) -> Result<Archive<BufReader<File>>, Trouble> {
        let file = self.file.try_clone().map_err(|error| Trouble::Open { name: self.name.clone(), error })?;
        Ok(Archive::new(BufReader::with_capacity(CHUNK, File::from(file))))
    }

    pub(crate) fn trouble(&self, error: ArchiveError) -> Trouble {
        Trouble::Archive { name: self.name.clone(), error }
    }

    /// Where two ranges differ first, counted from their beginnings; `None` if they do not, or cannot be read again.
    pub(crate) fn first_difference(&self, range: Range, other: &Input, other_range: Range) -> Option<u64> {
        let (mut ours, mut theirs) = (vec![0; CHUNK], vec![0; CHUNK]);
        let (mut done, common) = (0, range.length.min(other_range.length));
        while done < common {
            let ours = self.read_at(&mut ours, range, done)?;
            let theirs = other.read_at(&mut theirs, other_range, done)?;
            let length = ours.len().min(theirs.len());
            if let Some(place) = mismatch(ours.get(..length)?, theirs.get(..length)?) {
                return Some(done + place as u64);
            }
            done += length as u64;
        }
        (range.length != other_range.length).then_some(common)
    }

    fn read_at<'a>(&self, buffer: &'a mut [u8], range: Range, done: u64) -> Option<&'a [u8]> {
        let room = usize::try_from(range.length - done).unwrap_or(usize::MAX).min(buffer.len());
        let space = buffer.get_mut(..room)?;
        let offset = self.begin?.checked_add(range.offset)?.checked_add(done)?;
        let length = retry_on_intr(|| pread(&self.file, &mut *space, offset)).ok()?;
        space.get(..length).filter(|bytes| !bytes.is_empty())
    }
}
