//! Which layer a user means: its id or the beginning of that, its name or its diff id.

use std::sync::Arc;

use crate::base::digest::Digest;
use crate::store::{LayerRecord, Snapshot, StoreError};

/// The shortest prefix of an id that is taken for one.
const MIN_PREFIX: usize = 3;
const MAX_CANDIDATES: usize = 5;

/// Finds the one layer that `reference` means.
pub(crate) fn find<'a>(snapshot: &'a Snapshot, reference: &str) -> Result<&'a Arc<LayerRecord>, StoreError> {
    let digest = reference.parse::<Digest>().ok();
    let matches = |layer: &&Arc<LayerRecord>| {
        let by_id = reference.len() >= MIN_PREFIX && layer.id.to_string().starts_with(reference);
        by_id || layer.names.iter().any(|name| name == reference) || digest.is_some() && layer.diff_digest == digest
    };
    let found: Vec<_> = snapshot.layers().filter(|layer| !layer.incomplete).filter(matches).collect();
    match found.as_slice() {
        [] => Err(StoreError::NoLayer { reference: reference.to_owned() }),
        [layer] => Ok(layer),
        several => Err(StoreError::AmbiguousLayer {
            reference: reference.to_owned(),
            candidates: several.iter().take(MAX_CANDIDATES).map(|layer| layer.id.to_string()).collect(),
        }),
    }
}
