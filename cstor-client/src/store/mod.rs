//! A container store on disk: its roots, and consistent snapshots of what its JSON files say.
//!
//! It reads metadata only and creates nothing. Which members a layer has is in its tar-split
//! (`tarsplit/`), what they contain in its files (`source/`).

pub(crate) mod additional_layers;
mod big_data;
mod conf;
mod containers;
pub mod discover;
mod driver;
mod error;
mod expand;
mod file;
mod images;
mod json;
mod layers;
mod links;
mod location;
mod lock;
mod podman_db;
mod roots;
mod rules;
mod settings;
mod snapshot;
mod territory;
mod warning;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cstor_proto::{LayerId, StoreIndex};

pub(crate) use containers::ContainerRecord;
#[cfg(fuzzing)]
pub(crate) use containers::parse as parse_containers;
pub use error::{LayerPart, Overlap, StoreError};
pub(crate) use file::Root;
pub(crate) use images::ImageRecord;
#[cfg(fuzzing)]
pub(crate) use images::parse as parse_images;
#[cfg(fuzzing)]
pub(crate) use layers::parse as parse_layers;
pub(crate) use layers::{IdMap, IdMaps, LayerRecord};
pub use location::Location;
pub use lock::LockState;
use lock::ReadLock;
#[cfg(feature = "cli")]
pub(crate) use lock::lock_state;
pub use podman_db::{ContainerState, ContainerStatus, ContainerStatuses};
use roots::{Listing, Roots};
pub(crate) use snapshot::Snapshot;
pub(crate) use territory::Territory;

use crate::access::helper::SharedHelper;
use crate::base::account::Account;
use crate::base::interrupt::Interrupt;
use crate::container::{self, Container};
use crate::image::{self, Image};
use crate::layer::{self, Layer};
use crate::target::Target;

/// How often a snapshot is taken anew when a writer comes between it and the opening of its layers.
const MAX_SNAPSHOTS: usize = 5;

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
    shared: Arc<Shared>,
}

/// What a [`Storage`] and the images and layers found in it share.
pub(crate) struct Shared {
    pub(crate) roots: Roots,
    snapshot: Mutex<Option<Arc<Snapshot>>>,
    /// Who opens what this process may not; none: nobody.
    pub(crate) helper: Option<SharedHelper>,
    /// What stops operations on the store.
    pub(crate) interrupt: Interrupt,
    /// What an operation may keep in memory of what an image chooses, in bytes; 0 for the default.
    memory_limit: AtomicU64,
}

impl Storage {
    /// Opens the store that podman would use for this user: `CONTAINERS_STORAGE_CONF`, storage.conf,
    /// `STORAGE_OPTS`, else the default place (containers-storage.conf(5)).
    pub fn discover() -> Result<Storage, StoreError> {
        Storage::discover_with(None)
    }

    /// Opens the store at this root alone, without reading any configuration.
    pub fn open(root: impl AsRef<Path>) -> Result<Storage, StoreError> {
        Storage::open_at(&Location::new(root.as_ref()))
    }

    /// Opens a store whose parts lie in several places: split, transient, or with additional image stores.
    pub fn open_at(location: &Location) -> Result<Storage, StoreError> {
        Storage::open_with(location, None)
    }

    /// Opens the store at this root, with additional image stores named as podman's
    /// `--storage-opt` names them: `[overlay.]additionalimagestore=PATH`.
    pub fn open_with_options(root: impl AsRef<Path>, options: &[impl AsRef<str>]) -> Result<Storage, StoreError> {
        Storage::open_at(&Location::new(root.as_ref()).additional(Storage::stores_in_options(options)))
    }

    /// The additional image stores that options of the driver name, as [`Storage::open_with_options`] takes them.
    pub fn stores_in_options(options: &[impl AsRef<str>]) -> Vec<PathBuf> {
        options.iter().flat_map(|option| conf::image_stores_in_options(option.as_ref())).collect()
    }

    /// The additional layer stores that options of the driver name, as podman's `--storage-opt` does:
    /// `[overlay.]additionallayerstore=PATH[:ref]`.
    pub fn layer_stores_in_options(options: &[impl AsRef<str>]) -> Vec<String> {
        options.iter().flat_map(|option| conf::layer_stores_in_options(option.as_ref())).collect()
    }

    pub(crate) fn discover_with(helper: Option<SharedHelper>) -> Result<Storage, StoreError> {
        Storage::open_with(&discover::locate()?.location(), helper)
    }

