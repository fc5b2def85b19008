//! A client of the protocol that was proposed for skopeo's image proxy (containers/skopeo, docs/proxy-v2-design.md): its
//! layers come file by file, with descriptors.
//!
//! Three shapes of its first answer have been published; the two with a version below 2 have no such layers, and are an
//! error here. What the proposal leaves open is taken as leniently as it can be, and `docs/jsonrpc.md` says how.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, pread, retry_on_intr};
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};
use serde_json::Value;

use super::client::{Client, LayerStream, extract, only};
use super::error::RpcError;
use super::shapes::{Handle, Initialize, LayerOf, OpenedImage, TAR_SPLIT_STREAM};
use crate::base::digest::Digest;
use crate::extract::{Extractor, Report};

/// The largest manifest or configuration: containers/image refuses more than 4 MiB (internal/iolimits).
const MAX_DOCUMENT: usize = 4 << 20;

/// The first answer.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    version: Option<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    /// Where the answer is wrapped as in the first version of the proxy.
    value: Option<Wrapped>,
}

#[derive(Debug, Deserialize)]
struct Wrapped {
    version: String,
}

/// Reads images through a proxy.
#[derive(Debug)]
pub struct ProxyV2Client {
    client: Client,
    version: String,
}

impl ProxyV2Client {
    /// Agrees on a version with the proxy at the other end of a connected socket.
    ///
    /// [`RpcError::Version`] means that it speaks, but has no layers with descriptors.
    pub fn negotiate(socket: impl Into<OwnedFd>) -> Result<ProxyV2Client, RpcError> {
        ProxyV2Client::negotiate_over(Client::over(socket))
    }

    /// The same over a client, which may wait for other times.
    pub fn negotiate_over(mut client: Client) -> Result<ProxyV2Client, RpcError> {
        let answer: Answer = client.call("Initialize", &Initialize { version: Some(2) })?;
        let streams = answer.capabilities.iter().any(|capability| capability == TAR_SPLIT_STREAM);
        let version = answer.version.or(answer.value.map(|value| value.version)).unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
        if !streams && major.is_none_or(|major| major < 2) {
            return Err(RpcError::Version { version });
        }
        Ok(ProxyV2Client { client, version })
    }

    /// The version of the proxy.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Opens an image by any name that the proxy knows, such as `containers-storage:localhost/demo`.
    pub fn open_image(&mut self, reference: &str) -> Result<OpenedImage, RpcError> {
        self.client.open_image(reference)
    }

    /// Gives an image back.
    pub fn close_image(&mut self, image: &OpenedImage) -> Result<(), RpcError> {
        let handle = Handle { handle: image.handle };
        self.client.call::<IgnoredAny>("CloseImage", &handle).map(|_| ())
    }

    /// The manifest of an open image: the text of it, or a document of its own, or in a descriptor.
    pub fn manifest(&mut self, image: &OpenedImage) -> Result<Vec<u8>, RpcError> {
        self.document("GetManifest", "manifest", image)
    }

    /// The configuration of an open image, likewise.
    pub fn full_config(&mut self, image: &OpenedImage) -> Result<Vec<u8>, RpcError> {
        self.document("GetFullConfig", "config", image)
    }

    /// The digests of the layers of an open image as its manifest has them, the base first.
    pub fn layers(&mut self, image: &OpenedImage) -> Result<Vec<Digest>, RpcError> {
        #[derive(Deserialize)]
        struct Layers {
            layers: Vec<Layer>,
        }
        #[derive(Deserialize)]
        struct Layer {
            digest: Digest,
        }
        let parsed = serde_json::from_slice::<Layers>(&self.manifest(image)?);
        let Layers { layers } = parsed.map_err(|source| RpcError::Form { what: "the manifest", source })?;
        Ok(layers.into_iter().map(|layer| layer.digest).collect())
    }

    /// A layer of an open image, by its digest in the manifest.
    pub fn layer(&mut self, image: &OpenedImage, digest: Digest) -> Result<LayerStream<'_>, RpcError> {
        self.client.begin(&layer_of(image, digest))
    }

    /// Extracts an open image to a directory that does not exist or is empty.
    pub fn extract(
        &mut self,
        image: &OpenedImage,
        destination: impl AsRef<Path>,
        extractor: &Extractor,
    ) -> Result<Report, RpcError> {
        let layers = self.layers(image)?.into_iter().map(|digest| layer_of(image, digest)).collect();
        extract(&mut self.client, layers, destination.as_ref(), extractor)
    }

    /// Ends the connection; a proxy that is started for one client ends with it.
    pub fn shutdown(self) -> Result<(), RpcError> {
        self.client.notify_shutdown()
    }

    fn document(&mut self, method: &'static str, key: &str, image: &OpenedImage) -> Result<Vec<u8>, RpcError> {
        let (answer, files) = self.client.call_for_files::<Value>(method, &Handle { handle: image.handle })?;
        if !files.is_empty() {
            let [file] = only(method, files)?;
            return read_document(method, &file);
        }
        match answer {
            Value::String(text) => Ok(text.into_bytes()),
            Value::Object(mut keys) => match keys.remove(key) {
                Some(Value::String(text)) => Ok(text.into_bytes()),
                Some(document) => Ok(document.to_string().into_bytes()),
                None => Ok(Value::Object(keys).to_string().into_bytes()),
            },
            _ => Err(RpcError::Form { what: method, source: serde_json::Error::custom("no document") }),
        }
    }
}

/// Reads a document that came as a file. A pipe is not taken: it could keep us waiting without end.
fn read_document(method: &'static str, file: &OwnedFd) -> Result<Vec<u8>, RpcError> {
    let failed = |errno: Errno| RpcError::Form { what: method, source: serde_json::Error::io(errno.into()) };
    let stat = fstat(file).map_err(failed)?;
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || size > MAX_DOCUMENT {
        return Err(RpcError::Unexpected { what: "a document that is not a file of at most 4 MiB" });
    }
    let mut bytes = vec![0; size];
    let mut length = 0;
    while let Some(space) = bytes.get_mut(length..).filter(|space| !space.is_empty()) {
        match retry_on_intr(|| pread(file, &mut *space, length as u64)).map_err(failed)? {
            0 => break,
            read => length += read,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn layer_of(image: &OpenedImage, digest: Digest) -> LayerOf {
    LayerOf { handle: Some(image.handle), layer_digest: Some(digest), layer: None, contents: true }
}
