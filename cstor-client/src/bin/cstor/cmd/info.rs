//! `cstor info`: which store is meant and why, and what it holds.

use std::io::Write;
use std::path::Path;

use cstor_client::Storage;
use cstor_client::discover::{Database, Discovery, LockState, Origin, Rules, Setting, Settings};
use cstor_client::error::StoreError;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::{Format, Info, Store};
use crate::exit::Failure;
use crate::ui::{count, json, shown, size, table};

/// One store and its contents, as they are printed.
#[derive(Serialize)]
struct StoreRow {
    path: String,
    role: &'static str,
    driver: Option<String>,
    images: Option<usize>,
    layers: Option<usize>,
    containers: Option<usize>,
    /// In bytes.
    size: Option<u64>,
    locks: Map<String, Value>,
    problem: Option<String>,
}

pub(crate) fn run(store: &Store, args: &Info, out: &mut dyn Write) -> Result<(), Failure> {
    let mut discovery = match &store.root {
        Some(root) => Discovery::given(root, &store.storage_opt),
        None => Discovery::of_this_process()?,
    };
    if let Some(path) = &store.imagestore {
        discovery.settings.image_store = Some(Setting { value: path.clone(), origin: Origin::Given });
    }
    let database = discovery.database();
    let warnings: Vec<String> = discovery.warnings(&database).iter().map(ToString::to_string).collect();
    let stores = stores(&discovery.settings);
    if args.format == Format::Json {
        let steps = discovery.steps.iter().map(|step| {
            json!({ "rules": of(step.rules), "what": text(&step.what), "counted": step.counted, "why": step.why })
        });
        let document = json!({
            "schema": json::SCHEMA,
            "rules": discovery.rules.map(of),
            "why": discovery.why,
            "settings": document(&discovery.settings),
            "other": discovery.other.as_ref().map(document),
            "database": of_database(&database),
            "stores": stores,
            "warnings": warnings,
            "looked_at": steps.collect::<Vec<_>>(),
        });
        return Ok(json::print(out, &document)?);
    }
    let mut lines = Vec::new();
    if args.explain {
        for step in &discovery.steps {
            let verdict = if step.counted { "counts" } else { "does not count" };
            lines.push(vec![of(step.rules).to_owned(), text(&step.what), format!("{verdict}: {}", step.why)]);
        }
        if let Some(other) = &discovery.other {
            lines
                .extend(settings(other).map(|(name, value, origin)| vec![format!("not taken: {name}"), value, origin]));
        }
    }
    lines.extend(settings(&discovery.settings).map(|(name, value, origin)| vec![name, value, origin]));
    let rules = discovery.rules.map_or("-", of);
    lines.push(vec!["rules".to_owned(), rules.to_owned(), discovery.why.to_owned()]);
    lines.extend(database_line(&database));
    lines.extend(stores.iter().map(store_line));
    table::print(out, &lines)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(())
}

fn of(rules: Rules) -> &'static str {
    match rules {
        Rules::Older => "older",
        Rules::Newer => "newer",
    }
}

fn text(path: &Path) -> String {
    shown(path)
}

/// The settings, line by line; options and what is not set only where there is something to say.
fn settings(settings: &Settings) -> impl Iterator<Item = (String, String, String)> {
    let path = |setting: &Setting<std::path::PathBuf>| (text(&setting.value), setting.origin.to_string());
    let mut lines = vec![("root", path(&settings.root)), ("run root", path(&settings.run_root))];
    lines.extend(settings.image_store.iter().map(|setting| ("image store", path(setting))));
    if let Some(driver) = &settings.driver {
        lines.push(("driver", (driver.value.clone(), driver.origin.to_string())));
    }
    if let Some(drivers) = &settings.driver_priority {
        lines.push(("driver priority", (drivers.value.join(" "), drivers.origin.to_string())));
    }
    if settings.transient_store.origin != Origin::Default {
        let transient = &settings.transient_store;
        lines.push(("transient store", (transient.value.to_string(), transient.origin.to_string())));
    }
    let additional = &settings.additional_image_stores;
    lines.extend(
        additional.value.iter().map(|store| ("additional store", (text(store), additional.origin.to_string()))),
    );
    let layers = &settings.additional_layer_stores;
    lines.extend(layers.value.iter().map(|store| ("layer store", (store.clone(), layers.origin.to_string()))));
    let options = settings
        .options
        .iter()
        .map(|(name, option)| ("option", (format!("{name}={}", option.value), option.origin.to_string())));
    let lines = lines.into_iter().chain(options);
    lines.map(|(name, (value, origin))| (name.to_owned(), value, origin)).collect::<Vec<_>>().into_iter()
}

fn document(settings: &Settings) -> Value {
    let options: Map<String, Value> = settings
        .options
        .iter()
        .map(|(name, option)| (name.clone(), sourced(json!(option.value), &option.origin)))
        .collect();
    let path = |setting: &Setting<std::path::PathBuf>| sourced(json!(text(&setting.value)), &setting.origin);
    let stores: Vec<String> = settings.additional_image_stores.value.iter().map(|store| text(store)).collect();
    json!({
        "root": path(&settings.root),
        "run_root": path(&settings.run_root),
        "image_store": settings.image_store.as_ref().map(path),
        "transient_store": sourced(json!(settings.transient_store.value), &settings.transient_store.origin),
        "driver": settings.driver.as_ref().map(|driver| sourced(json!(driver.value), &driver.origin)),
        "driver_priority": settings.driver_priority.as_ref().map(|drivers| sourced(json!(drivers.value), &drivers.origin)),
        "additional_image_stores": sourced(json!(stores), &settings.additional_image_stores.origin),
        "additional_layer_stores":
            sourced(json!(settings.additional_layer_stores.value), &settings.additional_layer_stores.origin),
        "options": options,
    })
}

