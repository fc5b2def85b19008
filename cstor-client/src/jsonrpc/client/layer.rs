//! A layer file by file, as its exact tar again.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use super::Client;
use super::progress::{Part, Progress};
use crate::base::digest::Digest;
use crate::base::hashed::Hashed;
use crate::jsonrpc::error::RpcError;
use crate::splitfd::{Chunk, Chunks, External, SplitFdError, rebuild};

/// A layer that is being received. To leave one before its end ends the connection.
#[derive(Debug)]
pub struct LayerStream<'c> {
    client: &'c mut Client,
    progress: Progress,
}

/// A tar that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rebuilt {
    /// In bytes.
    pub size: u64,
    /// Its digest, which is the one that the server announced if it announced one.
    pub digest: Digest,
    /// How many of its files came as descriptors.
    pub files: u64,
}

impl<'c> LayerStream<'c> {
    pub(super) fn new(client: &'c mut Client, progress: Progress) -> LayerStream<'c> {
        LayerStream { client, progress }
    }

    /// Writes the tar of the layer. What was written before an error is not a tar.
    pub fn rebuild(self, out: impl Write) -> Result<Rebuilt, RpcError> {
        let mut out = Hashed::new(out);
        let mut parts = Parts { stream: self, files: 0, ended: false, announced: None, error: None };
        let size = rebuild(&mut parts, &mut out, |file: File, place, tar| tar.copy(place, file.fd.as_fd()));
        let (size, digest) = match (size, parts.error) {
            (_, Some(error)) => return Err(error),
            (size, None) => (size?, out.digest()),
        };
        match parts.announced {
            Some(wanted) if wanted != digest => Err(RpcError::Digest { found: digest, wanted }),
            _ => Ok(Rebuilt { size, digest, files: u64::from(parts.files) }),
        }
    }
}

/// The layer as chunks of a splitfdstream.
struct Parts<'c> {
    stream: LayerStream<'c>,
    files: u32,
    /// Whether the server has said that this was all.
    ended: bool,
    announced: Option<Digest>,
    /// Why there are no more chunks, if it is not a matter of the stream.
    error: Option<RpcError>,
}

struct File {
    number: u32,
    fd: OwnedFd,
}

impl External for File {
    fn number(&self) -> u32 {
        self.number
    }
}

impl Chunks for &mut Parts<'_> {
    type File = File;

    fn next_chunk(&mut self, bytes: &mut Vec<u8>) -> Result<Chunk<File>, SplitFdError> {
        if self.ended {
            return Ok(Chunk::End);
        }
        let LayerStream { client, progress } = &mut self.stream;
        match progress.next(client) {
            Ok(Part::Bytes(segment)) => {
                *bytes = segment;
                Ok(Chunk::Bytes)
            }
            Ok(Part::File { fd: Some(fd), .. }) => {
                let number = self.files;
                self.files = number.checked_add(1).ok_or(SplitFdError::TooManyFiles { limit: u32::MAX as usize })?;
                Ok(Chunk::File(File { number, fd }))
            }
            Ok(Part::File { fd: None, .. }) => Err(self.fail(RpcError::Unexpected { what: "a file without contents" })),
            Ok(Part::End(digest)) => {
                (self.ended, self.announced) = (true, digest);
                Ok(Chunk::End)
            }
            Err(error) => Err(self.fail(error)),
        }
    }
}

impl Parts<'_> {
    /// Keeps an error that is not the stream's, and gives one that ends the reading of it.
    fn fail(&mut self, error: RpcError) -> SplitFdError {
        let stands_for = SplitFdError::Read(io::Error::other(error.to_string()));
        self.error = Some(error);
        stands_for
    }
}
