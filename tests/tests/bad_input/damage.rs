//! A file of a layer's `diff` that is no longer what it was, seen by every way out of a layer and an image: each ends
//! with 4, names the file, its layer and the images that have it, and leaves nothing where its result was to be. On
//! forged stores, and on one that podman filled, where a file opens directly or through the helper. Damage of names
//! and headers is the matter of `bad_tree` and `bad_header`.

use cstor_tests::forge::{self, Forged, Store, Subject, Trial, dir, file, trial::seal};
use cstor_tests::lab::{Fs, Lab, Launcher, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run};
use serde_json::Value;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

const TOP: &str = "localhost/app:1";
const BELOW: &str = "localhost/base:1";

/// What a command is expected to see.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sees {
    /// Other contents and other sizes.
    All,
    /// Other sizes, and what is no file.
    Sizes,
}

/// Every command that reads contents. `OUT` is the place of its result.
fn commands<'a>(image: &'a str, layer: &'a str) -> Vec<(Sees, Vec<&'a str>)> {
    let all = [
        vec!["layer", "export", layer, "-o", "OUT"],
        vec!["layer", "export", layer, "-o", "OUT", "--verify", "crc"],
        vec!["layer", "export", layer],
        vec!["layer", "extract", layer, "OUT", "--reflink", "never"],
        vec!["layer", "splitfd", layer, "-o", "OUT", "--inline-threshold", "1000000000"],
        vec!["layer", "toc", layer, "--digests"],
        vec!["image", "export", image, "-o", "OUT"],
        vec!["image", "export", image],
        vec!["image", "toc", image, "--digests"],
        vec!["image", "copy", image, "oci:OUT"],
        vec!["image", "copy", image, "oci:OUT", "--compress", "zstd"],
        vec!["image", "copy", image, "oci-archive:OUT", "--compress", "gzip"],
        vec!["image", "copy", image, "docker-archive:OUT"],
        vec!["extract", image, "OUT", "--reflink", "never"],
        vec!["extract", image, "OUT", "--verify"],
        vec!["verify", layer],
        vec!["verify", image],
        vec!["verify", "--all"],
        vec!["verify", image, "--level", "crc"],
    ];
    let sizes =
        [vec!["layer", "export", layer, "-o", "OUT", "--verify", "none"], vec!["layer", "splitfd", layer, "-o", "OUT"]];
    all.map(|command| (Sees::All, command)).into_iter().chain(sizes.map(|command| (Sees::Sizes, command))).collect()
}

type Damage = fn(&Path);

