//! `cstor info`, `image list -a` and `image inspect` against the podman of this machine, key by key: on the user's own
//! store, on one of root, and on copies of stores that a later podman made (podman writes to every store that it opens).
//! What other podmans said of their own stores is compared in `shelves`; which keys are compared is in
//! `cstor_tests::agreement`.

use cstor_tests::agreement::{Said, images_differ, store_differs};
use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::must;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One store, asked with podman and with cstor.
struct Pair<'a> {
    lab: &'a Lab,
    who: Who,
    /// What both find the store by.
    conf: Option<PathBuf>,
    /// What podman alone needs.
    podman: Vec<String>,
}

impl Pair<'_> {
    fn command(&self, program: &Path) -> Command {
        let mut command = self.lab.command(self.who, program);
        if let Some(conf) = &self.conf {
            command.env("CONTAINERS_STORAGE_CONF", conf);
        }
        command
    }

    fn podman(&self, arguments: &[&str]) -> String {
        must(self.command(Path::new("podman")).args(&self.podman).args(arguments))
    }

    fn cstor(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&must(self.command(&self.lab.executable("cstor")).args(arguments))).expect("JSON")
    }

    /// The store in `place/store`.
    fn in_place<'a>(lab: &'a Lab, who: Who, place: &Path) -> Pair<'a> {
        let here = place.display();
        let conf = place.join("storage.conf");
        // Whoever is no root gets another file's `graphroot` only from `rootless_storage_path`.
        let key = if who == Who::Root { "graphroot" } else { "rootless_storage_path" };
        let text = format!("[storage]\ndriver = 'overlay'\n{key} = '{here}/store'\nrunroot = '{here}/run'\n");
        fs::write(&conf, text).unwrap();
        Pair { lab, who, conf: Some(conf), podman: ["--tmpdir".to_owned(), format!("{here}/tmp")].to_vec() }
    }
}

#[test]
fn the_users_own_store_is_what_podman_says() {
    let lab = lab_or_skip!();
    let pair = Pair { lab, who: Who::User, conf: None, podman: Vec::new() };
    let said = Said::by(|arguments| pair.podman(arguments));
    assert!(said.inspect.len() > said.shown.len() + 10, "builds leave intermediate images");
    assert_eq!(store_differs(&said, &pair.cstor(&["info", "--format", "json"]), true), [""; 0]);
    assert_eq!(images_differ(&said, |arguments| pair.cstor(arguments)), [""; 0]);
}

#[test]
fn a_store_of_root_is_what_podman_says() {
    let lab = lab_or_skip!();
    let place = lab.scratch(Who::Root, Fs::Xfs);
    let pair = Pair::in_place(lab, Who::Root, place.path());
    // Where the user may write.
    let shared = lab.scratch(Who::User, Fs::Xfs);
    let archive = shared.path().join("images.tar");
    let images = ["walk:v2", "walk:v1", "empty", "odd", "deep"].map(|name| format!("localhost/{name}"));
    must(lab.command(Who::User, "podman").args(["save", "-q", "-m", "-o"]).arg(&archive).args(&images));
    pair.podman(&["load", "-q", "-i", archive.to_str().unwrap()]);
    pair.podman(&["tag", &images[0], "localhost/other:1", "registry.example/walk:2"]);
    pair.podman(&["untag", &images[1]]);
    pair.podman(&["create", "-q", "--net", "none", &images[0], "/bin/sh"]);
    let said = Said::by(|arguments| pair.podman(arguments));
    assert_eq!(said.inspect.len(), images.len());
    assert_eq!(store_differs(&said, &pair.cstor(&["info", "--format", "json"]), true), [""; 0]);
    assert_eq!(images_differ(&said, |arguments| pair.cstor(arguments)), [""; 0]);
}

#[test]
fn stores_of_a_later_podman_are_what_podman_says() {
    let lab = lab_or_skip!();
    for store in ["tour", "chunked"] {
        let place = lab.scratch(Who::User, Fs::Btrfs);
        let copy = ["unshare", "cp", "-a", "--reflink=auto"];
        let mut podman = lab.command(Who::User, "podman");
        must(podman.args(copy).arg(lab.store(Fs::Btrfs, store)).arg(place.path().join("store")));
        // What podman itself noted there fits another place, and names programs that this machine need not have.
        for noted in ["defaultNetworkBackend", "db.sql"] {
            let _ = fs::remove_file(place.path().join("store").join(noted));
        }
        let pair = Pair::in_place(lab, Who::User, place.path());
        let mut said = Said::by(|arguments| pair.podman(arguments));
        // podman 4.3.1 sees no diff id where a later one pulled a table of contents only.
        if store == "chunked" {
            said.inspect.clear();
        }
        assert!(!said.shown.is_empty());
        assert_eq!(images_differ(&said, |arguments| pair.cstor(arguments)), [""; 0], "{store}");
    }
}
