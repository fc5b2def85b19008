//! From a top layer down to its base: the parents that layers.json names, opened for reading.
//!
//! `parent` of layers.json is the truth; the link files of the driver (`link`, `lower`, `l/`) are not read.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use cstor_helper::open;
use cstor_proto::{LayerDir, LayerId, Refusal, RelPath, StoreIndex};

use crate::base::descriptors::descriptor_limit;
use crate::base::digest::Digest;
use crate::base::interrupt::Interrupt;
use crate::store::additional_layers::{self, AdditionalLayer};
use crate::store::{LayerPart, LayerRecord, Snapshot, Store, StoreError};

/// overlayfs stacks at most 500 lower layers (overlay.go, `maxDepth`).
pub(crate) const MAX_LAYERS: usize = 500;

/// How often the id map of a layer may have changed: podman does it once, when it makes the layer.
const MAX_ID_MAPS: u16 = 8;

/// One layer of a chain.
#[derive(Debug)]
pub(crate) struct ChainLayer {
    pub(crate) record: Arc<LayerRecord>,
    /// What describes its members.
    pub(crate) members: Members,
    /// The description; `None` where it was refused or the descriptor limit was reached.
    pub(crate) description: Option<OwnedFd>,
    /// Where its contents may be, in the order in which they are looked for. All but mapped layers have one place.
    pub(crate) dirs: Vec<ContentsDir>,
    /// Whether contents lie under their digests, not under their names: a composefs layer.
    pub(crate) flat: bool,
}

/// What describes the members of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Members {
    /// The tar-split file.
    TarSplit,
    /// The table of contents by which it was pulled; nobody ever had its tar.
    Toc,
    /// Its tar, compressed: an additional layer store has it.
    Blob,
    /// Nothing but its directory: a container writes to it.
    Disk,
}

/// A directory with contents of a layer.
#[derive(Debug)]
pub(crate) struct ContentsDir {
    pub(crate) at: DirId,
    /// `None` where it was refused or the descriptor limit was reached.
    pub(crate) fd: Option<OwnedFd>,
}

/// Which directory; `layer` is another one than the chain's where a layer shares the contents of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirId {
    pub(crate) root: StoreIndex,
    pub(crate) layer: LayerId,
    pub(crate) dir: LayerDir,
}

impl ChainLayer {
    /// Where the contents of a member are beneath the layer's directories: under the name, or in a flat layer under
    /// the digest (pkg/chunked/internal/path/path.go, `RegularFilePathForValidatedDigest`).
    pub(crate) fn place(&self, name: RelPath, digest: Option<Digest>) -> RelPath {
        match digest.filter(|_| self.flat) {
            Some(digest) => {
                let hex = digest.hex();
                let (first, rest) = hex.split_at_checked(2).unwrap_or((&hex, ""));
                RelPath::clean(format!("{first}/{rest}").as_bytes()).unwrap_or(name)
            }
            None => name,
        }
    }
}

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

/// Opens layers in one locked moment; `find` says which.
///
/// What is open then stays readable whatever podman removes. Layers beyond the descriptor limit are
/// opened when they are needed.
pub(crate) fn open_layers(
    store: &Store,
    interrupt: &Interrupt,
    find: impl Fn(&Snapshot) -> Result<Vec<Arc<LayerRecord>>, StoreError>,
) -> Result<Vec<ChainLayer>, StoreError> {
    store.while_locked(interrupt, |snapshot| {
        let records = find(snapshot)?;
        let within_limit = layers_to_open(records.len());
        let mut layers = Vec::with_capacity(records.len());
        for (place, record) in records.into_iter().enumerate() {
            layers.push(open_layer(store, snapshot, record, place < within_limit)?);
        }
        Ok(layers)
    })
}

/// How many layers may hold two descriptors each: a quarter of the limit goes to them.
fn layers_to_open(wanted: usize) -> usize {
    wanted.min(descriptor_limit() / 8)
}

/// Finds the parts of a layer, and keeps two of them open if `keep` is set.
fn open_layer(
    store: &Store,
    snapshot: &Snapshot,
    record: Arc<LayerRecord>,
    keep: bool,
) -> Result<ChainLayer, StoreError> {
    let tar_split = open::tar_split(store.root(record.root)?.dir(), record.id);
    if matches!(tar_split, Err(Refusal::NotFound))
        && let Some(elsewhere) = additional_layers::find(store, &record)?
    {
        return Ok(provided(record, elsewhere));
    }
    let (members, description) = match tar_split {
        // What has a diff id had a tar-split.
        Err(Refusal::NotFound) if record.has_toc && record.diff_digest.is_none() => {
            (Members::Toc, Some(store.open_toc(&record)?))
        }
        // What was committed, pulled or loaded has a digest, and a tar-split.
        Err(Refusal::NotFound) if record.diff_digest.is_none() && record.compressed_digest.is_none() => {
            (Members::Disk, None)
        }
        opened => (Members::TarSplit, allowed(&record, LayerPart::TarSplit, opened)?),
    };
    let mut dirs = contents_dirs(store, &record, record.id)?;
    if record.is_mapped() && members != Members::Disk {
        // What needed no other owner was not copied when the layer was made.
        if let Some(template) = snapshot.template(record.id) {
            dirs.extend(contents_dirs(store, &record, template)?);
        }
    }
    let flat = dirs.first().is_some_and(|dir| is_flat(store, dir.at));
    let description = description.filter(|_| keep);
    for dir in dirs.iter_mut().skip(usize::from(keep)) {
        dir.fd = None;
    }
    Ok(ChainLayer { record, members, description, dirs, flat })
}