/// In place of the file at a path.
const DAMAGES: [(&str, Sees, Damage); 10] = [
    ("a flipped byte", Sees::All, |path| change(path, |bytes| bytes[3] ^= 1)),
    ("the last byte", Sees::All, |path| change(path, |bytes| *bytes.last_mut().unwrap() ^= 1)),
    ("another file of its size", Sees::All, |path| {
        let size = fs::metadata(path).unwrap().len();
        fs::remove_file(path).unwrap();
        fs::write(path, vec![b'?'; size as usize]).unwrap();
    }),
    ("one byte less", Sees::Sizes, |path| change(path, |bytes| bytes.truncate(bytes.len() - 1))),
    ("nothing left", Sees::Sizes, |path| change(path, Vec::clear)),
    ("one byte more", Sees::Sizes, |path| change(path, |bytes| bytes.push(0))),
    // What it leads to is the right file.
    ("a symlink", Sees::Sizes, |path| {
        let kept = path.with_file_name("kept");
        fs::rename(path, &kept).unwrap();
        symlink("kept", path).unwrap();
    }),
    ("a directory", Sees::Sizes, |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
    // Without a reader at the other end, opening it would wait for ever.
    ("a FIFO", Sees::Sizes, |path| {
        fs::remove_file(path).unwrap();
        must(Command::new("mkfifo").arg(path));
    }),
    ("nothing", Sees::Sizes, |path| fs::remove_file(path).unwrap()),
];

/// In place: the owner and the mode stay.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// How a run ended: code, standard output, standard error.
type Ending = (i32, String, String);

/// Runs every command on a damaged store; says which of them did not see it, or did not say it.
fn every_command_says_so(
    what: &str,
    damage: Sees,
    named: &Named<'_>,
    out: &Path,
    run: &dyn Fn(&[&str]) -> Ending,
) -> Vec<String> {
    let mut failures = Vec::new();
    for (sees, command) in commands(named.image, named.layer) {
        if sees == Sees::Sizes && damage == Sees::All {
            continue;
        }
        let to = out.join("result");
        let arguments: Vec<String> = command.iter().map(|word| word.replace("OUT", to.to_str().unwrap())).collect();
        let before = seal(out);
        let (code, stdout, stderr) = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        // What is no finding is a tar.
        let stdout = if command[0] == "verify" { stdout } else { String::new() };
        let mut fail = |why: &str| failures.push(format!("{what}: {command:?}: {why}: {code} {stderr}{stdout}"));
        if code != 4 {
            fail("another exit code");
        }
        let errors: Vec<&str> = stderr.lines().collect();
        let [error] = errors[..] else {
            fail("not one line");
            continue;
        };
        let said = if command[0] == "verify" { stdout.lines().next().unwrap_or_default() } else { error };
        if !error.starts_with("cstor: error: ") || error.split(": ").count() < 4 {
            fail("no error line");
        }
        let images = if command.contains(&named.image) { &[named.image] } else { named.images };
        let short = &named.layer[..12];
        for name in [named.file, short].iter().chain(images) {
            if !said.contains(name) {
                fail(&format!("{name} is not named"));
            }
        }
        let mut after = seal(out);
        // The directory's own times tell of what came and went.
        after.insert(String::new(), before.get("").cloned().unwrap_or_default());
        if after != before {
            fail("something was left behind");
        }
    }
    failures
}

struct Named<'a> {
    image: &'a str,
    /// Every image with the layer, the one above included.
    images: &'a [&'a str],
    layer: &'a str,
    file: &'a str,
}

#[track_caller]
fn none(failures: &[String]) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Two images; the damaged file is in the second layer, which both have.
fn store() -> Store {
    let mut store = Store::stack(
        TOP,
        [
            vec![dir("etc"), file("etc/one", b"one\n")],
            vec![
                dir("d"),
                file("d/first", vec![1; 9000]),
                file("d/the-file", vec![2; 70_000]),
                file("d/z", vec![3; 5]),
            ],
            vec![file("etc/one", b"1\n")],
        ],
    );
    store.images.push(forge::Image::new(BELOW, Some(1)));
    store
}

fn forged(damage: impl FnOnce(&Forged), subject: Subject) -> Trial {
    let trial = Trial::new(subject, &store());
    damage(&trial.store);
    trial.settle();
    trial
}

fn runner(trial: &Trial) -> impl Fn(&[&str]) -> Ending {
    |arguments| {
        let outcome = trial.run(arguments).unwrap_or_else(|reason| panic!("{arguments:?}: {reason}"));
        (outcome.code, outcome.stdout, outcome.stderr)
    }
}

#[test]
fn every_way_out_of_a_forged_store_sees_damage() {
    let mut failures = Vec::new();
    for &subject in Subject::all() {
        for (what, damage, apply) in DAMAGES {
            let trial = forged(|store| apply(&store.diff(1, "d/the-file")), subject);
            let layer = trial.store.layers[1].id.clone();
            let named = Named { image: TOP, images: &[TOP, BELOW], layer: &layer, file: "d/the-file" };
            let out = trial.dir().join("out");
            let what = format!("{what} ({subject:?})");
            failures.extend(every_command_says_so(&what, damage, &named, &out, &runner(&trial)));
        }
    }
    none(&failures);
}

/// What is told apart above is no damage: the commands all succeed where there is none.
#[test]
fn every_way_out_of_a_sound_store_is_open() {
    for &subject in Subject::all() {
        let trial = forged(|_| {}, subject);
        let layer = trial.store.layers[1].id.clone();
        for (number, (_, command)) in commands(TOP, &layer).into_iter().enumerate() {
            let to = trial.dir().join(format!("out/{number}"));
            let arguments: Vec<String> = command.iter().map(|word| word.replace("OUT", to.to_str().unwrap())).collect();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let (code, _, stderr) = runner(&trial)(&arguments);
            assert_eq!(code, 0, "{subject:?}: {command:?}: {stderr}");
            assert_eq!(to.symlink_metadata().is_ok(), command.iter().any(|word| word.contains("OUT")), "{command:?}");
        }
    }
}

