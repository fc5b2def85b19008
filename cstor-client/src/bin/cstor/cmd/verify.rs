//! `cstor verify`.

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, available_parallelism};

use cstor_client::error::StoreError;
use cstor_client::{Error, ErrorKind, Layer, LayerId, Storage, Target, Verify};
use serde::Serialize;

use super::open_store;
use super::whose::{images_with, name_of};
use crate::args::{Check, Format, Store};
use crate::exit::{Failure, describe, of_images};
use crate::ui::{count, json};

#[derive(Serialize)]
struct Verification {
    schema: u32,
    layers: usize,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    layer: Option<String>,
    images: Vec<String>,
    message: String,
    #[serde(skip)]
    kind: ErrorKind,
}

impl Finding {
    fn new(layer: Option<LayerId>, images: Vec<String>, error: &Error) -> Finding {
        let layer = layer.map(|layer| layer.to_string());
        Finding { layer, images, message: describe(error, &[]), kind: error.kind() }
    }
}

/// What is looked at: layers, each with the names of the images that it belongs to.
type Targets = BTreeMap<LayerId, (Layer, Vec<String>)>;

pub(crate) fn run(store: &Store, args: &Check, out: &mut dyn Write) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let mut findings = Vec::new();
    let targets = targets(&storage, args.target.as_deref(), &mut findings)?;
    findings.extend(look_at(&targets, args.level)?);
    let verdict = verdict(&findings);
    match args.format {
        Format::Json => json::print(out, &Verification { schema: json::SCHEMA, layers: targets.len(), findings })?,
        Format::Table => {
            for finding in &findings {
                writeln!(out, "{}{}", finding.message, of_images(&finding.images))?;
            }
            if findings.is_empty() {
                writeln!(out, "{}: no damage found", count(targets.len() as u64, "layer", "layers"))?;
            }
        }
    }
    verdict
}

/// One damaged layer makes the store damaged. What could not be looked at, for want of rights above all, may be sound.
fn verdict(findings: &[Finding]) -> Result<(), Failure> {
    let Some(first) = findings.first() else { return Ok(()) };
    let damaged = findings.iter().filter(|finding| finding.kind == ErrorKind::Corrupt).count();
    Err(match damaged {
        0 => Failure::Unchecked { findings: findings.len(), kind: first.kind },
        damaged => Failure::Damaged { findings: damaged },
    })
}

/// The layers of what was named. An image whose chain is broken is a finding when everything is looked at.
fn targets(storage: &Storage, target: Option<&str>, findings: &mut Vec<Finding>) -> Result<Targets, Failure> {
    let mut targets = Targets::new();
    let mut images = match target {
        None => storage.list_images()?,
        Some(name) => match storage.target(name) {
            Ok(Target::Image(image)) => vec![image],
            Ok(Target::Layer(layer)) => return Ok(Targets::from([(layer.id(), (layer, Vec::new()))])),
            // Its own layer has no description to be checked against.
            Ok(Target::Container(container)) => {
                let described = container.layers()?.into_iter().filter(|layer| layer.id() != container.layer_id());
                return Ok(described.map(|layer| (layer.id(), (layer, Vec::new()))).collect());
            }
            Err(StoreError::NoImage { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        },
    };
    images.sort_by_key(|image| image.names().is_empty());
    let single = match (target, images.as_slice()) {
        (Some(name), []) => vec![storage.layer(name)?],
        (Some(_), _) => Vec::new(),
        (None, _) => storage.layers()?,
    };
    for layer in single {
        // Containers' layers have no description to be checked against.
        if target.is_some() || layer.diff_id().is_some() {
            let images = if target.is_some() { images_with(storage, layer.id())? } else { Vec::new() };
            targets.insert(layer.id(), (layer, images));
        }
    }
    for image in images {
        let name = name_of(&image);
        match image.layers() {
            Ok(layers) => {
                for layer in layers {
                    targets.entry(layer.id()).or_insert_with(|| (layer, Vec::new())).1.push(name.clone());
                }
            }
            Err(error) => {
                findings.push(Finding::new(None, vec![name], &error.into()));
            }
        }
    }
    Ok(targets)
}

/// Looks at layers in parallel; the findings come in the order of the layers.
fn look_at(targets: &Targets, level: Verify) -> Result<Vec<Finding>, Failure> {
    let targets: Vec<_> = targets.values().collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some((layer, _)) = targets.get(place) else { return };
            let found = layer.verify(level);
            results.lock().unwrap_or_else(PoisonError::into_inner).insert(place, found);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..available_parallelism().map_or(1, NonZero::get) {
            // What is not started is left out: this thread looks at all of them if it must.
            if Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let mut findings = Vec::new();
    for (place, found) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let Some((layer, images)) = targets.get(place) else { continue };
        for error in found? {
            findings.push(Finding::new(Some(layer.id()), images.clone(), &error.into()));
        }
    }
    Ok(findings)
}
