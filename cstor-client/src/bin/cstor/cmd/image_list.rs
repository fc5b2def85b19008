//! `cstor image list`.

use std::io::Write;

use cstor_client::Image;
use cstor_client::error::StoreError;
use serde::Serialize;

use super::open_store;
use crate::args::{Format, List, Store};
use crate::exit::Failure;
use crate::ui::{age, json, short, size, table};

#[derive(Serialize)]
struct Listing {
    schema: u32,
    images: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    names: Vec<String>,
    digest: Option<String>,
    created: Option<String>,
    /// In bytes.
    size: u64,
}

pub(crate) fn run(store: &Store, args: &List, out: &mut dyn Write) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let images = storage.list_images()?;
    let mut rows = images.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    // The newest first, as podman has them; RFC 3339 in UTC sorts as text.
    rows.sort_by(|a, b| b.created.cmp(&a.created));
    if args.output.quiet {
        for row in &rows {
            writeln!(out, "{}", short(&row.id, args.output.no_trunc))?;
        }
        return Ok(());
    }
    if args.output.format == Format::Json {
        return Ok(json::print(out, &Listing { schema: json::SCHEMA, images: rows })?);
    }
    let mut lines = vec![["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"].map(str::to_owned)];
    for row in &rows {
        let unnamed = [String::from("<none>:<none>")];
        let names = if row.names.is_empty() { &unnamed[..] } else { &row.names };
        for name in names {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, ""));
            lines.push([
                repository.to_owned(),
                tag.to_owned(),
                short(&row.id, args.output.no_trunc).to_owned(),
                age(row.created.as_deref()),
                size(row.size),
            ]);
        }
    }
    Ok(table::print(out, &lines)?)
}

fn row(image: &Image) -> Result<Row, Failure> {
    let built = match image.config() {
        Ok(config) => config.created().map(str::to_owned),
        Err(StoreError::NoBigData { .. }) => None,
        Err(error) => {
            tracing::warn!(%error, "shown with the time when it was stored");
            None
        }
    };
    Ok(Row {
        id: image.id().to_string(),
        names: image.names().to_vec(),
        digest: image.digest().map(|digest| digest.to_string()),
        created: built.or_else(|| image.stored_at().map(str::to_owned)),
        size: image.size()?,
    })
}
