//! One layer of a store: what layers.json says of it, and the ways to its members and files.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

use cstor_proto::{LayerId, Refusal, RelPath};

use crate::access::{Access, Chain, FileSource};
use crate::base::digest::Digest;
use crate::contents::entries::{self, Entries};
use crate::contents::flow::{self, EntrySink};
use crate::contents::{ContentProblem, ImageError, ReadError, ReadProblem};
use crate::output::splitdirfd::DirSink;
use crate::output::splitfd::{Split, SplitSink};
use crate::output::toc::{self, Toc};
use crate::output::{CheckSink, OutputError, TarSink, TocSink, UncheckedTarSink, Verify};
use crate::splitfd::FileConsumer;
use crate::storage::{Rootfs, Storage};
use crate::store::chain;
use crate::store::{LayerRecord, StoreError};

/// A layer, as the store described it when it was listed or found.
#[derive(Clone)]
pub struct Layer {
    access: Access,
    record: Arc<LayerRecord>,
}

impl Layer {
    pub(crate) fn new(access: &Access, record: &Arc<LayerRecord>) -> Layer {
        Layer { access: access.clone(), record: Arc::clone(record) }
    }

    /// Finds a layer by its id, a prefix of it of three digits or more, its diff id, link id or name.
    pub fn open(storage: &Storage, reference: &str) -> Result<Layer, StoreError> {
        storage.layer(reference)
    }

    /// Its id.
    pub fn id(&self) -> LayerId {
        self.record.id
    }

    /// The layer below it; `None` for a base.
    pub fn parent(&self) -> Option<LayerId> {
        self.record.parent
    }

    /// Its names; layers rarely have one.
    pub fn names(&self) -> &[String] {
        &self.record.names
    }

    /// The digest of its tar: what an image's configuration calls the diff id.
    pub fn diff_id(&self) -> Option<Digest> {
        self.record.diff_digest
    }

    /// The size of its tar in bytes; `None` where only a table of contents was pulled.
    pub fn diff_size(&self) -> Option<u64> {
        self.record.diff_size
    }

    /// The digest of the compressed form in which it was pulled.
    pub fn compressed_digest(&self) -> Option<Digest> {
        self.record.compressed_digest
    }

    /// When it was stored, as RFC 3339.
    pub fn created(&self) -> Option<&str> {
        self.record.created.as_deref()
    }

    /// The layers from its base up to itself.
    pub fn chain(&self) -> Result<Vec<Layer>, StoreError> {
        let snapshot = self.access.snapshot()?;
        if snapshot.layer(self.record.id).is_none() {
            return Err(StoreError::Vanished { layer: self.record.id });
        }
        let records = chain::records(&snapshot, Some(self.record.id))?;
        Ok(records.iter().map(|record| Layer::new(&self.access, record)).collect())
    }

    /// Its members in the order of its tar, and last what follows them. No file of its contents is opened.
    pub fn entries(&self) -> Result<Entries, ImageError> {
        let mut chain = self.open_alone()?;
        let mut source = chain.source();
        entries::open_entries(&mut chain, 0, &mut source)
    }

    /// Writes its exact tar: the bytes that it was pulled, loaded or built as, uncompressed.
    ///
    /// It is checked on the way as far as `level` says: with [`Verify::Digest`] every file against its checksum, and all
    /// of it against the layer's digest and size. What was written before an error is not the layer.
    ///
    /// ```
    /// # use cstor_client::{Layer, Storage, Verify};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../example_store.txt")]
    /// let layer = Layer::open(&Storage::open(root)?, "aee32ac4")?;
    /// let size = layer.export(std::io::sink(), Verify::Digest)?;
    /// assert_eq!(Some(size), layer.diff_size());
    /// # Ok(())
    /// # }
    /// ```
    pub fn export(&self, out: impl Write, level: Verify) -> Result<u64, OutputError> {
        let hash = level == Verify::Digest && self.record.diff_digest.is_some();
        let written = self.pump(TarSink::new(out, level, hash))?;
        self.check_digest(written.digest)?;
        Ok(written.size)
    }

    /// Its table of contents, whiteouts and all; with the digests of files if `digests` is set, else without
    /// opening any.
    pub fn toc(&self, digests: bool) -> Result<Toc, OutputError> {
        Toc::collect(&self.access.account()?, |take| self.pump(TocSink::new(digests, take)))
    }

    /// Writes the same as JSON, row by row, with or without whiteouts: it is never in memory as a whole.
    pub fn write_toc(&self, out: impl Write, digests: bool, whiteouts: bool, pretty: bool) -> Result<(), OutputError> {
        toc::write(out, pretty, |take| {
            self.pump(TocSink::new(digests, &mut |row| {
                if whiteouts || !row.is_whiteout() { take(row) } else { Ok(()) }
            }))
        })
    }

