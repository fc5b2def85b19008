//! `cstor extract` gives exactly what podman shows. Every image of every store is extracted by the throw-away user and
//! by root and held against a listing of podman's own mount: a file of truth for the fixtures, the mount itself for
//! the images that this machine's podman made. Beside that: where the bytes go (reflink, copy, holes), how an image
//! may be named, what may be the target. It does not look at helpers dying (`helper_death`) or at limits (`limits`).

use cstor_tests::lab::{Fs, Lab, Launcher, Who, assert_refused, same_device};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{Ended, must, run};
use cstor_tests::tree::{self, Listing, Sight, assert_same};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The images of the fixture stores, the file of truth for each, and whether podman gave its directories wrong times.
const TOUR: [(&str, &str, bool); 8] = [
    ("localhost/tour:base", "tour-base", false),
    ("localhost/tour:v1", "tour-v1", false),
    ("localhost/tour:v2", "tour-v2", false),
    ("localhost/tour:latest", "tour-v2", false),
    ("localhost/alias:1", "tour-v2", false),
    ("localhost/other:latest", "other-latest", false),
    ("localhost/plain:latest", "plain-latest", false),
    CHUNKED,
];
const CHUNKED: (&str, &str, bool) = ("127.0.0.1:5055/chunked:latest", "chunked-latest", true);

/// The images of `images.sh` but for the one that `limits` extracts and the empty one.
const LOCAL: [&str; 11] =
    ["walk:base", "walk:v1", "walk:v2", "walk:latest", "tool", "odd:base", "odd", "deep", "many", "private", "debian"];

fn truth(name: &str) -> Listing {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/truth-5.4.2").join(name).with_extension("jsonl");
    tree::parse(&fs::read_to_string(path).expect("a fixture")).expect("lines of JSON")
}

fn sight(who: Who, wrong_times: bool) -> Sight {
    let sight = if who == Who::Root { Sight::ALL } else { Sight::PLAIN };
    if wrong_times { sight.file_times() } else { sight }
}

/// The store as `who` may read it: root's were unpacked by root, so that container ids are host ids.
fn store(lab: &Lab, who: Who, fs: Fs, name: &str) -> PathBuf {
    match who {
        Who::User => lab.store(fs, name),
        Who::Root => lab.store(fs, &format!("root-{name}")),
    }
}

/// An extraction that succeeded: the directory that holds it as `out`, and what was said.
fn extract(lab: &Lab, who: Who, store: &Path, image: &str, to: Fs, flags: &[&str]) -> (TempDir, Ended) {
    let scratch = lab.scratch(who, to);
    let ended = run(lab.cstor(who, store).args(["extract", image]).arg(scratch.path().join("out")).args(flags));
    assert_eq!(ended.code(), 0, "{who:?} {image} {flags:?}: {}", ended.stderr);
    assert_eq!(lab.names_in(scratch.path()), ["out"], "{image}: the sibling stayed");
    assert_eq!(ended.stdout, "", "{image}: stdout is for data");
    (scratch, ended)
}

fn listed(scratch: &TempDir) -> Listing {
    tree::list(&scratch.path().join("out")).expect("root may list")
}

fn fixture_images_are_the_truth(who: Who) {
    let lab = lab_or_skip!();
    let chunked = [CHUNKED];
    let stores: [(Fs, &str, &[_]); 5] = [
        (Fs::Btrfs, "tour", &TOUR),
        (Fs::Ext4, "tour", &TOUR),
        (Fs::Btrfs, "chunked", &chunked),
        (Fs::Ext4, "chunked", &chunked),
        (Fs::Xfs, "chunked", &chunked),
    ];
    for (fs, name, images) in stores {
        for (image, file, wrong_times) in images {
            let (scratch, _) = extract(lab, who, &store(lab, who, fs, name), image, fs, &[]);
            let what = format!("{who:?}, {image} of {name} on {fs:?}");
            assert_same(&truth(file), &listed(&scratch), sight(who, *wrong_times), &what);
        }
    }
}