    pub(crate) fn open_with(location: &Location, helper: Option<SharedHelper>) -> Result<Storage, StoreError> {
        let roots = Roots::open(location)?;
        roots.first().map_or(Ok(()), driver::refuse_other_layouts)?;
        let interrupt = helper.as_ref().map(SharedHelper::interrupt).unwrap_or_default();
        let shared = Shared { roots, snapshot: Mutex::new(None), helper, interrupt, memory_limit: AtomicU64::new(0) };
        Ok(Storage { shared: Arc::new(shared) })
    }

    /// What this and everything found in it share.
    #[cfg(feature = "cli")]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The path of the root, as it was given or found.
    pub fn root(&self) -> &Path {
        self.shared.roots.first().map_or(Path::new(""), Root::path)
    }

    /// What stops all operations on this store when it is raised, and everything found in it: from a signal handler or
    /// another thread.
    pub fn interrupt(&self) -> Interrupt {
        self.shared.interrupt.clone()
    }

    /// How many bytes each operation that begins later may keep in memory of what an image or container chooses: names,
    /// paths, link targets, attributes and headers. By default 256 MiB, and in any case at most half of what the process
    /// may have (`RLIMIT_AS`, and the limit of its control group). An operation that would need more fails with
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit); so does any that would begin with less than 64 MiB.
    pub fn limit_memory(&self, bytes: u64) {
        self.shared.memory_limit.store(bytes.max(1), Ordering::Relaxed);
    }

    /// All images, those of the root before those of additional stores, in the order of images.json.
    pub fn list_images(&self) -> Result<Vec<Image>, StoreError> {
        let snapshot = self.shared.snapshot()?;
        Ok(snapshot.images.iter().map(|record| Image::new(&self.shared, &snapshot, record)).collect())
    }

    /// Finds one image by what podman accepts: a name with or without tag and registry, an id or a
    /// prefix of one, a digest; see `docs/formats/references.md`.
    pub fn image(&self, reference: &str) -> Result<Image, StoreError> {
        let snapshot = self.shared.snapshot()?;
        let record = image::reference::find(&snapshot.images, reference)?;
        Ok(Image::new(&self.shared, &snapshot, record))
    }

    /// All layers but incomplete ones, in the order of layers.json.
    pub fn layers(&self) -> Result<Vec<Layer>, StoreError> {
        let snapshot = self.shared.snapshot()?;
        let complete = snapshot.layers().filter(|record| !record.incomplete);
        Ok(complete.map(|record| Layer::new(&self.shared, record)).collect())
    }

    /// Finds one layer by its id, a prefix of it of three digits or more, its diff id, link id or name.
    pub fn layer(&self, reference: &str) -> Result<Layer, StoreError> {
        let snapshot = self.shared.snapshot()?;
        if let Some(linked) = self.resolve_link(reference)? {
            let record = snapshot.layer(linked).ok_or(StoreError::LayerMissing { layer: linked, child: None })?;
            return Ok(Layer::new(&self.shared, record));
        }
        let record = layer::find(&snapshot, reference)?;
        Ok(Layer::new(&self.shared, record))
    }

    /// The layer that a link id of the overlay driver stands for; none if it is not a link id, or unknown.
    pub fn resolve_link(&self, link: &str) -> Result<Option<LayerId>, StoreError> {
        if !links::is_link_id(link) {
            return Ok(None);
        }
        for root in self.shared.roots.layered() {
            if let Some(layer) = links::resolve(root, link)? {
                return Ok(Some(layer));
            }
        }
        Ok(None)
    }

    /// What holds the locks of the root now, by the path of each below the root. Nothing is waited for.
    pub fn locks(&self) -> Vec<(&'static str, LockState)> {
        let Some(root) = self.shared.roots.first() else { return Vec::new() };
        let files = ["overlay-layers/layers.lock", "overlay-images/images.lock", "overlay-containers/containers.lock"];
        files.into_iter().map(|file| (file, lock::lock_state(root, file))).collect()
    }

    /// All containers, in the order of containers.json: those of podman, and the working ones of buildah.
    pub fn containers(&self) -> Result<Vec<Container>, StoreError> {
        let records = self.shared.containers()?;
        Ok(records.into_iter().map(|record| Container::new(&self.shared, record)).collect())
    }

    /// Finds one container by its name, its id, or a prefix of that of three digits or more.
    pub fn container(&self, reference: &str) -> Result<Container, StoreError> {
        Ok(Container::new(&self.shared, container::reference::find(self.shared.containers()?, reference)?))
    }

    /// Finds what `reference` means: `container:` and a container, else an image, or if there is none such the
    /// container with this id.
    pub fn target(&self, reference: &str) -> Result<Target, StoreError> {
        if let Some(container) = reference.strip_prefix(container::reference::PREFIX) {
            return Ok(Target::Container(self.container(container)?));
        }
        let image = self.image(reference);
        if matches!(image, Err(StoreError::NoImage { .. })) && container::reference::is_id(reference) {
            match self.container(reference) {
                Err(StoreError::NoContainer { .. }) => {}
                container => return Ok(Target::Container(container?)),
            }
        }
        Ok(Target::Image(image?))
    }

    /// What podman's database says of its containers: their states, and the pods that they are in.
    pub fn container_statuses(&self) -> ContainerStatuses {
        let Some(root) = self.shared.roots.first() else { return ContainerStatuses::default() };
        ContainerStatuses::read(root.path(), self.shared.roots.volatile().unwrap_or(root).path())
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("root", &self.root()).finish_non_exhaustive()
    }
}

