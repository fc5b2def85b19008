//! Stores whose parts do not lie where they usually do: split ones, transient ones, layers with other owners, layers of
//! which only a table of contents is there, flat composefs layers. Each is held against podman's own mount of the same
//! image, or against its diff ids. Plain stores are tested in `extract` and `layer_export`.

use cstor_client::{Digest, ErrorKind, Layer, Location, Storage, Verify};
use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{Ended, must, run};
use cstor_tests::tree::{self, Listing, Sight, assert_same};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const IMAGE: &str = "127.0.0.1:5055/chunked:latest";

/// What podman mounts; it gave directories and links the time of the pull.
fn truth() -> Listing {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/truth-5.4.2/chunked-latest.jsonl");
    tree::parse(&fs::read_to_string(path).expect("a fixture")).expect("lines of JSON")
}

fn unpacked(lab: &Lab, who: Who, on: Fs, fixture: &str) -> TempDir {
    lab.unpack(who, on, &Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture))
}

fn cstor(lab: &Lab, who: Who, location: &[&Path], arguments: &[&str]) -> Ended {
    let mut command = lab.cstor(who, location[0]);
    for image_store in &location[1..] {
        command.arg("--imagestore").arg(image_store);
    }
    run(command.args(arguments))
}

/// Extracts the image and holds it against the truth.
fn is_extracted(lab: &Lab, who: Who, fs: Fs, location: &[&Path], flags: &[&str]) {
    let scratch = lab.scratch(who, fs);
    let out = scratch.path().join("out");
    let arguments = [&["extract", IMAGE, out.to_str().unwrap()], flags].concat();
    let ended = cstor(lab, who, location, &arguments);
    assert_eq!(ended.code(), 0, "{who:?} {flags:?}: {}", ended.stderr);
    let sight = if who == Who::Root { Sight::ALL } else { Sight::PLAIN };
    assert_same(&truth(), &tree::list(&out).unwrap(), sight.file_times(), &format!("{who:?} {flags:?}"));
}

/// Every layer of the image is the tar that its diff id says.
fn is_exported(storage: &Storage) {
    let layers = storage.image(IMAGE).unwrap().layers().unwrap();
    assert_eq!(layers.len(), 3);
    for layer in layers {
        assert_eq!(digest_of(&layer), layer.diff_id().unwrap(), "{:?}", layer.id());
    }
}

fn digest_of(layer: &Layer) -> Digest {
    let mut tar = Vec::new();
    layer.export(&mut tar, Verify::Crc).unwrap_or_else(|error| panic!("{}: {error}", layer.id()));
    Digest::of(&tar)
}

fn json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn split(place: &TempDir) -> [PathBuf; 2] {
    ["split", "split-images"].map(|name| place.path().join(name))
}

/// Image and layer directories in one place, layers.json, tar-split and containers in another.
#[test]
fn a_split_store_is_read_as_one() {
    let lab = lab_or_skip!();
    for (who, fs) in [(Who::Root, Fs::Btrfs), (Who::User, Fs::Ext4)] {
        let place = unpacked(lab, who, fs, "split-podman-5.4.2.tar.zst");
        let [root, images] = split(&place);
        let location = [root.as_path(), images.as_path()];
        let listed = cstor(lab, who, &location, &["image", "list", "--format", "json"]);
        let listed: Value = serde_json::from_str(&listed.stdout).unwrap_or_else(|_| panic!("{}", listed.stderr));
        assert_eq!(listed["images"][0]["names"], json!([IMAGE]), "{who:?}");
        assert_eq!(listed["images"].as_array().unwrap().len(), 1, "{who:?}");
        is_extracted(lab, who, fs, &location, &[]);
        if who == Who::User {
            // The helper is told of two roots, and each part is in its own.
            is_extracted(lab, who, fs, &location, &["--helper", "always"]);
        }
        let apart = cstor(lab, who, &location[..1], &["image", "inspect", IMAGE]);
        assert_eq!(apart.code(), 3, "the root alone has no images: {}", apart.stderr);
    }
}

