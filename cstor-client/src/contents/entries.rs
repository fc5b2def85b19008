//! The members of a layer in the order of its tar, whatever describes them: a tar-split file, a table of contents, or
//! its directory alone.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::vec;

use cstor_proto::{LayerId, Refusal};

use super::blob::{Blob, BlobError};
use super::error::{ReadError, ReadProblem};
use crate::access::{Chain, Escalating, FileSource};
use crate::base::account::Charge;
use crate::contents::ImageError;
use crate::contents::disk;
use crate::store::chain::{ChainLayer, Members};
use crate::store::{LayerPart, StoreError, additional_layers};
use crate::tar::tarsplit::TarSplitReader;
use crate::tar::{AssembleError, Assembler, Chunked, Digests, Entry, Member};

/// The members of a layer, read as they are asked for.
pub struct Entries {
    layer: LayerId,
    /// `None` once the trailer was given or an error occurred.
    description: Option<Description>,
}

enum Description {
    TarSplit(Box<TarSplit>),
    Toc(Chunked),
    Blob(Box<Blob>),
    /// The members, and what they are charged to.
    Disk(vec::IntoIter<Member>, Charge),
}

struct TarSplit {
    reader: TarSplitReader<File>,
    assembler: Assembler,
    diff_size: Option<u64>,
    /// Where the contents are, if that is not under their names.
    digests: Option<Digests>,
}

/// The entries of the layer at `place` of a chain.
pub(crate) fn open_entries(chain: &mut Chain, place: usize, source: &mut Escalating) -> Result<Entries, ImageError> {
    let opened = chain.take_description(place);
    let Some(layer) = chain.layers().get(place) else {
        return Err(StoreError::NoLayer { reference: String::new() }.into());
    };
    let record = &layer.record;
    let description = match (layer.members, opened) {
        (Members::Toc, opened) => Description::Toc(read_toc(chain, layer, opened)?),
        (Members::Blob, opened) => {
            let blob = match opened {
                Some(blob) => Some(blob),
                None => additional_layers::find(chain.store(), record)?.and_then(|layer| layer.blob),
            };
            let missing = || chain.refused(record, LayerPart::Blob, Refusal::NotFound);
            let blob = blob.ok_or_else(missing)?;
            let error = |problem: BlobError| ReadError { layer: record.id, name: None, problem: problem.into() };
            Description::Blob(Box::new(Blob::open(blob, chain.interrupt()).map_err(error)?))
        }
        (Members::Disk, _) => {
            let (mut members, mut charge) = (Vec::new(), chain.account().charge());
            disk::walk(chain, layer, source, &mut |member| {
                charge.add(member.header.size_in_memory())?;
                members.push(member);
                Ok(())
            })?;
            Description::Disk(members.into_iter(), charge)
        }
        (Members::TarSplit, opened) => {
            let file = match opened {
                Some(file) => file,
                None => source
                    .open_tar_split(layer)?
                    .map_err(|refusal| chain.refused(record, LayerPart::TarSplit, refusal))?,
            };
            let digests = digests_of(chain, layer)?;
            Description::TarSplit(Box::new(TarSplit {
                reader: TarSplitReader::new(File::from(file)),
                assembler: Assembler::new(chain.account().charge()),
                diff_size: record.diff_size,
                digests,
            }))
        }
    };
    Ok(Entries { layer: record.id, description: Some(description) })
}

/// Gives all members of the layer at `place`, one after the other. Those of a directory are not kept in memory.
pub(crate) fn each_member(
    chain: &mut Chain,
    place: usize,
    source: &mut Escalating,
    take: &mut dyn FnMut(LayerId, Member) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    if let Some(layer) = chain.layers().get(place)
        && layer.members == Members::Disk
    {
        let id = layer.record.id;
        return disk::walk(chain, layer, source, &mut |member| take(id, member));
    }
    let entries = open_entries(chain, place, source)?;
    let id = entries.layer;
    for entry in entries {
        chain.interrupt().check()?;
        if let Some(member) = entry?.member {
            take(id, member)?;
        }
    }
    Ok(())
}

