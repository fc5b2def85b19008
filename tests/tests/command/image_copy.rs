//! `cstor image copy`: what it writes is read by skopeo, umoci, buildah and podman, and comes out of them as the same
//! image with the same files. On forged stores: the bytes themselves, twice the same; a second tag; compressions; damage. It does not look
//! at how an image is extracted (`extract`).

use cstor_tests::built::program;
use cstor_tests::forge::{self, Forged, Store, Subject, Trial, store::digest};
use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run};
use cstor_tests::tree::{self, Sight, assert_same};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const IMAGE: &str = "localhost/app:v1";

fn store() -> Store {
    let mut base = vec![forge::dir("etc"), forge::file("etc/one", b"one\n"), forge::file("empty", b"")];
    base.extend((0..100).map(|number| forge::file(format!("file-{number}"), vec![number as u8; 3000])));
    Store::stack(IMAGE, [base.clone(), vec![forge::file("etc/two", [2; 70_000])], vec![forge::file("etc/one", b"1\n")]])
}

fn forged() -> (TempDir, Forged) {
    let place = tempfile::tempdir().unwrap();
    let forged = store().write(&place.path().join("store"), Subject::Caller.is_root()).unwrap();
    (place, forged)
}

fn copy(forged: &Forged, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(program("cstor"));
    let ended = run(command.arg("--root").arg(&forged.root).args(["image", "copy", IMAGE]).args(arguments));
    (ended.code(), ended.stderr)
}

/// Every file below a directory.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(directory).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn blob<'f>(files: &'f BTreeMap<PathBuf, Vec<u8>>, digest: &Value) -> &'f [u8] {
    &files[&Path::new("blobs").join(digest.as_str().unwrap().replace(':', "/"))]
}

/// Holds every blob against its name, and gives the manifests by their tags.
fn manifests(files: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<String, Value> {
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("blobs")) {
        assert_eq!(digest(bytes).replace("sha256:", "blobs/sha256/"), path.to_str().unwrap());
    }
    assert_eq!(files[Path::new("oci-layout")], br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: Value = serde_json::from_slice(&files[Path::new("index.json")]).unwrap();
    let tagged = index["manifests"].as_array().unwrap().iter().map(|entry| {
        let manifest = blob(files, &entry["digest"]);
        assert_eq!(entry["size"], manifest.len());
        let tag = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned();
        (tag, serde_json::from_slice(manifest).unwrap())
    });
    tagged.collect()
}

fn decompressed(how: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match how {
        "none" => out.extend(bytes),
        "gzip" => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
        _ => {
            let place = tempfile::tempdir().unwrap();
            fs::write(place.path().join("in.zst"), bytes).unwrap();
            must(Command::new("zstd").args(["-q", "-d"]).arg(place.path().join("in.zst")));
            out = fs::read(place.path().join("in")).unwrap();
        }
    }
    out
}

#[test]
fn a_layout_has_the_layers_in_every_compression() {
    let (place, forged) = forged();
    let has_zstd = Command::new("zstd").arg("--version").output().is_ok();
    for (how, suffix) in [("none", ""), ("gzip", "+gzip"), ("zstd", "+zstd")] {
        if how == "zstd" && !has_zstd {
            cstor_tests::lab::skip("zstd is not installed");
            continue;
        }
        let [one, two] = ["one", "two"].map(|name| place.path().join(format!("{name}-{how}")));
        for out in [&one, &two] {
            let (code, stderr) = copy(&forged, &[&format!("oci:{}", out.display()), "--compress", how]);
            assert_eq!(code, 0, "{how}: {stderr}");
            assert_eq!(stderr.contains("is now"), how != "none", "{how}: {stderr}");
        }
        let found = files(&one);
        assert_eq!(found, files(&two), "{how}: not the same bytes");
        let manifest = &manifests(&found)["v1"];
        assert_eq!(digest(blob(&found, &manifest["config"]["digest"])), format!("sha256:{}", forged.images[0]));
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 3);
        for (layer, entry) in forged.layers.iter().zip(manifest["layers"].as_array().unwrap()) {
            assert_eq!(entry["mediaType"], format!("application/vnd.oci.image.layer.v1.tar{suffix}"));
            let bytes = blob(&found, &entry["digest"]);
            assert_eq!(entry["size"], bytes.len());
            assert_eq!(digest(&decompressed(how, bytes)), layer.diff_id(), "{how}");
        }
        if how == "none" {
            let stored = fs::read(forged.big_data(0, "manifest")).unwrap();
            assert!(found.values().any(|bytes| *bytes == stored), "the manifest that described it was not kept");
        }
    }
}

