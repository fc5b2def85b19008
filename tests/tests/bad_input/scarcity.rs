//! What a process can be short of beside descriptors and space: threads, the sizes of files, and its own standard
//! streams. Each run ends in a whole result, or in a class of exit code with nothing left; never in a signal or a panic.

use cstor_tests::built;
use cstor_tests::forge::trial::{Verdict, table};
use cstor_tests::forge::{Store, Subject, Trial, dir, file};
use cstor_tests::run::run;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

const IMAGE: &str = "localhost/short:1";
const PRLIMIT: &str = "/usr/bin/prlimit";

/// Three layers, so that there is work for several threads, and a file of 200 kB, over which limits of sizes are.
fn store() -> Store {
    let large: Vec<u8> = (0..200_000u32).map(|number| (number % 251) as u8).collect();
    Store::stack(
        IMAGE,
        [
            vec![dir("etc"), file("etc/app.conf", "debug = 1\n"), file("large", &large)],
            vec![dir("opt"), file("opt/second", "second")],
            vec![dir("srv"), file("srv/third", "third")],
        ],
    )
}

fn trial(subject: Subject) -> Trial {
    let trial = Trial::new(subject, &store());
    trial.settle();
    trial
}

fn names(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The commands that write, and where; `OUT` is the place of the result.
const WRITERS: [(&str, &[&str]); 7] = [
    ("extract", &["extract", IMAGE, "OUT", "--reflink", "never"]),
    ("image export", &["image", "export", IMAGE, "-o", "OUT"]),
    ("layer export", &["layer", "export", "LAYER", "-o", "OUT"]),
    ("layer splitfd", &["layer", "splitfd", "LAYER", "-o", "OUT", "--inline-threshold", "1000000"]),
    ("image copy oci", &["image", "copy", IMAGE, "oci:OUT", "--compress", "gzip"]),
    ("image copy oci-archive", &["image", "copy", IMAGE, "oci-archive:OUT", "--compress", "gzip"]),
    ("image copy docker-archive", &["image", "copy", IMAGE, "docker-archive:OUT"]),
];

fn arguments(trial: &Trial, words: &[&str]) -> Vec<String> {
    let out = trial.dest.to_str().unwrap();
    words.iter().map(|word| word.replace("OUT", out).replace("LAYER", &trial.store.layers[0].id)).collect()
}

fn through(trial: &Trial, wrapper: &[&str], words: &[&str]) -> Verdict<cstor_tests::forge::Outcome> {
    let arguments = arguments(trial, words);
    trial.run_through(wrapper, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The limit counts all processes and threads of a user, so that one is too many whatever else runs. Root has no such
/// limit (setrlimit(2)).
#[test]
fn a_thread_that_cannot_start_is_done_without() {
    let read_only = ["image", "toc", IMAGE, "--digests"];
    let commands = WRITERS.iter().copied().chain([
        ("image toc", &read_only[..]),
        ("verify", &["verify", "--all"][..]),
        ("verify crc", &["verify", IMAGE, "--level", "crc"][..]),
        ("doctor", &["doctor"][..]),
    ]);
    for (what, words) in commands {
        for &subject in Subject::all().iter().filter(|subject| !subject.is_root()) {
            let (plenty, scarce) = (trial(subject), trial(subject));
            let ended = |trial, wrapper: &[&str]| {
                through(trial, wrapper, words).unwrap_or_else(|reason| panic!("{what} {wrapper:?}: {reason}"))
            };
            let (expected, found) = (ended(&plenty, &[]), ended(&scarce, &[PRLIMIT, "--nproc=1"]));
            assert_eq!(found.code, expected.code, "{what}: {}", found.stderr);
            assert!(found.code == 0 || what == "doctor", "{what}: {}", found.stderr);
            assert_eq!(names(&scarce.dir().join("out")), names(&plenty.dir().join("out")), "{what}");
        }
    }
}

#[test]
fn over_the_limit_of_file_sizes_nothing_is_left() {
    let sizes = ["0", "1", "1000", "8192", "150000"];
    let rows: Vec<(String, &str, &[&str])> =
        WRITERS.iter().flat_map(|(what, words)| sizes.map(|size| (format!("{what} {size}"), size, *words))).collect();
    table(
        &rows,
        |(what, ..)| what,
        |(_, size, words), subject| {
            let trial = trial(subject);
            let before = names(&trial.dir().join("out"));
            let mut command = trial.command_through(&[PRLIMIT, &format!("--fsize={size}")], &[]);
            let ended = command.args(arguments(&trial, words)).output().unwrap();
            let said = String::from_utf8(ended.stderr).unwrap();
            let after = names(&trial.dir().join("out"));
            match ended.status.code() {
                // Compressed, all of it may fit.
                Some(0) if words.contains(&"gzip") => Ok(()),
                Some(10) if after != before => Err(format!("left: {after:?}")),
                Some(10) if said.contains("File too large (os error 27): raise the limit of file sizes") => Ok(()),
                _ => Err(format!("{}: {said}", ended.status)),
            }
        },
    );
}

/// Standard output as a file over the limit, and what people are told through one.
#[test]
fn a_standard_stream_over_the_limit_is_an_error_and_no_end_by_a_signal() {
    let trial = trial(Subject::Caller);
    let layer = trial.store.layers[0].id.clone();
    let log = |name: &str| File::create(trial.dir().join(name)).unwrap();
    let tar = trial.dest.with_extension("tar");
    let exported = trial.run(&["layer", "export", &layer, "-o", tar.to_str().unwrap()]).unwrap();
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    let table: [(&[&str], i32); 5] = [
        (&["layer", "export", &layer], 10),
        (&["image", "export", IMAGE], 10),
        (&["image", "copy", IMAGE, "oci-archive:-"], 10),
        (&["image", "inspect", IMAGE], 1),
        (&["--help"], 1),
    ];
    for (words, code) in table {
        let mut command = trial.command_through(&[PRLIMIT, "--fsize=100"], words);
        let ended = command.stdout(log("full")).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{words:?}: {}: {said}", ended.status);
        assert!(said.contains("File too large"), "{words:?}: {said}");
        // Nobody can be told, and the code is the same.
        let mut command = trial.command_through(&[PRLIMIT, "--fsize=0"], &["-vv"]);
        let ended = command.args(words).stdout(log("full")).stderr(log("errors")).status().unwrap();
        assert_eq!(ended.code(), Some(code), "{words:?} without standard error: {ended}");
    }
    let other = trial.dest.with_extension("other");
    fs::copy(&tar, &other).unwrap();
    fs::OpenOptions::new().append(true).open(&other).unwrap().set_len(1024).unwrap();
    let mut command = Command::new(PRLIMIT);
    command.arg("--fsize=10").arg(built::program("tar-diff")).args([&tar, &other]).stdout(log("full"));
    let ended = command.output().unwrap();
    assert_eq!(ended.status.code(), Some(2), "{}: {:?}", ended.status, ended.stderr);
}

/// Before `main`, Rust opens /dev/null for each of the three that is closed, so that nothing which is opened later gets
/// such a number and what was meant for a stream.
#[test]
fn closed_standard_streams_confuse_nothing() {
    let given = trial(Subject::Caller);
    let layer = given.store.layers[0].id.clone();
    let expected: Vec<_> = WRITERS
        .map(|(what, words)| {
            let fresh = trial(Subject::Caller);
            let ended = through(&fresh, &[], words).unwrap_or_else(|reason| panic!("{what}: {reason}"));
            assert_eq!(ended.code, 0, "{what}: {}", ended.stderr);
            contents(&fresh.dir().join("out"))
        })
        .into();
    for closed in 1..8 {
        let close = (0..3).filter(|stream| closed & (1 << stream) != 0).map(|stream| format!("{stream}>&-"));
        let shell = format!("exec \"$@\" {}", close.collect::<Vec<_>>().join(" "));
        let wrapper = ["/bin/sh", "-c", &shell, "sh"];
        for ((what, words), expected) in WRITERS.iter().zip(&expected) {
            let fresh = trial(Subject::Caller);
            let ended = through(&fresh, &wrapper, words).unwrap_or_else(|reason| panic!("{what} {shell}: {reason}"));
            assert_eq!(ended.code, 0, "{what} {shell}: {}", ended.stderr);
            assert!(contents(&fresh.dir().join("out")) == *expected, "{what} {shell}: another result");
            assert_eq!(ended.stdout, "", "{what} {shell}");
        }
        let table: [(&[&str], i32); 9] = [
            (&["image", "list"], 0),
            (&["image", "inspect", IMAGE], 0),
            (&["image", "export", IMAGE], 0),
            (&["layer", "export", &layer], 0),
            (&["-vv", "verify", "--all"], 0),
            (&["image", "copy", IMAGE, "docker-archive:-"], 0),
            (&["image", "list", "localhost/nothing"], 2),
            (&["image", "inspect", "localhost/nothing"], 3),
            (&["serve", "--fd", "1"], 10),
        ];
        for (words, code) in table {
            let ended = given.command_through(&wrapper, words).output().unwrap();
            let said = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(code), "{words:?} {shell}: {said}");
            assert!(!said.contains("panicked"), "{words:?} {shell}: {said}");
            let errors = said.lines().filter(|line| line.starts_with("cstor: error: ")).count();
            assert_eq!(errors, usize::from(closed & 4 == 0 && code != 0), "{words:?} {shell}: {said}");
            // What is printed is printed where it belongs, or nowhere.
            assert!(closed & 2 == 0 || ended.stdout.is_empty(), "{words:?} {shell}");
        }
        let tar_diff = built::program("tar-diff");
        let mut command = Command::new("/bin/sh");
        let ended = run(command.args(["-c", &shell, "sh"]).arg(tar_diff).args([&given.store.layers_json(); 2]));
        assert_eq!(ended.code(), 2, "tar-diff {shell}: {}", ended.stderr);
    }
}

/// Every file below a directory with its bytes.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for name in names(directory) {
        let path = directory.join(&name);
        if path.is_dir() {
            found.extend(contents(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.push((name, fs::read(&path).unwrap()));
        }
    }
    found
}
