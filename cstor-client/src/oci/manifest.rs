//! The manifest of the copy: the stored one where it describes the copy's blobs, else one like it. What changed, and
//! why, is kept for callers who compare digests.
//!
//! Sources: image-spec manifest.md, media-types.md; Docker's "Image Manifest V 2, Schema 2" has the same keys.

use std::fmt;

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};
use serde::Serialize;

use super::blob::{Blob, Compression};
use super::error::CopyError;
use super::subject::Subject;
use crate::base::digest::Digest;

/// A digest that is another one in the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The layer's place, the base being 1; `None` for the manifest.
    pub layer: Option<usize>,
    /// In the stored manifest.
    pub from: String,
    /// In the copy.
    pub to: Digest,
    /// Why.
    pub why: Reason,
}

/// Why a digest is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The store has no compressed layers, and none were asked for.
    Uncompressed,
    /// The layer was compressed by this copy.
    Compressed,
    /// The manifest names the layers' new digests.
    Layers,
    /// The manifest was Docker's, and is the OCI's now.
    MediaTypes,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "layer {layer}")?,
            None => f.write_str("manifest")?,
        }
        write!(f, " {} is now {}: {}", cstor_proto::Escaped(self.from.as_bytes()), self.to, self.why)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Uncompressed => "the store keeps no compressed layers, this is the plain tar",
            Reason::Compressed => "compressed anew, the store keeps no compressed layers",
            Reason::Layers => "it names the layers by their new digests or types",
            Reason::MediaTypes => "Docker's media types became the OCI's",
        })
    }
}

/// The manifest of a copy.
#[derive(Debug)]
pub(super) struct NewManifest {
    pub(super) bytes: Vec<u8>,
    pub(super) blob: Blob,
    pub(super) changes: Vec<Change>,
}

/// Describes `layers` as the stored manifest described the image's.
pub(super) fn describe(
    subject: &Subject<'_>,
    layers: &[Blob],
    compression: Compression,
) -> Result<NewManifest, CopyError> {
    let Subject { stored, manifest: parsed, config_blob: config, .. } = subject;
    let is_oci = match parsed.media_type() {
        Some(kind) => *kind == MediaType::ImageManifest,
        None => *parsed.config().media_type() == MediaType::ImageConfig,
    };
    let described = |(old, new): (&Descriptor, &Blob)| {
        old.digest().to_string() == new.digest.to_string()
            && old.size() == new.size
            && *old.media_type() == compression.media_type()
    };
    let same_number = parsed.layers().len() == layers.len();
    if is_oci && same_number && parsed.layers().iter().zip(layers).all(described) {
        return Ok(finished(stored.clone(), Vec::new()));
    }
    let mut changes = Vec::new();
    for (place, (old, new)) in parsed.layers().iter().zip(layers).enumerate().filter(|_| same_number) {
        let from = old.digest().to_string();
        if from != new.digest.to_string() {
            let why = if compression == Compression::None { Reason::Uncompressed } else { Reason::Compressed };
            changes.push(Change { layer: Some(place + 1), from, to: new.digest, why });
        }
    }
    let descriptors = layers.iter().map(|layer| descriptor(compression.media_type(), *layer));
    let descriptors = descriptors.collect::<Result<Vec<_>, _>>()?;
    let manifest = if is_oci {
        let mut manifest = parsed.clone();
        manifest.set_media_type(Some(MediaType::ImageManifest));
        // Annotations of a layer describe its old form: a table of contents inside of it, for one.
        manifest.set_layers(descriptors);
        manifest
    } else {
        let described = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::ImageConfig, *config)?)
            .layers(descriptors);
        described.build().map_err(|error| CopyError::Describe(error.into()))?
    };
    let mut new = finished(to_json(&manifest)?, changes);
    let why = if is_oci { Reason::Layers } else { Reason::MediaTypes };
    new.changes.push(Change { layer: None, from: Digest::of(stored).to_string(), to: new.blob.digest, why });
    Ok(new)
}

fn finished(bytes: Vec<u8>, changes: Vec<Change>) -> NewManifest {
    let blob = Blob { digest: Digest::of(&bytes), size: bytes.len() as u64 };
    NewManifest { bytes, blob, changes }
}

pub(super) fn descriptor(kind: MediaType, blob: Blob) -> Result<Descriptor, CopyError> {
    let digest = oci_spec::image::Digest::try_from(blob.digest.to_string());
    Ok(Descriptor::new(kind, blob.size, digest.map_err(|error| CopyError::Describe(error.into()))?))
}

/// JSON with its keys in order: annotations come in any.
pub(super) fn to_json(value: &impl Serialize) -> Result<Vec<u8>, CopyError> {
    let failed = |error: serde_json::Error| CopyError::Describe(error.into());
    let mut value = serde_json::to_value(value).map_err(failed)?;
    value.sort_all_objects();
    serde_json::to_vec(&value).map_err(failed)
}