#[test]
fn a_second_run_adds_a_tag_and_writes_no_layer_again() {
    let (place, forged) = forged();
    let out = place.path().join("out");
    let to = |tag: &str| format!("oci:{}:{tag}", out.display());
    assert_eq!(copy(&forged, &[&to("first")]).0, 0);
    let before = files(&out);
    let (code, stderr) = copy(&forged, &[&to("second")]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("0 layers written, 3 there already"), "{stderr}");
    assert_eq!(copy(&forged, &[&to("first"), "--compress", "gzip"]).0, 0);
    let after = files(&out);
    let tags = manifests(&after);
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(tags["second"], manifests(&before)["first"]);
    assert_ne!(tags["first"], tags["second"]);
    assert!(before.iter().all(|(path, bytes)| path.ends_with("index.json") || after[path] == *bytes));
}

#[test]
fn archives_are_the_same_in_a_file_and_in_a_stream() {
    let (place, forged) = forged();
    for form in ["oci-archive", "docker-archive"] {
        let file = place.path().join(form);
        assert_eq!(copy(&forged, &[&format!("{form}:{}", file.display())]).0, 0);
        let streamed = Command::new(program("cstor"))
            .arg("--root")
            .arg(&forged.root)
            .args(["image", "copy-to-oci", IMAGE, &format!("{form}:-")])
            .output()
            .unwrap();
        assert!(streamed.status.success());
        assert!(streamed.stdout == fs::read(&file).unwrap(), "{form}: not the same bytes");
        let mut archive = tar::Archive::new(&*streamed.stdout);
        let names = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 0);
            entry.path().unwrap().to_str().unwrap().to_owned()
        });
        let names: Vec<_> = names.collect();
        assert!(names.is_sorted(), "{names:?}");
    }
    let gzip = place.path().join("gzip");
    for _ in 0..2 {
        assert_eq!(copy(&forged, &[&format!("oci-archive:{}", gzip.display()), "--compress", "gzip"]).0, 0);
    }
    let unpacked = place.path().join("unpacked");
    tar::Archive::new(fs::File::open(&gzip).unwrap()).unpack(&unpacked).unwrap();
    assert_eq!(manifests(&files(&unpacked))["v1"]["layers"].as_array().unwrap().len(), 3);
}

