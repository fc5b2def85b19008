//! A forged store in a directory of its own, and what several files of tests expect of it.

use cstor_client::helper::{HelperOptions, HelperPolicy};
use cstor_client::{Image, Storage};
use cstor_tests::forge;
use cstor_tests::forge::{Forged, Store, dir, file, hard_link, symlink};
use serde_json::Value;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tempfile::TempDir;

pub(crate) const IMAGE: &str = "localhost/img:latest";

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn policy(when: HelperPolicy) -> HelperOptions {
    HelperOptions::new().policy(when)
}

/// A store in a directory of its own.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) store: Forged,
}

impl Place {
    pub(crate) fn new(store: &Store) -> Place {
        let dir = TempDir::new().expect("a directory");
        let store = store.write(&dir.path().join("store"), is_root()).expect("a store");
        Place { dir, store }
    }

    pub(crate) fn open(&self) -> Storage {
        Storage::open(&self.store.root).expect("it is there")
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// Adds a second store beside the first.
    pub(crate) fn beside(&self, name: &str, store: &Store) -> Forged {
        store.write(&self.dir.path().join(name), is_root()).expect("a store")
    }

    pub(crate) fn image_record(&self, change: impl FnOnce(&mut Value)) {
        self.store.json(&self.store.images_json(), |json| change(&mut json[0]));
    }

    pub(crate) fn layer_record(&self, layer: usize, change: impl FnOnce(&mut Value)) {
        self.store.json(&self.store.layers_json(), |json| change(&mut json[layer]));
    }
}

/// Two layers with all that a report counts; the second hides something of the first.
pub(crate) fn two_layers() -> Store {
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

pub(crate) const TREE: [&str; 9] = [
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
pub(crate) fn tree(set_id: bool) -> Vec<String> {
    let mut lines: Vec<String> = TREE.iter().map(|line| (*line).to_owned()).collect();
    lines.insert(2, "l bin/sh -> su".to_owned());
    if !set_id {
        lines.iter_mut().for_each(|line| *line = line.replace(" 4755 ", " 755 "));
    }
    lines
}

pub(crate) fn names(images: &[Image]) -> Vec<&str> {
    images.iter().flat_map(|image| image.names()).map(String::as_str).collect()
}

/// The output of a future that never waits.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it must not wait: there is no runtime"),
    }
}