#[test]
fn fixture_images_are_the_truth_for_the_user() {
    fixture_images_are_the_truth(Who::User);
}

#[test]
fn fixture_images_are_the_truth_for_root() {
    fixture_images_are_the_truth(Who::Root);
}

#[test]
fn local_images_are_what_podman_mounts() {
    let lab = lab_or_skip!();
    for image in LOCAL.map(|name| format!("localhost/{name}")) {
        let shown = lab.podman_shows(&image);
        for who in [Who::User, Who::Root] {
            let (scratch, _) = extract(lab, who, &store(lab, who, Fs::Xfs, "local"), &image, Fs::Xfs, &[]);
            assert_same(&shown, &listed(&scratch), sight(who, false), &format!("{who:?}, {image}"));
        }
    }
}

/// podman cannot mount an image without a layer ("layer not known"), but it has one right extraction.
#[test]
fn an_image_without_a_layer_is_an_empty_directory() {
    let lab = lab_or_skip!();
    for (fs, name) in [(Fs::Btrfs, "tour"), (Fs::Xfs, "local")] {
        for who in [Who::User, Who::Root] {
            let (scratch, _) = extract(lab, who, &store(lab, who, fs, name), "localhost/empty", fs, &[]);
            assert_eq!(listed(&scratch), Listing::new(), "{who:?}, {name}");
        }
    }
}

#[test]
fn the_default_store_is_found_without_being_named() {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let mut command = lab.command(Who::User, lab.executable("cstor"));
    must(command.args(["extract", "localhost/tool"]).arg(scratch.path().join("out")));
    assert_same(&lab.podman_shows("localhost/tool"), &listed(&scratch), Sight::PLAIN, "localhost/tool");
}

#[test]
fn devices_are_made_only_when_asked_for() {
    let lab = lab_or_skip!();
    let store = store(lab, Who::Root, Fs::Xfs, "local");
    let kinds = |flags: &[&str]| {
        let (scratch, _) = extract(lab, Who::Root, &store, "localhost/odd:base", Fs::Xfs, flags);
        let rows = listed(&scratch);
        ["o/null", "o/disk"].map(|path| rows.get(path).map(|row| (row.kind, row.rdev, row.mode.clone())))
    };
    let made = [('c', "0o666"), ('b', "0o660")].map(|(kind, mode)| Some((kind, Some([1, 3]), mode.to_owned())));
    assert_eq!(kinds(&["--devices", "create"]), made);
    assert_eq!(kinds(&["--devices", "skip"]), [None, None]);
    for who in [Who::User, Who::Root] {
        let store = if who == Who::User { lab.store(Fs::Xfs, "local") } else { store.clone() };
        for flags in [&["--devices", "fail"][..], &["--strict"]] {
            let scratch = lab.scratch(who, Fs::Xfs);
            let ended = run(lab
                .cstor(who, &store)
                .args(["extract", "localhost/odd:base"])
                .arg(scratch.path().join("out"))
                .args(flags));
            assert_ne!(ended.code(), 0, "{who:?} {flags:?}");
            assert_refused(lab, &ended, ended.code(), scratch.path(), &format!("{who:?} {flags:?}"));
        }
    }
}

#[test]
fn the_user_keeps_set_id_bits_only_when_asked_to() {
    let lab = lab_or_skip!();
    let store = lab.store(Fs::Xfs, "local");
    for (flags, mode) in [(&[][..], "0o755"), (&["--preserve-setid"], "0o4755")] {
        let (scratch, _) = extract(lab, Who::User, &store, "localhost/walk:base", Fs::Xfs, flags);
        assert_eq!(listed(&scratch)["bin/su"].mode, mode, "{flags:?}");
    }
}

#[test]
fn root_may_leave_the_owners_alone() {
    let lab = lab_or_skip!();
    let store = store(lab, Who::Root, Fs::Xfs, "local");
    let (scratch, _) = extract(lab, Who::Root, &store, "localhost/walk:base", Fs::Xfs, &["--no-same-owner"]);
    assert!(listed(&scratch).values().all(|row| (row.uid, row.gid) == (0, 0)));
}

