//! `--replace`: what cannot be removed is refused before anything is placed, what is exchanged is what was looked at, and
//! after the exchange the run has succeeded. Runs are stopped by signals, so that no clock decides.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use cstor_tests::forge::{
    Store, Subject, Trial, file,
    trial::{Run, Verdict, seal, table},
};
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::process::{Signal, kill_process};

const IMAGE: &str = "localhost/app:1";

fn small() -> Store {
    Store::stack(IMAGE, [vec![file("x", "bytes")]])
}

/// Large enough that a run can be stopped while it places.
fn large() -> Store {
    Store::stack(IMAGE, [(0..1_000).map(|number| file(format!("f{number}"), "bytes")).collect::<Vec<_>>()])
}

fn made(path: &Path) {
    std::fs::create_dir_all(path).expect("a directory");
}

fn written(path: &Path) {
    std::fs::write(path, "old").expect("a file");
}

/// What stands in the way, prepared in `out/dest` before the trial's files get their owner, and after that.
struct Row {
    name: &'static str,
    before: fn(&Trial),
    after: fn(&Trial),
    /// A script that root runs in the trial's directory, in a mount namespace of its own.
    mounts: &'static str,
    /// Whether only a plain user is refused.
    plain: bool,
    names: &'static str,
    says: &'static str,
}

const ROW: Row = Row { name: "", before: |_| {}, after: |_| {}, mounts: "", plain: false, names: "", says: "" };

const IN_THE_WAY: &[Row] = &[
    Row {
        name: "a mount below it",
        before: |t| made(&t.dest.join("a/m")),
        mounts: "mount -t tmpfs t out/dest/a/m",
        names: "out/dest/a/m:",
        says: "is a mount point",
        ..ROW
    },
    Row {
        name: "a file that is a mount point",
        before: |t| {
            made(&t.dest.join("a"));
            written(&t.dest.join("a/f"));
        },
        mounts: "mount --bind out/passwd out/dest/a/f",
        names: "out/dest/a/f:",
        says: "is a mount point",
        ..ROW
    },
    Row {
        name: "a mount below it that another mount of its file system shows",
        before: |t| {
            made(&t.dest.join("a/m"));
            made(&t.dir().join("out/else"));
        },
        mounts: "mount --bind out out/else; mount -t tmpfs t out/else/dest/a/m",
        names: "out/dest/a/m:",
        says: "is a mount point",
        ..ROW
    },
    Row {
        name: "a mount point",
        before: |t| made(&t.dest),
        mounts: "mount -t tmpfs t out/dest; touch out/dest/full; chmod 777 out/dest",
        names: "out/dest:",
        says: "is a mount point: name a directory below it",
        ..ROW
    },
    Row {
        name: "a mount point in another mount",
        before: |t| {
            made(&t.dest);
            written(&t.dest.join("full"));
            made(&t.dir().join("out/else"));
        },
        mounts: "mount --bind out out/else; mount -t tmpfs t out/else/dest",
        names: "out/dest:",
        says: "is a mount point: name a directory below it",
        ..ROW
    },
    Row {
        name: "an immutable file",
        mounts: "mount -t tmpfs t out; mkdir -p out/dest/a; touch out/dest/a/f; chmod -R 777 out; chattr +i out/dest/a/f",
        names: "out/dest/a/f:",
        says: "is immutable",
        ..ROW
    },
    Row {
        name: "an append-only directory",
        mounts: "mount -t tmpfs t out; mkdir -p out/dest/a; touch out/dest/a/f; chmod -R 777 out; chattr +a out/dest/a",
        names: "out/dest/a:",
        says: "is append-only",
        ..ROW
    },
    Row {
        name: "it is immutable itself",
        mounts: "mount -t tmpfs t out; mkdir -p out/dest/a; chmod -R 777 out; chattr +i out/dest",
        names: "out/dest:",
        says: "is immutable",
        ..ROW
    },
    Row {
        name: "its parent is append-only",
        mounts: "mount -t tmpfs t out; mkdir -p out/dest/a; chmod -R 777 out; chattr +a out",
        names: "out:",
        says: "is append-only",
        ..ROW
    },
    Row {
        name: "a directory of another user, in the depth",
        before: |t| {
            made(&t.dest.join("a/b/c"));
            written(&t.dest.join("a/b/c/f"));
        },
        after: |t| chown(t.dest.join("a/b/c"), Some(0), Some(0)).expect("an owner"),
        plain: true,
        names: "out/dest/a/b/c:",
        says: "belongs to uid 0",
        ..ROW
    },
    Row {
        name: "a directory of another user that cannot be read",
        before: |t| made(&t.dest.join("a/b")),
        after: |t| {
            chown(t.dest.join("a/b"), Some(0), Some(0)).expect("an owner");
            std::fs::set_permissions(t.dest.join("a/b"), std::fs::Permissions::from_mode(0o700)).expect("a mode");
        },
        plain: true,
        names: "out/dest/a/b:",
        says: "belongs to uid 0",
        ..ROW
    },
    Row {
        name: "a file of another user in a sticky directory of another user",
        before: |t| {
            made(&t.dest.join("a"));
            written(&t.dest.join("a/f"));
        },
        after: |t| {
            for path in ["a/f", "a"] {
                chown(t.dest.join(path), Some(0), Some(0)).expect("an owner");
            }
            std::fs::set_permissions(t.dest.join("a"), std::fs::Permissions::from_mode(0o1777)).expect("a mode");
        },
        plain: true,
        names: "out/dest/a/f:",
        says: "sticky",
        ..ROW
    },
    Row {
        name: "it lies in a lower layer of an overlay mount",
        before: |t| {
            made(&t.dir().join("lower/dest/a"));
            made(&t.dir().join("fs"));
        },
        mounts: "mount -t tmpfs t fs; mkdir fs/upper fs/work; chmod 777 fs/upper; \
                 mount -t overlay o -o lowerdir=lower,upperdir=fs/upper,workdir=fs/work,redirect_dir=off out",
        names: "out/dest:",
        says: "is a directory of a lower layer",
        ..ROW
    },
];

