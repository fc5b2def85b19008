//! A container store on disk: its roots, and consistent snapshots of what its JSON files say.
//!
//! It reads metadata only and creates nothing. Which members a layer has is in its tar-split
//! (`tar/tarsplit/`), what they contain in its files (`access/`).

pub(crate) mod additional_layers;
mod big_data;
pub(crate) mod chain;
pub(crate) mod conf;
mod containers;
pub mod discover;
mod driver;
mod error;
mod expand;
mod file;
pub(crate) mod find;
mod images;
mod json;
mod layers;
pub(crate) mod links;
mod location;
mod lock;
mod podman_db;
mod roots;
mod rules;
mod settings;
mod snapshot;
mod territory;
mod warning;

use std::os::fd::OwnedFd;
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
pub(crate) use lock::lock_state;
pub use podman_db::{ContainerState, ContainerStatus, ContainerStatuses};
use roots::{Listing, Roots};
pub(crate) use snapshot::Snapshot;
pub(crate) use territory::Territory;

use crate::access::helper::SharedHelper;
use crate::base::account::Account;
use crate::base::interrupt::Interrupt;

/// How often a snapshot is taken anew when a writer comes between it and the opening of its layers.
const MAX_SNAPSHOTS: usize = 5;

/// What a [`Storage`](crate::Storage) and the images and layers found in it share.
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

impl Shared {
    /// Opens the store at these roots; it reads nothing yet.
    pub(crate) fn open(location: &Location, helper: Option<SharedHelper>) -> Result<Shared, StoreError> {
        let roots = Roots::open(location)?;
        roots.first().map_or(Ok(()), driver::refuse_other_layouts)?;
        let interrupt = helper.as_ref().map(SharedHelper::interrupt).unwrap_or_default();
        Ok(Shared { roots, snapshot: Mutex::new(None), helper, interrupt, memory_limit: AtomicU64::new(0) })
    }

    /// How many bytes each operation that begins later may keep in memory.
    pub(crate) fn limit_memory(&self, bytes: u64) {
        self.memory_limit.store(bytes.max(1), Ordering::Relaxed);
    }

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
    pub(crate) fn containers(&self) -> Result<Vec<Arc<ContainerRecord>>, StoreError> {
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
