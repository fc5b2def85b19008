//! A layer that came with all of its files at once: a stream in a file, and the files that its numbers mean.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, fstat};

use super::unpadded::Unpadded;
use crate::jsonrpc::error::RpcError;
#[cfg(feature = "zstd")]
use crate::splitfd::{Decompressor, MEDIA_TYPE_ZSTD};
use crate::splitfd::{MEDIA_TYPE, SplitFdError, reconstruct};

/// A stream and its files. Check the digest of its tar against the layer's diff id: nothing else says that it is whole.
#[derive(Debug)]
pub struct SplitLayer {
    stream: File,
    files: Vec<OwnedFd>,
    form: Form,
}

/// What the stream is.
#[derive(Debug, Clone, Copy)]
enum Form {
    Plain,
    #[cfg(feature = "zstd")]
    Zstd,
    /// Headers and files without padding and end.
    Headers,
}

impl SplitLayer {
    /// Of an answer that announces a stream of `size` bytes,or of no stream if that is 0.
    pub(super) fn of_stream(media_type: &str, size: u64, files: Vec<OwnedFd>) -> Result<SplitLayer, RpcError> {
        let form = match media_type {
            MEDIA_TYPE => Form::Plain,
            #[cfg(feature = "zstd")]
            MEDIA_TYPE_ZSTD => Form::Zstd,
            _ => return Err(RpcError::Unexpected { what: "a stream of another media type" }),
        };
        SplitLayer::new(form, size, files)
    }

    pub(super) fn of_headers(size: u64, files: Vec<OwnedFd>) -> Result<SplitLayer, RpcError> {
        SplitLayer::new(Form::Headers, size, files)
    }

    fn new(form: Form, size: u64, mut files: Vec<OwnedFd>) -> Result<SplitLayer, RpcError> {
        if files.is_empty() {
            return Err(RpcError::Descriptors { what: "a stream", found: 0, wanted: 1 });
        }
        let stream = files.remove(0);
        // A pipe has no size; of a file it is known beforehand that it is whole.
        let found = fstat(&stream).ok().filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        let found = found.and_then(|stat| u64::try_from(stat.st_size).ok());
        match found.filter(|&found| size != 0 && found != size) {
            Some(found) => Err(RpcError::Size { found, wanted: size }),
            None => Ok(SplitLayer { stream: File::from(stream), files, form }),
        }
    }

    /// The files, by their numbers.
    pub fn files(&self) -> &[OwnedFd] {
        &self.files
    }

    /// The stream, once, as a splitfdstream whatever form it came in: for [`crate::extract::Extractor::extract_streams`].
    pub fn stream(&self) -> Result<Box<dyn Read + '_>, SplitFdError> {
        Ok(match self.form {
            Form::Plain => Box::new(BufReader::new(&self.stream)),
            #[cfg(feature = "zstd")]
            Form::Zstd => Box::new(Decompressor::new(&self.stream).map_err(SplitFdError::Read)?),
            Form::Headers => Box::new(Unpadded::new(BufReader::new(&self.stream), self.files.len())),
        })
    }

    /// Writes its tar and gives the size. Of the form of container-libs it is one tar of the layer, and not the one that
    /// its diff id belongs to.
    pub fn rebuild(&self, out: impl Write) -> Result<u64, RpcError> {
        Ok(reconstruct(self.stream()?, &self.files[..], out)?)
    }
}
