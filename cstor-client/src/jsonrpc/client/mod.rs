//! The client: one request after the other, each answered in full or not at all.

mod at_once;
mod extract;
mod layer;
mod progress;
mod unpadded;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::RpcError;
use super::server::kind;
use super::shapes::{
    Config, FailureData, Handle, HeaderStream, ImageData, ImageOf, Images, Initialize, Initialized, LayerOf, Manifest,
    MetaOf, OpenImage, OpenedImage, RemoteImage, StreamSize, Success, Typed, WholeStream,
};
use super::wire::{Connection, Id, Limits, Message, Notification, Patience, Request};
use crate::base::descriptors::descriptor_limit;
use crate::base::interrupt::Interrupt;
pub use at_once::SplitLayer;
pub(super) use extract::extract;
pub use layer::{LayerStream, Rebuilt};
use progress::Progress;

/// The longest answer: a manifest and a configuration of 4 MiB each, in which every byte may be escaped as six.
const MAX_ANSWER: usize = 64 << 20;
/// Descriptors that are not the server's: standard streams, the socket, an output, and those of an extraction.
const OWN_DESCRIPTORS: usize = 32;

/// Reads images and layers from a [`super::Server`]; see there for an example.
///
/// After an error other than [`RpcError::Refused`] the connection cannot be used any more.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    max_files: usize,
    last_id: u64,
    /// Whether everything that was asked for has been answered.
    in_step: bool,
}

impl Client {
    /// Connects to the socket at a path.
    pub fn connect(path: impl AsRef<Path>) -> Result<Client, RpcError> {
        let path = path.as_ref();
        let connected = UnixStream::connect(path);
        connected.map(Client::over).map_err(|source| RpcError::Connect { path: path.into(), source })
    }

    /// Over a socket that is connected: a `SOCK_STREAM` Unix socket.
    pub fn over(socket: impl Into<OwnedFd>) -> Client {
        let max_files = descriptor_limit().saturating_sub(OWN_DESCRIPTORS);
        let limits = Limits { message: MAX_ANSWER, files: max_files };
        let connection = Connection::new(socket.into(), limits, Patience::default(), Interrupt::new());
        Client { connection, max_files, last_id: 0, in_step: true }
    }

