//! One container: its layer and those of its image below, as the files that it sees.
//!
//! The layer that it writes to has no description but its directory (`contents/disk/`), so what is read of a running container
//! is how each file was at its moment. What podman mounts into it, volumes above all, is not in its layers.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use cstor_proto::LayerId;

use super::changes::{self, Change};
use super::rootfs;
use crate::base::digest::ImageId;
use crate::base::kind::ErrorKind;
use crate::contents::ImageError;
use crate::output::OutputError;
use crate::output::toc::Toc;
use crate::storage::Layer;
use crate::store::chain::Chain;
use crate::store::{ContainerRecord, Shared, StoreError};
use crate::tree::FinalTree;

/// A container, as the store described it when it was listed or found.
#[derive(Clone)]
pub struct Container {
    shared: Arc<Shared>,
    record: Arc<ContainerRecord>,
}

impl Container {
    pub(crate) fn new(shared: &Arc<Shared>, record: Arc<ContainerRecord>) -> Container {
        Container { shared: Arc::clone(shared), record }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Its names; podman gives one.
    pub fn names(&self) -> &[String] {
        &self.record.names
    }

    /// The image that it was made from, if any.
    pub fn image_id(&self) -> Option<ImageId> {
        self.record.image
    }

    /// The name of that image when it was made, as podman keeps it.
    pub fn image_name(&self) -> Option<&str> {
        self.record.image_name.as_deref()
    }

    /// Its writable layer.
    pub fn layer_id(&self) -> LayerId {
        self.record.layer
    }

    /// When it was made, as RFC 3339.
    pub fn created(&self) -> Option<&str> {
        self.record.created.as_deref()
    }

    /// Its layers, the base first and the one that it writes to last.
    pub fn layers(&self) -> Result<Vec<Layer>, StoreError> {
        let records = self.unless_gone(Chain::records(&*self.shared.snapshot()?, Some(self.record.layer)))?;
        Ok(records.iter().map(|record| Layer::new(&self.shared, record)).collect())
    }

    /// The files that it sees; none is opened.
    pub fn tree(&self) -> Result<FinalTree, ImageError> {
        rootfs::tree(self.open_chain()?)
    }

    /// Its table of contents, with the digests of their contents if `digests` is set, else without opening any.
    pub fn toc(&self, digests: bool) -> Result<Toc, OutputError> {
        rootfs::toc(self.open_chain()?, digests)
    }

    /// Writes the same as JSON, row by row: it is never in memory as a whole.
    pub fn write_toc(&self, out: impl Write, digests: bool, pretty: bool) -> Result<(), OutputError> {
        rootfs::write_toc(self.open_chain()?, digests, pretty, out)
    }

    /// Writes the files that it sees as one tar, as [`crate::Image::export`] does. Nothing in its own layer can be
    /// held against a checksum.
    pub fn export(&self, out: impl Write) -> Result<u64, OutputError> {
        rootfs::export(self.open_chain()?, out)
    }

    /// What it has added, changed and deleted since it was made, in the order of the paths.
    pub fn changes(&self) -> Result<Vec<Change>, ImageError> {
        changes::of(self.open_chain()?)
    }

    /// Opens its layers for reading.
    pub(crate) fn open_chain(&self) -> Result<Chain, StoreError> {
        self.unless_gone(Chain::open(&self.shared, Some(self.record.layer), |_| Ok(())))
    }

    /// A layer that is missing is no damage if podman has removed the container since it was found.
    fn unless_gone<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        match read {
            Err(error) if error.kind() == ErrorKind::Corrupt && !self.shared.has_container(&self.record)? => {
                Err(StoreError::Vanished { layer: self.record.layer })
            }
            read => read,
        }
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("id", &self.id()).field("names", &self.names()).finish_non_exhaustive()
    }
}
