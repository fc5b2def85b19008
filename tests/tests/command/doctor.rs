//! `cstor doctor`: every finding is there whatever else is wrong, the first problem gives the exit code, and what it
//! says is so. What a helper does once it is started is not tested here.

use cstor_tests::built::program;
use cstor_tests::forge::{Store, file};
use cstor_tests::lab::{Fs, Lab, Launcher, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{Ended, run};
use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::process::Command;

/// What is found out in any case.
const ALWAYS: [&str; 15] = [
    "helper.needed",
    "helper.executable",
    "helper.launcher",
    "program.podman",
    "program.buildah",
    "program.newuidmap",
    "program.newgidmap",
    "subids.uids",
    "subids.gids",
    "helper.start",
    "kernel.release",
    "kernel.landlock_abi",
    "kernel.user_namespaces",
    "kernel.apparmor_restriction",
    "process.no_new_privs",
];
/// What is found out once the helper is ready.
const READY: [&str; 7] = [
    "confinement.no_new_privs",
    "confinement.capabilities",
    "confinement.nobody",
    "confinement.landlock",
    "confinement.seccomp",
    "helper.mapped_uids",
    "helper.mapped_gids",
];

/// The findings by name, after what holds for every report.
#[track_caller]
fn report(command: &mut Command) -> (Ended, BTreeMap<String, Value>) {
    let ended = run(command.args(["doctor", "--format", "json"]));
    assert_eq!(ended.leftovers(), [""; 0]);
    let document: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {}", ended.stderr));
    assert_eq!(document["schema"], 1);
    let findings = document["findings"].as_array().expect("a list");
    let codes: Vec<i64> = findings.iter().map(|row| row["exit_code"].as_i64().expect("a number")).collect();
    let first = codes.iter().find(|code| **code != 0);
    assert_eq!(i64::from(ended.code()), first.copied().unwrap_or(0), "the first problem: {}", ended.stdout);
    let contract = include_str!("../../../docs/json.md");
    let mut rows = BTreeMap::new();
    for row in findings {
        let name = row["name"].as_str().expect("a name");
        assert!(contract.contains(&format!("| `{name}` |")), "{name} is not in docs/json.md");
        let wrong = row["state"] == "wrong";
        assert!(wrong || row["state"] == "good" || row["state"] == "note", "{row}");
        assert_eq!(wrong, row["exit_code"] != 0, "{row}");
        assert!(!wrong || row["advice"].is_string(), "{row}");
        rows.insert(name.to_owned(), row.clone());
    }
    for name in ALWAYS {
        assert!(rows.contains_key(name), "no {name}: {}", ended.stdout);
    }
    (ended, rows)
}

#[track_caller]
fn assert_row(rows: &BTreeMap<String, Value>, name: &str, state: &str, value: impl Into<Value>) {
    let row = rows.get(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!((&row["state"], &row["value"]), (&Value::from(state), &value.into()), "{row}");
}

fn doctor(lab: &Lab, who: Who, store: &str) -> Command {
    lab.cstor(who, &lab.store(Fs::Xfs, store))
}

#[test]
fn all_is_well_for_the_user_of_the_lab() {
    let lab = lab_or_skip!();
    for (launcher, through) in
        [("auto", "podman"), ("podman", "podman"), ("buildah", "buildah"), ("newuidmap", "newuidmap")]
    {
        let mut command = doctor(lab, Who::User, "local");
        let (ended, rows) = report(command.args(["--launcher", launcher]).current_dir(lab.fs(Fs::Xfs).join("out")));
        assert_eq!(ended.code(), 0, "{launcher}: {}", ended.stdout);
        assert_row(&rows, "helper.start", "good", format!("through {through}"));
        assert_row(&rows, "helper.mapped_uids", "good", 65_537);
        assert_row(&rows, "store.driver", "good", "overlay");
        assert_row(&rows, "lock.layers", "good", "free");
        assert_row(&rows, "reflink", "good", true);
        assert!(READY.iter().all(|name| rows.contains_key(*name)), "{}", ended.stdout);
    }
    // As podman's own configuration says, and for people.
    let ended = run(lab.command(Who::User, lab.executable("cstor")).arg("doctor"));
    assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{}", ended.stdout);
    for (name, value) in [("store.configuration", "/storage.conf: storage.graphroot"), ("store.root", "/stores/local")]
    {
        let line = ended.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        assert!(line.contains(" good ") && line.ends_with(value), "{}", ended.stdout);
    }
    // Root needs no helper; what is wrong with it is no problem then.
    let (ended, rows) = report(doctor(lab, Who::Root, "root-local").env("CSTOR_HELPER", "/nonexistent"));
    assert_eq!(ended.code(), 0, "{}", ended.stdout);
    assert_row(&rows, "helper.needed", "good", "no, this process opens everything itself");
    assert_eq!(rows["helper.start"]["state"], "note");
}

#[test]
fn reflinks_are_tried_where_the_result_would_be() {
    let lab = lab_or_skip!();
    let table = [
        (lab.fs(Fs::Xfs).join("out"), Value::Bool(true)),
        (lab.fs(Fs::Ext4).join("out"), Value::Bool(false)),
        (lab.read_only(), Value::Null),
    ];
    for (place, expected) in table {
        let before = fs::read_dir(&place).unwrap().count();
        let (ended, rows) = report(doctor(lab, Who::User, "local").current_dir(&place));
        assert_eq!(ended.code(), 0, "{}", ended.stdout);
        assert_eq!(rows["reflink"]["value"], expected, "{}", place.display());
        assert_eq!(fs::read_dir(&place).unwrap().count(), before, "{}: something was left", place.display());
    }
}

#[test]
fn every_problem_is_a_finding() {
    let lab = lab_or_skip!();
    let (ended, rows) = report(lab.command(Who::User, lab.executable("cstor")).args(["--root", "/nonexistent"]));
    assert_eq!((ended.code(), &rows["store.root"]["state"]), (3, &Value::from("wrong")), "{}", ended.stdout);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("cstor: error: store.root: 1 problem found: "), "{}", ended.stderr);

    let (ended, rows) = report(doctor(lab, Who::User, "local").env("PATH", "/nonexistent"));
    assert_eq!((ended.code(), &rows["helper.start"]["state"]), (7, &Value::from("wrong")), "{}", ended.stdout);
    assert_row(&rows, "program.podman", "note", Value::Null);
    assert_eq!(rows["program.newuidmap"]["state"], "note");

    let (ended, rows) = report(doctor(lab, Who::User, "local").env("CSTOR_HELPER", "/nonexistent"));
    assert_eq!((ended.code(), &rows["helper.executable"]["state"]), (7, &Value::from("wrong")), "{}", ended.stdout);

    let broken = Launcher::of(lab, "echo 'no good' >&2; exit 125");
    let (ended, rows) = report(broken.before(doctor(lab, Who::User, "local").args(["--launcher", "podman"])));
    assert_eq!(ended.code(), 7, "{}", ended.stdout);
    assert!(rows["helper.start"]["value"].as_str().is_some_and(|text| text.contains("no good")), "{}", ended.stdout);
}

#[test]
fn a_lock_is_seen_with_its_holder() {
    let place = tempfile::tempdir().expect("a directory");
    let root = rustix::process::geteuid().is_root();
    let store =
        Store::stack("localhost/img:latest", [vec![file("a", "a")]]).write(&place.path().join("store"), root).unwrap();
    let built = program("cstor");
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(store.root.join("overlay-layers/layers.lock"))
        .unwrap();
    fcntl_lock(&lock, FlockOperation::LockExclusive).unwrap();
    let mut command = Command::new(built);
    let (ended, rows) = report(command.arg("--root").arg(&store.root).args(["--helper", "never"]));
    assert_eq!(ended.code(), 8, "{}", ended.stdout);
    assert_row(&rows, "lock.layers", "wrong", format!("held by pid {}", std::process::id()));
    assert!(ended.took.as_secs() < 5, "nobody waits for it: {:?}", ended.took);
}
