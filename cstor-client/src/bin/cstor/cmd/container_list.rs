//! `cstor container list`.

use std::io::Write;

use cstor_client::{Container, ContainerStatuses};
use serde::Serialize;

use super::open_store;
use crate::args::{Format, ListContainers, Store};
use crate::exit::Failure;
use crate::ui::{age, json, short, table};

#[derive(Serialize)]
struct Listing {
    schema: u32,
    containers: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    names: Vec<String>,
    image: Option<String>,
    image_name: Option<String>,
    layer: String,
    created: Option<String>,
    /// "unknown" where podman's database does not tell; `None` for what is not podman's.
    state: Option<String>,
    exit_code: Option<i32>,
    pod: Option<String>,
}

pub(crate) fn run(store: &Store, args: &ListContainers, out: &mut dyn Write) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let containers = storage.containers()?;
    if args.output.quiet {
        for container in &containers {
            writeln!(out, "{}", short(container.id(), args.output.no_trunc))?;
        }
        return Ok(());
    }
    let statuses = storage.container_statuses();
    if let Some(why) = statuses.why_unknown().filter(|_| !containers.is_empty()) {
        tracing::info!("states are not known: {why}");
    }
    let containers: Vec<Row> = containers.iter().map(|container| row(container, &statuses)).collect();
    if args.output.format == Format::Json {
        return Ok(json::print(out, &Listing { schema: json::SCHEMA, containers })?);
    }
    let titles = ["CONTAINER ID", "IMAGE", "CREATED", "STATE", "POD", "NAMES"];
    let mut lines = vec![titles.map(str::to_owned)];
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for container in &containers {
        let image_id = container.image.as_deref().map(|id| short(id, args.output.no_trunc).to_owned());
        lines.push([
            short(&container.id, args.output.no_trunc).to_owned(),
            or_none(&container.image_name.clone().or(image_id)),
            age(container.created.as_deref()),
            match (&container.state, container.exit_code) {
                (Some(state), Some(code)) => format!("{state} ({code})"),
                (state, _) => or_none(state),
            },
            or_none(&container.pod),
            container.names.join(","),
        ]);
    }
    Ok(table::print(out, &lines)?)
}

fn row(container: &Container, statuses: &ContainerStatuses) -> Row {
    let status = statuses.of(container.id());
    Row {
        id: container.id().to_owned(),
        names: container.names().to_vec(),
        image: container.image_id().map(|id| id.to_string()),
        image_name: container.image_name().map(str::to_owned),
        layer: container.layer_id().to_string(),
        created: container.created().map(str::to_owned),
        state: match status {
            Some(status) => Some(status.state.to_string()),
            None if statuses.are_known() => None,
            None => Some("unknown".to_owned()),
        },
        exit_code: status.and_then(|status| status.exit_code),
        pod: status.and_then(|status| status.pod.clone()),
    }
}
