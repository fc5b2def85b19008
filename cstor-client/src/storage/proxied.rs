//! A store whose protected files come through a helper.

use std::ops::Deref;
use std::path::Path;

use crate::access::helper::seen::reads_everything;
use crate::access::helper::{HelperOptions, HelperPolicy, SharedHelper};
use crate::base::interrupt::Interrupt;
use crate::storage::Storage;
use crate::store::{Location, StoreError};

/// A [`Storage`] whose files open also where they belong to another user of the user namespace.
///
/// A process without the rights starts a helper, at most one, and only when a file is refused; by default
/// through `podman unshare` ([`crate::helper::Launcher`]). Root, and a process inside the namespace, needs none.
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
#[derive(Debug, Clone)]
pub struct ProxiedStorage {
    storage: Storage,
    proxied: bool,
}

impl ProxiedStorage {
    /// Opens the store at this root, with a helper if this process lacks the rights. Nothing in it
    /// waits, so it needs no runtime.
    #[allow(clippy::unused_async, reason = "callers await it")]
    pub async fn open_with_proxy(root: impl AsRef<Path>) -> Result<ProxiedStorage, StoreError> {
        ProxiedStorage::open(root)
    }

    /// The same without `async`.
    pub fn open(root: impl AsRef<Path>) -> Result<ProxiedStorage, StoreError> {
        ProxiedStorage::open_at(&Location::new(root.as_ref()), HelperOptions::default())
    }

    /// Opens a store whose parts lie in several places, as [`Storage::open_at`] does, with a helper as the options say.
    pub fn open_at(location: &Location, helper: HelperOptions) -> Result<ProxiedStorage, StoreError> {
        ProxiedStorage::build(helper, |helper| Storage::open_with(location, helper))
    }

    /// Opens the store that podman would use for this user, with a helper as the options say.
    pub fn discover(helper: HelperOptions) -> Result<ProxiedStorage, StoreError> {
        ProxiedStorage::build(helper, Storage::discover_with)
    }

    /// Opens the store at this root with additional image stores, named as for
    /// [`Storage::open_with_options`], and with a helper as its options say.
    pub fn open_with_options(
        root: impl AsRef<Path>,
        options: &[impl AsRef<str>],
        helper: HelperOptions,
    ) -> Result<ProxiedStorage, StoreError> {
        let location = Location::new(root.as_ref()).additional(Storage::stores_in_options(options));
        ProxiedStorage::open_at(&location, helper)
    }

    fn build(
        options: HelperOptions,
        open: impl FnOnce(Option<SharedHelper>) -> Result<Storage, StoreError>,
    ) -> Result<ProxiedStorage, StoreError> {
        let proxied = match options.policy {
            HelperPolicy::Auto => !reads_everything(),
            HelperPolicy::Always => true,
            HelperPolicy::Never => false,
        };
        let helper = proxied.then(|| SharedHelper::new(options, Interrupt::new()));
        Ok(ProxiedStorage { storage: open(helper)?, proxied })
    }

    /// Whether files that this process may not open go through a helper. It says nothing about whether
    /// one is running: that takes a file that was refused.
    pub fn is_proxied(&self) -> bool {
        self.proxied
    }
}

impl Deref for ProxiedStorage {
    type Target = Storage;

    fn deref(&self) -> &Storage {
        &self.storage
    }
}
