//! Every item of the library's public interface, called as an embedding program calls it: on forged stores, where
//! each answer is known, and in the lab, where podman gives the same answer. What the tree of an image must be is not
//! tested here (`extract`), nor bad input in its breadth (`bad_*`).

use cstor_client::error::{ExtractError, ReadProblem, SourceError, StoreError};
use cstor_client::extract::{Devices, Extractor, Losses, Progress, Reach, Reflink, Report, Silent};
use cstor_client::helper::{HelperOptions, HelperPolicy, Launcher as LaunchBy};
use cstor_client::tar::Kind;
use cstor_client::tree::InodeKind;
use cstor_client::{
    Digest, Error, ErrorKind, Escaped, Image, ImageId, Layer, LayerId, Level, ProxiedStorage, Storage, Verify,
};
use cstor_tests::forge::{
    self, Forged, Store, char_device, dir, file, hard_link,
    store::digest,
    symlink,
    trial::{listing, seal},
};
use cstor_tests::lab::{Fs, Lab, Launcher, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run, start};
use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const IMAGE: &str = "localhost/img:latest";
/// Says to this test executable, when it is run again, what it is to do.
const ROLE: &str = "CSTOR_API_ROLE";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn policy(when: HelperPolicy) -> HelperOptions {
    HelperOptions::new().policy(when)
}

/// A store in a directory of its own.
struct Place {
    dir: TempDir,
    store: Forged,
}

impl Place {
    fn new(store: &Store) -> Place {
        let dir = TempDir::new().expect("a directory");
        let store = store.write(&dir.path().join("store"), is_root()).expect("a store");
        Place { dir, store }
    }

    fn open(&self) -> Storage {
        Storage::open(&self.store.root).expect("it is there")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// Adds a second store beside the first.
    fn beside(&self, name: &str, store: &Store) -> Forged {
        store.write(&self.dir.path().join(name), is_root()).expect("a store")
    }

    fn image_record(&self, change: impl FnOnce(&mut Value)) {
        self.store.json(&self.store.images_json(), |json| change(&mut json[0]));
    }

    fn layer_record(&self, layer: usize, change: impl FnOnce(&mut Value)) {
        self.store.json(&self.store.layers_json(), |json| change(&mut json[layer]));
    }
}

/// Two layers with all that a report counts; the second hides something of the first.
fn two_layers() -> Store {
    Store::stack(
        IMAGE,
        [
            vec![
                dir("etc"),
                file("etc/passwd", "root:x:0:0"),
                file("etc/old", "old"),
                symlink("lib", "/usr/lib"),
                dir("usr"),
                dir("usr/lib"),
                file("usr/lib/so", "library").xattr("user.note", "kept"),
            ],
            vec![
                dir("bin"),
                file("bin/su", "program").mode(0o4755),
                hard_link("bin/also-su", "bin/su").mode(0o4755),
                forge::whiteout("etc/old"),
                symlink("bin/sh", "su"),
            ],
        ],
    )
}

const TREE: [&str; 9] = [
    "d 755 bin",
    "f 4755 bin/also-su = program",
    "h 4755 bin/su == bin/also-su",
    "d 755 etc",
    "f 644 etc/passwd = root:x:0:0",
    "l lib -> /usr/lib",
    "d 755 usr",
    "d 755 usr/lib",
    "f 644 usr/lib/so = library",
];

/// The tree as `listing` shows it, with one more link.
fn tree(set_id: bool) -> Vec<String> {
    let mut lines: Vec<String> = TREE.iter().map(|line| (*line).to_owned()).collect();
    lines.insert(2, "l bin/sh -> su".to_owned());
    if !set_id {
        lines.iter_mut().for_each(|line| *line = line.replace(" 4755 ", " 755 "));
    }
    lines
}

fn names(images: &[Image]) -> Vec<&str> {
    images.iter().flat_map(|image| image.names()).map(String::as_str).collect()
}

/// The output of a future that never waits.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it must not wait: there is no runtime"),
    }
}

// ---- Storage and Image ------------------------------------------------------------------------------------------

#[test]
fn a_storage_says_what_its_files_say() {
    let mut description = two_layers();
    description.images[0].names.push("registry.example/team/img:2".to_owned());
    description.images.push(forge::Image {
        comment: "another".to_owned(),
        created: "2021-02-03T04:05:06Z".to_owned(),
        ..forge::Image::new("localhost/base:1", Some(0))
    });
    let place = Place::new(&description);
    let storage = place.open();
    assert_eq!(storage.root(), place.store.root);
    assert!(format!("{storage:?}").contains("store"));

    let images = storage.list_images().unwrap();
    assert_eq!(names(&images), [IMAGE, "registry.example/team/img:2", "localhost/base:1"]);
    for (image, id) in images.iter().zip(&place.store.images) {
        assert_eq!(image.id().to_string(), *id);
        let manifest = fs::read(place.store.big_data(usize::from(*id != place.store.images[0]), "manifest")).unwrap();
        assert_eq!(image.digest().unwrap().to_string(), digest(&manifest));
        let found = image.manifest().unwrap();
        assert_eq!(found.bytes(), manifest);
        assert_eq!(found.media_type(), Some("application/vnd.oci.image.manifest.v1+json"));
        assert!(format!("{image:?}").contains(&image.names()[0]));
    }
    assert_eq!(images[1].stored_at(), Some("2021-02-03T04:05:06Z"));

    let config = images[0].config().unwrap();
    // The id of an image is the digest of its configuration.
    assert_eq!(digest(config.bytes()), format!("sha256:{}", images[0].id()));
    assert_eq!((config.architecture(), config.os()), (Some("amd64"), Some("linux")));
    assert_eq!(config.created(), Some("2020-01-01T00:00:00Z"));
    assert_eq!(config.runtime(), Some(&json!({})));
    let steps: Vec<_> = config.history().iter().map(|step| (step.created_by.as_deref(), step.empty_layer)).collect();
    assert_eq!(steps, [(Some("layer 0"), false), (Some("layer 1"), false)]);
    assert!(config.history()[0].created.is_none());

    let ids = |layers: &[Layer]| layers.iter().map(|layer| layer.id().to_string()).collect::<Vec<_>>();
    let wanted: Vec<_> = place.store.layers.iter().map(|layer| layer.id.clone()).collect();
    assert_eq!(ids(&images[0].layers().unwrap()), wanted, "base first");
    assert_eq!(ids(&images[1].layers().unwrap()), wanted[..1]);
    assert_eq!(ids(&storage.layers().unwrap()), wanted);

    // Layers, and every key of the big data: the manifest is there under two.
    let layers: u64 = place.store.layers.iter().map(|layer| layer.tar.len() as u64).sum();
    let data = images[0].config().unwrap().bytes().len() + 2 * images[0].manifest().unwrap().bytes().len();
    assert_eq!(images[0].size().unwrap(), layers + data as u64);

    assert_eq!(storage.image("img").unwrap().id(), images[0].id());
    assert_eq!(storage.image(&place.store.images[1][..12]).unwrap().id(), images[1].id());
    assert!(matches!(storage.image("nosuch"), Err(StoreError::NoImage { .. })));
    assert!(storage.containers().unwrap().is_empty());
    // An empty directory is an empty store.
    let empty = TempDir::new().unwrap();
    assert!(Storage::open(empty.path()).unwrap().list_images().unwrap().is_empty());
}

