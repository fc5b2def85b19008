//! The front desk: a store, and the images, containers and layers that are found in it.

mod changes;
mod container;
mod image;
mod layer;
pub mod listing;
mod manifest;
mod proxied;
mod rootfs;
mod target;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use cstor_proto::LayerId;

pub use changes::{Change, ChangeKind};
pub use container::Container;
pub use image::Image;
pub use layer::Layer;
pub use manifest::{Config, History, Manifest};
pub use proxied::ProxiedStorage;
pub use rootfs::{Rootfs, RootfsFile};
pub use target::Target;

use crate::access::Access;
use crate::access::helper::seen::reads_everything;
use crate::access::helper::{HelperOptions, HelperPolicy, SharedHelper};
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::store::{
    ContainerStatuses, Location, LockState, Root, Store, StoreError, discover, find, links, lock_state,
};

/// A store of container images: one root, and any additional image stores.
///
/// Opening it reads nothing yet; every call that lists or finds something looks whether the store has
/// changed since the last one. Nothing in the store is ever created or written.
///
/// ```no_run
/// # use cstor_client::{Layer, Storage};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let storage = Storage::open("/var/lib/containers/storage")?;
/// for image in storage.list_images()? { println!("{}: {:?}", image.id(), image.names()); }
/// let layer = Layer::open(&storage, "layer-id")?;
/// println!("Layer size: {:?}", layer.diff_size());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Storage {
    access: Access,
}

impl Storage {
    /// Opens the store that podman would use for this user: `CONTAINERS_STORAGE_CONF`, storage.conf,
    /// `STORAGE_OPTS`, else the default place (containers-storage.conf(5)).
    pub fn discover() -> Result<Storage, StoreError> {
        Storage::open_at(&discover::locate()?.location())
    }

    /// Opens the store at this root alone, without reading any configuration.
    pub fn open(root: impl AsRef<Path>) -> Result<Storage, StoreError> {
        Storage::open_at(&Location::new(root.as_ref()))
    }

    /// Opens a store whose parts lie in several places: split, transient, or with additional image stores.
    pub fn open_at(location: &Location) -> Result<Storage, StoreError> {
        Ok(Storage { access: Access::new(Store::open(location)?) })
    }

    /// The same store with a helper for the files that this process may not open because they belong to other users of
    /// the user namespace. At most one is started, and only when a file is refused; by default through `podman unshare`
    /// ([`crate::helper::Launcher`]). Root, and a process inside the namespace, needs none.
    ///
    /// ```no_run
    /// use cstor_client::helper::HelperOptions;
    /// use cstor_client::{Storage, init_if_helper};
    ///
    /// init_if_helper(); // the first line of main
    /// let storage = Storage::discover()?.with_helper(HelperOptions::new());
    /// # Ok::<(), cstor_client::Error>(())
    /// ```
    #[must_use]
    pub fn with_helper(&self, options: HelperOptions) -> Storage {
        let used = match options.policy {
            HelperPolicy::Auto => !reads_everything(),
            HelperPolicy::Always => true,
            HelperPolicy::Never => false,
        };
        Storage { access: self.access.clone().helped_by(used.then(|| SharedHelper::new(options))) }
    }

    /// Whether files that this process may not open go through a helper. It says nothing about whether
    /// one is running: that takes a file that was refused.
    pub fn is_proxied(&self) -> bool {
        self.access.helper().is_some()
    }

    #[cfg(feature = "cli")]
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// The same store with a helper, whether this process needs one or not.
    #[cfg(feature = "cli")]
    pub(crate) fn helped_by(&self, helper: SharedHelper) -> Storage {
        Storage { access: self.access.clone().helped_by(Some(helper)) }
    }

    /// The path of the root, as it was given or found.
    pub fn root(&self) -> &Path {
        self.access.store().roots.first().map_or(Path::new(""), Root::path)
    }

    /// What stops all operations on this store and on everything found in it when it is raised: from a signal handler or
    /// another thread.
    pub fn interrupt(&self) -> Interrupt {
        self.access.interrupt().clone()
    }

    /// The same store under another interrupt, for what is found in it from now on. The helper is the same one.
    #[must_use]
    pub fn with_interrupt(&self, interrupt: Interrupt) -> Storage {
        Storage { access: self.access.clone().interrupted_by(interrupt) }
    }

    /// The same store, whose operations tell `progress` how they come along.
    #[must_use]
    pub fn with_progress(&self, progress: impl Progress + 'static) -> Storage {
        Storage { access: self.access.clone().reporting_to(Arc::new(progress)) }
    }

