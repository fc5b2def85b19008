//! `cstor container diff`.

use std::io::{BufWriter, Write};

use cstor_client::{Change, ChangeKind, Escaped};
use serde::Serialize;

use super::open_store;
use crate::args::{DiffContainer, Format, Store};
use crate::exit::Failure;
use crate::ui::json;

/// What podman makes in every container and leaves out of `podman diff` (libpod/diff.go, `initInodes`).
const BY_PODMAN: [&[u8]; 11] = [
    b"dev",
    b"etc/hostname",
    b"etc/hosts",
    b"etc/mtab",
    b"etc/resolv.conf",
    b"proc",
    b"run",
    b"run/.containerenv",
    b"run/notify",
    b"run/secrets",
    b"sys",
];

#[derive(Serialize)]
struct Difference {
    schema: u32,
    container: String,
    changed: Vec<String>,
    added: Vec<String>,
    deleted: Vec<String>,
}

pub(crate) fn run(store: &Store, args: &DiffContainer, out: &mut dyn Write) -> Result<(), Failure> {
    let reference = args.container.strip_prefix("container:").unwrap_or(&args.container);
    let container = open_store(store)?.container(reference)?;
    let mut changes = container.changes()?;
    if !args.all {
        changes.retain(|change| !BY_PODMAN.contains(&&*change.path));
    }
    let mut out = BufWriter::new(out);
    if args.format == Format::Json {
        let of = |kind| changes.iter().filter(|change| change.kind == kind).map(shown).collect();
        let difference = Difference {
            schema: json::SCHEMA,
            container: container.id().to_owned(),
            changed: of(ChangeKind::Changed),
            added: of(ChangeKind::Added),
            deleted: of(ChangeKind::Deleted),
        };
        json::print(&mut out, &difference)?;
    } else {
        for change in &changes {
            let letter = match change.kind {
                ChangeKind::Changed => 'C',
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
            };
            writeln!(out, "{letter} {}", shown(change))?;
        }
    }
    Ok(out.flush()?)
}

fn shown(change: &Change) -> String {
    format!("/{}", Escaped(&change.path))
}
