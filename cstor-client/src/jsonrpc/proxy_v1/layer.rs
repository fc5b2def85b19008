//! A layer that comes as a blob: decompressed, checked against its diff id, and taken apart into its members.

use std::io;

use super::ProxyV1Error;
use super::pipe::Blob;
use crate::base::digest::Digest;
use crate::base::hashed::Hashed;
use crate::base::kind::ErrorKind;
use crate::extract::from_streams::Stream;
use crate::tar::{Archive, ArchiveError, ArchiveProblem, Decoder, DecoderError, Entry, HeaderError, Piece};
use crate::tree::MergeProblem;

/// A layer, as manifest and configuration name it.
#[derive(Debug, Clone)]
pub(super) struct LayerName {
    pub(super) blob: Digest,
    pub(super) size: u64,
    pub(super) diff_id: Digest,
}

/// The members of a layer that comes as a blob.
pub(super) struct Layer<'c> {
    archive: Archive<Hashed<Decoder<Blob<'c>>>>,
    name: LayerName,
    /// The last member.
    member: Vec<u8>,
}

impl<'c> Layer<'c> {
    pub(super) fn open(blob: Blob<'c>, name: LayerName) -> Result<Layer<'c>, ProxyV1Error> {
        let decoder = Decoder::open(blob).map_err(|error| match error {
            DecoderError::Read(error) => {
                error.downcast().unwrap_or_else(|source| ProxyV1Error::Decompress { blob: name.blob, source })
            }
            DecoderError::Method(method) => ProxyV1Error::Compression { blob: name.blob, method },
        })?;
        let tar = Hashed::new(decoder);
        Ok(Layer { archive: Archive::of_tar(tar), name, member: Vec::new() })
    }

    /// Checks the whole against its digests, when all members have been read or one could not be; passes on how many.
    pub(super) fn finish(mut self, read: Result<u64, ProxyV1Error>) -> Result<u64, ProxyV1Error> {
        if read.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Corrupt) {
            // A blob that is not the one that was asked for explains whatever is wrong in it.
            let rest = io::copy(self.archive.input().inner.input(), &mut io::sink());
            if let Some(error) = rest.err().and_then(|error| error.downcast().ok()) {
                return Err(error);
            }
        }
        let members = read?;
        let (blob, wanted) = (self.name.blob, self.name.diff_id);
        match self.archive.input().digest() {
            found if found == wanted => Ok(members),
            found => Err(ProxyV1Error::DiffId { blob, found, wanted }),
        }
    }

    fn explain(&self, error: ArchiveError) -> ProxyV1Error {
        let (blob, after) = (self.name.blob, self.member.clone());
        match error.problem {
            ArchiveProblem::Read(source) => match source.downcast::<ProxyV1Error>() {
                Ok(error) => error,
                Err(source) => ProxyV1Error::Decompress { blob, source },
            },
            problem => ProxyV1Error::Tar { blob, after, problem },
        }
    }
}

impl Stream for Layer<'_> {
    type Error = ProxyV1Error;

    fn next_entry(&mut self) -> Result<Option<Entry>, ProxyV1Error> {
        let placed = self.archive.next_entry().map_err(|error| self.explain(error))?;
        let Some(placed) = placed else { return Ok(None) };
        if let Some(member) = &placed.entry.member {
            if !matches!(placed.typeflag, 0 | b'0'..=b'6' | b'S' | b'g') {
                let problem = HeaderError::Type(placed.typeflag).into();
                return Err(self.explain(ArchiveError { offset: placed.offset, problem }));
            }
            self.member.clone_from(&member.header.path);
        }
        Ok(Some(placed.entry))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<Piece>, ProxyV1Error> {
        self.archive.read_content(buffer).map_err(|error| self.explain(error))
    }

    fn misplaced(&self, name: &[u8], problem: MergeProblem) -> ProxyV1Error {
        ProxyV1Error::Member { blob: self.name.blob, name: name.to_vec(), problem }
    }
}
