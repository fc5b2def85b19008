//! The client of `skopeo experimental-image-proxy`, as it is released: images of any transport that skopeo has, blob by
//! blob, without descriptors of single files.
//!
//! Packets are those of `conversation.rs`, data come through pipes (`pipe.rs`), and layers become members in `layer.rs`;
//! how those are merged and placed is `extract`'s. `docs/formats/image-proxy.md` has the protocol and its sources.

mod conversation;
mod error;
mod layer;
mod pipe;

use std::os::fd::OwnedFd;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use conversation::ProxyOptions;
#[cfg(fuzzing)]
pub use conversation::parse_reply;
pub use error::ProxyV1Error;
pub use pipe::{Blob, Pipe};

use crate::base::digest::Digest;
use crate::extract::from_streams::Streams;
use crate::extract::{Extractor, Report};
use crate::store::chain::MAX_LAYERS;
use conversation::{Conversation, INITIALIZE};
use layer::{Layer, LayerName};

/// The longest manifest and configuration, as containers/image reads them (internal/iolimits).
const MAX_DOCUMENT: usize = 4 << 20;
/// The first version with `GetFullConfig`: what there was before has no diff ids.
const FIRST: Version = Version(2, 3);
/// The first version with `OpenImageOptional`, which tells an image that is not there from other errors.
const TELLS_ABSENCE: Version = Version(2, 4);
/// The first version with `GetLayerInfoPiped`, which knows blobs that a source has in another form than its manifest.
const TELLS_LAYERS: Version = Version(2, 7);
/// The media types of layers (image-spec layer.md; Docker's schema 2), without what says how they are compressed.
const LAYER_TYPES: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];
/// What may stand behind them.
const COMPRESSIONS: [&str; 5] = ["", "+gzip", "+zstd", ".gzip", ".zstd"];

/// Of the protocol; the first number is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl Version {
    fn parse(text: &str) -> Option<Version> {
        let mut numbers = text.split('.').map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(0)), Some(Ok(minor)), Some(Ok(patch)), None) => Some(Version(minor, patch)),
            _ => None,
        }
    }
}

/// A running image proxy.
///
/// ```no_run
/// use cstor_client::extract::Extractor;
/// use cstor_client::jsonrpc::{ProxyOptions, ProxyV1Client};
///
/// let command = ["skopeo".to_owned(), "experimental-image-proxy".to_owned()];
/// let proxy = ProxyV1Client::start(&command, ProxyOptions::new())?;
/// let report = proxy.extract("oci:layout:latest", "rootfs".as_ref(), &Extractor::new())?;
/// assert!(report.verified);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ProxyV1Client {
    conversation: Conversation,
    version: Version,
}

/// An image that a proxy has open.
#[derive(Debug)]
pub struct OpenImage {
    id: u64,
    reference: String,
}

/// An image's manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyManifest {
    /// The digest of the original, in whatever form its source has it.
    pub digest: Digest,
    /// The manifest in OCI form; the original itself if it has that.
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct ManifestJson {
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    /// The second name is that of `GetLayerInfoPiped`.
    #[serde(rename = "mediaType", alias = "media_type")]
    media_type: String,
    digest: Digest,
    size: u64,
}

#[derive(Deserialize)]
struct ConfigJson {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

impl ProxyV1Client {
    /// Starts a proxy, a program and its arguments, with one end of a socket as its standard input. No shell is
    /// involved.
    pub fn start(command: &[String], options: ProxyOptions) -> Result<ProxyV1Client, ProxyV1Error> {
        let mut conversation = Conversation::start(command, options)?;
        let (reply, _) = conversation.call(INITIALIZE, &[], 0)?;
        let program = conversation.program().to_owned();
        let Value::String(found) = reply.value else {
            return Err(ProxyV1Error::Value { program, method: INITIALIZE, wanted: "version" });
        };
        match Version::parse(&found).filter(|version| version.0 == FIRST.0 && *version >= FIRST) {
            Some(version) => Ok(ProxyV1Client { conversation, version }),
            None => Err(ProxyV1Error::Version { program, found }),
        }
    }

    /// Opens an image, named as for skopeo: `TRANSPORT:…`.
    pub fn open_image(&mut self, reference: &str) -> Result<OpenImage, ProxyV1Error> {
        let method = if self.version >= TELLS_ABSENCE { "OpenImageOptional" } else { "OpenImage" };
        let (reply, _) = self.conversation.call(method, &[reference.into()], 0)?;
        match reply.value.as_u64() {
            Some(0) if method == "OpenImageOptional" => Err(ProxyV1Error::NoImage { reference: reference.to_owned() }),
            Some(id @ 1..) => Ok(OpenImage { id, reference: reference.to_owned() }),
            _ => Err(self.without(method, "number of an image")),
        }
    }

    /// Closes an image.
    pub fn close_image(&mut self, image: OpenImage) -> Result<(), ProxyV1Error> {
        self.conversation.call("CloseImage", &[image.id.into()], 0).map(drop)
    }

    /// The manifest of an image; of a list, that of the image for this machine.
    pub fn manifest(&mut self, image: &OpenImage) -> Result<ProxyManifest, ProxyV1Error> {
        const METHOD: &str = "GetManifest";
        let (value, pipe) = self.piped(METHOD, &[image.id.into()])?;
        let bytes = pipe.read_document("manifest", MAX_DOCUMENT)?;
        match value.as_str().and_then(|digest| digest.parse().ok()) {
            Some(digest) => Ok(ProxyManifest { digest, bytes }),
            None => Err(self.without(METHOD, "SHA-256 digest")),
        }
    }