/// A layer of an additional layer store. Its descriptors are kept whatever the limit: the store may be gone later.
fn provided(record: Arc<LayerRecord>, elsewhere: AdditionalLayer) -> ChainLayer {
    let AdditionalLayer { store, digest, diff, blob } = elsewhere;
    let at = DirId { root: store, layer: LayerId::from_bytes(digest.to_bytes()), dir: LayerDir::AdditionalDiff };
    let members = if blob.is_some() { Members::Blob } else { Members::Disk };
    ChainLayer { record, members, description: blob, dirs: vec![ContentsDir { at, fd: Some(diff) }], flat: false }
}

/// The directories with contents of a layer, the newest first: `diff`, and what changes of the id map left
/// (overlay.go, `UpdateLayerIDMap`: it copies what gets other owners, and moves `diff` to `diff1`, `diff1` to `diff2`).
fn contents_dirs(store: &Store, record: &LayerRecord, of: LayerId) -> Result<Vec<ContentsDir>, StoreError> {
    let mut dirs = Vec::new();
    let mut first = Err(Refusal::NotFound);
    let mut root = record.root;
    for (index, candidate) in store.roots.search(record.root) {
        (root, first) = (index, open::layer_dir(candidate.dir(), of, LayerDir::Diff));
        if !matches!(first, Err(Refusal::NotFound)) {
            break;
        }
    }
    let fd = allowed(record, LayerPart::Diff, first)?;
    let refused = fd.is_none();
    dirs.push(ContentsDir { at: DirId { root, layer: of, dir: LayerDir::Diff }, fd });
    for number in 1..=MAX_ID_MAPS {
        let dir = LayerDir::DiffN(number);
        let fd = match open::layer_dir(store.root(root)?.dir(), of, dir) {
            // Where this process may not look, the helper is asked when a file is missing.
            Err(_) if refused => None,
            Err(Refusal::NotFound) => break,
            opened => allowed(record, LayerPart::Diff, opened)?,
        };
        dirs.push(ContentsDir { at: DirId { root, layer: of, dir }, fd });
    }
    Ok(dirs)
}

/// Whether a layer is one of composefs: a blob describes it, and `diff` holds its files by digest (overlay.go,
/// `getComposefsData`). Only root can have such layers; one that cannot be inspected counts as not flat.
fn is_flat(store: &Store, at: DirId) -> bool {
    let blob = format!("overlay/{}/composefs-data/composefs.blob", at.layer);
    store.root(at.root).is_ok_and(|root| root.has(&blob))
}

/// A part that was opened; `None` if this process may not, but the helper might.
fn allowed(
    record: &LayerRecord,
    part: LayerPart,
    opened: Result<OwnedFd, Refusal>,
) -> Result<Option<OwnedFd>, StoreError> {
    match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(Refusal::Denied | Refusal::Unmapped) => Ok(None),
        Err(refusal) => Err(part_error(record, part, refusal)),
    }
}

/// The error for a part of a layer that cannot be opened outside of the lock: whether podman removed the
/// layer meanwhile decides what it means.
pub(crate) fn refused(
    store: &Store,
    record: &LayerRecord,
    interrupt: &Interrupt,
    (part, refusal): (LayerPart, Refusal),
) -> StoreError {
    match refusal {
        Refusal::NotFound if is_lost(store, record, interrupt) => StoreError::Vanished { layer: record.id },
        refusal => part_error(record, part, refusal),
    }
}

fn part_error(record: &LayerRecord, part: LayerPart, refusal: Refusal) -> StoreError {
    StoreError::LayerPart { layer: record.id, part, refusal }
}

/// The table of contents of a layer, of which the same holds as of its contents.
pub(crate) fn open_toc(store: &Store, record: &LayerRecord, interrupt: &Interrupt) -> Result<OwnedFd, StoreError> {
    match store.open_toc(record) {
        Err(StoreError::Missing { .. }) if is_lost(store, record, interrupt) => {
            Err(StoreError::Vanished { layer: record.id })
        }
        opened => opened,
    }
}

/// Whether podman has removed a layer since its record was read, or is about to: it marks the record as incomplete,
/// removes the files, and then the record (containers/storage layers.go, `deleteInternal`). A store that cannot be
/// read any more has lost it too.
pub(crate) fn is_lost(store: &Store, record: &LayerRecord, interrupt: &Interrupt) -> bool {
    let same = |now: &Arc<LayerRecord>| {
        !now.incomplete && now.created == record.created && now.diff_digest == record.diff_digest
    };
    !store.snapshot(interrupt).is_ok_and(|snapshot| snapshot.layer(record.id).is_some_and(same))
}