fn may_mount() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn what_cannot_be_removed_is_refused_before_anything_is_placed() {
    table(
        IN_THE_WAY,
        |row| row.name,
        |row, subject| {
            if (!row.mounts.is_empty() && !may_mount()) || (row.plain && subject != Subject::Plain) {
                return Ok(());
            }
            let trial = Trial::new(subject, &small());
            (row.before)(&trial);
            trial.settle();
            (row.after)(&trial);
            let out = trial.dir().join("out");
            let before = seal(&out);
            let arguments = ["--root", "store", "extract", "--replace", IMAGE, "out/dest"];
            let outcome = trial.start_in(row.mounts, &arguments).finish()?;
            outcome.is_refusal(&[10], &[row.names])?;
            if !outcome.stderr.contains(row.says) {
                return Err(format!("does not say `{}`: {}", row.says, outcome.stderr));
            }
            if seal(&out) == before { Ok(()) } else { Err("something has changed".to_owned()) }
        },
    );
}

/// Without `--replace`: it is empty, but cannot take the result's place.
#[test]
fn an_empty_mount_point_is_called_one() {
    table(
        &["mount -t tmpfs t out/dest; chmod 777 out/dest", "mount --bind out out/else; mount -t tmpfs t out/else/dest"],
        |mounts| mounts,
        |mounts, subject| {
            if !may_mount() {
                return Ok(());
            }
            let trial = Trial::new(subject, &small());
            made(&trial.dest);
            made(&trial.dir().join("out/else"));
            trial.settle();
            let outcome = trial.start_in(mounts, &["--root", "store", "extract", IMAGE, "out/dest"]).finish()?;
            outcome.is_refusal(&[10], &["out/dest: is a mount point: name a directory below it"])
        },
    );
}

