//! What the JSON files of all roots said at one moment.
//!
//! It is a table only: whether a chain is complete is asked when it is walked (`chain.rs`).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use cstor_proto::{LayerId, StoreIndex};

use super::images::ImageRecord;
use super::layers::LayerRecord;
use super::lock::Token;
use super::roots::Listing;
use super::{Locks, Roots, StoreError, images, layers};
use crate::base::interrupt::Interrupt;

/// The layers and images of a store.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(super) version: Version,
    pub(crate) images: Vec<Arc<ImageRecord>>,
    layers: Vec<Arc<LayerRecord>>,
    by_id: HashMap<LayerId, usize>,
}

impl Snapshot {
    /// A layer by its id.
    pub(crate) fn layer(&self, id: LayerId) -> Option<&Arc<LayerRecord>> {
        self.by_id.get(&id).and_then(|&place| self.layers.get(place))
    }

    /// The layer that this one is a copy of, with other owners, for containers with ids of their own: the top of the
    /// image that lists it (store.go, `imageTopLayerForMapping`). Its `parent` is that of the other.
    pub(crate) fn template(&self, of: LayerId) -> Option<LayerId> {
        self.images.iter().find(|image| image.mapped_layers.contains(&of)).and_then(|image| image.layer)
    }

    /// All layers in the order of the files.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Arc<LayerRecord>> {
        self.layers.iter()
    }
}

/// What changes whenever a writer was there: the tokens in the lock files, and the identity and time of
/// the JSON files (the rule of `ModifiedSince` in pkg/lockfile).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Version {
    tokens: Vec<Token>,
    files: Vec<Option<(u64, i64, i64, i64)>>,
}

impl Version {
    pub(super) fn of(roots: &Roots, locks: &Locks) -> Version {
        let listings = roots.layer_listings().into_iter().chain(roots.image_listings());
        let files = listings.map(|listing| listing.dir.version(listing.file));
        Version { tokens: locks.held.iter().map(|lock| lock.token()).collect(), files: files.collect() }
    }
}

/// The bytes of one file, and where they are from.
struct Bytes {
    root: StoreIndex,
    path: PathBuf,
    bytes: Vec<u8>,
}

/// The bytes of all files, read under the locks.
pub(super) struct Files {
    layers: Vec<Bytes>,
    images: Vec<Bytes>,
}

impl Files {
    pub(super) fn read(roots: &Roots, interrupt: &Interrupt) -> Result<Files, StoreError> {
        let read = |Listing { dir, file, of }: Listing<'_>| -> Result<Option<Bytes>, StoreError> {
            let bytes = dir.read_json(file, interrupt)?;
            Ok(bytes.map(|bytes| Bytes { root: of, path: dir.path().join(file), bytes }))
        };
        let mut files = Files { layers: Vec::new(), images: Vec::new() };
        for listing in roots.layer_listings() {
            files.layers.extend(read(listing)?);
        }
        for listing in roots.image_listings() {
            files.images.extend(read(listing)?);
        }
        Ok(files)
    }

    pub(super) fn parse(self, version: Version, interrupt: &Interrupt) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot { version, images: Vec::new(), layers: Vec::new(), by_id: HashMap::new() };
        for file in self.layers {
            for layer in layers::parse(&file.bytes, file.root, &file.path, interrupt)? {
                snapshot.add_layer(layer);
            }
        }
        for file in self.images {
            let records = images::parse(&file.bytes, file.root, &file.path, interrupt)?;
            snapshot.images.extend(records);
        }
        Ok(snapshot)
    }
}

impl Snapshot {
    /// The first entry of an id counts (layers.go, `load`).
    fn add_layer(&mut self, layer: Arc<LayerRecord>) {
        match self.by_id.get(&layer.id).and_then(|&place| self.layers.get(place)) {
            None => {
                self.by_id.insert(layer.id, self.layers.len());
                self.layers.push(layer);
            }
            // The same layer in two stores is nothing odd.
            Some(first) if first.root != layer.root => {}
            Some(_) => tracing::warn!(layer = %layer.id, "listed twice; the first entry counts"),
        }
    }
}
