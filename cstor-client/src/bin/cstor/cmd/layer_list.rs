//! `cstor layer list`.

use std::io::Write;

use cstor_client::Layer;
use serde::Serialize;

use super::open_store;
use crate::args::{Format, List, Store};
use crate::exit::Failure;
use crate::ui::{age, json, short, size, table};

#[derive(Serialize)]
struct Listing {
    schema: u32,
    layers: Vec<Row>,
}

/// One layer of a store.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) diff_id: Option<String>,
    /// Of the tar, in bytes.
    pub(crate) size: Option<u64>,
    pub(crate) compressed_digest: Option<String>,
    pub(crate) created: Option<String>,
    pub(crate) names: Vec<String>,
}

impl Row {
    pub(crate) fn of(layer: &Layer) -> Row {
        Row {
            id: layer.id().to_string(),
            parent: layer.parent().map(|id| id.to_string()),
            diff_id: layer.diff_id().map(|digest| digest.to_string()),
            size: layer.diff_size(),
            compressed_digest: layer.compressed_digest().map(|digest| digest.to_string()),
            created: layer.created().map(str::to_owned),
            names: layer.names().to_vec(),
        }
    }
}

pub(crate) fn run(store: &Store, args: &List, out: &mut dyn Write) -> Result<(), Failure> {
    let layers: Vec<Row> = open_store(store)?.layers()?.iter().map(Row::of).collect();
    if args.output.quiet {
        for layer in &layers {
            writeln!(out, "{}", short(&layer.id, args.output.no_trunc))?;
        }
        return Ok(());
    }
    if args.output.format == Format::Json {
        return Ok(json::print(out, &Listing { schema: json::SCHEMA, layers })?);
    }
    let mut lines = vec![["LAYER ID", "PARENT", "DIFF ID", "CREATED", "SIZE"].map(str::to_owned)];
    let or_none = |id: Option<&str>| id.map_or("-", |id| short(id, args.output.no_trunc)).to_owned();
    for layer in &layers {
        let diff_id = layer.diff_id.as_deref().map(|id| id.strip_prefix("sha256:").unwrap_or(id));
        lines.push([
            short(&layer.id, args.output.no_trunc).to_owned(),
            or_none(layer.parent.as_deref()),
            or_none(diff_id),
            age(layer.created.as_deref()),
            layer.size.map_or_else(|| "-".to_owned(), size),
        ]);
    }
    Ok(table::print(out, &lines)?)
}
