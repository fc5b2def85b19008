//! Destinations that are taken, missing or closed, and one that appears while the extraction runs. File systems that
//! are full, read-only or fold case need mounts and are tested elsewhere.

use std::os::unix::fs::{PermissionsExt, symlink};

use cstor_tests::forge::{
    Store, Trial, file,
    trial::{Verdict, seal, table},
};

const IMAGE: &str = "localhost/app:1";

fn small() -> Store {
    Store::stack(IMAGE, [vec![file("x", "bytes")]])
}

struct Row {
    name: &'static str,
    prepare: fn(&Trial),
    /// What the error says of it; none: the destination is fine.
    taken: Option<&'static str>,
}

/// E1: what is there is never written into.
const TAKEN: &[Row] = &[
    Row { name: "nothing", prepare: |_| {}, taken: None },
    Row { name: "an empty directory", prepare: |t| make(t, "dest"), taken: None },
    Row {
        name: "an empty directory of mode 0700",
        prepare: |t| {
            make(t, "dest");
            std::fs::set_permissions(&t.dest, std::fs::Permissions::from_mode(0o700)).expect("a mode");
        },
        taken: None,
    },
    Row {
        name: "a directory with a file",
        prepare: |t| {
            make(t, "dest");
            std::fs::write(t.dest.join("kept"), "kept").expect("a file");
        },
        taken: Some("is not empty"),
    },
    Row {
        name: "a directory with a hidden file",
        prepare: |t| {
            make(t, "dest");
            std::fs::write(t.dest.join(".kept"), "").expect("a file");
        },
        taken: Some("is not empty"),
    },
    Row {
        name: "a file",
        prepare: |t| std::fs::write(&t.dest, "kept").expect("a file"),
        taken: Some("is not a directory"),
    },
    Row {
        name: "an empty file",
        prepare: |t| std::fs::write(&t.dest, "").expect("a file"),
        taken: Some("is not a directory"),
    },
    Row {
        name: "a symlink to an empty directory",
        prepare: |t| {
            make(t, "empty");
            symlink("empty", &t.dest).expect("a link");
        },
        taken: Some("is a symbolic link"),
    },
    Row {
        name: "a symlink to a full directory",
        prepare: |t| symlink("canary", &t.dest).expect("a link"),
        taken: Some("is a symbolic link"),
    },
    Row {
        name: "a symlink to nothing",
        prepare: |t| symlink("nothing", &t.dest).expect("a link"),
        taken: Some("is a symbolic link"),
    },
    Row {
        name: "a FIFO",
        prepare: |t| {
            let mode = rustix::fs::Mode::RWXU;
            rustix::fs::mknodat(rustix::fs::CWD, &t.dest, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
        },
        taken: Some("is not a directory"),
    },
];

fn make(trial: &Trial, name: &str) {
    std::fs::create_dir(trial.dir().join("out").join(name)).expect("a directory");
}

#[test]
fn what_is_there_stays() {
    table(
        TAKEN,
        |row| row.name,
        |row, subject| {
            let trial = Trial::new(subject, &small());
            (row.prepare)(&trial);
            trial.settle();
            match row.taken {
                None => trial.accept(IMAGE, &[], "f 644 x = bytes").map(drop),
                Some(what) => match trial.refuse(IMAGE, &[], &[10], &["dest"])? {
                    said if said.stderr.contains(what) => Ok(()),
                    said => Err(format!("not {what:?}: {}", said.stderr)),
                },
            }
        },
    );
}

/// E2: nothing is made on the way to a destination, and nothing where one may not write.
#[test]
fn a_parent_that_is_missing_or_closed() {
    let rows: &[(&str, &str)] = &[
        ("missing", "out/missing/dest"),
        ("missing twice", "out/missing/missing/dest"),
        ("a file", "out/passwd/dest"),
        ("not writable", "out/closed/dest"),
        ("not searchable", "out/barred/sub/dest"),
        ("empty name", ""),
        ("the root", "/"),
        ("dot", "."),
        ("dot dot", "out/canary/.."),
    ];
    table(
        rows,
        |row| row.0,
        |(_, path), subject| {
            // Root may write everywhere, and need not be sent to this machine's own root.
            if subject.is_root() && (path.contains("closed") || path.contains("barred") || *path == "/") {
                return Ok(());
            }
            let trial = Trial::new(subject, &small());
            for (name, mode) in [("out/closed", 0o555), ("out/barred", 0)] {
                let path = trial.dir().join(name);
                std::fs::create_dir_all(path.join("sub")).expect("a directory");
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            }
            trial.settle();
            let before = seal(trial.dir().join("out").as_path());
            let outcome = trial.run(&["extract", IMAGE, path])?;
            outcome.is_refusal(if path.is_empty() { &[2, 10] } else { &[10] }, &[])?;
            if seal(trial.dir().join("out").as_path()) == before {
                Ok(())
            } else {
                Err("something has changed".to_owned())
            }
        },
    );
}

/// A parent that is reached through a symlink is the user's own affair.
#[test]
fn a_parent_may_be_a_symlink() {
    table(
        &["out/link/dest"],
        |row| row,
        |path, subject| {
            let trial = Trial::new(subject, &small());
            make(&trial, "parent");
            symlink("parent", trial.dir().join("out/link")).expect("a link");
            trial.settle();
            trial.run(&["extract", IMAGE, path])?.is_success()?;
            let content =
                std::fs::read_to_string(trial.dir().join("out/parent/dest/x")).map_err(|error| error.to_string())?;
            if content == "bytes" { Ok(()) } else { Err(content) }
        },
    );
}

/// E3: the destination appears when the work is half done. It is stopped there, so that no clock decides.
#[test]
fn a_destination_that_appears_meanwhile_stays() {
    type Appear = fn(&Trial);
    let rows: &[(&str, Appear)] = &[
        ("a directory with a file", |t| {
            std::fs::create_dir(&t.dest).expect("a directory");
            std::fs::write(t.dest.join("kept"), "kept").expect("a file");
        }),
        ("a file", |t| std::fs::write(&t.dest, "kept").expect("a file")),
        ("a symlink to a directory", |t| symlink("canary", &t.dest).expect("a link")),
    ];
    let members: Vec<_> = (0..1_000).map(|number| file(format!("f{number}"), "bytes")).collect();
    let store = Store::stack(IMAGE, [members]);
    table(
        rows,
        |row| row.0,
        |(_, appear), subject| {
            let trial = Trial::new(subject, &store);
            trial.settle();
            let dest = trial.dest.to_str().ok_or("no UTF-8")?.to_owned();
            let mut run = trial.start(&["extract", IMAGE, &dest, "--reflink", "never"]);
            let out = trial.dir().join("out");
            let sibling = || -> Verdict<bool> {
                let names = out.read_dir().map_err(|error| error.to_string())?.flatten().map(|entry| entry.file_name());
                Ok(names.into_iter().any(|name| name.as_encoded_bytes().starts_with(b".dest.cstor-")))
            };
            while !sibling()? {
                if run.has_ended() {
                    return Err(format!("ended without a sibling directory: {:?}", run.finish()));
                }
            }
            rustix::process::kill_process(run.pid(), rustix::process::Signal::STOP)
                .map_err(|error| error.to_string())?;
            appear(&trial);
            let before = seal(&trial.dest);
            rustix::process::kill_process(run.pid(), rustix::process::Signal::CONT)
                .map_err(|error| error.to_string())?;
            run.finish()?.is_refusal(&[10], &["dest"])?;
            if seal(&trial.dest) != before {
                return Err("what appeared has changed".to_owned());
            }
            if sibling()? { Err("the sibling directory is still there".to_owned()) } else { Ok(()) }
        },
    );
}
