//! `cstor image layers`.

use std::io::Write;

use cstor_client::{Config, Layer, Target};
use serde::Serialize;

use super::{find, open_store};
use crate::args::{Format, Layers, Store};
use crate::exit::Failure;
use crate::ui::{json, short, size, table};

#[derive(Serialize)]
struct Listing {
    schema: u32,
    image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
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
    let target = find(&storage, &args.image)?;
    let (image, container) = match &target {
        Target::Image(image) => (Some(image.clone()), None),
        Target::Layer(_) => (None, None),
        Target::Container(container) => {
            // A container of an image that was removed has its layers all the same.
            let image = container.image_id().and_then(|id| storage.image(&id.to_string()).ok());
            (image, Some(container.id().to_owned()))
        }
    };
    let config = image.as_ref().map(super::config_of).transpose()?.flatten();
    let layers = rows(&target.layers()?, config.as_ref());
    if args.output.quiet {
        for layer in &layers {
            writeln!(out, "{}", short(&layer.id, args.output.no_trunc))?;
        }
        return Ok(());
    }
    if args.output.format == Format::Json {
        return Ok(json::print(
            out,
            &Listing { schema: json::SCHEMA, image: image.map(|image| image.id().to_string()), container, layers },
        )?);
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

/// The layers of an image, each with the step of its history that made it; a container's own comes after them.
pub(crate) fn rows(layers: &[Layer], config: Option<&Config>) -> Vec<LayerRow> {
    let steps = config.map_or(&[][..], Config::history).iter().filter(|step| !step.empty_layer);
    let mut steps = steps.map(Some).chain(std::iter::repeat(None));
    let rows = layers.iter().map(|layer| LayerRow {
        id: layer.id().to_string(),
        parent: layer.parent().map(|id| id.to_string()),
        diff_id: layer.diff_id().map(|digest| digest.to_string()),
        size: layer.diff_size(),
        created: layer.created().map(str::to_owned),
        created_by: steps.next().flatten().and_then(|step| step.created_by.clone()),
    });
    rows.collect()
}

fn shortened(text: &str, whole: bool) -> String {
    const WIDTH: usize = 60;
    if whole || text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}
