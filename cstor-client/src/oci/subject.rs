//! What of an image goes into a copy: its configuration and its layers, each with what the store says of its tar.

use std::collections::BTreeMap;

use oci_spec::image::ImageManifest;

use super::blob::{self, Blob};
use super::destination::{self, Destination};
use super::error::CopyError;
use crate::base::digest::Digest;
use crate::storage::Image;
use crate::storage::Layer;

/// An image, opened for a copy.
pub(super) struct Subject<'a> {
    pub(super) image: &'a Image,
    /// The manifest as it is stored.
    pub(super) stored: Vec<u8>,
    pub(super) manifest: ImageManifest,
    pub(super) config: Vec<u8>,
    pub(super) config_blob: Blob,
    /// The base first.
    pub(super) layers: Vec<(Layer, Blob)>,
}

impl<'a> Subject<'a> {
    pub(super) fn open(image: &'a Image) -> Result<Subject<'a>, CopyError> {
        let layers = image.layers()?.into_iter().map(|layer| blob::tar_of(&layer).map(|tar| (layer, tar)));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        // An image without a configuration, one of schema 1, is refused here.
        let config = image.config()?.bytes().to_vec();
        let stored = image.manifest()?.bytes().to_vec();
        let manifest: ImageManifest =
            serde_json::from_slice(&stored).map_err(|source| CopyError::Manifest { image: image.id(), source })?;
        let (found, wanted) = (Digest::of(&config), manifest.config().digest().to_string());
        if found.to_string() != wanted {
            return Err(CopyError::ConfigDigest { image: image.id(), found, wanted });
        }
        let config_blob = Blob { digest: found, size: config.len() as u64 };
        Ok(Subject { image, stored, manifest, config, config_blob, layers })
    }

    /// Its layers by their diff ids: what occurs twice is one.
    pub(super) fn unique(&self) -> BTreeMap<Digest, (&Layer, Blob)> {
        self.layers.iter().map(|(layer, tar)| (tar.digest, (layer, *tar))).collect()
    }

    /// The tag that was asked for, that of the image's first name, or the one that means none.
    pub(super) fn tag(&self, destination: &Destination) -> String {
        let own = self.image.names().first().and_then(|name| destination::tag_of(name));
        destination.name().or(own).unwrap_or("latest").to_owned()
    }
}
