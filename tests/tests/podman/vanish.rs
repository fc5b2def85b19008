//! podman removes an image while it is read: that is 9 in every command, whatever the command was doing. The same file
//! gone from a store in which nothing was removed is damage, 4.
//!
//! A command is caught while it reads the first file of a layer, which is large; the last one, which it has not opened
//! yet, is what is gone.

use cstor_client::{ErrorKind, Storage};
use cstor_tests::forge::{Store, Subject, Trial, file};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const IMAGE: &str = "localhost/going:1";
/// Longer than any command takes to come to the first file.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many mebibytes keep every command busy for a while.
const LARGE: usize = 48 << 20;

fn store() -> Store {
    // More files than are opened at a time (`flow::WINDOW`) lie between the two.
    let between = (0..80).map(|number| file(format!("b{number:02}"), "between"));
    let members = [file("a", vec![0; LARGE])].into_iter().chain(between).chain([file("z", "the last one")]);
    Store::stack(IMAGE, [members.collect::<Vec<_>>()])
}

/// `OUT` is the place of the result.
fn commands(layer: &str) -> Vec<Vec<&str>> {
    vec![
        vec!["extract", IMAGE, "OUT", "--reflink", "never"],
        vec!["layer", "extract", layer, "OUT", "--reflink", "never"],
        vec!["image", "export", IMAGE, "-o", "OUT"],
        vec!["image", "export", IMAGE],
        vec!["image", "toc", IMAGE, "--digests"],
        vec!["image", "copy", IMAGE, "oci:OUT"],
        vec!["image", "copy", IMAGE, "oci:OUT", "--compress", "zstd"],
        vec!["image", "copy", IMAGE, "oci-archive:-"],
        vec!["image", "copy", IMAGE, "docker-archive:OUT"],
        vec!["layer", "export", layer, "-o", "OUT"],
        vec!["layer", "export", layer],
        vec!["layer", "export", layer, "--verify", "none", "-o", "OUT"],
        vec!["layer", "splitfd", layer, "-o", "OUT", "--inline-threshold", "1000000000"],
        vec!["layer", "toc", layer, "--digests"],
        vec!["verify", IMAGE],
        vec!["verify", "--all", "--level", "crc"],
    ]
}

type Removal = fn(&mut Value);

/// What podman leaves in layers.json at some moment of a removal, and what a command must say then.
const REMOVALS: [(&str, Removal, i32); 3] = [
    ("all of it", |records| *records = json!([]), 9),
    ("podman is about to", |records| records[0]["flags"] = json!({ "incomplete": true }), 9),
    ("nothing but the file", |_| {}, 4),
];

#[test]
fn what_podman_has_removed_is_no_damage() {
    for &subject in Subject::all() {
        let trial = Trial::new(subject, &store());
        trial.settle();
        let (listed, last) = (trial.store.layers_json(), trial.store.diff(0, "z"));
        let (records, bytes) = (fs::read(&listed).unwrap(), fs::read(&last).unwrap());
        for words in commands(&trial.store.layers[0].id.clone()) {
            for (what, change, code) in REMOVALS {
                let out = trial.dest.to_str().unwrap();
                let arguments: Vec<String> = words.iter().map(|word| word.replace("OUT", out)).collect();
                let mut command = trial.command_through(&[], &arguments.iter().map(String::as_str).collect::<Vec<_>>());
                let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
                stop_when_open(&mut child, &trial.store.diff(0, "a"));
                fs::remove_file(&last).unwrap();
                trial.store.json(&listed, change);
                kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
                let ended = child.wait_with_output().unwrap();
                let said = String::from_utf8(ended.stderr).unwrap();
                fs::write(&last, &bytes).unwrap();
                fs::write(&listed, &records).unwrap();
                trial.settle();
                assert_eq!(ended.status.code(), Some(code), "{words:?}, {what} ({subject:?}): {said}");
                let layout = words.iter().any(|word| word.starts_with("oci:"));
                // A layout is made before its blobs are; that it goes again is the matter of other tests.
                assert!(layout || !trial.dest.exists(), "{words:?}, {what}: a result is left");
                fs::remove_dir_all(&trial.dest).unwrap_or_default();
            }
        }
    }
}

/// Stops a command as soon as it has a file open.
#[track_caller]
fn stop_when_open(child: &mut Child, path: &Path) {
    let began = Instant::now();
    let links = format!("/proc/{}/fd", child.id());
    let is_open = || {
        let mut links = fs::read_dir(&links).into_iter().flatten().flatten();
        links.any(|link| fs::read_link(link.path()).is_ok_and(|target| target == path))
    };
    while !is_open() {
        assert!(child.try_wait().unwrap().is_none(), "ended before it could be caught");
        assert!(began.elapsed() < PATIENCE, "never opened {}", path.display());
    }
    kill_process(Pid::from_child(child), Signal::STOP).unwrap();
}

#[test]
fn a_container_that_has_been_removed_is_no_damage() {
    let trial = Trial::new(Subject::Caller, &Store::stack(IMAGE, [vec![file("a", "one")], vec![file("b", "two")]]));
    let listed = trial.store.root.join("overlay-containers/containers.json");
    let container = json!({
        "id": "c".repeat(64), "names": ["web"], "image": trial.store.images[0], "layer": trial.store.layers[1].id,
        "created": "2026-01-01T00:00:00Z",
    });
    fs::write(&listed, json!([container]).to_string()).unwrap();
    let storage = Storage::open(&trial.store.root).unwrap();
    let found = storage.container("web").unwrap();
    assert_eq!(found.layers().unwrap().len(), 2);
    trial.store.json(&trial.store.layers_json(), |records| drop(records.as_array_mut().unwrap().pop()));
    // The container is still there, so something else has taken its layer.
    assert_eq!(found.layers().unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(found.rootfs().unwrap_err().kind(), ErrorKind::Corrupt);
    fs::write(&listed, "[]").unwrap();
    assert_eq!(found.layers().unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(found.rootfs().unwrap_err().kind(), ErrorKind::Changed);
}
