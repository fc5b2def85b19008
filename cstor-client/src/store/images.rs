//! images.json: which images there are, their names, and where their data is.
//!
//! The keys are those of `Image` in containers/storage images.go.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use cstor_proto::{InvalidId, LayerId, StoreIndex};
use serde::Deserialize;

use super::StoreError;
use super::json::{parse_id, parse_list};
use crate::base::digest::{Digest, ImageId};
use crate::base::interrupt::Interrupt;

/// One image, as a store knows it.
#[derive(Debug)]
pub(crate) struct ImageRecord {
    pub(crate) id: ImageId,
    pub(crate) root: StoreIndex,
    pub(crate) names: Vec<String>,
    pub(crate) digest: Option<Digest>,
    /// The top layer; `None` for an image without files.
    pub(crate) layer: Option<LayerId>,
    /// Copies of the top layer for containers with ids of their own.
    pub(crate) mapped_layers: Vec<LayerId>,
    pub(crate) created: Option<String>,
    pub(crate) big_data: Vec<String>,
    pub(crate) big_data_sizes: HashMap<String, i64>,
    pub(crate) big_data_digests: HashMap<String, Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Json {
    id: String,
    digest: Option<Digest>,
    names: Option<Vec<String>>,
    layer: Option<String>,
    mapped_layers: Option<Vec<String>>,
    created: Option<String>,
    big_data_names: Option<Vec<String>>,
    big_data_sizes: Option<HashMap<String, i64>>,
    big_data_digests: Option<HashMap<String, Digest>>,
}

/// Parses the bytes of an images.json; `path` names it in errors.
pub(crate) fn parse(
    bytes: &[u8],
    root: StoreIndex,
    path: &Path,
    interrupt: &Interrupt,
) -> Result<Vec<Arc<ImageRecord>>, StoreError> {
    parse_list(bytes, path, interrupt, |json| record(json, root, path).map(Arc::new))
}

fn record(json: Json, root: StoreIndex, path: &Path) -> Result<ImageRecord, StoreError> {
    let id = json.id.parse::<ImageId>();
    Ok(ImageRecord {
        id: id.map_err(|_| StoreError::Id { path: path.into(), id: json.id, source: InvalidId })?,
        root,
        names: json.names.unwrap_or_default(),
        digest: json.digest,
        layer: json.layer.filter(|id| !id.is_empty()).map(|id| parse_id(id, path)).transpose()?,
        mapped_layers: json
            .mapped_layers
            .unwrap_or_default()
            .into_iter()
            .map(|id| parse_id(id, path))
            .collect::<Result<_, _>>()?,
        created: json.created,
        big_data: json.big_data_names.unwrap_or_default(),
        big_data_sizes: json.big_data_sizes.unwrap_or_default(),
        big_data_digests: json.big_data_digests.unwrap_or_default(),
    })
}