#[test]
fn an_images_tree_is_known_without_its_files() {
    let place = Place::new(&two_layers());
    // Nothing of the contents is needed.
    for layer in 0..2 {
        for entry in fs::read_dir(place.store.diff(layer, "")).unwrap() {
            place.store.remove(&entry.unwrap().path());
        }
    }
    let tree = place.open().image(IMAGE).unwrap().tree().unwrap();
    let found: Vec<_> = tree
        .entries()
        .map(|entry| {
            let what = match entry.inode.kind() {
                // Its children are private.
                InodeKind::Dir(..) => "d".to_owned(),
                InodeKind::File { size, crc, .. } => format!("f {size} {}", crc.is_some()),
                InodeKind::Symlink(target) => format!("l {}", Escaped(target)),
                other => format!("{other:?}"),
            };
            let meta = entry.inode.meta();
            let path = String::from_utf8(entry.path.clone()).unwrap();
            (path, what, format!("{:o} {}:{}", meta.mode, meta.uid, meta.gid), entry.inode.layer())
        })
        .collect();
    let row = |path: &str, what: &str, meta: &str, layer| (path.to_owned(), what.to_owned(), meta.to_owned(), layer);
    assert_eq!(
        found[1..],
        [
            row("bin", "d", "755 0:0", 1),
            row("bin/also-su", "f 7 true", "4755 0:0", 1),
            row("bin/sh", "l su", "777 0:0", 1),
            row("bin/su", "f 7 true", "4755 0:0", 1),
            // The whiteout lies in a directory that no member of its layer stands for.
            row("etc", "d", "755 0:0", 1),
            row("etc/passwd", "f 10 true", "644 0:0", 0),
            row("lib", "l /usr/lib", "777 0:0", 0),
            row("usr", "d", "755 0:0", 0),
            row("usr/lib", "d", "755 0:0", 0),
            row("usr/lib/so", "f 7 true", "644 0:0", 0),
        ]
    );
    assert_eq!(found[0].0, "", "the root comes first");
    let number = |path: &[u8]| tree.entries().find(|entry| entry.path == path).unwrap().inode_number;
    assert_eq!(number(b"bin/su"), number(b"bin/also-su"));
    assert_ne!(number(b"bin/su"), number(b"etc/passwd"));
    let entry = tree.entries().find(|entry| entry.path == b"usr/lib/so").unwrap();
    assert_eq!(
        (&*entry.inode.meta().xattrs[0].name, &*entry.inode.meta().xattrs[0].value),
        (&b"user.note"[..], &b"kept"[..])
    );
    assert_eq!(entry.inode.meta().mtime.seconds, forge::MTIME);
}

#[test]
fn additional_image_stores_come_after_the_root() {
    let place = Place::new(&Store::stack("localhost/own:1", [vec![file("own", "own")]]));
    let other = Store {
        images: vec![forge::Image::new("localhost/other:1", Some(1)), forge::Image::new("localhost/shared:1", Some(0))],
        ..Store::stack("", [vec![file("own", "own")], vec![file("more", "more")]])
    };
    // Its first layer is in the root as well: the same bytes, the same id.
    let additional = place.beside("additional", &other);
    assert_eq!(additional.layers[0].id, place.store.layers[0].id);
    let third = place.beside("third", &Store::stack("localhost/own:1", [vec![file("third", "third")]]));
    let option = |path: &Path| format!("additionalimagestore={}", path.display());
    let options = [format!("overlay.{}", option(&additional.root)), option(&third.root)];
    assert_eq!(Storage::stores_in_options(&options), [&*additional.root, &*third.root]);
    assert!(Storage::stores_in_options(&["mount_program=/x"]).is_empty());
    let storage = Storage::open_with_options(&place.store.root, &options).unwrap();
    let images = storage.list_images().unwrap();
    assert_eq!(names(&images), ["localhost/own:1", "localhost/other:1", "localhost/shared:1", "localhost/own:1"]);
    assert_eq!(storage.image("own:1").unwrap().id().to_string(), place.store.images[0], "the root comes first");
    assert_eq!(storage.layers().unwrap().len(), 3, "the shared layer counts once");
    assert_eq!(storage.image("other:1").unwrap().layers().unwrap().len(), 2);
    assert!(storage.containers().unwrap().is_empty());

    // The shared layer is the root's. Where that lacks a file, the other store's copy is no substitute.
    let report = Extractor::new().extract(&storage.image("other:1").unwrap(), place.out()).unwrap();
    assert_eq!(report.files, 2);
    assert_eq!(listing(&place.out()), ["f 644 more = more", "f 644 own = own"]);
    // One that this user proxies for has the same additional stores.
    let proxied = ProxiedStorage::open_with_options(&place.store.root, &options, policy(HelperPolicy::Never)).unwrap();
    assert_eq!(names(&proxied.list_images().unwrap()), names(&images));

    // Alone, the root does not know them.
    assert!(matches!(place.open().image("other:1"), Err(StoreError::NoImage { .. })));
    let missing = Storage::open_with_options(&place.store.root, &["additionalimagestore=/nonexistent"]);
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    let many: Vec<_> = (0..300).map(|_| option(&additional.root)).collect();
    assert_eq!(Storage::open_with_options(&place.store.root, &many).unwrap_err().kind(), ErrorKind::Limit);
}

/// Writes a file in place and gives it its old times: what podman never does, so that one sign of a change can be tested alone.
fn unnoticed(path: &Path, change: impl FnOnce(&str) -> String) {
    let old = fs::metadata(path).unwrap();
    let text = change(&fs::read_to_string(path).unwrap());
    assert_eq!(text.len() as u64, old.len(), "the size must stay");
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_modified(old.modified().unwrap()).unwrap();
}

#[test]
fn a_change_between_two_calls_is_noticed() {
    let place = Place::new(&two_layers());
    let storage = place.open();
    let first = storage.image("img").unwrap();
    let (images, lock) = (place.store.images_json(), place.store.root.join("overlay-images/images.lock"));

    // images.json replaced by a rename, as podman does, under the same lock token.
    let replaced = |from: &str, to: &str| {
        let text = fs::read_to_string(&images).unwrap().replace(from, to);
        let new = images.with_extension("tmp");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &images).unwrap();
    };
    replaced("localhost/img:latest", "localhost/new:latest");
    assert_eq!(names(&storage.list_images().unwrap()), ["localhost/new:latest"]);
    assert_eq!(names(&[first]), [IMAGE], "an image says what the store said when it was found");

    // A lock token that changes, and nothing else that could be seen.
    unnoticed(&images, |text| text.replace("localhost/new:latest", "localhost/two:latest"));
    assert_eq!(names(&storage.list_images().unwrap()), ["localhost/new:latest"], "no sign of a change: not read again");
    fs::write(&lock, [7; 64]).unwrap();
    assert_eq!(names(&storage.list_images().unwrap()), ["localhost/two:latest"]);

    // Layers that come: layers.json and the lock of the layers.
    let layers = place.store.layers_json();
    let both = fs::read_to_string(&layers).unwrap();
    let one = serde_json::from_str::<Value>(&both).unwrap()[0].clone();
    fs::write(&layers, json!([one]).to_string()).unwrap();
    assert_eq!(storage.layers().unwrap().len(), 1);
    fs::write(&layers, both).unwrap();
    assert_eq!(storage.layers().unwrap().len(), 2);
    // Layers of a second file.
    fs::write(
        layers.with_file_name("volatile-layers.json"),
        json!([{"id": "c".repeat(64), "names": ["mine"]}]).to_string(),
    )
    .unwrap();
    assert_eq!(storage.layer("mine").unwrap().id().to_string(), "c".repeat(64));
}

