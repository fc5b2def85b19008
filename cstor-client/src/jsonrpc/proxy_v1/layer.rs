//! A layer that comes as a blob: decompressed, held against its diff id, and taken apart into its members.
//!
//! How it is compressed shows in its first bytes. Its media type does not tell: what skopeo calls a gzip in a
//! docker-archive is a plain tar.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::ProxyV1Error;
use super::pipe::Blob;
use crate::digest::Digest;
use crate::entry::{Archive, ArchiveError, ArchiveProblem, Entry, HeaderError, Piece, compression};
use crate::error::{Error, ErrorKind};
use crate::extract::ExtractError;
use crate::extract::from_streams::Stream;
use crate::merge::MergeProblem;

const BUFFER: usize = 256 * 1024;
/// The longest magic number, that of xz.
const MAGIC: u64 = 6;

/// A layer, as manifest and configuration name it.
#[derive(Debug, Clone)]
pub(super) struct LayerName {
    pub(super) blob: Digest,
    pub(super) size: u64,
    pub(super) diff_id: Digest,
}

/// The members of a layer that comes as a blob.
pub(super) struct Layer<'c> {
    archive: Archive<Sum<Decoder<'c>>>,
    name: LayerName,
    /// The last member.
    member: Vec<u8>,
}

impl<'c> Layer<'c> {
    pub(super) fn open(blob: Blob<'c>, name: LayerName) -> Result<Layer<'c>, ProxyV1Error> {
        let tar = Sum { inner: Decoder::open(blob, name.blob)?, sum: Sha256::new() };
        Ok(Layer { archive: Archive::of_tar(tar), name, member: Vec::new() })
    }

    /// Holds the whole against its digests, when all members have been read or one could not be; passes on how many.
    pub(super) fn finish(mut self, read: Result<u64, ExtractError>) -> Result<u64, ExtractError> {
        if read.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Corrupt) {
            // A blob that is not the one that was asked for explains whatever is wrong in it.
            let rest = io::copy(self.archive.input().inner.blob(), &mut io::sink());
            if let Some(error) = rest.err().and_then(|error| error.downcast().ok()) {
                return Err(failed(error));
            }
        }
        let members = read?;
        let (blob, wanted) = (self.name.blob, self.name.diff_id);
        match Digest::from_bytes(self.archive.input().sum.clone().finalize().into()) {
            found if found == wanted => Ok(members),
            found => Err(failed(ProxyV1Error::DiffId { blob, found, wanted })),
        }
    }

    fn explain(&self, error: ArchiveError) -> ExtractError {
        let (blob, after) = (self.name.blob, self.member.clone());
        failed(match error.problem {
            ArchiveProblem::Read(source) => match source.downcast::<ProxyV1Error>() {
                Ok(error) => error,
                Err(source) => ProxyV1Error::Decompress { blob, source },
            },
            problem => ProxyV1Error::Tar { blob, after, problem },
        })
    }
}

impl Stream for Layer<'_> {
    fn next_entry(&mut self) -> Result<Option<Entry>, ExtractError> {
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

    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<Piece>, ExtractError> {
        self.archive.read_content(buffer).map_err(|error| self.explain(error))
    }

    fn misplaced(&self, name: &[u8], problem: MergeProblem) -> ExtractError {
        failed(ProxyV1Error::Member { blob: self.name.blob, name: name.to_vec(), problem })
    }
}

/// The error of a proxy as one of an extraction.
pub(super) fn failed(error: ProxyV1Error) -> ExtractError {
    match error {
        ProxyV1Error::Interrupted => ExtractError::Interrupted,
        error => Error::from(error).into(),
    }
}

/// Takes the digest of what is read.
struct Sum<R> {
    inner: R,
    sum: Sha256,
}

impl<R: Read> Read for Sum<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(space)?;
        self.sum.update(space.get(..length).unwrap_or_default());
        Ok(length)
    }
}

/// A blob whose first bytes were looked at.
type Looked<'c> = BufReader<Box<Chain<Cursor<Vec<u8>>, Blob<'c>>>>;

/// Undoes the compression of a layer.
enum Decoder<'c> {
    Plain(Looked<'c>),
    Gzip(Box<MultiGzDecoder<Looked<'c>>>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::Decoder<'static, Looked<'c>>),
}

impl<'c> Decoder<'c> {
    fn open(mut blob: Blob<'c>, name: Digest) -> Result<Decoder<'c>, ProxyV1Error> {
        let damaged = |source| ProxyV1Error::Decompress { blob: name, source };
        let mut head = Vec::new();
        let looked = (&mut blob).take(MAGIC).read_to_end(&mut head);
        looked.map_err(|error| error.downcast().unwrap_or_else(damaged))?;
        let compression = compression(&head);
        let looked = BufReader::with_capacity(BUFFER, Box::new(Cursor::new(head).chain(blob)));
        match compression {
            None => Ok(Decoder::Plain(looked)),
            Some("gzip") => Ok(Decoder::Gzip(Box::new(MultiGzDecoder::new(looked)))),
            #[cfg(feature = "zstd")]
            Some("zstd") => Ok(Decoder::Zstd(zstd::Decoder::with_buffer(looked).map_err(damaged)?)),
            Some(method) => Err(ProxyV1Error::Compression { blob: name, method }),
        }
    }

    fn blob(&mut self) -> &mut Blob<'c> {
        let looked = match self {
            Decoder::Plain(looked) => looked,
            Decoder::Gzip(decoder) => decoder.get_mut(),
            #[cfg(feature = "zstd")]
            Decoder::Zstd(decoder) => decoder.get_mut(),
        };
        looked.get_mut().get_mut().1
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(looked) => looked.read(space),
            Decoder::Gzip(decoder) => decoder.read(space),
            #[cfg(feature = "zstd")]
            Decoder::Zstd(decoder) => decoder.read(space),
        }
    }
}
