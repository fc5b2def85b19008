//! `cstor image inspect`.

use std::io::Write;

use cstor_client::{Config, Image};
use serde::Serialize;
use serde_json::Value;

use super::image_layers::{self, LayerRow};
use super::{find_image, open_store};
use crate::args::{Format, Inspect, Store};
use crate::exit::Failure;
use crate::ui::{json, short, size, table};

#[derive(Serialize)]
struct Inspection {
    schema: u32,
    id: String,
    names: Vec<String>,
    digest: Option<String>,
    media_type: Option<String>,
    created: Option<String>,
    stored: Option<String>,
    architecture: Option<String>,
    os: Option<String>,
    /// In bytes.
    size: u64,
    /// As in the image's configuration.
    config: Option<Value>,
    layers: Vec<LayerRow>,
}

pub(crate) fn run(store: &Store, args: &Inspect, out: &mut dyn Write) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let image = find_image(&storage, &args.image)?;
    if args.output.quiet {
        return Ok(writeln!(out, "{}", short(&image.id().to_string(), args.output.no_trunc))?);
    }
    let inspection = inspect(&image)?;
    if args.output.format == Format::Json {
        return Ok(json::print(out, &inspection)?);
    }
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let names = if inspection.names.is_empty() { "-".to_owned() } else { inspection.names.join(", ") };
    let mut lines = vec![
        ["id".to_owned(), inspection.id.clone()],
        ["names".to_owned(), names],
        ["digest".to_owned(), or_none(&inspection.digest)],
        ["created".to_owned(), or_none(&inspection.created)],
        ["platform".to_owned(), format!("{}/{}", or_none(&inspection.os), or_none(&inspection.architecture))],
        ["size".to_owned(), size(inspection.size)],
    ];
    for (key, label) in
        [("Entrypoint", "entrypoint"), ("Cmd", "command"), ("User", "user"), ("WorkingDir", "directory")]
    {
        if let Some(value) =
            inspection.config.as_ref().and_then(|config| config.get(key)).filter(|value| !value.is_null())
        {
            lines.push([label.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)]);
        }
    }
    for layer in &inspection.layers {
        let id = short(&layer.id, args.output.no_trunc);
        lines.push(["layer".to_owned(), format!("{id}  {}", layer.size.map_or_else(|| "-".to_owned(), size))]);
    }
    Ok(table::print(out, &lines)?)
}

fn inspect(image: &Image) -> Result<Inspection, Failure> {
    let config = super::config_of(image)?;
    let of = |field: fn(&Config) -> Option<&str>| config.as_ref().and_then(field).map(str::to_owned);
    let manifest = image.manifest()?;
    Ok(Inspection {
        schema: json::SCHEMA,
        id: image.id().to_string(),
        names: image.names().to_vec(),
        digest: image.digest().map(|digest| digest.to_string()),
        media_type: manifest.media_type().map(str::to_owned),
        created: of(Config::created),
        stored: image.stored_at().map(str::to_owned),
        architecture: of(Config::architecture),
        os: of(Config::os),
        size: image.size()?,
        config: config.as_ref().and_then(|config| config.runtime().cloned()),
        layers: image_layers::rows(&image.layers()?, config.as_ref()),
    })
}
