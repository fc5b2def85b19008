//! Requests about images: which there are, and what describes them.

use super::failure::{Failure, Stop};
use super::session::Session;
use crate::jsonrpc::shapes::{
    Config, Handle, ImageData, ImageOf, Images, Initialize, Initialized, Manifest, OpenImage, OpenedImage, RemoteImage,
    RemoteLayer, Success, TAR_SPLIT_STREAM, VERSION,
};
use crate::jsonrpc::wire::Id;
use crate::storage::Image;

/// Images that one client may hold open. Each keeps a snapshot of the store's metadata alive.
const MAX_OPEN: usize = 64;
/// The version that `Initialize` may ask for.
const MAJOR: u64 = 2;

impl Session<'_> {
    pub(super) fn initialize(&mut self, id: &Id, asked: &Initialize) -> Result<(), Stop> {
        if let Some(version) = asked.version.filter(|&version| version != MAJOR) {
            return Err(Failure::params(format!("version {version}: this server speaks version {MAJOR}")).into());
        }
        let capabilities = [TAR_SPLIT_STREAM, "splitfdstream"].map(str::to_owned).into();
        self.reply(id, &Initialized { version: VERSION.to_owned(), capabilities }, &[])
    }

    pub(super) fn list_images(&mut self, id: &Id) -> Result<(), Stop> {
        let images = self.storage.list_images()?.into_iter().map(|image| RemoteImage {
            id: image.id(),
            names: image.names().to_vec(),
            digest: image.digest(),
        });
        let images = Images { images: images.collect() };
        self.reply(id, &images, &[])
    }

    pub(super) fn get_image(&mut self, id: &Id, asked: &ImageOf) -> Result<(), Stop> {
        let image = self.storage.image(&asked.image)?;
        let mut layer_digests: Vec<_> = image.layers()?.iter().map(|layer| layer.id().to_string()).collect();
        layer_digests.reverse();
        let (manifest, config) = (text(image.manifest()?.bytes())?, text(image.config()?.bytes())?);
        self.reply(id, &ImageData { manifest, config, layer_digests }, &[])
    }

    pub(super) fn open_image(&mut self, id: &Id, asked: &OpenImage) -> Result<(), Stop> {
        if self.images.len() >= MAX_OPEN {
            return Err(Failure::limit("too many open images: close some", MAX_OPEN).into());
        }
        let image = self.storage.image(&asked.image)?;
        let layers = image.layers()?.into_iter().map(|layer| RemoteLayer {
            id: layer.id().to_string(),
            diff_id: layer.diff_id(),
            size: layer.diff_size(),
        });
        self.last_handle += 1;
        let opened = OpenedImage { handle: self.last_handle, id: Some(image.id()), layers: layers.collect() };
        self.images.insert(opened.handle, image);
        self.reply(id, &opened, &[])
    }

    pub(super) fn close_image(&mut self, id: &Id, Handle { handle }: Handle) -> Result<(), Stop> {
        self.images.remove(&handle).ok_or_else(|| unknown(handle))?;
        self.reply(id, &Success { success: true }, &[])
    }

    pub(super) fn get_manifest(&mut self, id: &Id, Handle { handle }: Handle) -> Result<(), Stop> {
        let image = self.opened(handle)?;
        let result = Manifest { digest: image.digest(), manifest: text(image.manifest()?.bytes())? };
        self.reply(id, &result, &[])
    }

    pub(super) fn get_full_config(&mut self, id: &Id, Handle { handle }: Handle) -> Result<(), Stop> {
        let config = text(self.opened(handle)?.config()?.bytes())?;
        self.reply(id, &Config { config }, &[])
    }

    /// An image that is open.
    pub(super) fn opened(&self, handle: u64) -> Result<&Image, Failure> {
        self.images.get(&handle).ok_or_else(|| unknown(handle))
    }
}

fn unknown(handle: u64) -> Failure {
    Failure::not_found(format!("image_id {handle}: no image is open under this number"))
}

/// JSON is text; what could be parsed as JSON is, too.
fn text(bytes: &[u8]) -> Result<String, Failure> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(Failure::internal)
}
