//! One file a command: from its arguments to a call of the library and its output.

pub(crate) mod extract;
pub(crate) mod image_inspect;
pub(crate) mod image_layers;
pub(crate) mod image_list;
pub(crate) mod layer_export;
pub(crate) mod layer_inspect;
pub(crate) mod layer_list;
pub(crate) mod resolve_link;
pub(crate) mod verify;

use cstor_client::{HelperPolicy, ProxiedStorage};

use crate::args::Store;
use crate::exit::Failure;

/// Opens the store that was named, or the one that podman uses.
pub(crate) fn open_store(store: &Store) -> Result<ProxiedStorage, Failure> {
    let policy = HelperPolicy::from(store.helper);
    Ok(match &store.root {
        Some(root) => ProxiedStorage::open_with_options(root, &store.storage_opt, policy)?,
        None => ProxiedStorage::discover(policy)?,
    })
}