#[test]
fn layers_of_a_split_store_are_exported() {
    let lab = lab_or_skip!();
    let place = unpacked(lab, Who::Root, Fs::Xfs, "split-podman-5.4.2.tar.zst");
    let [root, images] = split(&place);
    let open = || Storage::open_at(&Location::new(&root).image_store(&images)).unwrap();
    is_exported(&open());
    let containers = open().containers().unwrap();
    assert_eq!(containers[0].names(), ["split-c1"]);
    // The container's own layer is in the root, what it stands on in the image store.
    let chain = open().layer(&containers[0].layer_id().to_string()).unwrap().chain().unwrap();
    assert_eq!(chain.len(), 4);
    let mut hostname = String::new();
    let base = &open().image(IMAGE).unwrap().layers().unwrap()[0];
    base.open_file_std("etc/passwd").unwrap().read_to_string(&mut hostname).unwrap();
    assert!(hostname.starts_with("root:"));
}

/// What storage.conf says is what podman and cstor go by.
#[test]
fn storage_conf_says_where_the_parts_are() {
    let lab = lab_or_skip!();
    let place = unpacked(lab, Who::Root, Fs::Xfs, "split-podman-5.4.2.tar.zst");
    let [root, images] = split(&place);
    let run_root = place.path().join("run");
    fs::create_dir_all(run_root.join("overlay-layers")).unwrap();
    let mut layer = Value::Null;
    json(&root.join("overlay-layers/layers.json"), |layers| layer = layers.as_array_mut().unwrap().pop().unwrap());
    fs::write(run_root.join("overlay-layers/volatile-layers.json"), json!([layer]).to_string()).unwrap();
    let conf = place.path().join("storage.conf");
    let list = |transient: bool| {
        let [root, images, run_root] = [&root, &images, &run_root].map(|path| path.display().to_string());
        let text = format!(
            "[storage]\ndriver = 'overlay'\ngraphroot = '{root}'\nimagestore = '{images}'\nrunroot = '{run_root}'\n\
             transient_store = {transient}\n"
        );
        fs::write(&conf, text).unwrap();
        let mut command = lab.command(Who::Root, lab.executable("cstor"));
        command.env("CONTAINERS_STORAGE_CONF", &conf);
        let images = must(command.args(["image", "list"]));
        assert!(images.contains("127.0.0.1:5055/chunked"), "{images}");
        let mut command = lab.command(Who::Root, lab.executable("cstor"));
        must(command.env("CONTAINERS_STORAGE_CONF", &conf).args(["layer", "list", "-q"])).lines().count()
    };
    assert_eq!((list(false), list(true)), (3, 4), "the layer of a container is listed in the run root");
}

/// Since containers/storage 1.59 the layers of images are listed in the image store; all else stays in the root.
#[test]
fn a_split_store_may_list_layers_in_both_places() {
    let lab = lab_or_skip!();
    let place = unpacked(lab, Who::Root, Fs::Xfs, "split-podman-5.4.2.tar.zst");
    let [root, images] = split(&place);
    json(&root.join("overlay-layers/layers.json"), |layers| {
        let layers = layers.as_array_mut().unwrap();
        let of_images = json!(layers.drain(..3).collect::<Vec<_>>());
        assert_eq!(layers.len(), 1);
        fs::write(images.join("overlay-layers/layers.json"), of_images.to_string()).unwrap();
    });
    is_exported(&Storage::open_at(&Location::new(&root).image_store(&images)).unwrap());
    is_extracted(lab, Who::Root, Fs::Xfs, &[&root, &images], &[]);
}

fn only_tocs(store: &Path) {
    json(&store.join("overlay-layers/layers.json"), |layers| {
        for layer in layers.as_array_mut().unwrap() {
            let layer = layer.as_object_mut().unwrap();
            assert!(layer.remove("diff-digest").is_some() && layer.contains_key("big-data-names"));
            layer.insert("diff-size".into(), json!(-1));
            let tar_split = format!("overlay-layers/{}.tar-split.gz", layer["id"].as_str().unwrap());
            fs::remove_file(store.join(tar_split)).unwrap();
        }
    });
}

