//! containers.json and volatile-containers.json: which containers were made from which image.
//!
//! State and pods are podman's own and stand in its database (`podman_db/`).

use std::path::Path;
use std::sync::Arc;

use cstor_proto::LayerId;
use serde::Deserialize;

use super::StoreError;
use super::json::{parse_id, parse_list};
use super::layers::{IdMap, IdMaps};
use crate::base::digest::ImageId;
use crate::base::interrupt::Interrupt;

/// One container, as the store knows it.
#[derive(Debug)]
pub(crate) struct ContainerRecord {
    pub(crate) id: String,
    pub(crate) names: Vec<String>,
    pub(crate) image: Option<ImageId>,
    /// The layer that it writes to.
    pub(crate) layer: LayerId,
    pub(crate) created: Option<String>,
    /// The name of the image when it was made; podman keeps it in the metadata.
    pub(crate) image_name: Option<String>,
    /// The ids that stand for its own.
    pub(crate) maps: IdMaps,
}

#[derive(Deserialize)]
struct Json {
    id: String,
    names: Option<Vec<String>>,
    image: Option<String>,
    layer: String,
    created: Option<String>,
    metadata: Option<String>,
    uidmap: Option<Vec<IdMap>>,
    gidmap: Option<Vec<IdMap>>,
}

/// What podman writes there (containers/storage has no opinion); buildah writes other things.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata {
    image_name: Option<String>,
}

/// Parses the bytes of a containers.json; `path` names it in errors.
pub(crate) fn parse(bytes: &[u8], path: &Path, interrupt: &Interrupt) -> Result<Vec<Arc<ContainerRecord>>, StoreError> {
    parse_list(bytes, path, interrupt, |json| container(json, path).map(Arc::new))
}

fn container(json: Json, path: &Path) -> Result<ContainerRecord, StoreError> {
    let invalid = |id: String| StoreError::Id { path: path.into(), id, source: cstor_proto::InvalidId };
    let image = match json.image.filter(|id| !id.is_empty()) {
        Some(id) => Some(id.parse().map_err(|_| invalid(id))?),
        None => None,
    };
    Ok(ContainerRecord {
        maps: IdMaps::new(json.uidmap, json.gidmap),
        id: parse_id(json.id, path)?.to_string(),
        names: json.names.unwrap_or_default(),
        image,
        layer: parse_id(json.layer, path)?,
        created: json.created,
        image_name: json
            .metadata
            .and_then(|text| serde_json::from_str(&text).ok())
            .and_then(|data: Metadata| data.image_name),
    })
}
