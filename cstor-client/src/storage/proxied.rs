//! Stores whose protected files come through a helper, in one call.

use std::path::Path;

use crate::access::helper::HelperOptions;
use crate::storage::Storage;
use crate::store::StoreError;

/// Opens a [`Storage`] with a helper; [`Storage::with_helper`] says what that is.
///
/// ```no_run
/// # use cstor_client::{ProxiedStorage, init_if_helper};
/// fn main() { init_if_helper(); /* … */ }
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut storage = ProxiedStorage::open_with_proxy("/path/to/storage").await?;
/// if storage.is_proxied() { println!("Using userns helper for privileged access"); }
/// for image in storage.list_images()? { println!("{}", image.id()); }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub enum ProxiedStorage {}

impl ProxiedStorage {
    /// Opens the store at this root, with a helper if this process lacks the rights: in async code what
    /// `Storage::open(root)?.with_helper(HelperOptions::new())` is elsewhere. Nothing in it waits, so it needs no runtime.
    #[allow(clippy::unused_async, reason = "callers await it")]
    pub async fn open_with_proxy(root: impl AsRef<Path>) -> Result<Storage, StoreError> {
        Ok(Storage::open(root)?.with_helper(HelperOptions::new()))
    }
}
