//! Contents as one side after the other gives them: compared with each other, or summed up. How a sparse file's
//! holes are stored does not matter to either.

use std::io::Read;

use cstor_client::tar::{Archive, ArchiveError, Piece};
use sha2::{Digest, Sha256};

/// What is summed up at a time: a block of zeros does not count, whether it is stored or not.
const BLOCK: usize = 4096;

pub(crate) type Sum = [u8; 32];

/// One side of a comparison.
pub(crate) struct Side<'a, R> {
    archive: &'a mut Archive<R>,
    buffer: &'a mut [u8],
    /// What of the buffer holds data that was not yet compared.
    begin: usize,
    end: usize,
    hole: u64,
}

impl<'a, R: Read> Side<'a, R> {
    pub(crate) fn new(archive: &'a mut Archive<R>, buffer: &'a mut [u8]) -> Side<'a, R> {
        Side { archive, buffer, begin: 0, end: 0, hole: 0 }
    }

    /// Data or a hole of at least a byte, unless the contents end.
    fn fill(&mut self) -> Result<u64, ArchiveError> {
        if self.begin == self.end && self.hole == 0 {
            (self.begin, self.end) = (0, 0);
            match self.archive.read_content(self.buffer)? {
                Some(Piece::Data(length)) => self.end = length,
                Some(Piece::Hole(length)) => self.hole = length,
                None => {}
            }
        }
        Ok(self.hole.max((self.end - self.begin) as u64))
    }

    /// The next bytes; `None` in a hole.
    fn data(&self, length: u64) -> Option<&[u8]> {
        if self.hole > 0 { None } else { self.buffer.get(self.begin..self.begin + length as usize) }
    }

    fn take(&mut self, length: u64) {
        if self.hole > 0 {
            self.hole -= length;
        } else {
            self.begin += length as usize;
        }
    }
}

/// Why a comparison ended early: the side that could not be read.
pub(crate) enum Unread {
    A(ArchiveError),
    B(ArchiveError),
}

/// Where the rest of two contents differs first, counted from here.
pub(crate) fn first_difference<R: Read>(a: &mut Side<'_, R>, b: &mut Side<'_, R>) -> Result<Option<u64>, Unread> {
    let mut done = 0;
    loop {
        let (in_a, in_b) = (a.fill().map_err(Unread::A)?, b.fill().map_err(Unread::B)?);
        let length = in_a.min(in_b);
        if length == 0 {
            return Ok((in_a != in_b).then_some(done));
        }
        let place = match (a.data(length), b.data(length)) {
            (Some(a), Some(b)) => mismatch(a, b),
            (Some(data), None) | (None, Some(data)) => data.iter().position(|&byte| byte != 0),
            (None, None) => None,
        };
        if let Some(place) = place {
            return Ok(Some(done + place as u64));
        }
        a.take(length);
        b.take(length);
        done += length;
    }
}

/// Where two pieces of the same length differ first.
pub(crate) fn mismatch(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b { None } else { a.iter().zip(b).position(|(a, b)| a != b) }
}

/// Sums contents up, up to their end.
pub(crate) fn sum<R: Read>(archive: &mut Archive<R>, buffer: &mut [u8]) -> Result<Sum, ArchiveError> {
    let mut side = Side::new(archive, buffer);
    let (mut hash, mut block, mut filled, mut position) = (Sha256::new(), [0; BLOCK], 0, 0u64);
    loop {
        let found = side.fill()?;
        if found == 0 {
            break;
        }
        if filled == 0 && side.hole >= BLOCK as u64 {
            let whole = side.hole - side.hole % BLOCK as u64;
            side.take(whole);
            position += whole;
            continue;
        }
        let length = found.min((BLOCK - filled) as u64);
        let space = block.get_mut(filled..filled + length as usize).unwrap_or_default();
        match side.data(length) {
            Some(data) => space.copy_from_slice(data),
            None => space.fill(0),
        }
        side.take(length);
        filled += length as usize;
        if filled == BLOCK {
            add(&mut hash, position, &block);
            position += BLOCK as u64;
            filled = 0;
        }
    }
    block.get_mut(filled..).unwrap_or_default().fill(0);
    add(&mut hash, position, &block);
    hash.update((position + filled as u64).to_le_bytes());
    Ok(hash.finalize().into())
}

fn add(hash: &mut Sha256, position: u64, block: &[u8; BLOCK]) {
    if block.iter().any(|&byte| byte != 0) {
        hash.update(position.to_le_bytes());
        hash.update(block);
    }
}