    /// The same store with another limit of memory: how many bytes each operation may keep of what an image or container
    /// chooses, which is names, paths, link targets, attributes and headers. By default 256 MiB, and in any case at most
    /// half of what the process may have (`RLIMIT_AS`, and the limit of its control group). An operation that would need
    /// more fails with [`ErrorKind::Limit`](crate::ErrorKind::Limit); so does any that would begin with less than 64 MiB.
    #[must_use]
    pub fn with_memory_limit(&self, bytes: u64) -> Storage {
        Storage { access: self.access.clone().limited_to(bytes) }
    }

    /// What belongs to the store, so that nothing is written there: its roots with what is linked and mounted below them,
    /// additional stores, and where it was found by the configuration, podman's run root.
    pub fn territory(&self) -> Result<discover::Territory, StoreError> {
        discover::Territory::of_roots(&self.access.store().roots)
    }

    /// All images, those of the root before those of additional stores, in the order of images.json.
    pub fn list_images(&self) -> Result<Vec<Image>, StoreError> {
        let snapshot = self.access.snapshot()?;
        Ok(snapshot.images.iter().map(|record| Image::new(&self.access, &snapshot, record)).collect())
    }

    /// Finds one image by what podman accepts: a name with or without tag and registry, an id or a
    /// prefix of one, a digest; see `docs/formats/references.md`.
    pub fn image(&self, reference: &str) -> Result<Image, StoreError> {
        let snapshot = self.access.snapshot()?;
        let record = find::image::find(&snapshot.images, reference)?;
        Ok(Image::new(&self.access, &snapshot, record))
    }

    /// All layers but incomplete ones, in the order of layers.json.
    pub fn layers(&self) -> Result<Vec<Layer>, StoreError> {
        let snapshot = self.access.snapshot()?;
        let complete = snapshot.layers().filter(|record| !record.incomplete);
        Ok(complete.map(|record| Layer::new(&self.access, record)).collect())
    }

    /// Finds one layer by its id, a prefix of it of three digits or more, its diff id, link id or name.
    pub fn layer(&self, reference: &str) -> Result<Layer, StoreError> {
        let snapshot = self.access.snapshot()?;
        if let Some(linked) = self.resolve_link(reference)? {
            let record = snapshot.layer(linked).ok_or(StoreError::LayerMissing { layer: linked, child: None })?;
            return Ok(Layer::new(&self.access, record));
        }
        let record = find::layer::find(&snapshot, reference)?;
        Ok(Layer::new(&self.access, record))
    }

    /// The layer that a link id of the overlay driver stands for; `None` if it is not a link id, or unknown.
    pub fn resolve_link(&self, link: &str) -> Result<Option<LayerId>, StoreError> {
        if !links::is_link_id(link) {
            return Ok(None);
        }
        for root in self.access.store().roots.layered() {
            if let Some(layer) = links::resolve(root, link)? {
                return Ok(Some(layer));
            }
        }
        Ok(None)
    }

    /// What holds the locks of the root now, by the path of each below the root. Nothing is waited for.
    pub fn locks(&self) -> Vec<(&'static str, LockState)> {
        let Some(root) = self.access.store().roots.first() else { return Vec::new() };
        let files = ["overlay-layers/layers.lock", "overlay-images/images.lock", "overlay-containers/containers.lock"];
        files.into_iter().map(|file| (file, lock_state(root, file))).collect()
    }

    /// All containers, in the order of containers.json: those of podman, and the working ones of buildah.
    pub fn containers(&self) -> Result<Vec<Container>, StoreError> {
        let records = self.access.containers()?;
        Ok(records.into_iter().map(|record| Container::new(&self.access, record)).collect())
    }

    /// Finds one container by its name, its id, or a prefix of that of three digits or more.
    pub fn container(&self, reference: &str) -> Result<Container, StoreError> {
        Ok(Container::new(&self.access, find::container::find(self.access.containers()?, reference)?))
    }

    /// Finds what `reference` means: `container:` and a container, else an image, or if there is no such image the
    /// container with this id.
    pub fn target(&self, reference: &str) -> Result<Target, StoreError> {
        if let Some(container) = reference.strip_prefix(find::container::PREFIX) {
            return Ok(Target::Container(self.container(container)?));
        }
        let image = self.image(reference);
        if matches!(image, Err(StoreError::NoImage { .. })) && find::container::is_id(reference) {
            match self.container(reference) {
                Err(StoreError::NoContainer { .. }) => {}
                container => return Ok(Target::Container(container?)),
            }
        }
        Ok(Target::Image(image?))
    }

    /// What podman's database says of its containers: their states, and the pods that they are in.
    pub fn container_statuses(&self) -> ContainerStatuses {
        let Some(root) = self.access.store().roots.first() else { return ContainerStatuses::default() };
        ContainerStatuses::read(root.path(), self.access.store().roots.volatile().unwrap_or(root).path())
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("root", &self.root()).finish_non_exhaustive()
    }
}
