//! layers.json: which layers there are, and their parents.
//!
//! The keys are those of `Layer` in containers/storage layers.go. A layer that is marked incomplete stays
//! in the table, so that an image that needs it can be told why it cannot be read.

use std::path::Path;
use std::sync::Arc;

use cstor_proto::{LayerId, StoreIndex};
use serde::Deserialize;
use serde_json::Value;

use super::json::{parse_id, parse_list};
use super::{StoreError, big_data};
use crate::base::digest::Digest;
use crate::base::interrupt::Interrupt;

/// One layer, as a store knows it.
#[derive(Debug)]
pub(crate) struct LayerRecord {
    pub(crate) id: LayerId,
    /// The root that holds its tar-split and its big data.
    pub(crate) root: StoreIndex,
    pub(crate) parent: Option<LayerId>,
    pub(crate) names: Vec<String>,
    pub(crate) created: Option<String>,
    pub(crate) diff_digest: Option<Digest>,
    pub(crate) diff_size: Option<u64>,
    pub(crate) compressed_digest: Option<Digest>,
    pub(crate) incomplete: bool,
    /// Whether there is a table of contents among its big data: it was pulled as zstd:chunked or eStargz.
    pub(crate) has_toc: bool,
    /// Where its files have other owners on disk than those of its store.
    pub(crate) maps: IdMaps,
}

impl LayerRecord {
    /// Whether its files have other owners on disk than those of its store.
    pub(crate) fn is_mapped(&self) -> bool {
        self.maps != IdMaps::default()
    }
}

/// Which ids stand for those of a container, where that is not each for itself; empty where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdMaps {
    pub(crate) users: Vec<IdMap>,
    pub(crate) groups: Vec<IdMap>,
}

impl IdMaps {
    pub(super) fn new(users: Option<Vec<IdMap>>, groups: Option<Vec<IdMap>>) -> IdMaps {
        IdMaps { users: users.unwrap_or_default(), groups: groups.unwrap_or_default() }
    }
}

/// Consecutive ids of a container, and what stands for them in the namespace of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct IdMap {
    #[serde(rename = "container_id")]
    pub(crate) container: u32,
    #[serde(rename = "host_id")]
    pub(crate) host: u32,
    pub(crate) size: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Json {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    parent: Option<String>,
    created: Option<String>,
    compressed_diff_digest: Option<Digest>,
    diff_digest: Option<Digest>,
    diff_size: Option<i64>,
    flags: Option<serde_json::Map<String, Value>>,
    big_data_names: Option<Vec<String>>,
    uidmap: Option<Vec<IdMap>>,
    gidmap: Option<Vec<IdMap>>,
}

/// Parses the bytes of a layers.json; `path` names it in errors.
pub(crate) fn parse(
    bytes: &[u8],
    root: StoreIndex,
    path: &Path,
    interrupt: &Interrupt,
) -> Result<Vec<Arc<LayerRecord>>, StoreError> {
    parse_list(bytes, path, interrupt, |json| record(json, root, path).map(Arc::new))
}

fn record(json: Json, root: StoreIndex, path: &Path) -> Result<LayerRecord, StoreError> {
    Ok(LayerRecord {
        id: parse_id(json.id, path)?,
        root,
        parent: json.parent.filter(|id| !id.is_empty()).map(|id| parse_id(id, path)).transpose()?,
        names: json.names.unwrap_or_default(),
        created: json.created,
        diff_digest: json.diff_digest,
        // −1 stands for unknown where only a table of contents was pulled.
        diff_size: json.diff_size.and_then(|size| u64::try_from(size).ok()),
        compressed_digest: json.compressed_diff_digest,
        has_toc: json.big_data_names.is_some_and(|names| names.iter().any(|name| name == big_data::TOC)),
        maps: IdMaps::new(json.uidmap, json.gidmap),
        incomplete: json.flags.is_some_and(|flags| flags.get("incomplete") == Some(&Value::Bool(true))),
    })
}