/// Whether all data of a file lies in extents that another file has too.
fn shared(file: &Path) -> bool {
    let map = must(std::process::Command::new("filefrag").arg("-v").arg(file));
    let extents: Vec<&str> =
        map.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit())).collect();
    !extents.is_empty() && extents.iter().all(|line| line.contains("shared"))
}

#[test]
fn bytes_are_shared_where_the_file_system_can() {
    let lab = lab_or_skip!();
    // store on, target on, (store, image, a large file in it), flags, shared afterwards
    type Case<'a> = (Fs, Fs, (&'a str, &'a str, &'a str), &'a [&'a str], bool);
    let xfs = ("local", "localhost/walk:v2", "opt/size/1500001");
    let btrfs = ("tour", "localhost/plain:latest", "opt/big/blob");
    let table: [Case<'_>; 9] = [
        (Fs::Xfs, Fs::Xfs, xfs, &[], true),
        (Fs::Xfs, Fs::Xfs, xfs, &["--reflink", "always"], true),
        (Fs::Xfs, Fs::Xfs, xfs, &["--reflink", "never"], false),
        (Fs::Xfs, Fs::Xfs, xfs, &["--no-reflinks"], false),
        (Fs::Btrfs, Fs::Btrfs, btrfs, &[], true),
        (Fs::Btrfs, Fs::Btrfs, btrfs, &["--reflink=always"], true),
        (Fs::Btrfs, Fs::Xfs, btrfs, &[], false),
        (Fs::Ext4, Fs::Ext4, btrfs, &[], false),
        (Fs::Xfs, Fs::Btrfs, xfs, &["--reflink=auto"], false),
    ];
    for (from, to, (name, image, large), flags, expected) in table {
        for who in [Who::User, Who::Root] {
            let what = format!("{who:?}, {from:?} to {to:?}, {flags:?}");
            let (scratch, ended) = extract(lab, who, &store(lab, who, from, name), image, to, flags);
            assert_eq!(shared(&scratch.path().join("out").join(large)), expected, "{what}");
            let summary = if expected { " reflinked, 0 B copied" } else { " 0 B reflinked, " };
            assert!(ended.stderr.contains(summary), "{what}: {}", ended.stderr);
            if expected {
                assert!(same_device(&store(lab, who, from, name), scratch.path()), "{what}");
            }
        }
    }
}

#[test]
fn reflink_always_refuses_before_it_writes() {
    let lab = lab_or_skip!();
    for (from, to) in [(Fs::Ext4, Fs::Ext4), (Fs::Btrfs, Fs::Xfs), (Fs::Xfs, Fs::Ext4)] {
        let name = if from == Fs::Xfs { "chunked" } else { "tour" };
        let image = if from == Fs::Xfs { CHUNKED.0 } else { "localhost/plain" };
        for who in [Who::User, Who::Root] {
            let scratch = lab.scratch(who, to);
            let ended = run(lab
                .cstor(who, &store(lab, who, from, name))
                .args(["extract", "--reflink=always", image])
                .arg(scratch.path().join("out")));
            assert_refused(lab, &ended, 10, scratch.path(), &format!("{who:?}, {from:?} to {to:?}"));
        }
    }
}

#[test]
fn a_copy_keeps_holes() {
    let lab = lab_or_skip!();
    let source = lab.store(Fs::Ext4, "tour");
    for (to, flags) in [(Fs::Ext4, &[][..]), (Fs::Btrfs, &["--reflink=never"]), (Fs::Ext4, &["--verify"])] {
        let (scratch, _) = extract(lab, Who::User, &source, "localhost/plain", to, flags);
        let file = fs::metadata(scratch.path().join("out/opt/sizes/sparse")).unwrap();
        assert_eq!(file.len(), (8 << 20) + 3, "{to:?}");
        assert!(file.blocks() * 512 < 1 << 20, "{to:?}: {} blocks", file.blocks());
    }
}