/// A store that podman fills with one image of the lab.
fn podman_store(lab: &Lab, place: &Path, image: &str) -> std::path::PathBuf {
    let [archive, root, run_root] = ["archive", "store", "r"].map(|name| place.join(name));
    let to = format!("docker-archive:{}:{image}", archive.display());
    must(lab.cstor(Who::User, &lab.store(Fs::Xfs, "local")).args(["image", "copy", image, &to]));
    let mut podman = lab.command(Who::User, "podman");
    must(podman.arg("--root").arg(&root).arg("--runroot").arg(&run_root).args(["load", "-q", "-i"]).arg(&archive));
    root
}

#[test]
fn every_way_out_of_a_store_of_podmans_sees_damage() {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let image = "localhost/walk:v1";
    let root = podman_store(lab, scratch.path(), image);
    let layers: Value =
        serde_json::from_str(&must(lab.cstor(Who::User, &root).args(["image", "layers", image, "--format", "json"])))
            .unwrap();
    let out = scratch.path().join("out");
    fs::create_dir(&out).unwrap();
    chown(&out, Some(lab.uid()), None).unwrap();
    let launcher = Launcher::new(lab, "");
    let run = |arguments: &[&str]| {
        let ended = run(launcher.before(lab.cstor(Who::User, &root).args(arguments)));
        assert_eq!(ended.leftovers(), [""; 0], "{arguments:?}");
        (ended.code(), ended.stdout, ended.stderr)
    };
    let mut failures = Vec::new();
    // The second is of another id, below a directory that only its owner may enter: it comes through the helper.
    let some: &[&str] = &["a flipped byte", "one byte less", "a symlink", "a FIFO", "nothing"];
    for (number, file, rows) in [(0, "opt/size/0065537", some), (1, "var/daemon/key", &["a flipped byte", "nothing"])] {
        let layer = layers["layers"][number]["id"].as_str().unwrap();
        let named = Named { image, images: &[image], layer, file };
        let path = root.join("overlay").join(layer).join("diff").join(file);
        let (found, bytes) = (fs::metadata(&path).unwrap(), fs::read(&path).unwrap());
        let owned = |path: &Path| std::os::unix::fs::lchown(path, Some(found.uid()), Some(found.gid())).unwrap();
        let rows = DAMAGES.iter().filter(|(what, ..)| rows.contains(what));
        for &(what, damage, apply) in rows {
            apply(&path);
            if path.symlink_metadata().is_ok() {
                owned(&path);
            }
            failures.extend(every_command_says_so(&format!("{what}, {file}"), damage, &named, &out, &run));
            // And as it was.
            let _ = fs::remove_file(path.with_file_name("kept"));
            let _ = fs::remove_dir(&path);
            let _ = fs::remove_file(&path);
            fs::write(&path, &bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(found.mode() & 0o7777)).unwrap();
            owned(&path);
            File::open(&path).unwrap().set_modified(found.modified().unwrap()).unwrap();
        }
        // An id that the user's namespace does not have: nobody there may read it.
        chown(&path, Some(0), Some(0)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o0)).unwrap();
        for (_, command) in commands(image, layer) {
            let to = out.join("result");
            let arguments: Vec<String> = command.iter().map(|word| word.replace("OUT", to.to_str().unwrap())).collect();
            let (code, stdout, stderr) = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            let said = if command[0] == "verify" { &stdout } else { &stderr };
            if code != 6 || [file, &layer[..12], image].iter().any(|name| !said.contains(name)) {
                failures.push(format!("closed, {file}: {command:?}: {code} {stderr}{stdout}"));
            }
            assert_eq!(lab.names_in(&out), [""; 0], "closed, {file}: {command:?}");
        }
        fs::set_permissions(&path, Permissions::from_mode(found.mode() & 0o7777)).unwrap();
        owned(&path);
    }
    let (code, stdout, stderr) = run(&["verify", "--all"]);
    assert_eq!(code, 0, "everything was put right again: {stdout}{stderr}");
    // Files of other users of the namespace.
    must(lab.command(Who::User, "podman").args(["unshare", "rm", "-rf"]).arg(&root).arg(scratch.path().join("r")));
    none(&failures);
}
