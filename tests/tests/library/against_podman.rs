//! What the library says of the stores of the lab, against what podman says.

use cstor_client::error::StoreError;
use cstor_client::tar::Kind;
use cstor_client::{Image, Storage, Verify};
use cstor_tests::built::install;
use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::must;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;

fn podman(lab: &Lab, arguments: &[&str]) -> Value {
    serde_json::from_str(&must(lab.command(Who::User, "podman").args(arguments))).expect("JSON of podman")
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn id(image: &Value) -> &str {
    image["Id"].as_str().expect("an id").trim_start_matches("sha256:")
}

#[test]
fn images_are_those_of_podman() {
    let lab = lab_or_skip!();
    // The user's store and what root copied of it: root is not let into the one of another user.
    assert!(matches!(
        Storage::open(lab.store(Fs::Xfs, "local")).and_then(|it| it.list_images()),
        Err(StoreError::ForeignStore { .. })
    ));
    let storage = Storage::open(lab.store(Fs::Xfs, "root-local")).unwrap();
    let ours: BTreeMap<String, Image> =
        storage.list_images().unwrap().into_iter().map(|image| (image.id().to_string(), image)).collect();
    let listed = podman(lab, &["images", "--all", "--no-trunc", "--format", "json"]);
    // An image of several names stands there once for each.
    let listed: BTreeMap<&str, &Value> = listed.as_array().unwrap().iter().map(|image| (id(image), image)).collect();
    assert!(listed.len() > 5 && ours.keys().eq(listed.keys()), "{ours:?}\n{listed:?}");
    let inspected = podman(lab, &[&["image", "inspect"][..], &listed.keys().copied().collect::<Vec<_>>()].concat());
    let inspected: BTreeMap<&str, &Value> =
        inspected.as_array().unwrap().iter().map(|image| (id(image), image)).collect();
    for (&id, &theirs) in &listed {
        let image = &ours[id];
        assert_eq!(image.size().unwrap(), theirs["Size"].as_u64().unwrap(), "{id}: {:?}", image.names());
        let (mut names, mut wanted) = (image.names().to_vec(), texts(&theirs["Names"]));
        names.sort();
        wanted.sort_unstable();
        assert_eq!(names, wanted, "{id}");

        let inspected = inspected[id];
        assert_eq!(image.digest().unwrap().to_string(), inspected["Digest"], "{id}");
        assert_eq!(image.size().unwrap(), inspected["Size"].as_u64().unwrap(), "{id}");
        let config = image.config().unwrap();
        assert_eq!(config.architecture(), inspected["Architecture"].as_str(), "{id}");
        assert_eq!(config.os(), inspected["Os"].as_str(), "{id}");
        // OCI lets a manifest go without it; podman then says what it takes it for.
        let manifest = image.manifest().unwrap();
        assert!(manifest.media_type().is_none_or(|found| inspected["ManifestType"] == found), "{id}");
        let diff_ids: Vec<_> =
            image.layers().unwrap().iter().map(|layer| layer.diff_id().unwrap().to_string()).collect();
        assert_eq!(diff_ids, texts(&inspected["RootFS"]["Layers"]), "{id}");
        let steps: Vec<_> = config.history().iter().map(|step| step.created_by.clone().unwrap_or_default()).collect();
        let wanted = inspected["History"].as_array().unwrap();
        let wanted: Vec<_> = wanted.iter().map(|step| step["created_by"].as_str().unwrap_or_default()).collect();
        assert_eq!(steps, wanted, "{id}");
        let same_moment = |a: &str, b: &str| a.get(..19) == b.get(..19);
        assert!(same_moment(config.created().unwrap(), inspected["Created"].as_str().unwrap()), "{id}");
    }
}

#[test]
fn containers_are_those_of_podman() {
    let lab = lab_or_skip!();
    let storage = Storage::open(lab.store(Fs::Xfs, "root-local")).unwrap();
    let mut ours: Vec<_> = storage
        .containers()
        .unwrap()
        .iter()
        .map(|container| {
            (container.id().to_owned(), container.names().to_vec(), container.image_id().map(|id| id.to_string()))
        })
        .collect();
    let listed = podman(lab, &["ps", "--all", "--no-trunc", "--format", "json"]);
    let mut theirs: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|container| {
            let names = texts(&container["Names"]).into_iter().map(str::to_owned).collect();
            let image = container["ImageID"].as_str().map(str::to_owned);
            (container["Id"].as_str().unwrap().to_owned(), names, image)
        })
        .collect();
    ours.sort();
    theirs.sort();
    assert!(!theirs.is_empty(), "images.sh makes a container");
    assert_eq!(ours, theirs);
    // Of the podman that made the fixture: what its provenance says.
    let mut names: Vec<_> = Storage::open(lab.store(Fs::Btrfs, "root-tour"))
        .unwrap()
        .containers()
        .unwrap()
        .iter()
        .flat_map(|container| container.names().to_vec())
        .collect();
    names.sort();
    assert_eq!(names, ["tour-c1", "tour-c2"]);
}