#[test]
fn xfs_cannot_hold_a_long_link() {
    let lab = lab_or_skip!();
    for who in [Who::User, Who::Root] {
        let scratch = lab.scratch(who, Fs::Xfs);
        let store = store(lab, who, Fs::Btrfs, "tour");
        let ended = run(lab.cstor(who, &store).args(["extract", "localhost/tour:v1"]).arg(scratch.path().join("out")));
        assert_refused(lab, &ended, 10, scratch.path(), "a target of 3000 bytes, XFS allows 1024");
    }
}

/// Id and manifest digest of an image, as the store's own index has them.
fn identity(store: &Path, name: &str) -> (String, String) {
    let index = fs::read_to_string(store.join("overlay-images/images.json")).expect("an index");
    let images: Vec<serde_json::Value> = serde_json::from_str(&index).expect("JSON");
    let names = |image: &serde_json::Value| image["names"].as_array().is_some_and(|all| all.iter().any(|n| n == name));
    let image = images.iter().find(|image| names(image)).expect("the image");
    let text = |field: &str| image[field].as_str().expect(field).to_owned();
    (text("id"), text("digest"))
}

#[test]
fn an_image_is_named_as_podman_names_it() {
    let lab = lab_or_skip!();
    let store = lab.store(Fs::Btrfs, "tour");
    let (id, digest) = identity(&store, "localhost/other:latest");
    let (alias, _) = identity(&store, "localhost/alias:1");
    let (other, tour, chunked) = ("other-latest", "tour-v2", "chunked-latest");
    let table = [
        ("localhost/other:latest".to_owned(), other),
        ("localhost/other".to_owned(), other),
        ("other:latest".to_owned(), other),
        ("other".to_owned(), other),
        (id.clone(), other),
        (id[..12].to_owned(), other),
        (format!("sha256:{id}"), other),
        (format!("localhost/other@{digest}"), other),
        (format!("other@{digest}"), other),
        ("containers-storage:localhost/other:latest".to_owned(), other),
        ("containers-storage:other".to_owned(), other),
        (format!("containers-storage:{id}"), other),
        ("alias:1".to_owned(), tour),
        ("tour".to_owned(), tour),
        (alias[..8].to_owned(), tour),
        // A short name finds the image of any registry.
        ("chunked".to_owned(), chunked),
        ("127.0.0.1:5055/chunked".to_owned(), chunked),
    ];
    for (name, file) in &table {
        let (scratch, _) = extract(lab, Who::User, &store, name, Fs::Btrfs, &[]);
        assert_same(&truth(file), &listed(&scratch), Sight::PLAIN.file_times(), name);
    }
    let unknown = [
        "localhost/nosuch".to_owned(),
        "other:v9".to_owned(),
        "docker.io/library/other".to_owned(),
        format!("localhost/other@sha256:{}", "0".repeat(64)),
        "f".repeat(64),
        id[..2].to_owned(),
    ];
    for name in &unknown {
        let scratch = lab.scratch(Who::User, Fs::Btrfs);
        let ended = run(lab.cstor(Who::User, &store).args(["extract", name]).arg(scratch.path().join("out")));
        assert_refused(lab, &ended, 3, scratch.path(), name);
    }
}

#[test]
fn only_a_new_or_empty_directory_is_a_target() {
    let lab = lab_or_skip!();
    let store = lab.store(Fs::Xfs, "chunked");
    let table: [(&str, i32); 7] = [
        ("mkdir out", 0),
        ("mkdir -m 700 out", 0),
        ("mkdir out && touch out/mine", 10),
        ("touch out", 10),
        ("ln -s elsewhere out", 10),
        ("mkdir empty && ln -s empty out", 10),
        ("rmdir $PWD", 10),
    ];
    for (prepare, code) in table {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let mut shell = lab.command(Who::User, "sh");
        must(shell.args(["-c", prepare]).current_dir(scratch.path()));
        let before = scratch.path().exists().then(|| tree::list(scratch.path()).unwrap());
        let ended = run(lab.cstor(Who::User, &store).args(["extract", "chunked"]).arg(scratch.path().join("out")));
        assert_eq!(ended.code(), code, "{prepare}: {}", ended.stderr);
        match before {
            Some(before) if code != 0 => {
                assert_same(&before, &tree::list(scratch.path()).unwrap(), Sight::ALL, prepare);
            }
            Some(_) => assert_same(&truth(CHUNKED.1), &listed(&scratch), Sight::PLAIN.file_times(), prepare),
            None => assert!(!scratch.path().exists(), "{prepare}"),
        }
    }
}

