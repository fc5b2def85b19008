//! containers.json and volatile-containers.json: which containers were made from which image.
//!
//! State and pods are podman's own and stand in its database, which is not read here.

use std::path::Path;

use cstor_proto::LayerId;
use serde::Deserialize;

use super::StoreError;
use super::json::{parse_id, parse_list};
use crate::digest::ImageId;

/// One container, as the store knows it.
#[derive(Debug, Clone)]
pub struct Container {
    id: String,
    names: Vec<String>,
    image: Option<ImageId>,
    layer: LayerId,
    created: Option<String>,
}

#[derive(Deserialize)]
struct Json {
    id: String,
    names: Option<Vec<String>>,
    image: Option<String>,
    layer: String,
    created: Option<String>,
}

impl Container {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its names; podman gives one.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The image that it was made from, if any.
    pub fn image_id(&self) -> Option<ImageId> {
        self.image
    }

    /// Its writable layer.
    pub fn layer_id(&self) -> LayerId {
        self.layer
    }

    /// When it was made, as RFC 3339.
    pub fn created(&self) -> Option<&str> {
        self.created.as_deref()
    }
}

/// Parses the bytes of a containers.json; `path` names it in errors.
pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Vec<Container>, StoreError> {
    parse_list(bytes, path)?.into_iter().map(|json| container(json, path)).collect()
}

fn container(json: Json, path: &Path) -> Result<Container, StoreError> {
    let invalid = |id: String| StoreError::Id { path: path.into(), id, source: cstor_proto::InvalidId };
    let image = match json.image.filter(|id| !id.is_empty()) {
        Some(id) => Some(id.parse().map_err(|_| invalid(id))?),
        None => None,
    };
    Ok(Container {
        id: parse_id(json.id, path)?.to_string(),
        names: json.names.unwrap_or_default(),
        image,
        layer: parse_id(json.layer, path)?,
        created: json.created,
    })
}
