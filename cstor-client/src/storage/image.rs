//! One image of a store: its names, manifest and configuration, and the layers that make it up.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::{Config, Manifest, Rootfs};
use crate::access::{Access, Chain};
use crate::base::digest::{Digest, ImageId};
use crate::base::interrupt::Interrupt;
use crate::base::kind::ErrorKind;
use crate::contents::ImageError;
use crate::storage::Layer;
use crate::store::chain;
use crate::store::{ImageRecord, Snapshot, StoreError, Territory};

/// An image, as the store described it when it was listed or found.
#[derive(Clone)]
pub struct Image {
    access: Access,
    pub(super) record: Arc<ImageRecord>,
    pub(super) snapshot: Arc<Snapshot>,
}

impl Image {
    pub(crate) fn new(access: &Access, snapshot: &Arc<Snapshot>, record: &Arc<ImageRecord>) -> Image {
        Image { access: access.clone(), record: Arc::clone(record), snapshot: Arc::clone(snapshot) }
    }

    /// Its id.
    pub fn id(&self) -> ImageId {
        self.record.id
    }

    /// Its names, each with registry and tag; `None` for a dangling image.
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
        let manifest = self.access.store().big_data(&self.record, "manifest");
        self.unless_gone(manifest.and_then(|bytes| Manifest::parse(bytes, self.record.id)))
    }

    /// Its configuration. An image of the Docker v2 schema 1 has none.
    pub fn config(&self) -> Result<Config, StoreError> {
        let digest = self.manifest()?.config_digest(self.record.id)?;
        let config = self.access.store().big_data(&self.record, &digest.to_string());
        self.unless_gone(config.and_then(|bytes| Config::parse(bytes, self.record.id)))
    }

    /// Its layers, the base first; checked to be the ones that its configuration names.
    pub fn layers(&self) -> Result<Vec<Layer>, StoreError> {
        let records = chain::records(&self.snapshot, self.record.layer)?;
        self.check_diff_ids(&records)?;
        Ok(records.iter().map(|record| Layer::new(&self.access, record)).collect())
    }

    /// Its size as podman counts it: the uncompressed sizes of its layers and the sizes of its manifest
    /// and configuration, in bytes (containers/storage store.go, `ImageSize`).
    pub fn size(&self) -> Result<u64, StoreError> {
        let layers = chain::records(&self.snapshot, self.record.layer)?;
        let data = self.record.big_data_sizes.values().filter_map(|&size| u64::try_from(size).ok());
        Ok(layers.iter().filter_map(|layer| layer.diff_size).chain(data).fold(0, u64::saturating_add))
    }

    /// The files that a container of it would see: its layers are read and merged, and no file is opened.
    pub fn rootfs(&self) -> Result<Rootfs, ImageError> {
        Rootfs::read(self.open_chain()?)
    }

    /// Refuses a destination that is, lies in, or holds a directory of the store.
    pub(crate) fn keep_store_from(&self, destination: &Path) -> Result<(), StoreError> {
        Territory::of_roots(&self.access.store().roots)?.check(destination)
    }

    /// What stops operations on it.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        self.access.interrupt()
    }

    /// The same one with another access.
    pub(crate) fn under(self, change: impl FnOnce(Access) -> Access) -> Image {
        Image { access: change(self.access), ..self }
    }

    /// Opens its layers for reading.
    pub(crate) fn open_chain(&self) -> Result<Chain, StoreError> {
        self.unless_gone(Chain::open(&self.access, self.record.layer, |records| self.check_diff_ids(records)))
    }

    /// Reports `ImageVanished` instead of corruption if podman has removed the image since it was found.
    fn unless_gone<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        let is_same = |now: &Arc<ImageRecord>| now.id == self.record.id && now.layer == self.record.layer;
        match read {
            Err(error)
                if error.kind() == ErrorKind::Corrupt
                    && self.access.snapshot().is_ok_and(|now| !now.images.iter().any(is_same)) =>
            {
                Err(StoreError::ImageVanished { image: self.record.id })
            }
            read => read,
        }
    }

    /// Checks the chain against the configuration, where there is one: layers are never searched by diff id.
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