/// What the kernel can exchange on an overlay mount is replaced there, and foreign files in own directories, empty
/// foreign directories, closed own ones, and any depth are no obstacles.
#[test]
fn what_can_be_removed_is_replaced() {
    let rows: &[Row] = &[
        Row {
            name: "a directory of the upper layer",
            before: |t| {
                made(&t.dir().join("lower"));
                made(&t.dir().join("fs"));
            },
            mounts: "mount -t tmpfs t fs; mkdir -p fs/upper/dest/a fs/work; chmod -R 777 fs; chown -R OWNER fs/upper; \
                     mount -t overlay o -o lowerdir=lower,upperdir=fs/upper,workdir=fs/work,redirect_dir=off out",
            ..ROW
        },
        Row {
            name: "foreign files and empty directories in own ones",
            before: |t| {
                made(&t.dest.join("a/b"));
                written(&t.dest.join("a/f"));
            },
            after: |t| {
                for path in ["a/b", "a/f"] {
                    chown(t.dest.join(path), Some(0), Some(0)).expect("an owner");
                }
            },
            plain: true,
            ..ROW
        },
        Row {
            name: "closed directories",
            before: |t| {
                for path in ["a/b", "c"] {
                    made(&t.dest.join(path));
                    written(&t.dest.join(path).join("f"));
                }
                for (path, mode) in [("a/b", 0), ("a", 0o311), ("c", 0o555)] {
                    std::fs::set_permissions(t.dest.join(path), std::fs::Permissions::from_mode(mode)).expect("a mode");
                }
            },
            ..ROW
        },
        Row {
            // With the sandbox, Landlock climbs to the top for each file: depth times depth.
            name: "a tree 3,000 names deep",
            before: |t| {
                made(&t.dest);
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let mut here = rustix::fs::open(&t.dest, flags, Mode::empty()).expect("a directory");
                for _ in 0..3_000 {
                    let name = "a-name-of-twenty-byte";
                    mkdirat(&here, name, Mode::RWXU).expect("a directory");
                    rustix::fs::chownat(&here, name, Some(owner_of(t)), None, AtFlags::empty()).expect("an owner");
                    symlinkat("nowhere", &here, "l").expect("a link");
                    here = openat(&here, "a-name-of-twenty-byte", flags, Mode::empty()).expect("a directory");
                }
            },
            ..ROW
        },
    ];
    table(
        rows,
        |row| row.name,
        |row, subject| {
            if (!row.mounts.is_empty() && !may_mount()) || (row.plain && subject != Subject::Plain) {
                return Ok(());
            }
            let trial = Trial::new(subject, &small());
            // The deep tree has its owners already: what walks by path would not reach its end.
            let deep = row.name.contains("deep");
            if !deep {
                (row.before)(&trial);
            }
            trial.settle();
            if deep {
                (row.before)(&trial);
                chown(&trial.dest, Some(owner_of(&trial).as_raw()), None).map_err(|error| error.to_string())?;
            }
            (row.after)(&trial);
            let mounts = row.mounts.replace("OWNER", &owner_of(&trial).as_raw().to_string());
            let mut arguments = vec!["--root", "store", "extract", "--replace", IMAGE, "out/dest"];
            arguments.extend(deep.then_some("--no-sandbox"));
            let outcome = trial.start_in(&mounts, &arguments).finish()?;
            outcome.is_success()?;
            if outcome.stderr.contains("could not be removed") {
                return Err(outcome.stderr);
            }
            if !row.mounts.is_empty() {
                return Ok(());
            }
            let names = names(&trial)?;
            if names == ["canary", "dest", "dest.kept", "passwd"] && trial.dest.join("x").is_file() {
                Ok(())
            } else {
                Err(format!("{names:?}"))
            }
        },
    );
}

fn owner_of(trial: &Trial) -> rustix::fs::Uid {
    let owner = std::os::unix::fs::MetadataExt::uid(&trial.store.root.metadata().expect("the store"));
    rustix::fs::Uid::from_raw(owner)
}

/// The names beside the destination.
fn names(trial: &Trial) -> Verdict<Vec<String>> {
    let entries = trial.dir().join("out").read_dir().map_err(|error| error.to_string())?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().display().to_string()).collect();
    names.sort();
    Ok(names)
}

/// A destination with one file.
fn old(trial: &Trial) {
    made(&trial.dest);
    written(&trial.dest.join("old"));
}

/// A run that places files and was stopped.
fn stopped(trial: &Trial) -> Verdict<Run> {
    let mut run = trial.start(&["extract", "--replace", "--reflink", "never", IMAGE, "out/dest"]);
    while !names(trial)?.iter().any(|name| name.starts_with(".dest.cstor-")) {
        if run.has_ended() {
            return Err(format!("ended without a sibling directory: {:?}", run.finish()));
        }
    }
    kill_process(run.pid(), Signal::STOP).map_err(|error| error.to_string())?;
    Ok(run)
}