#[test]
fn an_image_that_is_removed_after_it_was_found_is_a_change_and_no_damage() {
    let place = Place::new(&two_layers());
    let storage = place.open();
    let image = storage.image("img").unwrap();
    let layer = image.layers().unwrap().pop().unwrap();
    // A layer that goes while its image stays is damage.
    let layers = fs::read_to_string(place.store.layers_json()).unwrap();
    fs::write(place.store.layers_json(), "[]").unwrap();
    assert_eq!(image.tree().unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(layer.chain().unwrap_err().kind(), ErrorKind::Changed);
    fs::write(place.store.layers_json(), layers).unwrap();
    assert!(image.tree().is_ok() && layer.chain().is_ok());
    // As `podman rmi` does it: all of it at once.
    for json in [place.store.layers_json(), place.store.images_json()] {
        fs::write(json, "[]").unwrap();
    }
    fs::remove_dir_all(place.store.root.join("overlay-images").join(&place.store.images[0])).unwrap();
    assert_eq!(image.tree().unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(image.manifest().unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(Extractor::new().extract(&image, place.out()).unwrap_err().kind(), ErrorKind::Changed);
    assert!(!place.out().exists());
}

#[test]
fn containers_are_those_of_both_files() {
    let place = Place::new(&two_layers());
    let (id, layer) = ("d".repeat(64), place.store.layers[1].id.clone());
    let containers = place.store.root.join("overlay-containers");
    let record = json!({"id": id, "names": ["web"], "image": place.store.images[0], "layer": layer, "created": "2022-01-01T00:00:00Z"});
    fs::write(containers.join("containers.json"), json!([record]).to_string()).unwrap();
    let volatile = json!({"id": "e".repeat(64), "image": "", "layer": layer});
    fs::write(containers.join("volatile-containers.json"), json!([volatile]).to_string()).unwrap();
    let storage = place.open();
    let found = storage.containers().unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].id(), found[0].names()), (&*id, &["web".to_owned()][..]));
    assert_eq!(found[0].image_id(), Some(storage.image("img").unwrap().id()));
    assert_eq!(found[0].layer_id().to_string(), layer);
    assert_eq!(found[0].created(), Some("2022-01-01T00:00:00Z"));
    assert_eq!((found[1].names().len(), found[1].image_id(), found[1].created()), (0, None, None));
    fs::write(containers.join("containers.json"), json!([{"id": "../x", "layer": layer}]).to_string()).unwrap();
    assert!(matches!(storage.containers(), Err(StoreError::Id { .. })));
}

// ---- Layer ------------------------------------------------------------------------------------------------------

#[test]
fn a_layer_is_found_by_each_of_its_names() {
    let mut description = two_layers();
    description.layers[0].fields.insert("names".to_owned(), json!(["base"]));
    let place = Place::new(&description);
    let storage = place.open();
    let [base, top] = &place.store.layers[..] else { unreachable!("two layers") };
    let link = fs::read_to_string(place.store.overlay(0).join("link")).unwrap();
    for reference in [&*base.id, &base.id[..12], &base.id[..3], &base.diff_id(), "base", &link] {
        for layer in [Layer::open(&storage, reference), storage.layer(reference)] {
            assert_eq!(layer.unwrap().id().to_string(), base.id, "{reference}");
        }
    }
    assert_eq!(storage.resolve_link(&link).unwrap().unwrap().to_string(), base.id);
    assert_eq!(storage.resolve_link(&"A".repeat(26)).unwrap(), None);
    assert_eq!(storage.resolve_link("../../../etc/passwd").unwrap(), None);
    for reference in ["", &base.id[..2], "nosuch", &format!("sha256:{}", "0".repeat(64)), &"A".repeat(26)] {
        assert!(matches!(Layer::open(&storage, reference), Err(StoreError::NoLayer { .. })), "{reference:?}");
    }

    let layer = Layer::open(&storage, &top.id).unwrap();
    assert_eq!(layer.parent().unwrap().to_string(), base.id);
    assert_eq!(layer.diff_size(), Some(top.tar.len() as u64));
    assert_eq!(layer.diff_id().unwrap().to_string(), top.diff_id());
    assert_eq!(layer.compressed_digest(), layer.diff_id(), "the forge does not compress");
    assert_eq!(layer.created(), Some("2020-01-01T00:00:00Z"));
    assert!(layer.names().is_empty() && format!("{layer:?}").contains(&top.id[..12]));
    let chain: Vec<_> = layer.chain().unwrap().iter().map(|layer| layer.id().to_string()).collect();
    assert_eq!(chain, [&*base.id, &*top.id]);
    let base_layer = Layer::open(&storage, &base.id).unwrap();
    assert_eq!((base_layer.parent(), base_layer.names()), (None, &["base".to_owned()][..]));

    // Unknown sizes and digests are none, not zero.
    place.layer_record(1, |record| {
        record["diff-size"] = json!(-1);
        for key in ["diff-digest", "compressed-diff-digest"] {
            record.as_object_mut().unwrap().remove(key);
        }
    });
    let layer = Layer::open(&storage, &top.id).unwrap();
    assert_eq!((layer.diff_size(), layer.diff_id(), layer.compressed_digest()), (None, None, None));
    // An incomplete layer is not listed.
    place.layer_record(1, |record| record["flags"] = json!({"incomplete": true}));
    assert_eq!(storage.layers().unwrap().len(), 1);
    assert!(matches!(storage.layer(&top.id), Err(StoreError::NoLayer { .. })));
    // Two layers of one name: neither.
    place.layer_record(1, |record| {
        record["names"] = json!(["base"]);
        record.as_object_mut().unwrap().remove("flags");
    });
    let Err(StoreError::AmbiguousLayer { candidates, .. }) = storage.layer("base") else { panic!("two have it") };
    assert_eq!(candidates.len(), 2);
}

#[test]
fn a_layers_entries_are_its_tar() {
    let place = Place::new(&two_layers());
    let storage = place.open();
    for (number, forged) in place.store.layers.iter().enumerate() {
        let layer = Layer::open(&storage, &forged.id).unwrap();
        let entries: Vec<_> = layer.entries().unwrap().collect::<Result<_, _>>().unwrap();
        assert!(entries.last().unwrap().member.is_none(), "the trailer is the last");
        let (mut at, mut seen) = (0, Vec::new());
        for entry in &entries {
            assert!(forged.tar[at..].starts_with(&entry.raw), "layer {number}: raw bytes at {at}");
            at += entry.raw.len();
            let Some(member) = &entry.member else { continue };
            assert!(!member.sparse);
            seen.push(String::from_utf8(member.header.path.clone()).unwrap());
            if let Some(content) = member.content {
                assert_eq!(member.header.kind, Kind::File);
                assert!(content.crc.is_some());
                at += usize::try_from(content.size).unwrap();
            }
        }
        assert_eq!(at, forged.tar.len(), "layer {number}");
        let wanted = [
            &["etc/", "etc/passwd", "etc/old", "lib", "usr/", "usr/lib/", "usr/lib/so"][..],
            &["bin/", "bin/su", "bin/also-su", "etc/.wh.old", "bin/sh"],
        ];
        assert_eq!(seen, wanted[number]);
        assert!(format!("{:?}", layer.entries().unwrap()).contains("Entries"));
    }
}

/// Every kind of member that the forge knows, names and numbers of every encoding.
fn all_kinds() -> Store {
    let long = "d/".repeat(60);
    Store::stack(
        IMAGE,
        [
            vec![
                forge::global_header(&[("comment", "global")]),
                dir("d"),
                file("d/empty", ""),
                file("d/511", vec![1; 511]),
                file("d/512", vec![2; 512]),
                file("d/513", vec![3; 513]),
                file("d/big", vec![9; 3_000_000]),
                file(b"d/\xff\xfe", "not UTF-8"),
                file(format!("{long}pax"), "long").pax("mtime", "1000000000.123456789"),
                file(format!("{long}gnu"), "long").gnu(),
                file("d/ids", "base 256").owner(70_000, 4_000_000_000).mtime(-5),
                symlink("d/link", "x".repeat(300)),
                hard_link("d/again", "d/512"),
                forge::fifo("d/fifo"),
                char_device("d/null", 1, 3),
                forge::block_device("d/disk", 8, 0),
            ],
            vec![forge::opaque("d"), dir("d"), file("d/new", "new")],
            vec![],
        ],
    )
}

