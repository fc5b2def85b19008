//! Reads the maps of sparse members that stand outside of PAX records; `sparse.rs` takes them apart.

use std::io::Read;

use super::{Archive, ArchiveProblem, MAX_HEADERS};
use crate::tar::HeaderError;
use crate::tar::sparse::{self, Extent};
use crate::tar::ustar::BLOCK;

impl<R: Read> Archive<R> {
    /// The map of an old GNU header, which blocks may continue (GNU tar, tar.h, `struct oldgnu_header`).
    pub(super) fn gnu_map(&mut self, raw: &mut Vec<u8>, start: usize) -> Result<(Vec<Extent>, u64), ArchiveProblem> {
        let mut extents = Vec::new();
        let block: &[u8; BLOCK] =
            raw.get(start..).and_then(|block| block.first_chunk()).ok_or(ArchiveProblem::Truncated)?;
        let gnu = tar::Header::from_byte_slice(block).as_gnu().ok_or(ArchiveProblem::SparseMap)?;
        let size = gnu.real_size().map_err(|_| HeaderError::Number("realsize"))?;
        let mut is_extended = gnu.isextended != [0];
        sparse::gnu(block.get(386..482).unwrap_or_default(), &mut extents).ok_or(ArchiveProblem::SparseMap)?;
        while is_extended {
            let start = raw.len();
            if start >= MAX_HEADERS {
                return Err(HeaderError::LongExtension(MAX_HEADERS as u64).into());
            }
            self.append(raw, BLOCK)?;
            let block: &[u8; BLOCK] =
                raw.get(start..).and_then(|block| block.first_chunk()).ok_or(ArchiveProblem::Truncated)?;
            is_extended = block.get(504) != Some(&0);
            sparse::gnu(block.get(..504).unwrap_or_default(), &mut extents).ok_or(ArchiveProblem::SparseMap)?;
        }
        Ok((extents, size))
    }

    /// The map before the data, in whole blocks; they count as header bytes.
    pub(super) fn text_map(&mut self, raw: &mut Vec<u8>, stored: u64) -> Result<Vec<Extent>, ArchiveProblem> {
        let (begin, mut found, mut wanted) = (raw.len(), 0, None);
        while wanted.is_none_or(|wanted| found < wanted) {
            let start = raw.len();
            if start >= MAX_HEADERS {
                return Err(HeaderError::LongExtension(MAX_HEADERS as u64).into());
            }
            if (start - begin) as u64 >= stored {
                return Err(ArchiveProblem::SparseMap);
            }
            if self.append(raw, BLOCK)? < BLOCK {
                return Err(ArchiveProblem::Truncated);
            }
            let block = raw.get(start..).unwrap_or_default();
            found += block.iter().filter(|&&byte| byte == b'\n').count() as u64;
            if wanted.is_none() {
                wanted = Some(sparse::lines(block).ok_or(ArchiveProblem::SparseMap)?);
            }
        }
        sparse::text(raw.get(begin..).unwrap_or_default()).ok_or(ArchiveProblem::SparseMap)
    }
}
