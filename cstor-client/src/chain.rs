//! From a top layer down to its base: the parents that layers.json names, opened for reading.
//!
//! `parent` of layers.json is the truth; the link files of the driver (`link`, `lower`, `l/`) are not read.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use cstor_helper::open;
use cstor_proto::{LayerDir, LayerId, Refusal};

use crate::descriptors::descriptor_limit;
use crate::store::{LayerPart, LayerRecord, Shared, Snapshot, StoreError};

/// overlayfs stacks at most 500 lower layers (overlay.go, `maxDepth`).
pub(crate) const MAX_LAYERS: usize = 500;

/// Layers from the base up, each with the descriptors that could be opened while the store was locked.
pub(crate) struct Chain {
    shared: Arc<Shared>,
    layers: Vec<ChainLayer>,
}

/// One layer of a chain.
#[derive(Debug)]
pub(crate) struct ChainLayer {
    pub(crate) record: Arc<LayerRecord>,
    /// None where it was refused or the descriptor limit was reached.
    tar_split: Option<OwnedFd>,
    /// Likewise.
    pub(crate) diff: Option<OwnedFd>,
}

impl Chain {
    /// The records from the base to `top`.
    pub(crate) fn records(snapshot: &Snapshot, top: Option<LayerId>) -> Result<Vec<Arc<LayerRecord>>, StoreError> {
        let mut chain: Vec<Arc<LayerRecord>> = Vec::new();
        let mut next = top;
        while let Some(id) = next {
            let child = chain.last().map(|layer| layer.id);
            let layer = snapshot.layer(id).ok_or(StoreError::LayerMissing { layer: id, child })?;
            if layer.incomplete {
                return Err(StoreError::Incomplete { layer: id });
            }
            if chain.iter().any(|seen| seen.id == id) {
                return Err(StoreError::Cycle { layer: id });
            }
            if chain.len() == MAX_LAYERS {
                return Err(StoreError::TooDeep { layer: top.unwrap_or(id), limit: MAX_LAYERS });
            }
            chain.push(Arc::clone(layer));
            next = layer.parent;
        }
        chain.reverse();
        Ok(chain)
    }

    /// Opens the chain below `top` in one locked moment, after `check` has approved of it.
    ///
    /// What is open then stays readable whatever podman removes. Layers beyond the descriptor limit are
    /// opened when they are needed.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        top: Option<LayerId>,
        check: impl Fn(&[Arc<LayerRecord>]) -> Result<(), StoreError>,
    ) -> Result<Chain, StoreError> {
        check(&Chain::records(&*shared.snapshot()?, top)?)?;
        Chain::open_records(shared, |snapshot| Chain::records(snapshot, top))
    }

    /// Opens one layer without those below it.
    pub(crate) fn open_one(shared: &Arc<Shared>, id: LayerId) -> Result<Chain, StoreError> {
        Chain::open_records(shared, |snapshot| {
            let record = snapshot.layer(id).ok_or(StoreError::Vanished { layer: id })?;
            Ok(vec![Arc::clone(record)])
        })
    }

    fn open_records(
        shared: &Arc<Shared>,
        find: impl Fn(&Snapshot) -> Result<Vec<Arc<LayerRecord>>, StoreError>,
    ) -> Result<Chain, StoreError> {
        let layers = shared.while_locked(|snapshot| {
            let records = find(snapshot)?;
            let within_limit = layers_to_open(records.len());
            let mut layers = Vec::with_capacity(records.len());
            for (place, record) in records.into_iter().enumerate() {
                let opened = if place < within_limit { open_parts(shared, &record)? } else { (None, None) };
                layers.push(ChainLayer { record, tar_split: opened.0, diff: opened.1 });
            }
            Ok(layers)
        })?;
        Ok(Chain { shared: Arc::clone(shared), layers })
    }

    /// The layers, the base first.
    pub(crate) fn layers(&self) -> &[ChainLayer] {
        &self.layers
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether podman has removed a layer of the chain since it was opened.
    pub(crate) fn has_lost(&self, layer: &ChainLayer) -> bool {
        is_lost(&self.shared, &layer.record)
    }

    /// Takes the tar-split file of the layer at `place`; none if it was not opened with the others.
    pub(crate) fn take_tar_split(&mut self, place: usize) -> Option<OwnedFd> {
        self.layers.get_mut(place)?.tar_split.take()
    }
}

/// How many layers may hold two descriptors each: a quarter of the limit goes to them.
fn layers_to_open(wanted: usize) -> usize {
    wanted.min(descriptor_limit() / 8)
}

fn open_parts(shared: &Shared, record: &LayerRecord) -> Result<(Option<OwnedFd>, Option<OwnedFd>), StoreError> {
    let root = shared.root(record.root)?;
    let part = |part, opened: Result<OwnedFd, Refusal>| match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(Refusal::Denied | Refusal::Unmapped) => Ok(None),
        Err(refusal) => Err(part_error(record, part, refusal)),
    };
    Ok((
        part(LayerPart::TarSplit, open::tar_split(root.dir(), record.id))?,
        part(LayerPart::Diff, open::layer_dir(root.dir(), record.id, LayerDir::Diff))?,
    ))
}

/// The error for a part of a layer that cannot be opened outside of the lock: whether podman removed the
/// layer meanwhile decides what it means.
pub(crate) fn refused(shared: &Shared, record: &LayerRecord, part: LayerPart, refusal: Refusal) -> StoreError {
    match refusal {
        Refusal::NotFound if is_lost(shared, record) => StoreError::Vanished { layer: record.id },
        refusal => part_error(record, part, refusal),
    }
}

fn part_error(record: &LayerRecord, part: LayerPart, refusal: Refusal) -> StoreError {
    // What was committed, pulled or loaded has a digest, and a tar-split.
    let committed = record.diff_digest.is_some() || record.compressed_digest.is_some();
    match (part, refusal) {
        (LayerPart::TarSplit, Refusal::NotFound) if !committed => StoreError::NoTar { layer: record.id },
        _ => StoreError::LayerPart { layer: record.id, part, refusal },
    }
}

fn is_lost(shared: &Shared, record: &LayerRecord) -> bool {
    let same = |now: &Arc<LayerRecord>| now.created == record.created && now.diff_digest == record.diff_digest;
    !shared.snapshot().is_ok_and(|snapshot| snapshot.layer(record.id).is_some_and(same))
}
