//! `cstor image layers`.

use std::io::Write;

use cstor_client::{Config, Image};
use serde::Serialize;

use super::open_store;
use crate::args::{Format, Layers, Store};
use crate::exit::Failure;
use crate::ui::{json, short, size, table};

#[derive(Serialize)]
struct Listing {
    schema: u32,
    image: String,
    layers: Vec<LayerRow>,
}

/// One layer of an image; the base comes first.
#[derive(Serialize)]
pub(crate) struct LayerRow {
    pub(crate) id: String,
    parent: Option<String>,
    diff_id: Option<String>,
    /// Of the tar, in bytes.
    pub(crate) size: Option<u64>,
    created: Option<String>,
    created_by: Option<String>,
}

pub(crate) fn run(store: &Store, args: &Layers, out: &mut dyn Write) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let image = storage.image(&args.image)?;
    let layers = rows(&image, super::config_of(&image)?.as_ref())?;
    if args.output.quiet {
        for layer in &layers {
            writeln!(out, "{}", short(&layer.id, args.output.no_trunc))?;
        }
        return Ok(());
    }
    if args.output.format == Format::Json {
        return Ok(json::print(out, &Listing { schema: json::SCHEMA, image: image.id().to_string(), layers })?);
    }
    let mut lines = vec![["LAYER ID", "DIFF ID", "SIZE", "CREATED BY"].map(str::to_owned)];
    for layer in &layers {
        let diff_id = layer.diff_id.as_deref().map_or("-", |id| id.strip_prefix("sha256:").unwrap_or(id));
        lines.push([
            short(&layer.id, args.output.no_trunc).to_owned(),
            short(diff_id, args.output.no_trunc).to_owned(),
            layer.size.map_or_else(|| "-".to_owned(), size),
            shortened(layer.created_by.as_deref().unwrap_or("-"), args.output.no_trunc),
        ]);
    }
    Ok(table::print(out, &lines)?)
}

/// The layers of an image, each with the step of its history that made it.
pub(crate) fn rows(image: &Image, config: Option<&Config>) -> Result<Vec<LayerRow>, Failure> {
    let steps = config.map_or(&[][..], Config::history).iter().filter(|step| !step.empty_layer);
    let mut steps = steps.map(Some).chain(std::iter::repeat(None));
    let layers = image.layers()?;
    let rows = layers.iter().map(|layer| LayerRow {
        id: layer.id().to_string(),
        parent: layer.parent().map(|id| id.to_string()),
        diff_id: layer.diff_id().map(|digest| digest.to_string()),
        size: layer.diff_size(),
        created: layer.created().map(str::to_owned),
        created_by: steps.next().flatten().and_then(|step| step.created_by.clone()),
    });
    Ok(rows.collect())
}

fn shortened(text: &str, whole: bool) -> String {
    const WIDTH: usize = 60;
    if whole || text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}
