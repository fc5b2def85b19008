//! Stores, images and containers as the library gives them: what their files say, which store counts when there are
//! several, and what a change between two calls makes of it.

use crate::place::{IMAGE, Place, names, policy, two_layers};
use cstor_client::error::StoreError;
use cstor_client::extract::Extractor;
use cstor_client::helper::HelperPolicy;
use cstor_client::tree::InodeKind;
use cstor_client::{ErrorKind, Escaped, Layer, Location, Storage};
use cstor_tests::forge;
use cstor_tests::forge::store::digest;
use cstor_tests::forge::trial::listing;
use cstor_tests::forge::{Store, file};
use serde_json::{Value, json};
use std::fs;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use tempfile::TempDir;

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
    let rootfs = place.open().image(IMAGE).unwrap().rootfs().unwrap();
    let tree = rootfs.tree();
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
    let location = |options: &[String]| Location::new(&place.store.root).storage_options(options);
    assert_eq!(location(&options).additional_stores(), [&*additional.root, &*third.root]);
    assert_eq!(location(&["mount_program=/x".into()]), location(&[]));
    let storage = Storage::open_at(&location(&options)).unwrap();
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
    let proxied = storage.with_helper(policy(HelperPolicy::Never));
    assert_eq!(names(&proxied.list_images().unwrap()), names(&images));

    // Alone, the root does not know them.
    assert!(matches!(place.open().image("other:1"), Err(StoreError::NoImage { .. })));
    let missing = Storage::open_at(&location(&["additionalimagestore=/nonexistent".into()]));
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    let many: Vec<_> = (0..300).map(|_| option(&additional.root)).collect();
    assert_eq!(Storage::open_at(&location(&many)).unwrap_err().kind(), ErrorKind::Limit);
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
    assert_eq!(image.rootfs().unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(layer.chain().unwrap_err().kind(), ErrorKind::Changed);
    fs::write(place.store.layers_json(), layers).unwrap();
    assert!(image.rootfs().is_ok() && layer.chain().is_ok());
    // As `podman rmi` does it: all of it at once.
    for json in [place.store.layers_json(), place.store.images_json()] {
        fs::write(json, "[]").unwrap();
    }
    fs::remove_dir_all(place.store.root.join("overlay-images").join(&place.store.images[0])).unwrap();
    assert_eq!(image.rootfs().unwrap_err().kind(), ErrorKind::Changed);
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