    /// Looks for damage and says everything it finds; an error is what kept it from looking further.
    pub fn verify(&self, level: Verify) -> Result<Vec<ReadError>, OutputError> {
        let checked = match self.pump(CheckSink::new(level)) {
            // Damage of the description itself: nothing behind it can be understood.
            Err(OutputError::Image(ImageError::Read(error))) => return Ok(vec![error]),
            checked => checked?,
        };
        let mut findings = checked.findings;
        findings.extend(self.check_digest(checked.digest).err());
        Ok(findings)
    }

    fn check_digest(&self, digest: Option<Digest>) -> Result<(), ReadError> {
        match (digest, self.record.diff_digest) {
            (Some(found), Some(wanted)) if found != wanted => {
                Err(ReadError { layer: self.record.id, name: None, problem: ReadProblem::Digest { found, wanted } })
            }
            _ => Ok(()),
        }
    }

    /// Writes its tar without looking at the contents: the kernel moves them, and no checksum is held
    /// against anything but the size of each file.
    pub fn export_unchecked(&self, out: impl Write + AsFd) -> Result<u64, OutputError> {
        self.pump(UncheckedTarSink::new(out))
    }

    /// Writes its tar as a splitfdstream to `out`, and passes larger files to `files`.
    ///
    /// Files below `inline_threshold` bytes stand in the stream and are checked against their checksums, so a
    /// threshold of 0 puts no contents in the stream and one of `u64::MAX` all. A file whose size is not that
    /// of its header is an error. What was written before an error is no stream.
    pub fn splitfdstream(
        &self,
        out: impl Write,
        files: impl FileConsumer,
        inline_threshold: u64,
    ) -> Result<Split, OutputError> {
        self.pump(SplitSink::new(out, files, inline_threshold))
    }

    /// Writes its tar as a splitdirfdstream with one directory, the layer's `diff`.
    ///
    /// Files below `inline_threshold` bytes stand in the stream, and so do those that the receiver would not
    /// find: it follows no symlink, and takes names in UTF-8 alone. Whether it may read the others is for the
    /// caller to know.
    pub fn splitdirfdstream(&self, out: impl Write, inline_threshold: u64) -> Result<Split, OutputError> {
        self.pump(DirSink::new(out, inline_threshold))
    }

    /// Passes its entries to a sink.
    pub(crate) fn pump<S: EntrySink>(&self, sink: S) -> Result<S::Output, S::Error> {
        let mut chain = self.open_alone().map_err(ImageError::from)?;
        let mut source = chain.source();
        let entries = entries::open_entries(&mut chain, 0, &mut source)?;
        match chain.layers().first() {
            Some(layer) => flow::pump(entries, (&chain, layer), &mut source, sink),
            None => Err(ImageError::from(StoreError::Vanished { layer: self.record.id }).into()),
        }
    }

    /// Opens one of its own files for reading; `name` means what it means in the layer's tar.
    ///
    /// ```
    /// # use std::io::Read;
    /// # use cstor_client::{Layer, Storage};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../example_store.txt")]
    /// let storage = Storage::open(root)?;
    /// let mut text = String::new();
    /// Layer::open(&storage, "aee32ac4")?.open_file_std("etc/app.conf")?.read_to_string(&mut text)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_file_std(&self, name: impl AsRef<[u8]>) -> Result<File, ImageError> {
        let chain = self.open_alone()?;
        let error = |problem| ReadError { layer: self.record.id, name: Some(name.as_ref().to_vec()), problem };
        let path = RelPath::clean(name.as_ref()).map_err(|invalid| error(ReadProblem::Name(invalid)))?;
        let layer = chain.layers().first().ok_or(StoreError::Vanished { layer: self.record.id })?;
        let digest = entries::digests_of(&chain, layer)?.map(|digests| digests.of(name.as_ref()));
        let digest = digest.transpose().map_err(|_| error(ContentProblem::Refused(Refusal::NotFound).into()))?;
        let opened = chain.source().open_batch(layer, &[layer.place(path, digest)])?;
        let file = opened.into_iter().next().unwrap_or(Err(Refusal::NotFound));
        Ok(File::from(file.map_err(|refusal| error(ContentProblem::unopened(&chain, layer, None, refusal).into()))?.fd))
    }

    /// The files that it has of its own, without those of the layers below it; its whiteouts leave nothing.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn rootfs(&self) -> Result<Rootfs, ImageError> {
        Rootfs::read(self.open_alone()?)
    }

    /// The same one with another access.
    pub(crate) fn under(self, change: impl FnOnce(Access) -> Access) -> Layer {
        Layer { access: change(self.access), ..self }
    }

    /// A chain of this layer only.
    pub(crate) fn open_alone(&self) -> Result<Chain, StoreError> {
        Chain::open_one(&self.access, self.record.id)
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("id", &self.record.id).finish_non_exhaustive()
    }
}