fn sourced(value: Value, origin: &Origin) -> Value {
    let (source, variable, file, key) = match origin {
        Origin::Given => ("command line", None, None, None),
        Origin::Environment { name } => ("environment", Some(*name), None, None),
        Origin::File { path, key } => ("file", None, Some(text(path)), Some(format!("storage.{key}"))),
        _ => ("default", None, None, None),
    };
    json!({ "value": value, "source": source, "variable": variable, "file": file, "key": key })
}

fn of_database(database: &Database) -> Value {
    let (kind, path, paths, why) = match database {
        Database::Bolt { path } => ("boltdb", Some(path), None, None),
        Database::Sqlite { path, root, run_root, driver } => {
            ("sqlite", Some(path), Some((root, run_root, driver)), None)
        }
        Database::Unknown { path, why } => ("unknown", Some(path), None, Some(why)),
        _ => ("none", None, None, None),
    };
    json!({
        "kind": kind,
        "path": path.map(|path| text(path)),
        "root": paths.map(|(root, ..)| text(root)),
        "run_root": paths.map(|(_, run_root, _)| text(run_root)),
        "driver": paths.map(|(.., driver)| driver),
        "why": why,
    })
}

fn database_line(database: &Database) -> Option<Vec<String>> {
    let (path, says) = match database {
        Database::Bolt { path } => (path, "BoltDB of podman up to 5, not read".to_owned()),
        Database::Sqlite { path, root, run_root, driver } => {
            (path, format!("podman's: root {}, run root {}, driver {driver}", text(root), text(run_root)))
        }
        Database::Unknown { path, why } => (path, format!("podman's, cannot be read: {why}")),
        _ => return None,
    };
    Some(vec!["database".to_owned(), text(path), says])
}

fn stores(settings: &Settings) -> Vec<StoreRow> {
    let image_store = settings.image_store.iter().map(|store| (store.value.as_path(), "image store"));
    let additional = settings.additional_image_stores.value.iter().map(|store| (store.as_path(), "additional"));
    let paths = std::iter::once((settings.root.value.as_path(), "root")).chain(image_store).chain(additional);
    paths.map(|(path, role)| look(path, role)).collect()
}

fn look(path: &Path, role: &'static str) -> StoreRow {
    let (driver, images, layers, containers, size, locks) = Default::default();
    let mut row = StoreRow { path: text(path), role, driver, images, layers, containers, size, locks, problem: None };
    let storage = match Storage::open(path) {
        Ok(storage) => storage,
        Err(error) => {
            if let StoreError::Driver { driver, .. } = &error {
                row.driver = Some(driver.clone());
            }
            row.problem = Some(error.to_string());
            return row;
        }
    };
    row.driver = Some("overlay".to_owned());
    let locks = storage.locks();
    for (file, state) in &locks {
        let name = Path::new(file).file_stem().and_then(|name| name.to_str()).unwrap_or(file);
        let state = match state {
            LockState::Free => json!({ "state": "free", "by": null }),
            LockState::Held { by } => json!({ "state": "held", "by": by }),
            _ => json!({ "state": "none", "by": null }),
        };
        row.locks.insert(name.to_owned(), state);
    }
    // Nobody wants to wait for an overview.
    if locks.iter().any(|(_, state)| matches!(state, LockState::Held { .. })) {
        row.problem = Some("locked: not counted".to_owned());
        return row;
    }
    if let Err(error) = fill(&mut row, &storage) {
        row.problem = Some(error.to_string());
    }
    row
}

fn fill(row: &mut StoreRow, storage: &Storage) -> Result<(), StoreError> {
    let layers = storage.layers()?;
    row.layers = Some(layers.len());
    row.size = Some(layers.iter().filter_map(|layer| layer.diff_size()).fold(0, u64::saturating_add));
    row.images = Some(storage.list_images()?.len());
    row.containers = Some(storage.containers()?.len());
    Ok(())
}

fn store_line(row: &StoreRow) -> Vec<String> {
    let number = |number: Option<usize>, one: &str, several: &str| number.map(|n| count(n as u64, one, several));
    let parts = [
        row.driver.clone(),
        number(row.images, "image", "images"),
        number(row.layers, "layer", "layers"),
        number(row.containers, "container", "containers"),
        row.size.map(size),
    ];
    let mut says = parts.into_iter().flatten().collect::<Vec<_>>();
    for (name, lock) in &row.locks {
        if lock.get("state") == Some(&json!("held")) {
            let by = lock.get("by").and_then(Value::as_i64);
            says.push(by.map_or_else(|| format!("{name} locked"), |by| format!("{name} locked by process {by}")));
        }
    }
    says.extend(row.problem.clone());
    vec![format!("store ({})", row.role), row.path.clone(), says.join(", ")]
}
