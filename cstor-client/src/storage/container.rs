//! One container: its layer and those of its image below, as the files that it sees.
//!
//! The layer that it writes to has no description but its directory (`contents/disk/`), so what is read of a running container
//! is how each file was at its moment. What podman mounts into it, volumes above all, is not in its layers.

use std::fmt;
use std::sync::Arc;

use cstor_proto::LayerId;

use super::Rootfs;
use super::changes::{self, Change};
use crate::access::{Access, Chain};
use crate::base::digest::ImageId;
use crate::base::kind::ErrorKind;
use crate::contents::ImageError;
use crate::storage::Layer;
use crate::store::chain;
use crate::store::{ContainerRecord, StoreError};

/// A container, as the store described it when it was listed or found.
#[derive(Clone)]
pub struct Container {
    access: Access,
    record: Arc<ContainerRecord>,
}

impl Container {
    pub(crate) fn new(access: &Access, record: Arc<ContainerRecord>) -> Container {
        Container { access: access.clone(), record }
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
        let records = self.unless_gone(chain::records(&*self.access.snapshot()?, Some(self.record.layer)))?;
        Ok(records.iter().map(|record| Layer::new(&self.access, record)).collect())
    }

    /// The files that it sees: its layers are read and merged, and no file is opened. Nothing in its own layer can be
    /// checked against a checksum.
    pub fn rootfs(&self) -> Result<Rootfs, ImageError> {
        Rootfs::read(self.open_chain()?)
    }

    /// What it has added, changed and deleted since it was made, in the order of the paths.
    pub fn changes(&self) -> Result<Vec<Change>, ImageError> {
        changes::of(self.open_chain()?)
    }

    /// The same one with another access.
    pub(crate) fn under(self, change: impl FnOnce(Access) -> Access) -> Container {
        Container { access: change(self.access), ..self }
    }

    /// Opens its layers for reading.
    pub(crate) fn open_chain(&self) -> Result<Chain, StoreError> {
        self.unless_gone(Chain::open(&self.access, Some(self.record.layer), |_| Ok(())))
    }

    /// Reports `Vanished` instead of corruption if podman has removed the container since it was found.
    fn unless_gone<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        match read {
            Err(error)
                if error.kind() == ErrorKind::Corrupt
                    && !self.access.store().has_container(&self.record, self.access.interrupt())? =>
            {
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