#[test]
fn an_export_is_the_tar_to_the_byte() {
    let mut unpadded = two_layers();
    // Archivers differ in what follows the last member.
    unpadded.layers[0].tail = vec![0; 10_240];
    unpadded.layers[1].tail = Vec::new();
    for description in [two_layers(), unpadded, all_kinds()] {
        let place = Place::new(&description);
        let storage = place.open();
        for forged in &place.store.layers {
            let layer = Layer::open(&storage, &forged.id).unwrap();
            for verify in [Verify::Digest, Verify::Crc, Verify::default()] {
                let mut tar = Vec::new();
                assert_eq!(layer.export(&mut tar, verify).unwrap(), forged.tar.len() as u64);
                assert!(tar == forged.tar, "{}: {verify:?}: another tar", forged.id);
            }
            let mut out = tempfile::tempfile().unwrap();
            assert_eq!(layer.export_unchecked(&out).unwrap(), forged.tar.len() as u64);
            let mut tar = Vec::new();
            out.rewind().unwrap();
            out.read_to_end(&mut tar).unwrap();
            assert!(tar == forged.tar, "{}: unchecked: another tar", forged.id);
            for level in [Level::Structure, Level::Crc, Level::Digest, Level::default()] {
                assert!(layer.verify(level).unwrap().is_empty(), "{}: {level:?}", forged.id);
            }
        }
    }
}

#[test]
fn damaged_contents_are_no_export() {
    let place = Place::new(&two_layers());
    let layer = Layer::open(&place.open(), &place.store.layers[0].id).unwrap();
    place.store.bytes(&place.store.diff(0, "etc/passwd"), |bytes| bytes[0] ^= 1);
    for verify in [Verify::Digest, Verify::Crc] {
        let error = layer.export(std::io::sink(), verify).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("etc/passwd"), "{error}");
    }
    assert!(layer.verify(Level::Structure).unwrap().is_empty(), "it opens no file");
    let findings = layer.verify(Level::Crc).unwrap();
    assert!(matches!(&findings[..], [one] if one.name.as_deref() == Some(b"etc/passwd")), "{findings:?}");
    // Unchecked means unchecked.
    assert_eq!(layer.export_unchecked(tempfile::tempfile().unwrap()).unwrap(), place.store.layers[0].tar.len() as u64);

    // Every file is what its checksum says, but the whole is another tar.
    let place = Place::new(&two_layers());
    place.layer_record(0, |record| record["diff-digest"] = json!(format!("sha256:{}", "1".repeat(64))));
    let layer = Layer::open(&place.open(), &place.store.layers[0].id).unwrap();
    let Err(Error::Read(error)) = layer.export(std::io::sink(), Verify::Digest) else { panic!("another digest") };
    assert!(matches!(error.problem, ReadProblem::Digest { .. }), "{error}");
    assert!(layer.export(std::io::sink(), Verify::Crc).is_ok());
    assert_eq!(layer.verify(Level::Digest).unwrap().len(), 1);
}

#[test]
fn one_file_of_a_layer_opens_as_in_a_chroot() {
    let place = Place::new(&two_layers());
    let storage = place.open();
    let base = Layer::open(&storage, &place.store.layers[0].id).unwrap();
    for name in ["etc/passwd", "/etc/passwd", "./etc//passwd", "../../etc/passwd", "etc/../etc/passwd"] {
        let mut text = String::new();
        base.open_file_std(name).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "root:x:0:0", "{name}");
    }
    // `lib` is a link to /usr/lib: that of the layer.
    let mut text = String::new();
    base.open_file_std("lib/so").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "library");
    assert!(base.open_file_std("etc/passwd").unwrap().write(b"x").is_err(), "read-only");
    let table: [(&[u8], ErrorKind); 6] = [
        (b"nosuch", ErrorKind::Corrupt),
        (b"etc", ErrorKind::Corrupt),
        (b"lib", ErrorKind::Corrupt),
        (b"bin/su", ErrorKind::Corrupt),
        (b"", ErrorKind::Corrupt),
        (b"a\0b", ErrorKind::Corrupt),
    ];
    for (name, kind) in table {
        let error = base.open_file_std(name).unwrap_err();
        assert_eq!(error.kind(), kind, "{}: {error}", Escaped(name));
    }
}

// ---- what a store may not say -------------------------------------------------------------------------------------

#[test]
fn the_data_of_an_image_is_checked() {
    type Damage = fn(&Place);
    let config_key = |place: &Place| format!("sha256:{}", place.store.images[0]);
    let table: [(&str, Damage); 5] = [
        ("manifest, one byte", |p| p.store.bytes(&p.store.big_data(0, "manifest"), |bytes| bytes[0] ^= 1)),
        ("manifest, longer", |p| p.store.bytes(&p.store.big_data(0, "manifest"), |bytes| bytes.push(b' '))),
        ("manifest, its size", |p| p.image_record(|image| image["big-data-sizes"]["manifest"] = json!(1))),
        ("manifest, its digest", |p| {
            p.image_record(|image| image["big-data-digests"]["manifest"] = json!(digest(b"other")));
        }),
        ("manifest, empty", |p| p.store.bytes(&p.store.big_data(0, "manifest"), Vec::clear)),
    ];
    for (what, damage) in table {
        let place = Place::new(&two_layers());
        damage(&place);
        let image = place.open().image(IMAGE).unwrap();
        for error in [image.manifest().unwrap_err(), image.config().unwrap_err(), image.layers().unwrap_err()] {
            assert!(matches!(&error, StoreError::BigData { key, .. } if key == "manifest"), "{what}: {error}");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}");
        }
        assert_eq!(image.tree().unwrap_err().kind(), ErrorKind::Corrupt, "{what}");
    }
    let place = Place::new(&two_layers());
    place.store.bytes(&place.store.big_data(0, &config_key(&place)), |bytes| bytes.push(b'\n'));
    let image = place.open().image(IMAGE).unwrap();
    assert!(image.manifest().is_ok());
    assert!(matches!(image.config(), Err(StoreError::BigData { .. })));
    let error = Extractor::new().extract(&image, place.out()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(!place.out().exists());
}