#[test]
fn a_target_is_replaced_as_a_whole_or_not_at_all() {
    let lab = lab_or_skip!();
    let store = lab.store(Fs::Xfs, "chunked");
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let out = scratch.path().join("out");
    let mut shell = lab.command(Who::User, "sh");
    must(shell.args(["-c", "mkdir -p out/old && touch out/old/file"]).current_dir(scratch.path()));
    let before = listed(&scratch);
    let ended = run(lab.cstor(Who::User, &store).args(["extract", "--replace", "nosuch"]).arg(&out));
    assert_eq!(ended.code(), 3, "{}", ended.stderr);
    assert_same(&before, &listed(&scratch), Sight::ALL, "a failed replacement");
    must(lab.cstor(Who::User, &store).args(["extract", "--replace", "chunked"]).arg(&out));
    assert_eq!(lab.names_in(scratch.path()), ["out"]);
    assert_same(&truth(CHUNKED.1), &listed(&scratch), Sight::PLAIN.file_times(), "a replacement");
}

#[test]
fn the_helper_starts_once_and_only_when_needed() {
    let lab = lab_or_skip!();
    let local = lab.store(Fs::Xfs, "local");
    // image, flags, starts of podman
    let table: [(&str, &[&str], usize); 7] = [
        ("localhost/tool", &[], 0),
        ("localhost/many", &[], 0),
        ("localhost/deep", &[], 0),
        ("localhost/tool", &["--helper", "always"], 1),
        ("localhost/private", &[], 1),
        ("localhost/debian", &[], 1),
        ("localhost/walk:v2", &[], 1),
    ];
    for (image, flags, starts) in table {
        let (scratch, launcher) = (lab.scratch(Who::User, Fs::Xfs), Launcher::new(lab, ""));
        let mut command = lab.cstor(Who::User, &local);
        command.args(["extract", image]).arg(scratch.path().join("out")).args(flags);
        let ended = run(launcher.before(&mut command));
        assert_eq!(ended.code(), 0, "{image}: {}", ended.stderr);
        assert_eq!(launcher.starts(), starts, "{image} {flags:?}");
        assert_eq!(ended.leftovers(), [""; 0], "{image}");
        assert_same(&lab.podman_shows(image), &listed(&scratch), Sight::PLAIN, image);
    }
    // The same without any podman to be found.
    for image in ["localhost/tool", "localhost/many", "localhost/deep"] {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let mut command = lab.cstor(Who::User, &local);
        command.env("PATH", "/nonexistent").args(["extract", image]).arg(scratch.path().join("out"));
        let ended = run(&mut command);
        assert_eq!(ended.code(), 0, "{image}: {}", ended.stderr);
    }
    // And an image that needs it, when it may not be started.
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let mut command = lab.cstor(Who::User, &local);
    command.args(["extract", "--helper", "never", "localhost/private"]).arg(scratch.path().join("out"));
    assert_refused(lab, &run(&mut command), 6, scratch.path(), "--helper never");
    // Root reads everything itself.
    let (scratch, launcher) = (lab.scratch(Who::Root, Fs::Xfs), Launcher::new(lab, ""));
    let mut command = lab.cstor(Who::Root, &lab.store(Fs::Xfs, "root-local"));
    command.args(["extract", "localhost/private"]).arg(scratch.path().join("out"));
    let ended = run(launcher.before(&mut command));
    assert_eq!((ended.code(), launcher.starts()), (0, 0), "{}", ended.stderr);
}