    /// How long to wait for the server.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Client {
        self.connection.set_patience(patience);
        self
    }

    /// A flag that ends all waiting when it is set.
    #[must_use]
    pub fn interrupt(mut self, interrupt: Interrupt) -> Client {
        self.connection.set_interrupt(interrupt);
        self
    }

    /// The version and the capabilities of the server. No other request needs it.
    pub fn initialize(&mut self) -> Result<(String, Vec<String>), RpcError> {
        let answer: Initialized = self.call("Initialize", &Initialize { version: Some(2) })?;
        Ok((answer.version, answer.capabilities))
    }

    /// All images.
    pub fn images(&mut self) -> Result<Vec<RemoteImage>, RpcError> {
        Ok(self.call::<Images>("ListImages", &Nothing {})?.images)
    }

    /// Manifest, configuration, and the ids of the layers, the top first, of an image that is not opened.
    pub fn image(&mut self, reference: &str) -> Result<(String, String, Vec<String>), RpcError> {
        let answer: ImageData = self.call("GetImage", &ImageOf { image: reference.to_owned() })?;
        Ok((answer.manifest, answer.config, answer.layer_digests))
    }

    /// Opens an image; it stays the one it is, whatever its name comes to mean.
    pub fn open_image(&mut self, reference: &str) -> Result<OpenedImage, RpcError> {
        self.call("OpenImage", &OpenImage { image: reference.to_owned() })
    }

    /// Gives an image back.
    pub fn close_image(&mut self, image: &OpenedImage) -> Result<(), RpcError> {
        self.call::<Success>("CloseImage", &Handle { handle: image.handle }).map(|_| ())
    }

    /// The manifest of an open image.
    pub fn manifest(&mut self, image: &OpenedImage) -> Result<String, RpcError> {
        Ok(self.call::<Manifest>("GetManifest", &Handle { handle: image.handle })?.manifest)
    }

    /// The configuration of an open image.
    pub fn full_config(&mut self, image: &OpenedImage) -> Result<String, RpcError> {
        Ok(self.call::<Config>("GetFullConfig", &Handle { handle: image.handle })?.config)
    }

    /// A layer of the store by its id, file by file (`GetLayerTarSplit`).
    pub fn layer(&mut self, layer: &str) -> Result<LayerStream<'_>, RpcError> {
        self.begin(&LayerOf { layer: Some(layer.to_owned()), contents: true, ..LayerOf::default() })
    }

    /// Asks for a layer.
    pub(super) fn begin(&mut self, layer: &LayerOf) -> Result<LayerStream<'_>, RpcError> {
        let progress = Progress::ask(self, layer)?;
        Ok(LayerStream::new(self, progress))
    }

    /// A layer with all of its files at once (`GetLayerSplitfdstream`), in zstd if `compressed` is set. More files than
    /// can be open are refused with their number.
    pub fn layer_at_once(&mut self, layer: &str, compressed: bool) -> Result<SplitLayer, RpcError> {
        let (layer, max_fds) = (layer.to_owned(), Some(self.max_files));
        let asked = WholeStream { layer, compressed, inline_threshold: None, max_fds };
        let (answer, files) = self.call_for_files::<Typed>("GetLayerSplitfdstream", &asked)?;
        SplitLayer::of_stream(&answer.media_type, answer.size, files)
    }

    /// A layer in the form of container-libs (`GetSplitFDStream`), with all of its files at once.
    pub fn header_stream(&mut self, layer: &str, parent: Option<&str>) -> Result<SplitLayer, RpcError> {
        let (layer_id, parent_id) = (layer.to_owned(), parent.map(str::to_owned));
        let asked = HeaderStream { layer_id, parent_id, max_fds: Some(self.max_files) };
        let (answer, files) = self.call_for_files::<StreamSize>("GetSplitFDStream", &asked)?;
        SplitLayer::of_headers(answer.stream_size, files)
    }

    /// The table of contents of an open image, as JSON; with the digests of files if `digests` is set.
    pub fn image_toc(&mut self, image: &OpenedImage, digests: bool) -> Result<File, RpcError> {
        self.toc(&MetaOf { handle: Some(image.handle), digests, ..MetaOf::default() })
    }

    /// The table of contents of a layer of the store, whiteouts and all.
    pub fn layer_toc(&mut self, layer: &str, digests: bool) -> Result<File, RpcError> {
        self.toc(&MetaOf { layer: Some(layer.to_owned()), digests, ..MetaOf::default() })
    }

    fn toc(&mut self, asked: &MetaOf) -> Result<File, RpcError> {
        let (_, files) = self.call_for_files::<Typed>("GetMeta", asked)?;
        let [file] = only("a table of contents", files)?;
        Ok(File::from(file))
    }

    /// Has the server end this connection.
    pub fn shutdown(mut self) -> Result<(), RpcError> {
        self.call::<()>("shutdown", &Nothing {})
    }

    /// The same as a notification, which nobody answers.
    pub(super) fn notify_shutdown(mut self) -> Result<(), RpcError> {
        Ok(self.connection.send(&Notification::new("shutdown", &Nothing {}, 0), &[])?)
    }

    /// A request whose answer has no descriptors.
    pub(super) fn call<R: DeserializeOwned>(
        &mut self,
        method: &'static str,
        params: &impl Serialize,
    ) -> Result<R, RpcError> {
        let (answer, files) = self.call_for_files(method, params)?;
        let [] = only(method, files)?;
        Ok(answer)
    }

    /// A request whose answer has some.
    pub(super) fn call_for_files<R: DeserializeOwned>(
        &mut self,
        method: &'static str,
        params: &impl Serialize,
    ) -> Result<(R, Vec<OwnedFd>), RpcError> {
        let id = self.ask(method, params)?;
        loop {
            let message = self.hear(&id)?;
            if message.method().is_none() {
                let answer = message.result().map_err(|source| RpcError::Form { what: method, source })?;
                return Ok((answer, message.files));
            }
        }
    }

    fn ask(&mut self, method: &str, params: &impl Serialize) -> Result<Id, RpcError> {
        if !std::mem::replace(&mut self.in_step, false) {
            return Err(RpcError::OutOfStep);
        }
        self.last_id += 1;
        let id = Id::from(self.last_id);
        self.connection.send(&Request::new(method, params, &id, 0), &[])?;
        Ok(id)
    }

    /// The answer to the request, or a notification before it.
    fn hear(&mut self, id: &Id) -> Result<Message, RpcError> {
        let message = self.connection.receive_answer()?;
        if message.method().is_some() {
            return match message.id() {
                None => Ok(message),
                Some(_) => Err(RpcError::Unexpected { what: "a request" }),
            };
        }
        let belongs = message.id() == Some(id);
        if let Some(refusal) = message.refusal() {
            // An answer to nothing says why the connection ends.
            self.in_step = belongs;
            let FailureData { kind: name, count, .. } = message.error_data().unwrap_or_default();
            let (code, text) = (refusal.code, refusal.message.clone());
            return Err(RpcError::Refused { code, message: text, kind: name.as_deref().and_then(kind), count });
        }
        if !belongs {
            return Err(RpcError::Unexpected { what: "an answer to another request" });
        }
        self.in_step = true;
        Ok(message)
    }
}

/// No parameters.
#[derive(Serialize)]
struct Nothing {}

/// Exactly so many descriptors.
pub(super) fn only<const N: usize>(what: &'static str, files: Vec<OwnedFd>) -> Result<[OwnedFd; N], RpcError> {
    files.try_into().map_err(|files: Vec<_>| RpcError::Descriptors { what, found: files.len(), wanted: N })
}
