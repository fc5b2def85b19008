//! One file a command: from its arguments to a call of the library and its output.

pub(crate) mod container_diff;
pub(crate) mod container_list;
pub(crate) mod doctor;
pub(crate) mod extract;
pub(crate) mod image_copy;
pub(crate) mod image_export;
pub(crate) mod image_inspect;
pub(crate) mod image_layers;
pub(crate) mod image_list;
pub(crate) mod info;
pub(crate) mod layer_export;
pub(crate) mod layer_inspect;
pub(crate) mod layer_list;
pub(crate) mod layer_splitfd;
pub(crate) mod resolve_link;
pub(crate) mod serve;
pub(crate) mod toc;
pub(crate) mod verify;
pub(crate) mod whose;

use std::path::Path;

use cstor_client::discover::Territory;
use cstor_client::error::StoreError;
use cstor_client::{Config, Image, Location, Storage, Target};

use crate::args::Store;
use crate::exit::Failure;
use crate::signals;
use crate::ui::short;

/// An image's configuration; `None` for one of schema 1. A damaged one is an error.
pub(crate) fn config_of(image: &Image) -> Result<Option<Config>, Failure> {
    match image.config() {
        Ok(config) => Ok(Some(config)),
        Err(StoreError::NoBigData { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Finds an image or a container. Of a container whose processes may write meanwhile the user is told.
pub(crate) fn find(storage: &Storage, reference: &str) -> Result<Target, Failure> {
    let target = storage.target(reference)?;
    if let Target::Container(container) = &target {
        let statuses = storage.container_statuses();
        if let Some(status) = statuses.of(container.id()).filter(|status| status.state.is_active()) {
            tracing::warn!(container = reference, "is {}: its files may change while they are read", status.state);
        }
    }
    Ok(target)
}

/// The first digits of the id of an image or a container.
pub(crate) fn short_id(target: &Target) -> String {
    match target {
        Target::Image(image) => image.id().short(),
        Target::Container(container) => short(container.id(), false).to_owned(),
        Target::Layer(layer) => short(&layer.id().to_string(), false).to_owned(),
    }
}

/// Finds an image, where a container will not do.
pub(crate) fn find_image(storage: &Storage, reference: &str) -> Result<Image, Failure> {
    match storage.target(reference)? {
        Target::Image(image) => Ok(image),
        Target::Container(_) | Target::Layer(_) => {
            Err(StoreError::NotAnImage { reference: reference.to_owned() }.into())
        }
    }
}

/// Opens the store that was named, or the one that podman uses.
pub(crate) fn open_store(store: &Store) -> Result<Storage, Failure> {
    let storage = open_quietly(store)?;
    signals::stop(&storage.interrupt())?;
    Ok(storage)
}

/// The same, without signals ending what is done with it.
pub(crate) fn open_quietly(store: &Store) -> Result<Storage, Failure> {
    let storage = match location(store) {
        Some(location) => Storage::open_at(&location)?,
        None => Storage::discover()?,
    };
    let storage = storage.with_helper(store.helper_options());
    Ok(store.memory_limit.map_or(storage.clone(), |bytes| storage.with_memory_limit(bytes)))
}

/// Refuses a destination that is, lies in, or holds a directory of the store that is read, if one is, or of those that
/// podman would use for this user.
pub(crate) fn keep_stores_from(destination: &Path, storage: Option<&Storage>) -> Result<(), Failure> {
    let read = storage.map(Storage::territory).transpose()?.unwrap_or_default();
    Ok(read.and(Territory::of_this_user()).check(destination)?)
}

/// The store that was named.
fn location(store: &Store) -> Option<Location> {
    let location = Location::new(store.root.as_ref()?).storage_options(&store.storage_opt);
    Some(store.imagestore.iter().fold(location, |location, path| location.image_store(path)))
}