/// What podman recorded when it took the layer in is what comes out, to the byte.
fn exports_have_their_digest(who: Who, stores: &[(Fs, &str)]) {
    let lab = lab_or_skip!();
    let home = lab.scratch(Who::User, Fs::Ext4);
    let program = home.path().join("embedder");
    install(env!("CARGO_BIN_EXE_embedder"), &program);
    for &(fs, name) in stores {
        let root = lab.store(fs, name);
        let said = must(lab.command(who, &program).env("EMBEDDER_STORE", &root));
        let mut exported = said.lines();
        assert_eq!(exported.next(), Some(if who == Who::User { "proxied true" } else { "proxied false" }));
        let exported: BTreeMap<&str, &str> = exported.map(|line| line.split_once(' ').expect("an id")).collect();
        // Root's copy says what the digests are.
        let storage =
            Storage::open(lab.store(fs, name.strip_prefix("root-").map_or(&format!("root-{name}"), |_| name))).unwrap();
        let containers = storage.containers().unwrap();
        let (layers, open): (Vec<_>, Vec<_>) =
            storage.layers().unwrap().into_iter().partition(|layer| layer.diff_id().is_some());
        // Only the writable layer of a container has no digest, and no tar.
        for layer in open {
            assert!(containers.iter().any(|container| container.layer_id() == layer.id()), "{name}: {layer:?}");
            let error = layer.export(std::io::sink(), Verify::Digest).unwrap_err();
            assert!(error.to_string().contains("there is no tar of it"), "{error}");
        }
        assert!(layers.len() > 1 && layers.len() == exported.len(), "{name}: {} of {}", exported.len(), layers.len());
        for layer in &layers {
            let wanted = format!("{} {}", layer.diff_size().unwrap(), layer.diff_id().unwrap().hex());
            assert_eq!(exported[layer.id().to_string().as_str()], wanted, "{who:?}, {name}, layer {}", layer.id());
        }
    }
}

#[test]
fn exports_have_their_digest_for_the_user() {
    exports_have_their_digest(Who::User, &[(Fs::Btrfs, "tour"), (Fs::Xfs, "chunked"), (Fs::Xfs, "local")]);
}

#[test]
fn exports_have_their_digest_for_root() {
    let stores = [(Fs::Btrfs, "root-tour"), (Fs::Ext4, "root-chunked"), (Fs::Xfs, "root-local")];
    exports_have_their_digest(Who::Root, &stores);
}

#[test]
fn a_file_of_another_id_opens_through_the_helper_alone() {
    let lab = lab_or_skip!();
    // The library as root reads what the user may not.
    let storage = Storage::open(lab.store(Fs::Xfs, "root-local")).unwrap();
    let image = storage.image("localhost/private").unwrap();
    let layer = image.layers().unwrap().pop().unwrap();
    let entry = layer.entries().unwrap().filter_map(|entry| entry.unwrap().member).find(|member| {
        member.header.kind == Kind::File
            && member.header.uid != 0
            && member.content.is_some_and(|content| content.size > 0)
    });
    let member = entry.expect("a file of another id");
    let file: File = layer.open_file_std(&member.header.path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), member.content.unwrap().size);
}
