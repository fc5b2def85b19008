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

use crate::base::interrupt::Interrupt;

/// How often a snapshot is taken anew when a writer comes between it and the opening of its layers.
const MAX_SNAPSHOTS: usize = 5;

/// A store: its roots, and what its JSON files said when they were last read.
pub(crate) struct Store {
    pub(crate) roots: Roots,
    snapshot: Mutex<Option<Arc<Snapshot>>>,
}

impl Store {
    /// Opens the store at these roots; it reads nothing yet.
    pub(crate) fn open(location: &Location) -> Result<Store, StoreError> {
        let roots = Roots::open(location)?;
        roots.first().map_or(Ok(()), driver::refuse_other_layouts)?;
        Ok(Store { roots, snapshot: Mutex::new(None) })
    }

    /// A root by the index that a record carries.
    pub(crate) fn root(&self, index: StoreIndex) -> Result<&Root, StoreError> {
        self.roots.get(index)
    }

    /// What the store says now.
    pub(crate) fn snapshot(&self, interrupt: &Interrupt) -> Result<Arc<Snapshot>, StoreError> {
        let locks = Locks::take(&self.roots, interrupt)?;
        let version = snapshot::Version::of(&self.roots, &locks);
        let mut cached = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(snapshot) = cached.as_ref().filter(|snapshot| snapshot.version == version) {
            return Ok(Arc::clone(snapshot));
        }
        let files = snapshot::Files::read(&self.roots, interrupt)?;
        // Parsing takes longer than reading; podman must not wait for it.
        drop(locks);
        let snapshot = Arc::new(files.parse(version, interrupt)?);
        *cached = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// Runs `action` on a snapshot while the locks are held, so that the files it opens are the ones
    /// that the snapshot speaks of. It must take milliseconds.
    pub(crate) fn while_locked<T>(
        &self,
        interrupt: &Interrupt,
        mut action: impl FnMut(&Snapshot) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..MAX_SNAPSHOTS {
            let snapshot = self.snapshot(interrupt)?;
            let locks = Locks::take(&self.roots, interrupt)?;
            if snapshot::Version::of(&self.roots, &locks) == snapshot.version {
                return action(&snapshot);
            }
        }
        Err(StoreError::Restless { path: self.roots.first().map(|root| root.path().into()).unwrap_or_default() })
    }

    /// The containers that are listed now.
    pub(crate) fn containers(&self, interrupt: &Interrupt) -> Result<Vec<Arc<ContainerRecord>>, StoreError> {
        let mut containers: Vec<Arc<ContainerRecord>> = Vec::new();
        let (lock, listings) = self.roots.container_listings();
        let _lock = lock.map(|lock| ReadLock::take(lock.dir, lock.file, interrupt)).transpose()?;
        for Listing { dir, file, .. } in listings {
            if let Some(bytes) = dir.read_json(file, interrupt)? {
                containers.extend(containers::parse(&bytes, &dir.path().join(file), interrupt)?);
            }
        }
        Ok(containers)
    }

    /// Whether a container is still listed.
    pub(crate) fn has_container(&self, record: &ContainerRecord, interrupt: &Interrupt) -> Result<bool, StoreError> {
        Ok(self.containers(interrupt)?.iter().any(|now| now.id == record.id && now.layer == record.layer))
    }

    /// The id map of the container that writes to a layer; `None` if no container does, or it has no map of its own.
    pub(crate) fn id_maps_of_container(
        &self,
        layer: LayerId,
        interrupt: &Interrupt,
    ) -> Result<Option<IdMaps>, StoreError> {
        let containers = self.containers(interrupt)?;
        Ok(containers.iter().find(|container| container.layer == layer).map(|container| container.maps.clone()))
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
