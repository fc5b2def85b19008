//! Stores that other podmans made, and what those podmans said of them (`tests/shelf.sh`): everything that cstor lists,
//! extracts and exports is held against that. The small ones are fixtures; `tests/stores.sh` makes them anew, and
//! `CSTOR_STORES` names a directory with others.

use cstor_tests::agreement::{Said, images_differ, store_differs};
use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::must;
use cstor_tests::tree::{self, Sight, assert_same};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One archive, unpacked.
struct Shelf {
    lab: &'static Lab,
    who: Who,
    what: String,
    place: tempfile::TempDir,
    fs: Fs,
}

/// Those that `who` can read, on each file system. A rootful one has markers in `trusted.` attributes, which no user may write.
fn shelves(lab: &'static Lab, who: Who) -> Vec<Shelf> {
    let fixtures = || Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let from = std::env::var_os("CSTOR_STORES").map_or_else(fixtures, PathBuf::from);
    let files = fs::read_dir(&from).expect("a directory").map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut files: Vec<PathBuf> =
        files.filter(|path| name(path).starts_with("shelf-") && name(path).ends_with(".tar.zst")).collect();
    files.sort();
    files.retain(|path| who == Who::Root || name(path).contains("-rootless"));
    assert!(!files.is_empty(), "{who:?}: no shelf in {}", from.display());
    let on = |path: &Path, fs| Shelf {
        lab,
        who,
        what: format!("{who:?}, {} on {fs:?}", name(path)),
        place: lab.unpack(who, fs, path),
        fs,
    };
    files.iter().flat_map(|path| [Fs::Ext4, Fs::Btrfs, Fs::Xfs].map(|fs| on(path, fs))).collect()
}

impl Shelf {
    fn cstor(&self, arguments: &[&str]) -> Value {
        let said = must(self.lab.cstor(self.who, &self.place.path().join("store")).args(arguments));
        serde_json::from_str(&said).expect("JSON")
    }

    fn truth(&self, kind: &str) -> PathBuf {
        self.place.path().join("truth").join(kind)
    }

    /// What `truth/KIND` holds, by the id that names the file.
    fn by_image(&self, kind: &str) -> BTreeMap<String, String> {
        let files = fs::read_dir(self.truth(kind)).expect("a directory").map(|entry| entry.unwrap().path());
        let id = |path: &Path| path.file_stem().and_then(|name| name.to_str()).expect("an id").to_owned();
        files.map(|path| (id(&path), fs::read_to_string(path).expect("a text"))).collect()
    }

    fn is_listed(&self) {
        let said = Said::recorded(&self.truth(""));
        assert!(said.shown.len() > 5 && said.inspect.len() > said.shown.len(), "{}", self.what);
        let info = self.cstor(&["info", "--format", "json"]);
        assert_eq!(store_differs(&said, &info, false), [""; 0], "{}", self.what);
        assert_eq!(images_differ(&said, |arguments| self.cstor(arguments)), [""; 0], "{}", self.what);
    }

    fn is_extracted(&self) {
        let sight = if self.who == Who::Root { Sight::ALL } else { Sight::PLAIN };
        let trees = self.by_image("tree");
        assert!(trees.len() > 10, "{}", self.what);
        for (image, shown) in trees {
            let scratch = self.lab.scratch(self.who, self.fs);
            let out = scratch.path().join("out");
            must(self.lab.cstor(self.who, &self.place.path().join("store")).args(["extract", &image]).arg(&out));
            let what = format!("{}: {image}", self.what);
            let (shown, found) = (tree::parse(&shown).expect("rows"), tree::list(&out).unwrap());
            assert_same(&shown, &found, sight.with_clock(), &what);
        }
    }

    /// The digests of what podman saved, of the index of the store and of what cstor exports are the same.
    fn is_exported(&self) {
        let mut sums: BTreeMap<String, String> = BTreeMap::new();
        for (image, saved) in self.by_image("save") {
            let layers = self.cstor(&["image", "layers", "--format", "json", &image]);
            let layers = layers["layers"].as_array().expect("a list");
            let exported = layers.iter().map(|layer| {
                let id = layer["id"].as_str().expect("an id").to_owned();
                sums.entry(id.clone()).or_insert_with(|| self.sum(&id)).clone()
            });
            assert_eq!(exported.collect::<Vec<_>>(), saved.lines().collect::<Vec<_>>(), "{}: {image}", self.what);
        }
        assert!(sums.len() > 8, "{}: {}", self.what, sums.len());
    }

    fn sum(&self, layer: &str) -> String {
        let script = "set -o pipefail; \"$1\" --root \"$2\" layer export \"$3\" | sha256sum";
        let mut shell = self.lab.command(self.who, "bash");
        shell.args(["-c", script, "bash"]).arg(self.lab.executable("cstor"));
        let said = must(shell.arg(self.place.path().join("store")).arg(layer));
        format!("sha256:{}", said.split_whitespace().next().unwrap_or_default())
    }
}

fn are_what_their_podman_said(who: Who, check: fn(&Shelf)) {
    let lab = lab_or_skip!();
    shelves(lab, who).iter().for_each(check);
}

#[test]
fn shelves_are_listed_as_their_podman_did_for_the_user() {
    are_what_their_podman_said(Who::User, Shelf::is_listed);
}

#[test]
fn shelves_are_listed_as_their_podman_did_for_root() {
    are_what_their_podman_said(Who::Root, Shelf::is_listed);
}

#[test]
fn shelves_are_extracted_as_their_podman_mounted_them_for_the_user() {
    are_what_their_podman_said(Who::User, Shelf::is_extracted);
}

#[test]
fn shelves_are_extracted_as_their_podman_mounted_them_for_root() {
    are_what_their_podman_said(Who::Root, Shelf::is_extracted);
}

#[test]
fn shelves_are_exported_as_their_podman_saved_them_for_the_user() {
    are_what_their_podman_said(Who::User, Shelf::is_exported);
}

#[test]
fn shelves_are_exported_as_their_podman_saved_them_for_root() {
    are_what_their_podman_said(Who::Root, Shelf::is_exported);
}