fn go_on(run: &Run) -> Verdict {
    kill_process(run.pid(), Signal::CONT).map_err(|error| error.to_string())
}

/// Two at once: the second one says so, and the first one succeeds.
#[test]
fn of_two_at_once_one_wins() {
    let store = large();
    table(
        &["two"],
        |name| name,
        |_, subject| {
            let trial = Trial::new(subject, &store);
            old(&trial);
            trial.settle();
            let first = stopped(&trial)?;
            let second = trial.start(&["extract", "--replace", IMAGE, "out/dest"]).finish();
            go_on(&first)?;
            second?.is_refusal(&[10], &["another extraction"])?;
            if !trial.dest.join("old").is_file() {
                return Err("the second run has changed the destination".to_owned());
            }
            first.finish()?.is_success()?;
            let names = names(&trial)?;
            let count = trial.dest.read_dir().map_err(|error| error.to_string())?.count();
            if names == ["canary", "dest", "dest.kept", "passwd"] && count == 1_000 {
                Ok(())
            } else {
                Err(format!("{names:?}, {count} files"))
            }
        },
    );
}

/// What is exchanged is what was looked at: another directory under its name, or none, stays as it is.
#[test]
fn only_what_was_looked_at_is_replaced() {
    type Change = fn(&Trial);
    let rows: &[(&str, Change)] = &[
        ("another directory", |t| {
            std::fs::rename(&t.dest, t.dest.with_file_name("moved")).expect("a directory");
            made(&t.dest);
            written(&t.dest.join("other"));
        }),
        ("an empty directory", |t| {
            std::fs::rename(&t.dest, t.dest.with_file_name("moved")).expect("a directory");
            made(&t.dest);
        }),
        ("a file", |t| {
            std::fs::rename(&t.dest, t.dest.with_file_name("moved")).expect("a directory");
            written(&t.dest);
        }),
        ("nothing", |t| std::fs::rename(&t.dest, t.dest.with_file_name("moved")).expect("a directory")),
    ];
    let store = large();
    table(
        rows,
        |row| row.0,
        |(_, change), subject| {
            let trial = Trial::new(subject, &store);
            old(&trial);
            trial.settle();
            let run = stopped(&trial)?;
            change(&trial);
            let tree = || {
                let mut seal = seal(&trial.dir().join("out"));
                seal.retain(|path, _| !path.is_empty() && !path.starts_with(".dest.cstor-"));
                seal
            };
            let before = tree();
            go_on(&run)?;
            run.finish()?.is_refusal(&[10], &["is another directory than before"])?;
            if tree() != before {
                return Err("something has changed".to_owned());
            }
            match names(&trial)?.iter().find(|name| name.starts_with(".dest.cstor-")) {
                Some(name) => Err(format!("{name} is left")),
                None => Ok(()),
            }
        },
    );
}

/// Once exchanged, the run has succeeded: what cannot be removed is named in a warning.
#[test]
fn what_is_left_of_the_old_tree_is_a_warning() {
    let store = large();
    table(
        &["--no-sandbox", "--verify"],
        |option| option,
        |_, subject| {
            if subject != Subject::Plain {
                return Ok(());
            }
            let trial = Trial::new(subject, &store);
            old(&trial);
            made(&trial.dest.join("a/b"));
            trial.settle();
            let run = stopped(&trial)?;
            written(&trial.dest.join("a/b/f"));
            chown(trial.dest.join("a/b"), Some(0), Some(0)).map_err(|error| error.to_string())?;
            go_on(&run)?;
            let outcome = run.finish()?;
            outcome.is_success()?;
            let names = names(&trial)?;
            let left: Vec<_> = names.iter().filter(|name| name.starts_with(".dest.cstor-")).collect();
            let [left] = left[..] else { return Err(format!("{names:?}")) };
            if !outcome.stderr.contains(left.as_str()) || !outcome.stderr.contains("a/b") {
                return Err(format!("does not name {left} and a/b: {}", outcome.stderr));
            }
            let count = trial.dest.read_dir().map_err(|error| error.to_string())?.count();
            if count == 1_000 { Ok(()) } else { Err(format!("{count} files")) }
        },
    );
}
