//! What the JSON files of a store have in common: a list, or `null`, of objects with ids.

use std::path::Path;

use cstor_proto::LayerId;
use serde::de::DeserializeOwned;

use super::StoreError;

/// Parses a list; `null` is an empty one, as for Go.
pub(super) fn parse_list<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<Vec<T>, StoreError> {
    let list: Option<Vec<T>> =
        serde_json::from_slice(bytes).map_err(|source| StoreError::Json { path: path.into(), source })?;
    Ok(list.unwrap_or_default())
}

/// Checks an id before anything is made of it.
pub(super) fn parse_id(id: String, path: &Path) -> Result<LayerId, StoreError> {
    id.parse().map_err(|source| StoreError::Id { path: path.into(), id, source })
}
