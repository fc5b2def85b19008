//! Which images a layer belongs to: a layer is known to people by the images that have it. An image whose chain is
//! itself damaged has no layers to look among, and is not named.

use cstor_client::error::StoreError;
use cstor_client::{Image, Layer, LayerId, Storage};

use super::open_store;
use crate::args::Args;

/// The first name of an image, or 12 digits of its id.
pub(crate) fn name_of(image: &Image) -> String {
    image.names().first().cloned().unwrap_or_else(|| image.id().short())
}

/// The images with the layer. Those of builds, which have no name, come last.
pub(crate) fn images_with(storage: &Storage, layer: LayerId) -> Result<Vec<String>, StoreError> {
    let has = |layers: Vec<Layer>| layers.iter().any(|found| found.id() == layer);
    let mut images = storage.list_images()?;
    images.retain(|image| image.layers().is_ok_and(has));
    images.sort_by_key(|image| image.names().is_empty());
    Ok(images.iter().map(name_of).collect())
}

/// The images to name in an error line about a layer: the one that was asked for, else all that have it. The error
/// matters more than the names: where the store cannot be read again, no names are given.
pub(crate) fn images_of_failure(args: &Args, layer: LayerId) -> Vec<String> {
    if let Some(image) = args.command.image() {
        return vec![image.to_owned()];
    }
    let found = open_store(&args.store).ok().map(|storage| images_with(&storage, layer));
    found.and_then(Result::ok).unwrap_or_default()
}