impl Shared {
    /// A root by the index that a record carries.
    pub(crate) fn root(&self, index: StoreIndex) -> Result<&Root, StoreError> {
        self.roots.get(index)
    }

    /// An account for one operation.
    pub(crate) fn account(&self) -> Result<Account, StoreError> {
        let limit = self.memory_limit.load(Ordering::Relaxed);
        Ok(Account::open((limit > 0).then_some(limit))?)
    }

    /// What the store says now.
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        let locks = Locks::take(&self.roots, &self.interrupt)?;
        let version = snapshot::Version::of(&self.roots, &locks);
        let mut cached = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(snapshot) = cached.as_ref().filter(|snapshot| snapshot.version == version) {
            return Ok(Arc::clone(snapshot));
        }
        let files = snapshot::Files::read(&self.roots, &self.interrupt)?;
        // Parsing takes longer than reading; podman must not wait for it.
        drop(locks);
        let snapshot = Arc::new(files.parse(version, &self.interrupt)?);
        *cached = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// Runs `action` on a snapshot while the locks are held, so that the files it opens are the ones
    /// that the snapshot speaks of. It must take milliseconds.
    pub(crate) fn while_locked<T>(
        &self,
        mut action: impl FnMut(&Snapshot) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..MAX_SNAPSHOTS {
            let snapshot = self.snapshot()?;
            let locks = Locks::take(&self.roots, &self.interrupt)?;
            if snapshot::Version::of(&self.roots, &locks) == snapshot.version {
                return action(&snapshot);
            }
        }
        Err(StoreError::Restless { path: self.roots.first().map(|root| root.path().into()).unwrap_or_default() })
    }

    /// The containers that are listed now.
    fn containers(&self) -> Result<Vec<Arc<ContainerRecord>>, StoreError> {
        let mut containers: Vec<Arc<ContainerRecord>> = Vec::new();
        let (lock, listings) = self.roots.container_listings();
        let _lock = lock.map(|lock| ReadLock::take(lock.dir, lock.file, &self.interrupt)).transpose()?;
        for Listing { dir, file, .. } in listings {
            if let Some(bytes) = dir.read_json(file, &self.interrupt)? {
                containers.extend(containers::parse(&bytes, &dir.path().join(file), &self.interrupt)?);
            }
        }
        Ok(containers)
    }

    /// Whether a container is still listed.
    pub(crate) fn has_container(&self, record: &ContainerRecord) -> Result<bool, StoreError> {
        Ok(self.containers()?.iter().any(|now| now.id == record.id && now.layer == record.layer))
    }

    /// The id map of the container that writes to a layer; none if no container does, or it has none of its own.
    pub(crate) fn id_maps_of_container(&self, layer: LayerId) -> Result<Option<IdMaps>, StoreError> {
        Ok(self.containers()?.iter().find(|container| container.layer == layer).map(|container| container.maps.clone()))
    }

    /// Opens the table of contents of a layer that has one.
    pub(crate) fn open_toc(&self, layer: &LayerRecord) -> Result<OwnedFd, StoreError> {
        big_data::open_toc(self.root(layer.root)?, layer)
    }

    /// Reads what an image keeps under a key.
    pub(crate) fn big_data(&self, image: &ImageRecord, key: &str) -> Result<Vec<u8>, StoreError> {
        big_data::read(self.root(image.root)?, image, key)
    }
}

/// The read locks of all roots, in the order in which podman takes them: layers, then images
/// (containers/storage store.go, the comment on lock hierarchy).
pub(crate) struct Locks {
    held: Vec<ReadLock>,
}

impl Locks {
    fn take(roots: &Roots, interrupt: &Interrupt) -> Result<Locks, StoreError> {
        let mut held = Vec::new();
        for file in ["overlay-layers/layers.lock", "overlay-images/images.lock"] {
            for root in roots.layered() {
                held.extend(ReadLock::take(root, file, interrupt)?);
            }
        }
        Ok(Locks { held })
    }
}
