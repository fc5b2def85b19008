//! The members of a layer in the order of its tar, out of its tar-split file.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;

use cstor_proto::LayerId;

use super::error::{ReadError, ReadProblem};
use crate::chain::Chain;
use crate::entry::{AssembleError, Assembler, Entry};
use crate::error::Error;
use crate::source::FileSource;
use crate::store::{LayerPart, LayerRecord, StoreError};
use crate::tarsplit::TarSplitReader;

/// The members of a layer, read as they are asked for.
pub struct Entries {
    layer: LayerId,
    reader: TarSplitReader<File>,
    /// None once the trailer was given or an error occurred.
    assembler: Option<Assembler>,
    diff_size: Option<u64>,
}

/// The entries of the layer at `place` of a chain.
pub(crate) fn open_entries(chain: &mut Chain, place: usize, source: &mut dyn FileSource) -> Result<Entries, Error> {
    let opened = chain.take_tar_split(place);
    let Some(layer) = chain.layers().get(place) else {
        return Err(StoreError::NoLayer { reference: String::new() }.into());
    };
    let file = match opened {
        Some(fd) => fd,
        None => source
            .open_tar_split(layer)?
            .map_err(|refusal| crate::chain::refused(chain.shared(), &layer.record, LayerPart::TarSplit, refusal))?,
    };
    Ok(Entries::new(file, &layer.record))
}

impl Entries {
    fn new(file: OwnedFd, record: &LayerRecord) -> Entries {
        Entries {
            layer: record.id,
            reader: TarSplitReader::new(File::from(file)),
            assembler: Some(Assembler::default()),
            diff_size: record.diff_size,
        }
    }

    fn advance(&mut self, assembler: &mut Assembler) -> Result<Option<Entry>, ReadError> {
        let layer = self.layer;
        loop {
            let line = self.reader.next_line();
            match line.map_err(|error| ReadError { layer, name: None, problem: error.into() })? {
                None => return Ok(None),
                Some(line) => {
                    let taken = assembler.take(line);
                    let named =
                        |AssembleError { name, source }| ReadError { layer, name: Some(name), problem: source.into() };
                    if let Some(entry) = taken.map_err(named)? {
                        return Ok(Some(entry));
                    }
                }
            }
        }
    }

    fn trailer(&self, assembler: Assembler) -> Result<Entry, ReadError> {
        let sparse = assembler.is_sparse();
        let (entry, found) = assembler.finish();
        match self.diff_size {
            // The stored form of a sparse member is not in the tar-split, so its tar cannot be summed up.
            Some(wanted) if wanted != found && !sparse => {
                Err(ReadError { layer: self.layer, name: None, problem: ReadProblem::Total { found, wanted } })
            }
            _ => Ok(entry),
        }
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut assembler = self.assembler.take()?;
        match self.advance(&mut assembler) {
            Ok(Some(entry)) => {
                self.assembler = Some(assembler);
                Some(Ok(entry))
            }
            Ok(None) => Some(self.trailer(assembler)),
            Err(error) => Some(Err(error)),
        }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("layer", &self.layer).finish_non_exhaustive()
    }
}
