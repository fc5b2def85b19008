//! What has files to extract: an image or a container.

use std::io::Write;

use crate::contents::ImageError;
use crate::output::OutputError;
use crate::output::toc::Toc;
use crate::storage::Container;
use crate::storage::Image;
use crate::storage::Layer;
use crate::store::StoreError;
use crate::store::chain::Chain;
use crate::tree::FinalTree;

/// An image or a container, as [`crate::Storage::target`] finds it.
#[derive(Debug, Clone)]
pub enum Target {
    /// An image: what a new container of it would see.
    Image(Image),
    /// A container: what it sees.
    Container(Container),
}

impl Target {
    /// The layers, the base first.
    pub fn layers(&self) -> Result<Vec<Layer>, StoreError> {
        match self {
            Target::Image(image) => image.layers(),
            Target::Container(container) => container.layers(),
        }
    }

    /// The merged files, from the headers alone.
    pub fn tree(&self) -> Result<FinalTree, ImageError> {
        match self {
            Target::Image(image) => image.tree(),
            Target::Container(container) => container.tree(),
        }
    }

    /// The table of contents of the merged files; see [`Image::toc`].
    pub fn toc(&self, digests: bool) -> Result<Toc, OutputError> {
        match self {
            Target::Image(image) => image.toc(digests),
            Target::Container(container) => container.toc(digests),
        }
    }

    /// Writes the table of contents of the merged files as JSON; see [`Image::write_toc`].
    pub fn write_toc(&self, out: impl Write, digests: bool, pretty: bool) -> Result<(), OutputError> {
        match self {
            Target::Image(image) => image.write_toc(out, digests, pretty),
            Target::Container(container) => container.write_toc(out, digests, pretty),
        }
    }

    /// Writes the merged files as one tar; see [`Image::export`].
    pub fn export(&self, out: impl Write) -> Result<u64, OutputError> {
        match self {
            Target::Image(image) => image.export(out),
            Target::Container(container) => container.export(out),
        }
    }

    pub(crate) fn open_chain(&self) -> Result<Chain, StoreError> {
        match self {
            Target::Image(image) => image.open_chain(),
            Target::Container(container) => container.open_chain(),
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

impl From<&Target> for Target {
    fn from(target: &Target) -> Target {
        target.clone()
    }
}