/// Where the contents of a flat layer are; `None` for any other.
pub(crate) fn digests_of(chain: &Chain, layer: &ChainLayer) -> Result<Option<Digests>, ImageError> {
    if layer.flat { Ok(Some(read_toc(chain, layer, None)?.digests())) } else { Ok(None) }
}

fn read_toc(chain: &Chain, layer: &ChainLayer, opened: Option<OwnedFd>) -> Result<Chunked, ImageError> {
    let layer = &layer.record;
    let file = match opened {
        Some(file) => file,
        None => chain.open_toc(layer)?,
    };
    let read = Chunked::read(File::from(file), chain.account().charge(), chain.interrupt());
    Ok(read.map_err(|error| ReadError { layer: layer.id, name: None, problem: error.into() })?)
}

impl Entries {
    /// Why they do not add up to the layer's tar; `None` where they do.
    pub(crate) fn inexact(&self) -> Option<ReadProblem> {
        match self.description {
            Some(Description::Toc(_)) => Some(ReadProblem::TocOnly),
            Some(Description::Disk(..)) => Some(ReadProblem::NoTar),
            Some(Description::TarSplit(_) | Description::Blob(_)) | None => None,
        }
    }
}

impl TarSplit {
    fn advance(&mut self, layer: LayerId) -> Result<Option<Entry>, ReadError> {
        let error = |name, problem| ReadError { layer, name, problem };
        loop {
            let Some(line) = self.reader.next_line().map_err(|problem| error(None, problem.into()))? else {
                return Ok(None);
            };
            let taken = self.assembler.take(line);
            let taken = taken.map_err(|AssembleError { name, source }| error(name, source.into()))?;
            let Some(mut entry) = taken else { continue };
            if let (Some(digests), Some(member)) = (&self.digests, &mut entry.member)
                && let Some(content) = &mut member.content
            {
                let name = &member.header.path;
                let digest = digests.of(name).map_err(|problem| error(Some(name.clone()), problem.into()))?;
                content.digest = Some(digest);
            }
            return Ok(Some(entry));
        }
    }

    fn trailer(self, layer: LayerId) -> Result<Entry, ReadError> {
        let sparse = self.assembler.is_sparse();
        let (entry, found) = self.assembler.finish();
        match self.diff_size {
            // The stored form of a sparse member is not in the tar-split, so its tar cannot be summed up.
            Some(wanted) if wanted != found && !sparse => {
                Err(ReadError { layer, name: None, problem: ReadProblem::Total { found, wanted } })
            }
            _ => Ok(entry),
        }
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let layer = self.layer;
        match self.description.take()? {
            Description::TarSplit(mut split) => match split.advance(layer) {
                Ok(Some(entry)) => {
                    self.description = Some(Description::TarSplit(split));
                    Some(Ok(entry))
                }
                Ok(None) => Some(split.trailer(layer)),
                Err(error) => Some(Err(error)),
            },
            Description::Toc(mut toc) => match toc.next_entry() {
                Some(Ok(entry)) => {
                    self.description = Some(Description::Toc(toc));
                    Some(Ok(entry))
                }
                Some(Err((name, error))) => Some(Err(ReadError { layer, name: Some(name), problem: error.into() })),
                None => Some(Ok(Entry { raw: Vec::new(), member: None })),
            },
            Description::Blob(mut blob) => match blob.next_entry() {
                Ok(entry) => {
                    let is_member = entry.as_ref().is_some_and(|entry| entry.member.is_some());
                    self.description = is_member.then_some(Description::Blob(blob));
                    entry.map(Ok)
                }
                Err(problem) => Some(Err(ReadError { layer, name: None, problem: problem.into() })),
            },
            Description::Disk(mut members, charge) => {
                let member = members.next();
                // What follows the last member ends them.
                self.description = member.is_some().then_some(Description::Disk(members, charge));
                Some(Ok(Entry { raw: Vec::new(), member }))
            }
        }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("layer", &self.layer).finish_non_exhaustive()
    }
}
