//! The running checksum of a file's contents, of whichever kind its description has.

use sha2::{Digest as _, Sha256};

use super::error::ContentProblem;
use crate::base::digest::Digest;
use crate::tar::Content;
use crate::tar::crc64::Crc64;

static ZEROS: [u8; 4096] = [0; 4096];

/// A checksum that grows with the contents.
#[derive(Debug)]
pub(crate) enum Sum {
    /// Of a tar-split; where there is a digest too, it only says where the contents are.
    Crc { sum: Crc64, wanted: u64 },
    /// Of a table of contents.
    Sha256 { sum: Sha256, wanted: Digest },
    /// Nothing is known.
    None,
}

impl Sum {
    /// Begins the one that these contents must have.
    pub(crate) fn of(content: Content) -> Sum {
        match content {
            Content { crc: Some(wanted), .. } => Sum::Crc { sum: Crc64::new(), wanted },
            Content { digest: Some(wanted), .. } => Sum::Sha256 { sum: Sha256::new(), wanted },
            _ => Sum::None,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Sum::Crc { sum, .. } => sum.update(bytes),
            Sum::Sha256 { sum, .. } => sum.update(bytes),
            Sum::None => {}
        }
    }

    /// Takes a hole.
    pub(crate) fn zeros(&mut self, mut count: u64) {
        if let Sum::Crc { sum, .. } = self {
            return sum.zeros(count);
        }
        while count > 0 && !matches!(self, Sum::None) {
            let length = usize::try_from(count).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.update(ZEROS.get(..length).unwrap_or_default());
            count -= length as u64;
        }
    }

    /// Whether all of the contents were the right ones.
    pub(crate) fn check(&self) -> Result<(), ContentProblem> {
        match self {
            Sum::Crc { sum, wanted } if sum.value() != *wanted => {
                Err(ContentProblem::Crc { found: sum.value(), wanted: *wanted })
            }
            Sum::Sha256 { sum, wanted } => match Digest::from_bytes(sum.clone().finalize().into()) {
                found if found == *wanted => Ok(()),
                found => Err(ContentProblem::Digest { found, wanted: *wanted }),
            },
            _ => Ok(()),
        }
    }
}