#[test]
fn what_cannot_be_copied_leaves_nothing() {
    for to in ["oci:", "oci-archive:", "docker-archive:"] {
        let (place, forged) = forged();
        forged.bytes(&forged.diff(1, "etc/two"), |bytes| bytes[40_000] ^= 1);
        let out = place.path().join("out");
        let (code, stderr) = copy(&forged, &[&format!("{to}{}", out.display())]);
        assert_eq!(code, 4, "{to} {stderr}");
        assert!(stderr.contains("etc/two"), "{stderr}");
        let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["store"], "{to}");
    }
    let (place, forged) = forged();
    fs::create_dir(place.path().join("full")).unwrap();
    fs::write(place.path().join("full/of"), "something").unwrap();
    let [full, nowhere] = ["full", "no/where"].map(|name| place.path().join(name).display().to_string());
    let table: &[(&[&str], i32)] = &[
        (&[&format!("oci:{full}")], 10),
        (&[&format!("oci:{nowhere}")], 10),
        (&[&format!("oci-archive:{nowhere}")], 10),
        (&["dir:x"], 2),
        (&["oci:x:"], 2),
        (&["oci-archive:-", "--compress", "gzip"], 2),
        (&["docker-archive:x", "--compress", "gzip"], 2),
    ];
    for (arguments, wanted) in table {
        let (code, stderr) = copy(&forged, arguments);
        assert_eq!(code, *wanted, "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    assert_eq!(files(&place.path().join("full")).len(), 1);
    forged.json(&forged.layers_json(), |layers| drop(layers[1].as_object_mut().unwrap().remove("diff-digest")));
    let out = place.path().join("out");
    assert_eq!(copy(&forged, &[&format!("oci:{}", out.display())]).0, 5);
    assert!(!out.exists());
}

#[test]
fn a_plain_user_copies_what_is_his() {
    for &subject in Subject::all() {
        let trial = Trial::new(subject, &store());
        trial.settle();
        let out = trial.run(&["image", "copy", IMAGE, &trial.dest.display().to_string()]).unwrap();
        assert_eq!(out.code, 0, "{subject:?}: {}", out.stderr);
        assert_eq!(manifests(&files(&trial.dest)).len(), 1);
    }
}

/// `cstor image copy` of the user, and then what the other programs make of it.
fn others_read_it(lab: &Lab, store: &Path, image: &str) {
    // XFS has no symlinks as long as one of the images has.
    let scratch = lab.scratch(Who::User, Fs::Btrfs);
    let out = |name: &str| scratch.path().join(name).display().to_string();
    let user = |program: &str, arguments: &[&str]| must(lab.command(Who::User, program).args(arguments));
    let extracted = |store: &Path, image: &str| {
        let to = scratch.path().join("files");
        must(lab.cstor(Who::User, store).args(["extract", image]).arg(&to));
        let listed = tree::list(&to).unwrap();
        // Directories may be closed to their owner.
        must(Command::new("rm").arg("-rf").arg(&to));
        listed
    };
    let original = extracted(store, image);
    assert!(!original.is_empty());
    for how in ["none", "gzip", "zstd"] {
        let to = format!("oci:{}:t", out(how));
        must(lab.cstor(Who::User, store).args(["image", "copy", image, &to, "--compress", how]));
        let found = files(&scratch.path().join(how));
        let manifest = &manifests(&found)["t"];
        let config: Value = serde_json::from_slice(blob(&found, &manifest["config"]["digest"])).unwrap();
        let id = manifest["config"]["digest"].as_str().unwrap().replace("sha256:", "");
        for (layer, diff_id) in
            manifest["layers"].as_array().unwrap().iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap())
        {
            assert_eq!(digest(&decompressed(how, blob(&found, &layer["digest"]))), *diff_id, "{image} {how}");
        }
        user("skopeo", &["inspect", &to]);
        user("skopeo", &["copy", "-q", &to, &format!("dir:{}", out(&format!("{how}-dir")))]);
        let oci_archive = out(&format!("{how}.tar"));
        let mut archives = vec![oci_archive.clone()];
        let mut cstor = lab.cstor(Who::User, store);
        must(cstor.args(["image", "copy", image, &format!("oci-archive:{oci_archive}:t"), "--compress", how]));
        if how == "none" {
            user("umoci", &["unpack", "--rootless", "--image", &format!("{}:t", out(how)), &out("bundle")]);
            let docker = out("docker.tar");
            let mut cstor = lab.cstor(Who::User, store);
            must(cstor.args(["image", "copy", image, &format!("docker-archive:{docker}:localhost/copy:t")]));
            archives.push(docker);
        }
        for (number, archive) in archives.iter().enumerate() {
            // podman takes no run root of more than 50 characters.
            let [root, run_root] = ["s", "r"].map(|what| out(&format!("{what}{number}")));
            let podman = |arguments: &[&str]| {
                user("podman", &[&["--root", &root, "--runroot", &run_root][..], arguments].concat())
            };
            podman(&["load", "-q", "-i", archive]);
            let loaded = must(lab.cstor(Who::User, Path::new(&root)).args(["image", "list", "-q", "--no-trunc"]));
            assert!(loaded.contains(&id), "{image} {how} {archive}: {loaded} is not {id}");
            let shown: Value = serde_json::from_str(&podman(&["image", "inspect", &id])).unwrap();
            assert_eq!(shown[0]["RootFS"]["Layers"], config["rootfs"]["diff_ids"], "{image} {archive}");
            assert_same(&original, &extracted(Path::new(&root), &id), Sight::ALL, &format!("{image} {how} {archive}"));
            // Files of other users of the namespace.
            user("podman", &["unshare", "rm", "-rf", &root, &run_root]);
        }
        let [root, run_root] = ["s", "r"].map(out);
        // buildah makes a name of the path, and names have no capital letters.
        let here = format!("oci:{how}:t");
        let arguments = ["--root", &root, "--runroot", &run_root, "pull", "-q", &here];
        let pulled = must(lab.command(Who::User, "buildah").args(arguments).current_dir(scratch.path()));
        assert!(pulled.trim().ends_with(&id), "{image} {how}: buildah has {pulled}");
        assert_same(&original, &extracted(Path::new(&root), &id), Sight::ALL, &format!("{image} {how} by buildah"));
        user("podman", &["unshare", "rm", "-rf", &root, &run_root]);
    }
    user("podman", &["unshare", "rm", "-rf", &out("bundle")]);
}

fn missing() -> Option<&'static str> {
    ["skopeo", "umoci", "buildah", "zstd"]
        .into_iter()
        .find(|tool| !["/usr/bin", "/usr/local/bin"].iter().any(|directory| Path::new(directory).join(tool).exists()))
}

#[test]
fn other_programs_read_copies_of_the_fixtures() {
    let lab = lab_or_skip!();
    if let Some(tool) = missing() {
        return cstor_tests::lab::skip(tool);
    }
    others_read_it(lab, &lab.store(Fs::Btrfs, "tour"), "localhost/tour:v2");
    others_read_it(lab, &lab.store(Fs::Btrfs, "tour"), "localhost/plain:latest");
}

#[test]
fn other_programs_read_copies_of_local_images() {
    let lab = lab_or_skip!();
    if let Some(tool) = missing() {
        return cstor_tests::lab::skip(tool);
    }
    for image in ["localhost/walk:v2", "localhost/tool"] {
        others_read_it(lab, &lab.store(Fs::Xfs, "local"), image);
    }
}
