//! From a layer to a blob: its tar is checked against its diff id, compressed and hashed in one pass. Several
//! layers are worked on at a time; the result does not depend on it.

use std::io::{self, BufWriter, Write};
use std::num::NonZero;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, available_parallelism};

use oci_spec::image::MediaType;

use super::error::CopyError;
use crate::base::digest::Digest;
use crate::base::hashed::Hashed;
use crate::base::parallel::start_helpers;
use crate::base::temporary::Incomplete;
use crate::contents::{ReadError, ReadProblem};
use crate::output::OutputError;
use crate::output::Verify;
use crate::storage::Layer;

/// More threads would wait for the disk, and each holds a few mebibytes.
const MAX_THREADS: usize = 8;
/// What gzip(1) and skopeo take.
const GZIP_LEVEL: u32 = 6;
/// What zstd(1) takes.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 3;
const BUFFER: usize = 256 * 1024;

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all: a layer's blob is its tar, and has the diff id as its digest.
    #[default]
    None,
    /// gzip, level 6.
    Gzip,
    /// zstd, level 3.
    #[cfg(feature = "zstd")]
    Zstd,
}

impl Compression {
    pub(super) fn media_type(self) -> MediaType {
        match self {
            Compression::None => MediaType::ImageLayer,
            Compression::Gzip => MediaType::ImageLayerGzip,
            #[cfg(feature = "zstd")]
            Compression::Zstd => MediaType::ImageLayerZstd,
        }
    }
}

/// Bytes by their digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// What layers.json says of a layer's tar.
pub(super) fn tar_of(layer: &Layer) -> Result<Blob, CopyError> {
    match (layer.diff_id(), layer.diff_size()) {
        (Some(digest), Some(size)) => Ok(Blob { digest, size }),
        _ => Err(CopyError::NoDigest { layer: layer.id() }),
    }
}

/// Writes a layer's tar; an error if it is not what `tar` says.
pub(super) fn write_tar(layer: &Layer, tar: Blob, out: impl Write) -> Result<(), CopyError> {
    let found = layer.export(out, Verify::Digest)?;
    if found == tar.size {
        return Ok(());
    }
    let problem = ReadProblem::Total { found, wanted: tar.size };
    Err(OutputError::from(ReadError { layer: layer.id(), name: None, problem }).into())
}

fn write_blob(layer: &Layer, compression: Compression, out: impl Write) -> Result<Blob, CopyError> {
    let tar = tar_of(layer)?;
    let mut hashed = match compression {
        Compression::None => {
            write_tar(layer, tar, out)?;
            return Ok(tar);
        }
        Compression::Gzip => {
            // No time of its own in the header: the same layer gives the same bytes.
            let mut out = flate2::write::GzEncoder::new(
                Hashed::new(BufWriter::with_capacity(BUFFER, out)),
                flate2::Compression::new(GZIP_LEVEL),
            );
            write_tar(layer, tar, &mut out)?;
            out.finish().map_err(OutputError::Write)?
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            let mut out = zstd::Encoder::new(Hashed::new(BufWriter::with_capacity(BUFFER, out)), ZSTD_LEVEL)
                .map_err(OutputError::Write)?;
            out.include_checksum(true).map_err(OutputError::Write)?;
            write_tar(layer, tar, &mut out)?;
            out.finish().map_err(OutputError::Write)?
        }
    };
    hashed.flush().map_err(OutputError::Write)?;
    Ok(Blob { digest: hashed.digest(), size: hashed.size() })
}

/// A blob that is complete but has no name yet.
pub(super) type NewBlob<'a> = Incomplete<BorrowedFd<'a>>;

/// Writes layers to files without names, each to one of its own, in the order of `layers`.
pub(super) fn write_blobs<'a>(
    layers: &[&Layer],
    compression: Compression,
    create: &(dyn Fn() -> Result<NewBlob<'a>, CopyError> + Sync),
    failed: &(dyn Fn(io::Error) -> CopyError + Sync),
) -> Result<Vec<(Blob, NewBlob<'a>)>, CopyError> {
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done = Mutex::new(Vec::new());
    let work = || -> Result<(), CopyError> {
        while !stopped.load(Ordering::Relaxed) {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = layers.get(place) else { break };
            let file = create()?;
            let blob = write_blob(layer, compression, Stoppable { out: file.file(), stopped: &stopped });
            let blob = blob.map_err(|error| match error {
                CopyError::Output(OutputError::Write(source)) => failed(source),
                error => error,
            })?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push((place, blob, file));
        }
        Ok(())
    };
    let first_error = Mutex::new(None);
    let run = || {
        if let Err(error) = work() {
            stopped.store(true, Ordering::Relaxed);
            first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    };
    let threads = available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS).min(layers.len());
    let ended = thread::scope(|scope| {
        let others = start_helpers(scope, threads.saturating_sub(1), run);
        run();
        others.into_iter().all(|thread| thread.join().is_ok())
    });
    if let Some(error) = first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !ended || done.len() != layers.len() {
        return Err(CopyError::Thread);
    }
    done.sort_by_key(|(place, ..)| *place);
    Ok(done.into_iter().map(|(_, blob, file)| (blob, file)).collect())
}

/// Fails as soon as another layer has.
struct Stoppable<'a, W> {
    out: W,
    stopped: &'a AtomicBool,
}

impl<W: Write> Write for Stoppable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
