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

    /// What `truth/KIND` holds, by the id or name that the file has.
    fn by_name(&self, kind: &str) -> BTreeMap<String, String> {
        let files = fs::read_dir(self.truth(kind)).expect("a directory").map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        files.map(|path| (name(&path), fs::read_to_string(path).expect("a text"))).collect()
    }

    fn is_listed(&self) {
        let said = Said::recorded(&self.truth(""));
        assert!(said.shown.len() > 5 && said.inspect.len() > said.shown.len(), "{}", self.what);
        let info = self.cstor(&["info", "--format", "json"]);
        assert_eq!(store_differs(&said, &info, false), [""; 0], "{}", self.what);
        assert_eq!(images_differ(&said, |arguments| self.cstor(arguments)), [""; 0], "{}", self.what);
    }

    /// As `podman ps -a` did. States are known since podman keeps them in SQLite.
    fn has_its_containers(&self) {
        let read = |name: &str| fs::read_to_string(self.truth(name)).expect("a text");
        let theirs: Value = serde_json::from_str(&read("ps.json")).expect("JSON");
        let ours = self.cstor(&["container", "list", "--format", "json"]);
        let by_id = |rows: &Value, id: &str| -> BTreeMap<String, Value> {
            let rows = rows.as_array().expect("a list").iter();
            rows.map(|row| (row[id].as_str().expect("an id").to_owned(), row.clone())).collect()
        };
        let (ours, theirs) = (by_id(&ours["containers"], "id"), by_id(&theirs, "Id"));
        assert!(theirs.len() > 1 && ours.keys().eq(theirs.keys()), "{}: {ours:?}", self.what);
        let old = read("version").contains("version 4.");
        for (ours, theirs) in ours.values().zip(theirs.values()) {
            for (our, their) in [("names", "Names"), ("image", "ImageID"), ("image_name", "Image")] {
                assert_eq!(ours[our], theirs[their], "{}: {our}", self.what);
            }
            let state = if old { "unknown".into() } else { theirs["State"].clone() };
            assert_eq!(ours["state"], state, "{}", self.what);
        }
    }

    fn is_extracted(&self) {
        let sight = if self.who == Who::Root { Sight::ALL } else { Sight::PLAIN };
        let (images, containers) = (self.by_name("tree"), self.by_name("container"));
        assert!(images.len() > 10 && containers.len() > 1, "{}", self.what);
        // For root the kernel knows only markers in `trusted.` attributes, so podman would mount another container there.
        let same = self.who == Who::User || self.what.contains("-rootful");
        let containers =
            containers.into_iter().filter(|_| same).map(|(name, shown)| (format!("container:{name}"), shown));
        for (name, shown) in images.into_iter().chain(containers) {
            let scratch = self.lab.scratch(self.who, self.fs);
            let out = scratch.path().join("out");
            must(self.lab.cstor(self.who, &self.place.path().join("store")).args(["extract", &name]).arg(&out));
            let (shown, found) = (tree::parse(&shown).expect("rows"), tree::list(&out).unwrap());
            assert_same(&shown, &found, sight.with_clock(), &format!("{}: {name}", self.what));
        }
    }

    /// The digests of what podman saved, of the index of the store and of what cstor exports are the same.
    fn is_exported(&self) {
        let mut sums: BTreeMap<String, String> = BTreeMap::new();
        for (image, saved) in self.by_name("save") {
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
fn containers_of_shelves_are_listed_as_their_podman_did() {
    are_what_their_podman_said(Who::User, Shelf::has_its_containers);
    are_what_their_podman_said(Who::Root, Shelf::has_its_containers);
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
