//! Requests about layers: their contents as descriptors, and tables of contents.

use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Deserialize;

use super::budget::Share;
use super::failure::{Failure, Stop};
use super::header_stream::HeaderSink;
use super::memory::Memory;
use super::notify::Notify;
use super::session::Session;
use crate::base::digest::Digest;
use crate::error::Error;
use crate::jsonrpc::shapes::{HeaderStream, LayerOf, MetaOf, StreamSize, Success, Typed, WholeStream};
use crate::jsonrpc::wire::Id;
use crate::output::OutputError;
use crate::splitfd::SplitFdError;
use crate::splitfd::{Collect, DEFAULT_INLINE_THRESHOLD, MEDIA_TYPE};
#[cfg(feature = "zstd")]
use crate::splitfd::{Compressor, MEDIA_TYPE_ZSTD};
use crate::storage::Image;
use crate::storage::Layer;

/// The media type of a table of contents; eStargz, whose keys it has, registers none.
const TOC_MEDIA_TYPE: &str = "application/vnd.cstor.toc.v1+json";
/// What a process has open beside what it is sent: standard streams, the socket and what it was started with.
const PEERS_OWN: usize = 16;

impl<'s> Session<'s> {
    pub(super) fn get_layer_splitfdstream(&mut self, id: &Id, asked: &WholeStream) -> Result<(), Stop> {
        let layer = self.storage.layer(&asked.layer)?;
        let threshold = asked.inline_threshold.unwrap_or(DEFAULT_INLINE_THRESHOLD);
        let files = count_files(&layer, threshold)?;
        let _share = self.room_for(files + 1, asked.max_fds)?;
        let mut collect = Collect::new(files);
        let (media_type, stream, size) = write_stream(&layer, asked.compressed, &mut collect, threshold)?;
        let files = collect.into_files();
        self.reply(id, &Typed { media_type: media_type.to_owned(), size }, &with_stream(&stream, &files))
    }

    pub(super) fn get_split_fd_stream(&mut self, id: &Id, asked: &HeaderStream) -> Result<(), Stop> {
        let layer = self.storage.layer(&asked.layer_id)?;
        let parent = asked.parent_id.as_deref().filter(|parent| !parent.is_empty());
        if let Some(parent) = parent.filter(|&parent| layer.parent().is_none_or(|own| own.to_string() != parent)) {
            return Err(Failure::params(format!("parentId {parent:.64}: is not the parent of this layer")).into());
        }
        let _share = self.room_for(count_files(&layer, 0)? + 1, asked.max_fds)?;
        let out = BufWriter::new(Memory::create().map_err(Failure::internal)?);
        let (out, files) = layer.pump(HeaderSink::new(out)).map_err(failed)?;
        let (stream, stream_size) = finish(out)?;
        self.reply(id, &StreamSize { stream_size }, &with_stream(&stream, &files))
    }

    pub(super) fn get_layer_tar_split(&mut self, id: &Id, asked: &LayerOf) -> Result<(), Stop> {
        let layer = self.layer_of(asked)?;
        layer.pump(Notify::new(&layer, asked.contents, &mut self.connection))?;
        self.reply(id, &Success { success: true }, &[])
    }

    pub(super) fn get_meta(&mut self, id: &Id, asked: &MetaOf) -> Result<(), Stop> {
        let toc = match (asked.handle, &asked.image, &asked.layer) {
            (Some(handle), None, None) => self.opened(handle)?.rootfs()?.toc(asked.digests)?,
            (None, Some(image), None) => self.storage.image(image)?.rootfs()?.toc(asked.digests)?,
            (None, None, Some(layer)) => self.storage.layer(layer)?.toc(asked.digests)?,
            _ => return Err(Failure::params("one of image_id, image and layer is needed").into()),
        };
        let mut out = BufWriter::new(Memory::create().map_err(Failure::internal)?);
        serde_json::to_writer(&mut out, &toc).map_err(|error| unwritten(error.into()))?;
        let (file, size) = finish(out)?;
        self.reply(id, &Typed { media_type: TOC_MEDIA_TYPE.to_owned(), size }, &[file.as_fd()])
    }

