//! One image of a store: its names, manifest and configuration, and the layers that make it up.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::rootfs;
use super::{Config, Manifest};
use crate::base::digest::{Digest, ImageId};
use crate::base::interrupt::Interrupt;
use crate::base::kind::ErrorKind;
use crate::contents::ImageError;
use crate::output::OutputError;
use crate::output::toc::Toc;
use crate::storage::Layer;
use crate::store::chain::Chain;
use crate::store::{ImageRecord, Shared, Snapshot, StoreError, Territory};
use crate::tree::FinalTree;

/// An image, as the store described it when it was listed or found.
#[derive(Clone)]
pub struct Image {
    shared: Arc<Shared>,
    pub(super) record: Arc<ImageRecord>,
    pub(super) snapshot: Arc<Snapshot>,
}

impl Image {
    pub(crate) fn new(shared: &Arc<Shared>, snapshot: &Arc<Snapshot>, record: &Arc<ImageRecord>) -> Image {
        Image { shared: Arc::clone(shared), record: Arc::clone(record), snapshot: Arc::clone(snapshot) }
    }

    /// Its id.
    pub fn id(&self) -> ImageId {
        self.record.id
    }

    /// Its names, each with registry and tag; none for a dangling image.
    pub fn names(&self) -> &[String] {
        &self.record.names
    }

    /// The digest of its manifest.
    pub fn digest(&self) -> Option<Digest> {
        self.record.digest
    }

    /// When it was stored, as RFC 3339; when it was built is in its configuration.
    pub fn stored_at(&self) -> Option<&str> {
        self.record.created.as_deref()
    }

    /// Its manifest.
    pub fn manifest(&self) -> Result<Manifest, StoreError> {
        let manifest = self.shared.big_data(&self.record, "manifest");
        self.unless_gone(manifest.and_then(|bytes| Manifest::parse(bytes, self.record.id)))
    }

    /// Its configuration. An image of the Docker v2 schema 1 has none.
    pub fn config(&self) -> Result<Config, StoreError> {
        let digest = self.manifest()?.config_digest(self.record.id)?;
        let config = self.shared.big_data(&self.record, &digest.to_string());
        self.unless_gone(config.and_then(|bytes| Config::parse(bytes, self.record.id)))
    }

    /// Its layers, the base first; checked to be the ones that its configuration names.
    pub fn layers(&self) -> Result<Vec<Layer>, StoreError> {
        let records = Chain::records(&self.snapshot, self.record.layer)?;
        self.check_diff_ids(&records)?;
        Ok(records.iter().map(|record| Layer::new(&self.shared, record)).collect())
    }

    /// Its size as podman counts it: the uncompressed sizes of its layers and the sizes of its manifest
    /// and configuration, in bytes (containers/storage store.go, `ImageSize`).
    pub fn size(&self) -> Result<u64, StoreError> {
        let layers = Chain::records(&self.snapshot, self.record.layer)?;
        let data = self.record.big_data_sizes.values().filter_map(|&size| u64::try_from(size).ok());
        Ok(layers.iter().filter_map(|layer| layer.diff_size).chain(data).fold(0, u64::saturating_add))
    }

    /// The files that a container of it would see, from the headers alone: no file is opened.
    pub fn tree(&self) -> Result<FinalTree, ImageError> {
        rootfs::tree(self.open_chain()?)
    }

    /// Its table of contents: the files that a container of it would see. With the digests of their contents
    /// if `digests` is set, else without opening any.
    pub fn toc(&self, digests: bool) -> Result<Toc, OutputError> {
        rootfs::toc(self.open_chain()?, digests)
    }

    /// Writes the same as JSON, row by row: it is never in memory as a whole.
    pub fn write_toc(&self, out: impl Write, digests: bool, pretty: bool) -> Result<(), OutputError> {
        rootfs::write_toc(self.open_chain()?, digests, pretty, out)
    }

    /// Writes its merged files as one tar: sorted, in PAX format, the same bytes for the same image. Every
    /// file is held against its checksum; what was written before an error is not the image.
    pub fn export(&self, out: impl Write) -> Result<u64, OutputError> {
        rootfs::export(self.open_chain()?, out)
    }

    /// Refuses a destination that is, lies in, or holds a directory of the store.
    pub(crate) fn keep_store_from(&self, destination: &Path) -> Result<(), StoreError> {
        Territory::of_roots(&self.shared.roots)?.check(destination)
    }

    /// What stops operations on it.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.shared.interrupt
    }

    /// Opens its layers for reading.
    pub(crate) fn open_chain(&self) -> Result<Chain, StoreError> {
        self.unless_gone(Chain::open(&self.shared, self.record.layer, |records| self.check_diff_ids(records)))
    }

    /// What looks like damage is none if podman has removed the image since it was found, and its layers and files
    /// with it.
    fn unless_gone<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        let is_same = |now: &Arc<ImageRecord>| now.id == self.record.id && now.layer == self.record.layer;
        match read {
            Err(error)
                if error.kind() == ErrorKind::Corrupt
                    && self.shared.snapshot().is_ok_and(|now| !now.images.iter().any(is_same)) =>
            {
                Err(StoreError::ImageVanished { image: self.record.id })
            }
            read => read,
        }
    }

    /// Holds the chain against the configuration, where there is one: layers are never searched by diff id.
    fn check_diff_ids(&self, chain: &[Arc<crate::store::LayerRecord>]) -> Result<(), StoreError> {
        if !self.record.big_data.iter().any(|key| key == "manifest") {
            return Ok(());
        }
        if self.record.layer.is_none() && self.manifest()?.is_list() {
            return Err(StoreError::ManifestList { image: self.record.id });
        }
        let config = match self.config() {
            Ok(config) => config,
            Err(StoreError::NoBigData { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let wanted = config.diff_ids(self.record.id)?;
        if wanted.len() != chain.len() {
            return Err(StoreError::LayerCount { image: self.record.id, config: wanted.len(), chain: chain.len() });
        }
        for (layer, wanted) in chain.iter().zip(wanted) {
            // A layer of which only a table of contents was pulled has no diff id of its own.
            if let Some(found) = layer.diff_digest.filter(|&found| found != wanted) {
                return Err(StoreError::DiffId { image: self.record.id, layer: layer.id, found, wanted });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("id", &self.record.id).field("names", &self.record.names).finish_non_exhaustive()
    }
}
