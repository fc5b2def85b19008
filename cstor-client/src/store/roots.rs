//! The directories that a store is made of: its root, and what is configured to lie elsewhere.
//!
//! It knows which file is where; what the files say is read in `snapshot.rs`.

use std::path::PathBuf;

use cstor_proto::StoreIndex;

use super::location::Location;
use super::{Root, StoreError};

/// Where layers and the persistent ones among containers are listed (layers.go, containers.go, `jsonPath`).
const LAYERS: &str = "overlay-layers/layers.json";
const VOLATILE_LAYERS: &str = "overlay-layers/volatile-layers.json";
const IMAGES: &str = "overlay-images/images.json";
const CONTAINERS: &str = "overlay-containers/containers.json";
const VOLATILE_CONTAINERS: &str = "overlay-containers/volatile-containers.json";
const CONTAINERS_LOCK: &str = "overlay-containers/containers.lock";

/// All directories of a store.
#[derive(Debug)]
pub(crate) struct Roots {
    /// The root, its image store if it is split, then additional stores; a [`StoreIndex`] counts these.
    layered: Vec<Root>,
    split: bool,
    transient: bool,
    /// The run root of a transient store; `None` if it was not used since the machine was started.
    run_root: Option<Root>,
    /// Stores of single layers; those that are not there are left out.
    layer_stores: Vec<Root>,
    /// Directories of podman's that are not read.
    unread: Vec<PathBuf>,
}

/// A file, and the root that holds what it lists.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing<'a> {
    pub(super) dir: &'a Root,
    pub(super) file: &'static str,
    pub(super) of: StoreIndex,
}

impl Roots {
    pub(super) fn open(location: &Location) -> Result<Roots, StoreError> {
        let mut layered = vec![Root::open(&location.root)?];
        for path in location.image_store.iter().chain(&location.additional) {
            layered.push(Root::open(path)?);
        }
        if layered.len() + location.layer_stores.len() > cstor_proto::MAX_ROOTS {
            return Err(StoreError::TooManyStores { path: location.root.clone(), limit: cstor_proto::MAX_ROOTS });
        }
        let if_there = |path: &PathBuf| match Root::open(path) {
            Err(StoreError::NoStore { .. }) => Ok(None),
            opened => opened.map(Some),
        };
        let run_root = location.transient.as_ref().map(if_there).transpose()?.flatten();
        let layer_stores = location.layer_stores.iter().filter_map(|path| if_there(path).transpose());
        Ok(Roots {
            layer_stores: layer_stores.collect::<Result<_, _>>()?,
            layered,
            split: location.image_store.is_some(),
            transient: location.transient.is_some(),
            run_root,
            unread: location.unread.clone(),
        })
    }

    /// Whether the second one is the image store of the first.
    #[cfg(feature = "cli")]
    pub(crate) fn is_split(&self) -> bool {
        self.split
    }

    /// The root itself.
    pub(crate) fn first(&self) -> Option<&Root> {
        self.layered.first()
    }

    /// Those that may hold layers.
    pub(crate) fn layered(&self) -> &[Root] {
        &self.layered
    }

    /// All, with the run root and the stores of single layers.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Root> {
        self.layered.iter().chain(&self.run_root).chain(&self.layer_stores)
    }

    /// Directories of podman's that belong to the store and are not read, whether or not they are there.
    pub(super) fn unread(&self) -> &[PathBuf] {
        &self.unread
    }

    /// The stores of single layers, which are counted behind those that list layers.
    pub(super) fn layer_stores(&self) -> impl Iterator<Item = (StoreIndex, &Root)> {
        self.with_layers().skip(self.layered.len())
    }

    /// All that hold files of layers.
    pub(crate) fn with_layers(&self) -> impl Iterator<Item = (StoreIndex, &Root)> {
        (0..).map(StoreIndex).zip(self.layered.iter().chain(&self.layer_stores))
    }

    /// One that holds files of layers, by the index that a record carries.
    pub(super) fn get(&self, index: StoreIndex) -> Result<&Root, StoreError> {
        // Records only carry indexes that they were given while these roots were walked.
        let found = self.with_layers().find(|(known, _)| *known == index).map(|(_, root)| root);
        found.ok_or_else(|| StoreError::NoStore { path: PathBuf::new() })
    }

    /// Where the directory of a layer of this root may be, in the order of overlay.go, `dir2`: in the root itself, in
    /// the image store, in an additional store.
    pub(crate) fn search(&self, of: StoreIndex) -> impl Iterator<Item = (StoreIndex, &Root)> {
        let indexed = || (0..).map(StoreIndex).zip(&self.layered);
        indexed().filter(move |(index, _)| *index == of).chain(indexed().filter(move |(index, _)| *index != of))
    }

    /// What lists layers. A split store keeps tar-split files and big data of its image store's layers in the root
    /// (layers.go, `newLayerStore`), so the root counts as theirs.
    pub(super) fn layer_listings(&self) -> Vec<Listing<'_>> {
        let mut listings = Vec::new();
        for (of, dir) in (0..).map(StoreIndex).zip(&self.layered) {
            let image_store = self.split && of == StoreIndex(1);
            let own = if image_store { StoreIndex(0) } else { of };
            listings.push(Listing { dir, file: LAYERS, of: own });
            // After both files of a split store comes what is lost at a reboot.
            let last_of_store = if self.split { StoreIndex(1) } else { StoreIndex(0) };
            let volatile = match of {
                _ if of == last_of_store => self.volatile(),
                StoreIndex(0) => None,
                _ => Some(dir),
            };
            listings.extend(volatile.map(|dir| Listing { dir, file: VOLATILE_LAYERS, of: own }));
        }
        listings
    }

    /// Where is listed what is lost at a reboot.
    pub(crate) fn volatile(&self) -> Option<&Root> {
        if self.transient { self.run_root.as_ref() } else { self.layered.first() }
    }

    /// What lists images.
    pub(super) fn image_listings(&self) -> impl Iterator<Item = Listing<'_>> {
        (0..).map(StoreIndex).zip(&self.layered).map(|(of, dir)| Listing { dir, file: IMAGES, of })
    }

    /// What lists containers, and the lock of both. A transient store has the lock in its run root (containers.go,
    /// `newContainerStore`).
    pub(super) fn container_listings(&self) -> (Option<Listing<'_>>, Vec<Listing<'_>>) {
        let of = StoreIndex(0);
        let persistent = self.layered.first().map(|dir| Listing { dir, file: CONTAINERS, of });
        let volatile = self.volatile().map(|dir| Listing { dir, file: VOLATILE_CONTAINERS, of });
        let lock = volatile.map(|listing| Listing { file: CONTAINERS_LOCK, ..listing });
        (lock, persistent.into_iter().chain(volatile).collect())
    }
}
