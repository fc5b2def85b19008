//! `cstor layer inspect`.

use std::io::Write;

use cstor_client::Layer;
use serde::Serialize;

use super::layer_list::Row;
use super::open_store;
use crate::args::{Format, InspectLayer, Store};
use crate::exit::Failure;
use crate::ui::{json, short, size, table};

#[derive(Serialize)]
struct Inspection {
    schema: u32,
    #[serde(flatten)]
    layer: Row,
    /// From the base up to the layer itself; only where it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<Vec<Row>>,
}

pub(crate) fn run(store: &Store, args: &InspectLayer, out: &mut dyn Write) -> Result<(), Failure> {
    let layer = open_store(store)?.layer(&args.layer)?;
    let chain = if args.chain { Some(layer.chain()?.iter().map(Row::of).collect::<Vec<_>>()) } else { None };
    if args.output.quiet {
        let ids = chain.unwrap_or_else(|| vec![Row::of(&layer)]);
        for row in &ids {
            writeln!(out, "{}", short(&row.id, args.output.no_trunc))?;
        }
        return Ok(());
    }
    if args.output.format == Format::Json {
        return Ok(json::print(out, &Inspection { schema: json::SCHEMA, layer: Row::of(&layer), chain })?);
    }
    let mut lines = describe(&layer);
    for row in chain.iter().flatten() {
        let id = short(&row.id, args.output.no_trunc);
        lines.push(["chain".to_owned(), format!("{id}  {}", row.size.map_or_else(|| "-".to_owned(), size))]);
    }
    Ok(table::print(out, &lines)?)
}

fn describe(layer: &Layer) -> Vec<[String; 2]> {
    let row = Row::of(layer);
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        ["id".to_owned(), row.id],
        ["parent".to_owned(), or_none(row.parent)],
        ["diff id".to_owned(), or_none(row.diff_id)],
        ["size".to_owned(), row.size.map_or_else(|| "-".to_owned(), size)],
        ["pulled as".to_owned(), or_none(row.compressed_digest)],
        ["created".to_owned(), or_none(row.created)],
    ]
}