    /// Descriptors that must all be open at once, here and at the peer.
    fn room_for(&self, count: usize, peer_takes: Option<usize>) -> Result<Share<'s>, Failure> {
        let peers = self.peer_limit.map(|limit| limit.saturating_sub(PEERS_OWN));
        let limit = [peers, peer_takes].into_iter().flatten().fold(self.budget.free(), usize::min);
        let share = if count <= limit { self.budget.take(count) } else { None };
        share.ok_or_else(|| Failure::do_not_fit(count, limit))
    }

    fn layer_of(&self, asked: &LayerOf) -> Result<Layer, Stop> {
        match (asked.handle, asked.layer_digest, &asked.layer) {
            (Some(handle), Some(digest), None) => by_digest(self.opened(handle)?, digest),
            (None, None, Some(layer)) => Ok(self.storage.layer(layer)?),
            _ => Err(Failure::params("either image_id and layer_digest or layer is needed").into()),
        }
    }
}

/// The layer of an image with this digest: of its tar, or as the manifest names what was pulled.
fn by_digest(image: &Image, digest: Digest) -> Result<Layer, Stop> {
    #[derive(Deserialize)]
    struct Manifest {
        #[serde(default)]
        layers: Vec<Descriptor>,
    }
    #[derive(Deserialize)]
    struct Descriptor {
        digest: String,
    }
    let layers = image.layers()?;
    let named = |layer: &&Layer| layer.diff_id() == Some(digest) || layer.compressed_digest() == Some(digest);
    if let Some(layer) = layers.iter().find(named) {
        return Ok(layer.clone());
    }
    // The store notes one compressed form of a layer; another image may have been pulled with another.
    let manifest = serde_json::from_slice::<Manifest>(image.manifest()?.bytes()).map_err(Failure::internal)?;
    let wanted = digest.to_string();
    let place = manifest.layers.iter().position(|layer| layer.digest == wanted);
    let found = place.filter(|_| manifest.layers.len() == layers.len()).and_then(|place| layers.get(place));
    Ok(found.cloned().ok_or_else(|| Failure::not_found(format!("{digest}: the image has no such layer")))?)
}

/// How many files of a layer would stand beside its stream.
fn count_files(layer: &Layer, threshold: u64) -> Result<usize, Stop> {
    let mut count = 0;
    for entry in layer.entries()? {
        let content = entry.map_err(Error::from)?.member.and_then(|member| member.content);
        count += usize::from(content.is_some_and(|content| content.size >= threshold));
    }
    Ok(count)
}

fn write_stream(
    layer: &Layer,
    compressed: bool,
    files: &mut Collect,
    threshold: u64,
) -> Result<(&'static str, File, u64), Stop> {
    let mut out = BufWriter::new(Memory::create().map_err(Failure::internal)?);
    if !compressed {
        layer.splitfdstream(&mut out, files, threshold).map_err(failed)?;
        let (stream, size) = finish(out)?;
        return Ok((MEDIA_TYPE, stream, size));
    }
    #[cfg(feature = "zstd")]
    {
        let mut compressor = Compressor::new(out, 0).map_err(unwritten)?;
        layer.splitfdstream(&mut compressor, files, threshold).map_err(failed)?;
        let (stream, size) = finish(compressor.finish().map_err(unwritten)?)?;
        Ok((MEDIA_TYPE_ZSTD, stream, size))
    }
    #[cfg(not(feature = "zstd"))]
    Err(Failure::params("compressed: this server was built without zstd").into())
}

fn finish(out: BufWriter<Memory>) -> Result<(File, u64), Stop> {
    let memory = out.into_inner().map_err(|error| unwritten(error.into_error()))?;
    Ok(memory.finish().map_err(Failure::internal)?)
}

/// The stream is the first descriptor, file p of it descriptor p + 1.
fn with_stream<'f>(stream: &'f File, files: &'f [OwnedFd]) -> Vec<BorrowedFd<'f>> {
    [stream.as_fd()].into_iter().chain(files.iter().map(AsFd::as_fd)).collect()
}

/// An output that is too large is a limit of this server, not a full disk.
fn failed(error: OutputError) -> Stop {
    match error {
        OutputError::SplitFd(SplitFdError::Write(error)) | OutputError::Write(error) => unwritten(error),
        error => error.into(),
    }
}

fn unwritten(error: io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Failure::limit("the answer is too large: use GetLayerTarSplit", Memory::LIMIT),
        _ => Failure::internal(error),
    }
    .into()
}
