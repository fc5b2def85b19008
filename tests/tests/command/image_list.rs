//! `cstor image list`: its filters against podman's, and its shapes and flags on forged stores, also without podman. What
//! it says of each image is held against podman in `agreement`.

use cstor_tests::forge::{Forged, Image, Store, file};
use cstor_tests::lab::{Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON: {error}: {text}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The ids that podman and cstor list of the user's own store.
fn ids(lab: &Lab, arguments: &[&str]) -> [BTreeSet<String>; 2] {
    let ids = |program: &Path, command: &[&str]| -> BTreeSet<String> {
        let all = [command, &["-q", "--no-trunc"], arguments].concat();
        let text = must(lab.command(Who::User, program).args(all));
        text.lines().map(|id| id.trim_start_matches("sha256:").to_owned()).collect()
    };
    [ids(Path::new("podman"), &["images"]), ids(&lab.executable("cstor"), &["image", "list"])]
}

/// Left out: the same key twice, but for `reference`, since podman 4 and 5 differ in that.
#[test]
fn filters_let_through_what_podmans_do() {
    let lab = lab_or_skip!();
    let table: &[(&[&str], bool)] = &[
        (&["dangling=true"], false),
        (&["dangling=false"], true),
        (&["reference=walk"], true),
        (&["reference=walk:v*"], true),
        (&["reference=localhost/walk:v2"], true),
        (&["reference=team/walk"], true),
        (&["reference=*walk*", "reference=tool"], true),
        (&["reference=*/walk"], true),
        (&["reference=w?lk:[a-b]*"], true),
        (&["reference=nothing"], false),
        (&["reference!=walk"], true),
        (&["label=org.example.walk"], true),
        (&["label=org.example.walk=2"], true),
        (&["label=org.example.walk=3"], false),
        (&["label=org.*"], true),
        (&["label!=org.example.walk"], true),
        (&["since=localhost/walk:v1"], true),
        (&["after=localhost/walk:v1", "before=localhost/tool"], true),
        (&["before=localhost/walk:base"], true),
        (&["before!=localhost/walk:v1", "reference=walk"], true),
        (&["since=localhost/walk:base", "label=org.example.walk", "reference=walk:*"], true),
    ];
    for (filters, some) in table {
        let filters: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        let with_all = [&["-a"], &filters[..]].concat();
        let [theirs, ours] = ids(lab, &with_all);
        assert_eq!(ours, theirs, "-a {filters:?}");
        assert!(!some || !ours.is_empty(), "{filters:?} finds nothing");
        let [theirs, ours] = ids(lab, &filters);
        assert_eq!(ours, theirs, "{filters:?}");
    }
}

// ---- without podman ------------------------------------------------------------------------------------------------

fn cstor(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_embedder")).with_file_name("cstor"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").env("LC_ALL", "C.UTF-8");
    command.arg("--root").arg(root).args(arguments);
    command
}

/// Images a (layers 0, 1), b (layer 0) and an unnamed one without layers.
fn forged(place: &Path) -> Forged {
    let mut store = Store::stack("localhost/a:1", [vec![file("f", "x")], vec![file("g", "y")]]);
    store.images[0].created = "2024-05-06T07:08:09.5Z".to_owned();
    let image = |name: &str, top, created: &str| Image {
        created: created.to_owned(),
        comment: name.to_owned(),
        ..Image::new(name, top)
    };
    store.images.push(image("localhost/b:1", Some(0), "2024-05-06T07:08:09Z"));
    store.images.push(Image { names: Vec::new(), ..image("", None, "2024-05-06T09:08:09+02:00") });
    store.images[1].names.push("localhost/b@sha256:00".to_owned());
    store.write(&place.join("store"), rustix::process::geteuid().is_root()).unwrap()
}

fn listed(store: &Forged, arguments: &[&str]) -> Value {
    let arguments = [&["image", "list", "--format", "json"], arguments].concat();
    json(&must(&mut cstor(&store.root, &arguments)))["images"].clone()
}