    /// The configuration of an image in OCI form, written anew by the proxy: its digest need not be that in the
    /// manifest.
    pub fn config(&mut self, image: &OpenImage) -> Result<Vec<u8>, ProxyV1Error> {
        let (_, pipe) = self.piped("GetFullConfig", &[image.id.into()])?;
        pipe.read_document("configuration", MAX_DOCUMENT)
    }

    /// A blob of an image, by digest and size.
    pub fn blob(&mut self, image: &OpenImage, digest: Digest, size: u64) -> Result<Blob<'_>, ProxyV1Error> {
        let (_, pipe) = self.piped("GetBlob", &[image.id.into(), digest.to_string().into(), size.into()])?;
        Ok(Blob::new(pipe, digest, size))
    }

    /// Ends the proxy, as dropping it does.
    pub fn shutdown(mut self) {
        self.conversation.end();
    }

    /// Extracts an image, and ends the proxy before anything is placed.
    ///
    /// Layers are merged and placed as those of a store. All contents are copied, through one file beside the result,
    /// and all are checked: the blobs against the manifest, their tars against the diff ids of the configuration. Both
    /// documents are the proxy's word. [`Extractor::before_placing`] is heeded before anything of the image is asked for:
    /// the proxy runs and the destination is open, and no other file will be.
    pub fn extract(
        mut self,
        reference: &str,
        destination: &Path,
        extractor: &Extractor,
    ) -> Result<Report, ProxyV1Error> {
        let mut streams = Streams::begin(destination, extractor)?;
        streams.confine()?;
        let image = self.open_image(reference)?;
        let layers = self.layers(&image)?;
        for (place, name) in layers.iter().enumerate() {
            let blob = self.blob(&image, name.blob, name.size)?;
            let mut layer = Layer::open(blob, name.clone())?;
            let read = streams.lay(&mut layer);
            let entries = layer.finish(read)?;
            streams.progress().layer_read(place + 1, layers.len(), entries);
        }
        self.close_image(image)?;
        self.shutdown();
        Ok(streams.place(Vec::<&[OwnedFd]>::new(), true)?)
    }

    /// The layers of an image, the base first.
    fn layers(&mut self, image: &OpenImage) -> Result<Vec<LayerName>, ProxyV1Error> {
        let manifest = self.manifest(image)?;
        tracing::debug!(digest = %manifest.digest, "manifest");
        let ManifestJson { mut layers } = parse(image, "manifest", &manifest.bytes)?;
        if self.version >= TELLS_LAYERS {
            let (_, pipe) = self.piped("GetLayerInfoPiped", &[image.id.into()])?;
            layers = parse(image, "list of layers", &pipe.read_document("list of layers", MAX_DOCUMENT)?)?;
        }
        let config: ConfigJson = parse(image, "configuration", &self.config(image)?)?;
        let diff_ids = config.rootfs.diff_ids;
        let reference = || image.reference.clone();
        if layers.len() > MAX_LAYERS {
            return Err(ProxyV1Error::TooManyLayers { reference: reference(), found: layers.len() });
        }
        if layers.len() != diff_ids.len() {
            let (manifest, config) = (layers.len(), diff_ids.len());
            return Err(ProxyV1Error::LayerCount { reference: reference(), manifest, config });
        }
        let named = layers.into_iter().zip(diff_ids).map(|(layer, diff_id)| match is_layer(&layer.media_type) {
            true => Ok(LayerName { blob: layer.digest, size: layer.size, diff_id }),
            false => Err(ProxyV1Error::MediaType { blob: layer.digest, media_type: layer.media_type }),
        });
        named.collect()
    }

    /// Asks for something that comes through a pipe.
    fn piped(&mut self, method: &'static str, args: &[Value]) -> Result<(Value, Pipe<'_>), ProxyV1Error> {
        let (reply, fds) = self.conversation.call(method, args, 1)?;
        Ok((reply.value, Pipe::open(&mut self.conversation, method, reply.pipeid, fds)?))
    }

    fn without(&self, method: &'static str, wanted: &'static str) -> ProxyV1Error {
        ProxyV1Error::Value { program: self.conversation.program().to_owned(), method, wanted }
    }
}

fn parse<T: DeserializeOwned>(image: &OpenImage, what: &'static str, document: &[u8]) -> Result<T, ProxyV1Error> {
    let reference = || image.reference.clone();
    serde_json::from_slice(document).map_err(|source| ProxyV1Error::Document { reference: reference(), what, source })
}

fn is_layer(media_type: &str) -> bool {
    let rest = LAYER_TYPES.iter().find_map(|layer| media_type.strip_prefix(layer));
    rest.is_some_and(|rest| COMPRESSIONS.contains(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers() {
        let table = [("0.2.3", Some(Version(2, 3))), ("0.2.10", Some(Version(2, 10))), ("0.3.0", Some(Version(3, 0)))];
        for (text, version) in table {
            assert_eq!(Version::parse(text), version, "{text}");
        }
        for text in ["", "0.2", "1.2.3", "0.2.3.4", "0.2.x", "v0.2.3", "0.2.-3"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert!(Version(2, 10) > TELLS_LAYERS);
    }

    #[test]
    fn layers_are_known_by_their_types() {
        let table = [
            ("application/vnd.oci.image.layer.v1.tar", true),
            ("application/vnd.oci.image.layer.v1.tar+gzip", true),
            ("application/vnd.oci.image.layer.v1.tar+zstd", true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true),
            ("application/vnd.docker.image.rootfs.diff.tar", true),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", false),
            ("application/vnd.oci.image.layer.v1.tarball", false),
            ("application/vnd.oci.image.config.v1+json", false),
            ("", false),
        ];
        for (media_type, expected) in table {
            assert_eq!(is_layer(media_type), expected, "{media_type}");
        }
    }
}