#[test]
fn the_layers_are_those_of_the_configuration() {
    let place = Place::new(&two_layers());
    let other = format!("sha256:{}", "1".repeat(64));
    place.layer_record(1, |layer| layer["diff-digest"] = json!(other));
    let error = place.open().image(IMAGE).unwrap().layers().unwrap_err();
    let StoreError::DiffId { layer, found, wanted, .. } = &error else { panic!("{error}") };
    assert_eq!(layer.to_string(), place.store.layers[1].id);
    assert_eq!((found.to_string(), wanted.to_string()), (other, place.store.layers[1].diff_id()));

    let place = Place::new(&two_layers());
    place.image_record(|image| image["layer"] = json!(place.store.layers[0].id));
    let error = place.open().image(IMAGE).unwrap().layers().unwrap_err();
    assert!(matches!(error, StoreError::LayerCount { config: 2, chain: 1, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);

    // A layer of which only a table of contents was pulled has no diff id to compare.
    let place = Place::new(&two_layers());
    place.layer_record(1, |layer| {
        layer.as_object_mut().unwrap().remove("diff-digest");
    });
    assert_eq!(place.open().image(IMAGE).unwrap().layers().unwrap().len(), 2);
}

#[test]
fn errors_have_a_kind_and_say_what_they_are_about() {
    type Cause = fn(&Place) -> Error;
    let table: [(&str, Cause, ErrorKind, &str); 13] = [
        ("no store", |_| Storage::open("/nonexistent").unwrap_err().into(), ErrorKind::NotFound, "/nonexistent"),
        (
            "another driver",
            |p| {
                fs::create_dir_all(p.dir.path().join("vfs/vfs-layers")).unwrap();
                Storage::open(p.dir.path().join("vfs")).unwrap_err().into()
            },
            ErrorKind::Unsupported,
            "vfs",
        ),
        ("no image", |p| p.open().image("nosuch").unwrap_err().into(), ErrorKind::NotFound, "nosuch"),
        ("no layer", |p| p.open().layer("nosuch").unwrap_err().into(), ErrorKind::NotFound, "nosuch"),
        (
            "damaged JSON",
            |p| {
                p.store.bytes(&p.store.images_json(), |bytes| bytes.truncate(5));
                p.open().list_images().unwrap_err().into()
            },
            ErrorKind::Corrupt,
            "images.json",
        ),
        (
            "an id that is none",
            |p| {
                p.image_record(|image| image["id"] = json!("../../etc"));
                p.open().list_images().unwrap_err().into()
            },
            ErrorKind::Corrupt,
            "../../etc",
        ),
        (
            "a missing parent",
            |p| {
                p.layer_record(1, |layer| layer["parent"] = json!("a".repeat(64)));
                p.open().image(IMAGE).unwrap().layers().unwrap_err().into()
            },
            ErrorKind::Corrupt,
            "aaaaaaaaaaaa",
        ),
        (
            "a cycle",
            |p| {
                p.layer_record(0, |layer| layer["parent"] = json!(p.store.layers[1].id));
                p.open().image(IMAGE).unwrap().tree().unwrap_err()
            },
            ErrorKind::Corrupt,
            "cycle",
        ),
        (
            "incomplete",
            |p| {
                p.layer_record(1, |layer| layer["flags"] = json!({"incomplete": true}));
                p.open().image(IMAGE).unwrap().tree().unwrap_err()
            },
            ErrorKind::Corrupt,
            "incomplete",
        ),
        (
            "no tar-split",
            |p| {
                p.store.remove(&p.store.tar_split(0));
                p.open().image(IMAGE).unwrap().tree().unwrap_err()
            },
            ErrorKind::Corrupt,
            "tar-split",
        ),
        (
            "an occupied destination",
            |p| {
                fs::create_dir_all(p.out().join("mine")).unwrap();
                Extractor::new().extract(&p.open().image(IMAGE).unwrap(), p.out()).unwrap_err().into()
            },
            ErrorKind::Destination,
            "not empty",
        ),
        (
            "a missing file",
            |p| {
                p.store.remove(&p.store.diff(0, "etc/passwd"));
                Extractor::new().extract(&p.open().image(IMAGE).unwrap(), p.out()).unwrap_err().into()
            },
            ErrorKind::Corrupt,
            "etc/passwd",
        ),
        (
            "a twisted layer",
            |p| {
                p.store.lines(0, |lines| lines.swap(0, 1));
                p.open().layer(&p.store.layers[0].id).unwrap().export(std::io::sink(), Verify::Crc).unwrap_err()
            },
            ErrorKind::Corrupt,
            "layer",
        ),
    ];
    for (what, cause, kind, object) in table {
        let error = cause(&Place::new(&two_layers()));
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(error.to_string().contains(object), "{what}: {error}");
        assert!(!error.to_string().contains('\n'), "{what}: {error}");
    }
}

#[test]
fn digests_and_ids_are_checked_values() {
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let empty = Digest::of(b"");
    assert_eq!((empty.to_string(), empty.hex()), (format!("sha256:{hex}"), hex.to_owned()));
    assert_eq!(format!("{empty:?}"), empty.to_string());
    let id: ImageId = hex.parse().unwrap();
    assert_eq!((id.to_string(), id.short()), (hex.to_owned(), hex[..12].to_owned()));
    assert_eq!(hex.parse::<LayerId>().unwrap().to_string(), hex);
    assert_eq!(serde_json::to_value((empty, id)).unwrap(), json!([format!("sha256:{hex}"), hex]));
    assert_eq!(
        serde_json::from_value::<(Digest, ImageId)>(json!([format!("sha256:{hex}"), hex])).unwrap(),
        (empty, id)
    );
    let upper = hex.to_uppercase();
    for bad in ["", &hex[1..], &upper, "../../../etc/passwd", &format!("sha512:{hex}"), &format!("{hex} ")] {
        assert!(bad.parse::<ImageId>().is_err() && bad.parse::<LayerId>().is_err(), "{bad:?}");
        assert!(bad.parse::<Digest>().is_err() && format!("sha256:{bad}").parse::<Digest>().is_err(), "{bad:?}");
        assert!(serde_json::from_value::<ImageId>(json!(bad)).is_err(), "{bad:?}");
    }
    assert!(hex.parse::<Digest>().is_err(), "a digest names its algorithm");
    assert_eq!(Escaped(b"a\x1b[31m\xff\n").to_string().bytes().filter(u8::is_ascii_control).count(), 0);
}

// ---- Extractor ----------------------------------------------------------------------------------------------------

#[test]
fn a_report_says_what_was_done() {
    let place = Place::new(&two_layers());
    let image = place.open().image(IMAGE).unwrap();
    for (verify, reflink) in [(false, Reflink::Auto), (true, Reflink::Auto), (false, Reflink::Never)] {
        let out = place.out().with_extension(format!("{verify}{reflink:?}"));
        let extractor = Extractor::default().verify(verify).reflink(reflink);
        let report: Report = extractor.extract(&image, &out).unwrap();
        assert_eq!((report.files, report.directories, report.symlinks, report.hard_links), (3, 5, 2, 1));
        assert_eq!(report.reflinked_bytes + report.copied_bytes, 24, "the bytes of three files, not of four names");
        if reflink == Reflink::Never {
            assert_eq!(report.reflinked_bytes, 0);
        }
        assert_eq!(report.through_helper, 0);
        assert_eq!(report.verified, verify || report.reflinked_bytes == 0);
        assert_eq!(report.losses.set_id, if is_root() { 0 } else { 1 }, "{}", report.losses);
        assert_eq!(listing(&out), tree(is_root()));
    }
    // Always: all or nothing.
    let out = place.out().with_extension("always");
    match Extractor::new().reflink(Reflink::Always).extract(&image, &out) {
        Ok(report) => assert_eq!(report.copied_bytes, 0),
        Err(error) => {
            assert!(matches!(error, ExtractError::NoReflink { .. }), "{error}");
            assert_eq!((error.kind(), out.exists()), (ErrorKind::Destination, false));
        }
    }
}

#[test]
fn owners_and_set_id_bits_are_an_option() {
    let place = Place::new(&Store::stack(
        IMAGE,
        [vec![dir("d").mode(0o2755).owner(5, 6), file("d/su", "x").mode(0o6755).owner(7, 8)]],
    ));
    let image = place.open().image(IMAGE).unwrap();
    let root = is_root();
    let table = [
        ("as it comes", Extractor::new(), root, root),
        ("set-id kept", Extractor::new().preserve_set_id(true), true, root),
        ("set-id dropped", Extractor::new().preserve_set_id(false), false, root),
        ("no owners", Extractor::new().same_owner(false), root, false),
        ("no owners, set-id kept", Extractor::new().same_owner(false).preserve_set_id(true), true, false),
        ("owners", Extractor::new().same_owner(true), root, root),
    ];
    let me = fs::metadata(place.dir.path()).unwrap();
    for (number, (what, extractor, set_id, owners)) in table.into_iter().enumerate() {
        let out = place.out().with_extension(number.to_string());
        let report = extractor.extract(&image, &out).unwrap();
        for (path, mode, set, owner) in [("d", 0o755, 0o2000, (5, 6)), ("d/su", 0o755, 0o6000, (7, 8))] {
            let found = fs::metadata(out.join(path)).unwrap();
            assert_eq!(found.mode() & 0o7777, if set_id { mode | set } else { mode }, "{what}: {path}");
            let wanted = if owners { owner } else { (me.uid(), me.gid()) };
            assert_eq!((found.uid(), found.gid()), wanted, "{what}: {path}");
        }
        assert_eq!(
            report.losses.set_id,
            if set_id { 0 } else { 2 },
            "{what}: files and directories are counted, not bits"
        );
    }
}

#[test]
fn devices_are_skipped_created_or_refused() {
    let place = Place::new(&Store::stack(IMAGE, [vec![file("f", "x"), char_device("null", 1, 3)]]));
    let image = place.open().image(IMAGE).unwrap();
    let report = Extractor::new().extract(&image, place.out()).unwrap();
    assert_eq!((report.losses.devices, place.out().join("null").exists()), (1, false));
    assert!(!report.losses.is_empty() && report.losses.to_string() == "1 device node", "{}", report.losses);

    let out = place.out().with_extension("fail");
    let error = Extractor::new().devices(Devices::Fail).extract(&image, &out).unwrap_err();
    assert!(matches!(&error, ExtractError::Device { path } if path == b"null"), "{error}");
    assert_eq!((error.kind(), out.exists()), (ErrorKind::Unsupported, false));

    let out = place.out().with_extension("create");
    match Extractor::new().devices(Devices::Create).strict(true).extract(&image, &out) {
        Ok(report) => {
            assert!(is_root() && report.losses.is_empty());
            assert_eq!(fs::metadata(out.join("null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
        }
        Err(error) => {
            assert!(!is_root() && matches!(error, ExtractError::DevicesNeedRoot), "{error}");
            assert_eq!(error.kind(), ErrorKind::Permission);
        }
    }
    assert_eq!(Devices::default(), Devices::Skip);
}

#[test]
fn strict_writes_nothing_that_lacks_something() {
    let place = Place::new(&Store::stack(IMAGE, [vec![file("f", "x"), char_device("null", 1, 3)]]));
    let image = place.open().image(IMAGE).unwrap();
    let error = Extractor::new().strict(true).extract(&image, place.out()).unwrap_err();
    let ExtractError::Lossy(losses) = &error else { panic!("{error}") };
    assert_eq!((losses.devices, error.kind()), (1, ErrorKind::Unsupported));
    assert!(error.to_string().contains("1 device node"), "{error}");
    assert!(!place.out().exists());

    let place = Place::new(&Store::stack(IMAGE, [vec![file("f", "x")]]));
    let image = place.open().image(IMAGE).unwrap();
    let report = Extractor::new().strict(true).extract(&image, place.out()).unwrap();
    assert_eq!((report.losses, report.losses.to_string()), (Losses::default(), "nothing".to_owned()));
    assert!(report.losses.is_empty());
}

#[test]
fn a_destination_is_replaced_when_the_new_one_is_complete() {
    let place = Place::new(&two_layers());
    let image = place.open().image(IMAGE).unwrap();
    let out = place.out();
    fs::create_dir_all(out.join("old/tree")).unwrap();
    fs::write(out.join("old/file"), "old").unwrap();
    let before = seal(&out);
    assert!(matches!(Extractor::new().extract(&image, &out), Err(ExtractError::Occupied { .. })));
    assert_eq!(seal(&out), before);

    // One that fails late: the last file is damaged.
    let damaged = Place::new(&two_layers());
    damaged.store.bytes(&damaged.store.diff(1, "bin/su"), |bytes| bytes[0] ^= 1);
    let bad = damaged.open().image(IMAGE).unwrap();
    let error = Extractor::new().replace(true).verify(true).extract(&bad, &out).unwrap_err();
    assert_eq!((error.kind(), seal(&out) == before), (ErrorKind::Corrupt, true), "{error}");
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 2, "the store and the destination alone");

    Extractor::new().replace(true).extract(&image, &out).unwrap();
    assert_eq!(listing(&out), tree(is_root()));
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 2);
}

#[test]
fn progress_is_told() {
    #[derive(Default)]
    struct Told {
        layers: AtomicU64,
        entries: AtomicU64,
        planned: AtomicU64,
        planned_bytes: AtomicU64,
        placed: AtomicU64,
        placed_bytes: AtomicU64,
    }
    impl Progress for Told {
        fn layer_read(&self, layer: usize, layers: usize, entries: u64) {
            assert_eq!((layer as u64, layers), (self.layers.fetch_add(1, Ordering::Relaxed) + 1, 2));
            self.entries.fetch_add(entries, Ordering::Relaxed);
        }
        fn planned(&self, files: u64, bytes: u64) {
            self.planned.fetch_add(files, Ordering::Relaxed);
            self.planned_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        fn placed(&self, files: u64, bytes: u64) {
            self.placed.fetch_add(files, Ordering::Relaxed);
            self.placed_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
    let place = Place::new(&two_layers());
    let image = place.open().image(IMAGE).unwrap();
    let told = Told::default();
    let report = Extractor::new().extract_with(&image, &place.out(), &told).unwrap();
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!((of(&told.layers), of(&told.entries)), (2, 12));
    assert_eq!((of(&told.planned), of(&told.placed)), (report.files, report.files));
    assert_eq!((of(&told.planned_bytes), of(&told.placed_bytes)), (24, 24));
    // Nobody need listen.
    let out = place.out().with_extension("silent");
    assert_eq!(Extractor::new().extract_with(&image, &out, &Silent).unwrap().files, report.files);
}

#[test]
fn a_hook_runs_between_planning_and_placing() {
    let place = Place::new(&two_layers());
    let storage = place.open();
    let image = storage.image(IMAGE).unwrap();
    let (root, above) = (place.store.root.clone(), place.dir.path().to_path_buf());
    let (calls, counted) = (Arc::new(AtomicU64::new(0)), fs::read_dir(&above).unwrap().count());
    let hook = {
        let calls = Arc::clone(&calls);
        move |reach: &Reach<'_>| {
            calls.fetch_add(1, Ordering::Relaxed);
            let is = |fd, path: &Path| {
                let found = rustix::fs::fstat(fd).unwrap();
                assert_eq!(found.st_ino, fs::metadata(path).unwrap().ino());
            };
            let [read, layers] = reach.reads[..] else { panic!("one root: {reach:?}") };
            is(read, &root);
            is(layers, &root.join("overlay"));
            is(reach.beside, &above);
            let siblings: Vec<_> = fs::read_dir(&above).unwrap().map(|entry| entry.unwrap()).collect();
            assert_eq!(siblings.len(), counted + 1, "the directory in which the result grows");
            let sibling = siblings.iter().find(|entry| entry.file_name().as_encoded_bytes().starts_with(b".out"));
            assert_eq!(fs::read_dir(sibling.unwrap().path()).unwrap().count(), 0, "nothing is placed");
            Ok(())
        }
    };
    let extractor = Extractor::new().before_placing(hook);
    extractor.extract(&image, place.out()).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    let error = extractor.extract(&image, place.out()).unwrap_err();
    assert!(matches!(error, ExtractError::Occupied { .. }), "{error}");
    assert_eq!(calls.load(Ordering::Relaxed), 1, "nothing would have been placed");

    let failing = Extractor::new().before_placing(|_| Err(std::io::Error::other("not today")));
    let out = place.out().with_extension("failed");
    let layer = storage.layer(&place.store.layers[1].id).unwrap();
    for error in [failing.extract(&image, &out).unwrap_err(), failing.extract_layer(&layer, &out).unwrap_err()] {
        assert!(matches!(&error, ExtractError::Hook(_)) && error.to_string().contains("not today"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Failure);
    }
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), counted + 1, "out alone");
}

#[test]
fn one_layer_is_extracted_alone() {
    let place = Place::new(&two_layers());
    let layer = place.open().layer(&place.store.layers[1].id).unwrap();
    let report = Extractor::new().preserve_set_id(false).extract_layer(&layer, place.out()).unwrap();
    assert_eq!((report.files, report.hard_links, report.symlinks), (1, 1, 1));
    let lines = listing(&place.out());
    assert!(lines.contains(&"f 755 bin/also-su = program".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains(".wh.") || line.contains("passwd")), "{lines:?}");
}

// ---- ProxiedStorage ------------------------------------------------------------------------------------------------

#[test]
fn a_proxied_storage_is_a_storage() {
    let place = Place::new(&two_layers());
    let root = &place.store.root;
    let waited_for = at_once(ProxiedStorage::open_with_proxy(root)).unwrap();
    let opened = ProxiedStorage::open(root).unwrap();
    for storage in [&waited_for, &opened, &waited_for.clone()] {
        assert_eq!(storage.is_proxied(), !is_root(), "root needs no helper");
        assert_eq!(names(&storage.list_images().unwrap()), [IMAGE]);
        assert_eq!(storage.root(), *root);
        let report = Extractor::new().replace(true).extract(&storage.image(IMAGE).unwrap(), place.out()).unwrap();
        assert_eq!(report.through_helper, 0, "what may be read directly is");
    }
    for (when, proxied) in
        [(HelperPolicy::Never, false), (HelperPolicy::Always, true), (HelperPolicy::Auto, !is_root())]
    {
        let storage = ProxiedStorage::open_with_options(root, &[""; 0], policy(when)).unwrap();
        assert_eq!(storage.is_proxied(), proxied, "{when:?}");
    }
    assert_eq!((HelperPolicy::default(), LaunchBy::default()), (HelperPolicy::Auto, LaunchBy::Auto));
    assert_eq!(HelperOptions::new(), HelperOptions::default());
    assert_ne!(HelperOptions::new().launcher(LaunchBy::Buildah), HelperOptions::new().require_sandbox(true));
    assert!(at_once(ProxiedStorage::open_with_proxy("/nonexistent")).is_err());
    assert!(format!("{opened:?}").contains("ProxiedStorage"));
}

/// The test executable called `init_if_helper` nowhere and has no `cstor-helper` beside it.
#[test]
fn a_helper_that_cannot_be_found_is_an_error_when_it_is_needed() {
    let place = Place::new(&two_layers());
    let storage = ProxiedStorage::open_with_options(&place.store.root, &[""; 0], policy(HelperPolicy::Always)).unwrap();
    assert_eq!(storage.list_images().unwrap().len(), 1, "not needed yet");
    let error = Extractor::new().extract(&storage.image(IMAGE).unwrap(), place.out()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Helper, "{error}");
    let ExtractError::Image(error) = error else { panic!("{error}") };
    assert!(matches!(*error, Error::Source(SourceError::NoHelper { .. })), "{error}");
    assert!(!place.out().exists());
}

#[test]
fn an_interrupt_stops_and_leaves_nothing() {
    let place = Place::new(&two_layers());
    let storage = ProxiedStorage::open(&place.store.root).unwrap();
    let image = storage.image(IMAGE).unwrap();
    let extractor = Extractor::new().interrupt(storage.interrupt());
    storage.interrupt().raise();
    let error = extractor.extract(&image, place.out()).unwrap_err();
    assert!(matches!(error, ExtractError::Interrupted(_)), "{error}");
    assert_eq!((error.kind(), place.out().exists()), (ErrorKind::Interrupted, false));
    storage.interrupt().lower();
    assert!(extractor.extract(&image, place.out()).is_ok(), "the interrupt is the caller's");
}

/// Root starts it directly, so that the kernel knows which thread did.
#[test]
fn a_helper_outlives_the_thread_that_started_it() {
    if !is_root() {
        return;
    }
    let place = Place::new(&two_layers());
    let helper = Path::new(env!("CARGO_BIN_EXE_embedder")).with_file_name("cstor-helper");
    let role = ["thread", place.store.root.to_str().unwrap()];
    must(again(&env::current_exe().unwrap(), &role).env("CSTOR_HELPER", helper));
}

// ---- discovery: in processes with an environment of their own --------------------------------------------------------

/// No test of its own: what this executable does when another test runs it again.
#[test]
fn as_another_process() {
    let Ok(role) = env::var(ROLE) else { return };
    let arguments: Vec<&str> = role.split('\n').collect();
    match arguments[..] {
        ["discover"] => {
            let say = |storage: &Storage| {
                let images = storage.list_images().unwrap();
                format!("{} {}", storage.root().display(), names(&images).join(","))
            };
            let text =
                Storage::discover().map(|storage| say(&storage)).unwrap_or_else(|error| format!("{:?}", error.kind()));
            println!("\nfound {text}");
            // With a helper it is the same store.
            let proxied = ProxiedStorage::discover(policy(HelperPolicy::Never));
            assert_eq!(
                proxied.map(|proxied| say(&proxied)).unwrap_or_else(|error| format!("{:?}", error.kind())),
                text
            );
        }
        [how @ ("read" | "write"), path] => {
            let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
            let operation = if how == "read" { FlockOperation::LockShared } else { FlockOperation::LockExclusive };
            fcntl_lock(&file, operation).unwrap();
            println!("\nheld");
            // Until whoever started this closes its end.
            let _ = std::io::stdin().read(&mut [0]);
        }
        ["thread", root] => {
            let storage =
                ProxiedStorage::open_with_options(root, &[""; 0], HelperOptions::new().policy(HelperPolicy::Always))
                    .unwrap();
            let read = || storage.layers().unwrap()[0].open_file_std("etc/passwd").map(drop);
            std::thread::scope(|scope| scope.spawn(read).join()).unwrap().unwrap();
            // The thread is gone for the program before it is for the kernel.
            std::thread::sleep(Duration::from_millis(200));
            read().unwrap();
        }
        ["try", root] => {
            let mut tried = 0;
            for directory in ["", "overlay-layers", "overlay-images", "overlay-containers"] {
                for entry in fs::read_dir(Path::new(root).join(directory)).unwrap().flatten() {
                    if entry.path().extension().is_some_and(|extension| extension == "lock") {
                        let file = OpenOptions::new().read(true).write(true).open(entry.path()).unwrap();
                        // Other tests read the same store, each time for milliseconds.
                        let began = std::time::Instant::now();
                        let locked = loop {
                            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                                Err(_) if began.elapsed() < Duration::from_secs(1) => std::thread::yield_now(),
                                locked => break locked,
                            }
                        };
                        locked.unwrap_or_else(|error| panic!("held: {}: {error}", entry.path().display()));
                        tried += 1;
                    }
                }
            }
            assert!(tried >= 3, "{tried} lock files");
        }
        _ => panic!("{role}"),
    }
}

/// This executable with this task, and with nothing else in its environment.
fn again(executable: &Path, role: &[&str]) -> Command {
    let mut command = Command::new(executable);
    command.args(["api::as_another_process", "--exact", "--nocapture", "--test-threads=1"]).env_clear();
    command.env(ROLE, role.join("\n")).current_dir("/");
    command
}

#[test]
fn a_store_is_discovered_as_podman_does() {
    let place = Place::new(&Store::stack("localhost/conf:1", [vec![file("f", "x")]]));
    let top = place.dir.path();
    for (path, image) in [
        ("home/.local/share/containers/storage", "localhost/home:1"),
        ("data/containers/storage", "localhost/data:1"),
        ("more", "localhost/more:1"),
        ("own", "localhost/own:1"),
    ] {
        fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
        place.beside(path, &Store::stack(image, [vec![file(image, image)]]));
    }
    let conf = |path: &str, text: String| {
        fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
        fs::write(top.join(path), text).unwrap();
        top.join(path).display().to_string()
    };
    let at = |path: &str| top.join(path).display().to_string();
    let named = conf("named.conf", format!("[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\n", at("store")));
    let with_more = conf(
        "more.conf",
        format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\n[storage.options]\nadditionalimagestores = [\"{}\"]\n",
            at("store"),
            at("more")
        ),
    );
    conf("config/containers/storage.conf", format!("[storage]\ngraphroot = \"{}\"\n", at("own")));
    conf("other-home/.config/containers/storage.conf", format!("[storage]\ngraphroot = \"{}\"\n", at("own")));
    let broken = conf("broken.conf", "[storage\n".to_owned());
    let options = format!("overlay.additionalimagestore={}", at("more"));
    let (home, data, config) = (at("home"), at("data"), at("config"));
    let (other_home, nowhere) = (at("other-home"), at("nowhere"));

    // what, its environment, the root and its images or the kind of error
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], String);
    let table: [Row<'_>; 11] = [
        (
            "a named configuration",
            &[("HOME", &home), ("CONTAINERS_STORAGE_CONF", &named)],
            format!("{} localhost/conf:1", at("store")),
        ),
        (
            "its additional stores",
            &[("HOME", &home), ("CONTAINERS_STORAGE_CONF", &with_more)],
            format!("{} localhost/conf:1,localhost/more:1", at("store")),
        ),
        (
            "STORAGE_OPTS",
            &[("HOME", &home), ("CONTAINERS_STORAGE_CONF", &named), ("STORAGE_OPTS", &options)],
            format!("{} localhost/conf:1,localhost/more:1", at("store")),
        ),
        (
            "an override",
            &[("HOME", &home), ("CONTAINERS_STORAGE_CONF_OVERRIDE", &named)],
            format!("{} localhost/conf:1", at("store")),
        ),
        ("a user's default", &[("HOME", &home)], format!("{home}/.local/share/containers/storage localhost/home:1")),
        (
            "XDG_DATA_HOME",
            &[("HOME", &home), ("XDG_DATA_HOME", &data)],
            format!("{data}/containers/storage localhost/data:1"),
        ),
        ("XDG_CONFIG_HOME", &[("HOME", &home), ("XDG_CONFIG_HOME", &config)], format!("{} localhost/own:1", at("own"))),
        ("a user's configuration", &[("HOME", &other_home)], format!("{} localhost/own:1", at("own"))),
        (
            "a configuration that is missing",
            &[("HOME", &home), ("CONTAINERS_STORAGE_CONF", "/nonexistent")],
            "NotFound".to_owned(),
        ),
        (
            "a configuration that is none",
            &[("HOME", &home), ("CONTAINERS_STORAGE_CONF", &broken)],
            "Failure".to_owned(),
        ),
        ("no store at all", &[("HOME", &nowhere)], "NotFound".to_owned()),
    ];
    for (what, environment, wanted) in table {
        let mut command = again(&env::current_exe().unwrap(), &["discover"]);
        command.envs(environment.iter().copied());
        if is_root() {
            // Root of a namespace that podman made for a user: the user's rules count.
            command.envs([("_CONTAINERS_USERNS_CONFIGURED", "done"), ("_CONTAINERS_ROOTLESS_UID", "1234")]);
        }
        let said = must(&mut command);
        let found = said.lines().find_map(|line| line.strip_prefix("found "));
        assert_eq!(found, Some(wanted.as_str()), "{what}: {said}");
    }
}

// ---- locks ----------------------------------------------------------------------------------------------------------

/// Another process that holds a POSIX lock until it is dropped.
struct Holder(Child);

impl Holder {
    fn of(how: &str, path: &Path) -> Holder {
        let path = path.to_str().expect("UTF-8");
        let mut child = again(&env::current_exe().unwrap(), &[how, path])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this executable");
        let mut said = String::new();
        let out = child.stdout.as_mut().expect("piped");
        while !said.contains("\nheld\n") {
            let mut byte = [0];
            assert_eq!(out.read(&mut byte).expect("a pipe"), 1, "it ended: {said}");
            said.push(byte[0].into());
        }
        Holder(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn cstor(place: &Place) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_embedder")).with_file_name("cstor"));
    command.env_clear().env("PATH", "/nonexistent").env("HOME", place.dir.path()).arg("--root").arg(&place.store.root);
    command
}

#[test]
fn a_writers_lock_is_waited_for_and_named() {
    let place = Place::new(&two_layers());
    let lock = place.store.root.join("overlay-layers/layers.lock");
    // One that does not go away.
    let holder = Holder::of("write", &lock);
    let ended = run(cstor(&place).args(["image", "list"]));
    assert_eq!(ended.code(), 8, "{}", ended.stderr);
    assert!(
        ended.stderr.contains(&format!("{}: locked by process {}:", lock.display(), holder.0.id())),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!((Duration::from_secs(10)..Duration::from_secs(12)).contains(&ended.took), "{:?}", ended.took);

    // One that goes away meanwhile.
    let mut running = start(cstor(&place).args(["image", "list", "-q"]));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(400) {
        assert!(!running.ended(), "it must wait");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(holder);
    let ended = running.wait();
    assert_eq!(
        (ended.code(), &*ended.stdout),
        (0, &*format!("{}\n", &place.store.images[0][..12])),
        "{}",
        ended.stderr
    );
    assert!(ended.took < Duration::from_secs(2), "{:?}", ended.took);
}

#[test]
fn a_readers_lock_does_not_disturb_nor_does_a_missing_one() {
    let place = Place::new(&two_layers());
    let locks = ["overlay-layers/layers.lock", "overlay-images/images.lock"].map(|lock| place.store.root.join(lock));
    let holders = locks.each_ref().map(|lock| Holder::of("read", lock));
    let ended = run(cstor(&place).args(["extract", IMAGE]).arg(place.out()));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(2), "{:?}", ended.took);
    drop(holders);
    for lock in &locks {
        place.store.remove(lock);
    }
    assert_eq!(names(&place.open().list_images().unwrap()), [IMAGE], "as on read-only media");
}

#[test]
fn no_lock_is_held_between_two_calls() {
    let place = Place::new(&two_layers());
    let storage = place.open();
    let image = storage.image(IMAGE).unwrap();
    let layer = image.layers().unwrap().remove(0);
    let _entries = layer.entries().unwrap();
    let _file = layer.open_file_std("etc/passwd").unwrap();
    let _ = (storage.containers().unwrap(), image.tree().unwrap());
    must(&mut again(&env::current_exe().unwrap(), &["try", place.store.root.to_str().unwrap()]));
}

#[test]
fn no_lock_is_held_while_the_helper_starts() {
    let lab = lab_or_skip!();
    let store = lab.store(Fs::Xfs, "local");
    let home = lab.scratch(Who::User, Fs::Ext4);
    let copy = home.path().join("again");
    fs::copy(env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    // A podman that needs every lock of the store for itself, as the real one may.
    let script = format!(
        "{ROLE}=\"$(printf 'try\\n%s' {})\" {} api::as_another_process --exact --nocapture >&2 || exit 125\n\
         exec unshare --map-root-user --map-auto \"$@\"",
        store.display(),
        copy.display()
    );
    let launcher = Launcher::of(lab, &script);
    let extract = |out: &Path, flags: &[&str]| {
        let mut command = lab.cstor(Who::User, &store);
        command.args(["extract", "localhost/private"]).arg(out).args(flags);
        run(launcher.before(&mut command))
    };
    for (number, flags) in [&[][..], &["--helper", "always"]].into_iter().enumerate() {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let ended = extract(&scratch.path().join("out"), flags);
        assert_eq!((ended.code(), launcher.starts()), (0, number + 1), "{flags:?}: {}", ended.stderr);
    }
    // The stand-in does notice a lock.
    let holder = Holder::of("read", &store.join("overlay-images/images.lock"));
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let ended = extract(&scratch.path().join("out"), &[]);
    assert_eq!(ended.code(), 7, "{}", ended.stderr);
    drop(holder);
}

// ---- beside podman ----------------------------------------------------------------------------------------------------

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
    fs::copy(env!("CARGO_BIN_EXE_embedder"), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
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
