//! What can be extracted: an image, a container, or one layer.

use crate::access::{Access, Chain};
use crate::contents::ImageError;
use crate::storage::{Container, Image, Layer, Rootfs};
use crate::store::StoreError;

/// An image, a container, or a layer. [`crate::Storage::target`] finds images and containers.
#[derive(Debug, Clone)]
pub enum Target {
    /// An image: what a new container of it would see.
    Image(Image),
    /// A container: what it sees.
    Container(Container),
    /// What one layer has of its own, without those below it; its whiteouts leave nothing.
    Layer(Layer),
}

impl Target {
    /// Its layers, the base first.
    pub fn layers(&self) -> Result<Vec<Layer>, StoreError> {
        match self {
            Target::Image(image) => image.layers(),
            Target::Container(container) => container.layers(),
            Target::Layer(layer) => Ok(vec![layer.clone()]),
        }
    }

    /// Its merged files: its layers are read, and no file is opened.
    pub fn rootfs(&self) -> Result<Rootfs, ImageError> {
        match self {
            Target::Image(image) => image.rootfs(),
            Target::Container(container) => container.rootfs(),
            Target::Layer(layer) => layer.rootfs(),
        }
    }

    /// Opens the layers for reading, with another access than that of the store.
    pub(crate) fn open_chain_under(self, change: impl FnOnce(Access) -> Access) -> Result<Chain, StoreError> {
        match self {
            Target::Image(image) => image.under(change).open_chain(),
            Target::Container(container) => container.under(change).open_chain(),
            Target::Layer(layer) => layer.under(change).open_alone(),
        }
    }
}

impl From<&Image> for Target {
    fn from(image: &Image) -> Target {
        Target::Image(image.clone())
    }
}

impl From<&Container> for Target {
    fn from(container: &Container) -> Target {
        Target::Container(container.clone())
    }
}

impl From<&Layer> for Target {
    fn from(layer: &Layer) -> Target {
        Target::Layer(layer.clone())
    }
}

impl From<&Target> for Target {
    fn from(target: &Target) -> Target {
        target.clone()
    }
}
