//! Manifest and configuration as far as they are needed here, with the exact bytes beside.
//!
//! Sources: OCI image-spec manifest.md and config.md; Docker's schema 2 has the same keys.

use serde::Deserialize;
use serde_json::Value;

use crate::base::digest::{Digest, ImageId};
use crate::store::StoreError;

/// An image's manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    bytes: Vec<u8>,
    json: ManifestJson,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestJson {
    media_type: Option<String>,
    config: Option<Descriptor>,
    /// Of a list of manifests, which has no files of its own.
    manifests: Option<Vec<Value>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Descriptor {
    digest: String,
}

impl Manifest {
    pub(super) fn parse(bytes: Vec<u8>, image: ImageId) -> Result<Manifest, StoreError> {
        let json = parse(&bytes, image, "manifest")?;
        Ok(Manifest { bytes, json })
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its media type, if it names one.
    pub fn media_type(&self) -> Option<&str> {
        self.json.media_type.as_deref()
    }

    /// Whether it lists other manifests.
    pub(super) fn is_list(&self) -> bool {
        self.json.manifests.is_some()
    }

    /// The digest of the configuration: also the key under which the store keeps it.
    pub(super) fn config_digest(&self, image: ImageId) -> Result<Digest, StoreError> {
        let Some(config) = &self.json.config else {
            return Err(StoreError::NoBigData { image, key: "config".to_owned() });
        };
        parse_digest(&config.digest, image)
    }
}

/// An image's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    bytes: Vec<u8>,
    json: ConfigJson,
}

#[derive(Debug, Clone, Deserialize)]
struct ConfigJson {
    architecture: Option<String>,
    os: Option<String>,
    created: Option<String>,
    /// Environment, command, labels and the like, passed on as they are.
    config: Option<Value>,
    rootfs: Option<RootFs>,
    #[serde(default)]
    history: Option<Vec<History>>,
}

#[derive(Debug, Clone, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// One step of an image's history.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct History {
    /// When the step was done, as RFC 3339.
    pub created: Option<String>,
    /// The command of the step.
    pub created_by: Option<String>,
    /// Who did it.
    pub author: Option<String>,
    /// A remark.
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default)]
    pub empty_layer: bool,
}

impl Config {
    pub(super) fn parse(bytes: Vec<u8>, image: ImageId) -> Result<Config, StoreError> {
        let json = parse(&bytes, image, "config")?;
        Ok(Config { bytes, json })
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The processor architecture, as Go names it.
    pub fn architecture(&self) -> Option<&str> {
        self.json.architecture.as_deref()
    }

    /// The operating system, as Go names it.
    pub fn os(&self) -> Option<&str> {
        self.json.os.as_deref()
    }

    /// When the image was built, as RFC 3339.
    pub fn created(&self) -> Option<&str> {
        self.json.created.as_deref()
    }

    /// Environment, command, labels and so on, as the image has them.
    pub fn runtime(&self) -> Option<&Value> {
        self.json.config.as_ref()
    }

    /// The steps that made the image, the first one first.
    pub fn history(&self) -> &[History] {
        self.json.history.as_deref().unwrap_or_default()
    }

    pub(super) fn diff_ids(&self, image: ImageId) -> Result<Vec<Digest>, StoreError> {
        let ids = self.json.rootfs.as_ref().and_then(|rootfs| rootfs.diff_ids.as_deref()).unwrap_or_default();
        ids.iter().map(|id| parse_digest(id, image)).collect()
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], image: ImageId, file: &str) -> Result<T, StoreError> {
    let path = format!("overlay-images/{image}/{file}").into();
    serde_json::from_slice(bytes).map_err(|source| StoreError::Json { path, source })
}

fn parse_digest(text: &str, image: ImageId) -> Result<Digest, StoreError> {
    text.parse().map_err(|source| StoreError::BadDigest { image, text: text.to_owned(), source })
}
