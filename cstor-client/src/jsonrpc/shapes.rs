//! What requests, answers and notifications contain, for both ends. Keys are those of the protocols that they come
//! from, as `docs/jsonrpc.md` lists them; parameters may also come as a list, in the order of the fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::digest::{Digest, ImageId};

/// The version of the protocol with `GetLayerTarSplit`, as the description of the proxy's protocol has it.
pub(super) const VERSION: &str = "2.0.0";
/// The capability that says so.
pub(super) const TAR_SPLIT_STREAM: &str = "tar-split-stream";

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Initialize {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Initialized {
    pub(super) version: String,
    pub(super) capabilities: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Images {
    pub(super) images: Vec<RemoteImage>,
}

/// An image that a server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RemoteImage {
    /// Its id.
    pub id: ImageId,
    /// Its names, each with registry and tag.
    pub names: Vec<String>,
    /// The digest of its manifest.
    pub digest: Option<Digest>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ImageOf {
    #[serde(rename = "imageId", alias = "image")]
    pub(super) image: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageData {
    pub(super) manifest: String,
    pub(super) config: String,
    /// Ids of the store, from the top to the base.
    pub(super) layer_digests: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OpenImage {
    #[serde(rename = "image_ref", alias = "imageName", alias = "image")]
    pub(super) image: String,
}

/// An image that a server holds open for a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenedImage {
    /// By which later requests name it.
    #[serde(rename = "image_id", alias = "imageID")]
    pub handle: u64,
    /// Its id, if the server says so.
    #[serde(default)]
    pub id: Option<ImageId>,
    /// Its layers, the base first, if the server says so.
    #[serde(default)]
    pub layers: Vec<RemoteLayer>,
}

/// A layer of an image that a server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RemoteLayer {
    /// Its id in the store.
    pub id: String,
    /// The digest of its tar.
    pub diff_id: Option<Digest>,
    /// The size of its tar in bytes.
    pub size: Option<u64>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Handle {
    #[serde(rename = "image_id", alias = "imageID")]
    pub(super) handle: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Digest>,
    pub(super) manifest: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) config: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WholeStream {
    pub(super) layer: String,
    #[serde(default)]
    pub(super) compressed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) inline_threshold: Option<u64>,
    /// How many descriptors the client can take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_fds: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Typed {
    pub(super) media_type: String,
    #[serde(default)]
    pub(super) size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeaderStream {
    pub(super) layer_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_fds: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamSize {
    pub(super) stream_size: u64,
}

/// A layer: of an open image by the digest of its tar or of its compressed form, or of the store by its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerOf {
    #[serde(default, alias = "imageID", rename = "image_id", skip_serializing_if = "Option::is_none")]
    pub(super) handle: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) layer_digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) layer: Option<String>,
    /// Whether descriptors come with the files; they do unless told otherwise.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub(super) contents: bool,
}

fn yes() -> bool {
    true
}

fn is_yes(contents: &bool) -> bool {
    *contents
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    #[serde(default)]
    pub(super) digest: Option<Digest>,
    #[serde(default)]
    pub(super) uncompressed_size: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Segment {
    /// In base64.
    pub(super) data: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileOf {
    /// Bytes that are not UTF-8 are replaced; the header in the segment before has them all.
    pub(super) name: String,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) mode: u32,
    #[serde(default)]
    pub(super) uid: u64,
    #[serde(default)]
    pub(super) gid: u64,
    /// The form in which the description of the proxy's protocol says that a descriptor comes along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", skip_deserializing)]
    pub(super) fd: BTreeMap<&'static str, FdValue>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum FdValue {
    IsOne(bool),
    Index(u32),
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct End {
    #[serde(default)]
    pub(super) checksum: Option<Digest>,
    #[serde(default)]
    pub(super) files_sent: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Success {
    pub(super) success: bool,
}

/// Of what a table of contents is wanted: of an image that is open or named, or of a layer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct MetaOf {
    #[serde(default, alias = "imageID", rename = "image_id", skip_serializing_if = "Option::is_none")]
    pub(super) handle: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) layer: Option<String>,
    /// Whether the contents are read for their digests.
    #[serde(default)]
    pub(super) digests: bool,
}

/// What an error says beyond its code and message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FailureData {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<u64>,
}