/// Changes one byte of a file of the store, in place.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Pulled by a table of contents that no tar-split came with: nobody can make the tar, but all files are known.
#[test]
fn a_layer_with_only_a_table_of_contents_is_extracted_and_not_exported() {
    let lab = lab_or_skip!();
    for fixture in ["chunked-podman-5.4.2.tar.zst", "composefs-podman-5.8.6.tar.zst"] {
        let place = unpacked(lab, Who::Root, Fs::Xfs, fixture);
        only_tocs(place.path());
        let store = [place.path()];
        is_extracted(lab, Who::Root, Fs::Xfs, &store, &["--verify"]);
        is_extracted(lab, Who::Root, Fs::Xfs, &store, &["--reflink", "never"]);
        let storage = Storage::open(place.path()).unwrap();
        let layer = &storage.image(IMAGE).unwrap().layers().unwrap()[0];
        assert_eq!((layer.diff_id(), layer.diff_size()), (None, None));
        assert!(layer.verify(cstor_client::Verify::Digest).unwrap().is_empty());
        let toc = layer.toc(true).unwrap();
        let busybox = toc.entries.iter().find(|entry| entry.name == "bin/busybox").unwrap();
        assert_eq!(
            busybox.digest.unwrap().to_string(),
            "sha256:7ae95c260622412ceba6eb9f45d68f616cdc091a1d71d6c0a08b5875bb2c31dd"
        );
        assert_eq!(busybox.offset, 0, "nobody knows");
        let error = layer.export(std::io::sink(), Verify::Digest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let id = layer.id().to_string();
        let elsewhere = lab.scratch(Who::Root, Fs::Xfs);
        let copy = format!("oci:{}", elsewhere.path().join("copy").display());
        for (arguments, why) in [
            (&["layer", "export", &id][..], "only its table of contents was pulled"),
            (&["image", "copy", IMAGE, &copy], "has no digest and size of its tar"),
        ] {
            let ended = cstor(lab, Who::Root, &store, arguments);
            assert!(ended.code() == 5 && ended.stderr.contains(why), "{arguments:?}: {}", ended.stderr);
        }
    }
}

/// The table of contents is what contents are held against.
#[test]
fn contents_are_held_against_the_table_of_contents() {
    let lab = lab_or_skip!();
    let place = unpacked(lab, Who::Root, Fs::Xfs, "chunked-podman-5.4.2.tar.zst");
    only_tocs(place.path());
    let base = Storage::open(place.path()).unwrap().image(IMAGE).unwrap().layers().unwrap()[0].id();
    damage(&place.path().join(format!("overlay/{base}/diff/etc/passwd")));
    let scratch = lab.scratch(Who::Root, Fs::Xfs);
    let out = scratch.path().join("out").display().to_string();
    let layer = base.to_string();
    for arguments in [
        &["layer", "extract", &layer, &out, "--verify"][..],
        &["layer", "extract", &layer, &out, "--reflink", "never"],
        &["verify", &layer, "--level", "crc"],
    ] {
        let ended = cstor(lab, Who::Root, &[place.path()], arguments);
        assert_eq!(ended.code(), 4, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("etc/passwd") && said.contains("table of contents"), "{arguments:?}: {said}");
    }
}

/// `diff` holds files by their digests; the table of contents says which is which, and the blob is not looked into.
#[test]
fn a_flat_composefs_store_is_read_without_its_blobs() {
    let lab = lab_or_skip!();
    let place = unpacked(lab, Who::Root, Fs::Btrfs, "composefs-podman-5.8.6.tar.zst");
    let store = [place.path()];
    is_extracted(lab, Who::Root, Fs::Btrfs, &store, &["--verify"]);
    is_extracted(lab, Who::Root, Fs::Ext4, &store, &[]);
    let storage = Storage::open(place.path()).unwrap();
    is_exported(&storage);
    let layers = storage.image(IMAGE).unwrap().layers().unwrap();
    for (layer, name) in [(0, "etc/passwd"), (2, "opt/hard")] {
        let mut bytes = Vec::new();
        layers[layer].open_file_std(name).unwrap().read_to_end(&mut bytes).unwrap();
        let size = layers[layer].toc(false).unwrap().entries.iter().find(|entry| entry.name == name).map(|e| e.size);
        assert!(!bytes.is_empty() && (size == Some(bytes.len() as u64) || name == "opt/hard"), "{name}");
    }
    assert!(layers[0].open_file_std("etc/nothing").is_err());
    let base = layers[0].id();
    let passwd = "67/a95afbf34a75acb77c6987de4c3db89fe1485da57ccd4e7731d723a7a292bd";
    damage(&place.path().join(format!("overlay/{base}/diff/{passwd}")));
    let ended = cstor(lab, Who::Root, &store, &["layer", "export", &base.to_string()]);
    assert!(ended.code() == 4 && ended.stderr.contains("etc/passwd"), "{}", ended.stderr);
    fs::remove_file(place.path().join(format!("overlay-layers/{base}/=enN0ZC1jaHVua2VkLW1hbmlmZXN0"))).unwrap();
    let ended = cstor(lab, Who::Root, &store, &["layer", "export", &base.to_string()]);
    assert!(ended.code() == 4 && ended.stderr.contains("=enN0ZC1jaHVua2VkLW1hbmlmZXN0"), "{}", ended.stderr);
}

/// Containers of a transient store, and their layers, are listed in the run root; their contents are not there.
/// (Forged: podman has it since 4.4.)
#[test]
fn a_transient_store_lists_its_containers_in_the_run_root() {
    let lab = lab_or_skip!();
    let place = unpacked(lab, Who::Root, Fs::Xfs, "split-podman-5.4.2.tar.zst");
    let [root, images] = split(&place);
    let run_root = place.path().join("run");
    let location = Location::new(&root).image_store(&images).transient(&run_root);
    let persistent = Storage::open_at(&location).unwrap();
    assert_eq!(persistent.containers().unwrap().len(), 1, "no run root yet");
    let mut layer = Value::Null;
    for dir in ["overlay-layers", "overlay-containers"] {
        fs::create_dir_all(run_root.join(dir)).unwrap();
    }
    json(&root.join("overlay-layers/layers.json"), |layers| layer = layers.as_array_mut().unwrap().pop().unwrap());
    fs::write(run_root.join("overlay-layers/volatile-layers.json"), json!([layer]).to_string()).unwrap();
    // What an earlier podman left there does not count.
    fs::write(root.join("overlay-layers/volatile-layers.json"), "damaged").unwrap();
    fs::rename(
        root.join("overlay-containers/containers.json"),
        run_root.join("overlay-containers/volatile-containers.json"),
    )
    .unwrap();
    let storage = Storage::open_at(&location).unwrap();
    let containers = storage.containers().unwrap();
    assert_eq!(containers.len(), 1);
    assert_eq!(storage.layer(&containers[0].layer_id().to_string()).unwrap().chain().unwrap().len(), 4);
    is_exported(&storage);
    fs::remove_dir_all(&run_root).unwrap();
    let after_reboot = Storage::open_at(&location).unwrap();
    assert!(after_reboot.containers().unwrap().is_empty());
    is_exported(&after_reboot);
}

/// podman gives a container with ids of its own a copy of the top layer: files that change owner are copied up and the
/// directory becomes `diff1`, the others stay in the layer that it was made from.
#[test]
fn mapped_layers_are_found_in_older_directories_and_in_what_they_were_made_from() {
    let lab = lab_or_skip!();
    let place = unpacked(lab, Who::User, Fs::Ext4, "tour-podman-5.4.2.tar.zst");
    let store = place.path();
    // It names a network program that this machine's podman has not.
    fs::remove_file(store.join("defaultNetworkBackend")).unwrap();
    let out = lab.scratch(Who::User, Fs::Ext4);
    // Host ids within the user's namespace; the second map leaves every owner as it is.
    for (image, map, file, copied) in [
        ("localhost/tour:v2", "0:1:5000", "opt/renamed/utf8-é中文", true),
        ("localhost/other", "0:0:5000", "bin/busybox", false),
    ] {
        let mut podman = lab.command(Who::User, "podman");
        podman.arg("--root").arg(store).arg("--runroot").arg(out.path().join("run"));
        must(podman.args(["create", "--net", "host", "--uidmap", map, "--gidmap", map, image, "/bin/sh"]));
        let images = fs::read(store.join("overlay-images/images.json")).unwrap();
        let images: Value = serde_json::from_slice(&images).unwrap();
        let named = |record: &&Value| record["names"].to_string().contains(image);
        let record = images.as_array().unwrap().iter().find(named).unwrap();
        let [id, template] = [&record["mapped-layers"][0], &record["layer"]].map(|id| id.as_str().unwrap());
        let at = |layer: &str, dir: &str| store.join("overlay").join(layer).join(dir).join(file);
        let there = [at(id, "diff"), at(id, "diff1"), at(template, "diff")].map(|path| path.exists());
        assert_eq!(there, [false, copied, true], "{image}: {file}");
        if copied {
            fs::remove_file(at(template, "diff")).unwrap();
        }
        let tar = out.path().join(id).display().to_string();
        for arguments in [&["layer", "export", id, "-o", &tar][..], &["verify", id]] {
            let ended = cstor(lab, Who::User, &[store], arguments);
            assert_eq!(ended.code(), 0, "{image}, {arguments:?}: {}{}", ended.stdout, ended.stderr);
        }
    }
}