#[test]
fn sizes_are_shared_or_not() {
    let place = tempfile::tempdir().unwrap();
    let store = forged(place.path());
    let layers = json(&must(&mut cstor(&store.root, &["layer", "list", "--format", "json"])));
    let size = |layer: usize| layers["layers"][layer]["size"].as_u64().unwrap();
    let images = listed(&store, &["-a"]);
    let names: Vec<_> = list(&images).iter().map(|image| image["names"][0].as_str()).collect();
    assert_eq!(names, [Some("localhost/a:1"), Some("localhost/b:1"), None], "half a second counts, and so do zones");
    let part = |image: usize, key: &str| images[image][key].as_u64().unwrap();
    assert_eq!([part(0, "shared_size"), part(1, "shared_size"), part(2, "shared_size")], [size(0), size(0), 0]);
    assert!(part(0, "unique_size") > size(1), "with manifest and configuration");
    assert!(part(1, "unique_size") > 0 && part(1, "unique_size") < size(1));

    let said = must(&mut cstor(&store.root, &["image", "list", "--sizes", "--digests"]));
    let lines: Vec<_> = said.lines().collect();
    for (column, cell) in [("DIGEST", images[0]["digest"].as_str().unwrap()), ("SHARED SIZE", "2.05 kB")] {
        let at = lines[0].find(column).unwrap_or_else(|| panic!("{said}"));
        assert!(lines[1][at..].starts_with(cell), "{column}: {said}");
    }
    assert_eq!(lines.len(), 4, "a name without a tag has no line of its own: {said}");
}

#[test]
fn filters_that_are_none_are_usage_errors() {
    let place = tempfile::tempdir().unwrap();
    let store = forged(place.path());
    for (filter, code, says) in [
        ("dangling", 2, "KEY=VALUE"),
        ("colour=red", 2, "keys of filters"),
        ("dangling=maybe", 2, "true or false"),
        ("since=localhost/nothing", 3, "no such image"),
    ] {
        let ended = run(&mut cstor(&store.root, &["image", "list", "--filter", filter]));
        assert_eq!(ended.code(), code, "{filter}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("cstor: error: ") && ended.stderr.contains(says), "{}", ended.stderr);
        assert_eq!((ended.stderr.lines().count(), ended.stdout.as_str()), (1, ""), "{filter}");
    }
    // All must hold, but of several references one.
    let count = |filters: &[&str]| list(&listed(&store, filters)).len();
    assert_eq!(count(&["-f", "reference=a", "-f", "reference=b"]), 2);
    assert_eq!(count(&["-f", "reference=a", "-f", "reference=b", "-f", "dangling=true"]), 0);
    assert_eq!(count(&["-f", "since=localhost/b:1", "-f", "since=localhost/a:1"]), 0);
    assert_eq!(count(&["-f", &format!("reference={}", &store.images[2][..12])]), 1, "an id");
}

#[test]
fn a_time_that_the_store_never_knew_is_the_configurations() {
    let place = tempfile::tempdir().unwrap();
    let store = forged(place.path());
    store.json(&store.images_json(), |images| images[0]["created"] = json!("0001-01-01T00:00:00Z"));
    assert_eq!(listed(&store, &["-f", "reference=a"])[0]["created"], "2024-05-06T07:08:09.5Z");
    let blobs = store.root.join("overlay-images").join(&store.images[0]);
    for blob in fs::read_dir(blobs).unwrap() {
        fs::write(blob.unwrap().path(), "{").unwrap();
    }
    let ended = run(&mut cstor(&store.root, &["image", "list", "-f", "reference=a", "--format", "json"]));
    assert_eq!(json(&ended.stdout)["images"][0]["created"], "0001-01-01T00:00:00Z");
    assert!(ended.stderr.contains("warning"), "{}", ended.stderr);
}
