//! What a run leaves when it is killed, and what the next run into the same directory makes of it: its own remains go,
//! those of a living run and of others stay. It does not look at signals that can be caught (`limits`).

use cstor_tests::forge::{
    Store, Subject, Trial, dir, file,
    trial::{Run, Verdict, listing, table},
};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, flock, mknodat, open, statat};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const IMAGE: &str = "localhost/app:1";
const OTHER: &str = "localhost/other:1";
/// It takes every command long enough to copy that it is seen at work, unless something else keeps the processors busy.
const BIG: usize = 8 << 20;
/// How often it is tried to see one.
const ATTEMPTS: u32 = 10;
const DEAD: &str = ".dest.cstor-0123456789abcdef";
/// Nothing here may take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that no compression makes short work of.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(length / 8).flatten().collect()
}

fn store() -> Store {
    Store::stack(IMAGE, [vec![file("base", "base")], vec![dir("d"), file("d/big", noise(BIG))]])
}

fn small() -> Store {
    Store::stack(IMAGE, [vec![file("x", "bytes")]])
}

fn out(trial: &Trial) -> PathBuf {
    trial.dir().join("out")
}

/// Every file below a directory with its bytes, every directory with its mode.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![directory.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let value = if metadata.is_dir() {
                open.push(path.clone());
                format!("{:o}", metadata.mode()).into_bytes()
            } else if metadata.is_file() {
                [format!("{:o} ", metadata.mode()).into_bytes(), fs::read(&path).unwrap()].concat()
            } else {
                format!("{:?}", metadata.file_type()).into_bytes()
            };
            found.insert(path.strip_prefix(directory).unwrap().to_owned(), value);
        }
    }
    found
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// How much a run has written to one file below a directory, whether that has a name or not.
fn written(run: &Run, below: &Path) -> u64 {
    let descriptors = PathBuf::from(format!("/proc/{}/fd", run.pid().as_raw_nonzero()));
    let entries = fs::read_dir(descriptors).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let metadata = fs::metadata(entry.path()).ok()?;
        (target.starts_with(below) && metadata.is_file()).then_some(metadata.len())
    });
    sizes.max().unwrap_or(0)
}

/// Starts a command, and stops it as soon as it has written so much; `None` if it has ended before that was seen.
fn stopped_at(trial: &Trial, arguments: &[&str], bytes: u64) -> Option<Run> {
    let mut run = trial.start(arguments);
    let (begin, below) = (Instant::now(), out(trial));
    while written(&run, &below) < bytes {
        if run.has_ended() {
            return None;
        }
        assert!(begin.elapsed() < PATIENCE, "{arguments:?}: it has not written {bytes} bytes");
        std::thread::yield_now();
    }
    kill_process(run.pid(), Signal::STOP).unwrap();
    // What has been sent the signal may still be at its last call.
    let stat = format!("/proc/{}/stat", run.pid().as_raw_nonzero());
    loop {
        let text = fs::read_to_string(&stat).unwrap();
        match text.rsplit(") ").next().and_then(|rest| rest.chars().next()) {
            Some('T') => return Some(run),
            Some('Z') | None => return None,
            _ => std::thread::yield_now(),
        }
    }
}

/// The same, and kills it there.
fn killed_at(trial: &Trial, arguments: &[&str], bytes: u64) -> Option<()> {
    let run = stopped_at(trial, arguments, bytes)?;
    kill_process(run.pid(), Signal::KILL).unwrap();
    assert_eq!(run.finish().unwrap().code, -9, "{arguments:?}");
    Some(())
}

/// Tries until the command was seen at work.
fn seen_at_work<T>(mut attempt: impl FnMut() -> Verdict<Option<T>>) -> Verdict<T> {
    for _ in 0..ATTEMPTS {
        if let Some(result) = attempt()? {
            return Ok(result);
        }
    }
    Err(format!("it was never seen at work in {ATTEMPTS} runs"))
}

struct Command {
    name: &'static str,
    /// Without what is put in front of them and their result.
    arguments: fn(&Trial) -> Vec<String>,
    /// Whether a layout of another image is there before.
    exists: bool,
    /// What it leaves when it is killed has a name.
    leaves: bool,
}

fn dest(trial: &Trial) -> String {
    trial.dest.display().to_string()
}

fn top_layer(trial: &Trial) -> String {
    trial.store.layers[1].id.clone()
}

fn owned<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

const COMMANDS: &[Command] = &[
    Command {
        name: "extract",
        arguments: |t| owned(["extract", IMAGE, &dest(t), "--no-reflinks"]),
        exists: false,
        leaves: true,
    },
    Command {
        name: "layer extract",
        arguments: |t| owned(["layer", "extract", &top_layer(t), &dest(t), "--no-reflinks"]),
        exists: false,
        leaves: true,
    },
    Command {
        name: "image export",
        arguments: |t| owned(["image", "export", IMAGE, "-o", &dest(t)]),
        exists: false,
        leaves: false,
    },
    Command {
        name: "layer export",
        arguments: |t| owned(["layer", "export", &top_layer(t), "-o", &dest(t)]),
        exists: false,
        leaves: false,
    },
    Command {
        name: "layer splitfd",
        arguments: |t| owned(["layer", "splitfd", &top_layer(t), "-o", &dest(t), "--inline-threshold", "100000000"]),
        exists: false,
        leaves: false,
    },
    Command {
        name: "a new layout",
        arguments: |t| owned(["image", "copy", IMAGE, &format!("oci:{}", dest(t))]),
        exists: false,
        leaves: true,
    },
    Command {
        name: "a new layout, compressed",
        arguments: |t| owned(["image", "copy", IMAGE, &format!("oci:{}", dest(t)), "--compress", "gzip"]),
        exists: false,
        leaves: true,
    },
    Command {
        name: "a layout that is there",
        arguments: |t| owned(["image", "copy", IMAGE, &format!("oci:{}", dest(t))]),
        exists: true,
        leaves: false,
    },
    Command {
        name: "oci-archive",
        arguments: |t| owned(["image", "copy", IMAGE, &format!("oci-archive:{}", dest(t))]),
        exists: false,
        leaves: false,
    },
    Command {
        name: "oci-archive, compressed",
        arguments: |t| owned(["image", "copy", IMAGE, &format!("oci-archive:{}", dest(t)), "--compress", "gzip"]),
        exists: false,
        leaves: false,
    },
    Command {
        name: "docker-archive",
        arguments: |t| owned(["image", "copy", IMAGE, &format!("docker-archive:{}", dest(t))]),
        exists: false,
        leaves: false,
    },
];

/// A trial with the store of both images, and the layout of the other one if the command wants it.
fn prepared(subject: Subject, command: &Command) -> Verdict<Trial> {
    let mut store = store();
    let other = small();
    store.images.push(cstor_tests::forge::Image::new(OTHER, Some(store.layers.len())));
    store.layers.extend(other.layers);
    let trial = Trial::new(subject, &store);
    trial.settle();
    if command.exists {
        trial.run(&["image", "copy", OTHER, &format!("oci:{}:other", dest(&trial))])?.is_success()?;
    }
    Ok(trial)
}

#[test]
fn the_next_run_leaves_exactly_the_result() {
    table(
        COMMANDS,
        |command| command.name,
        |command, subject| {
            seen_at_work(|| {
                let trial = prepared(subject, command)?;
                let arguments = (command.arguments)(&trial);
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let before = contents(&out(&trial));
                for bytes in [1, BIG as u64 / 2] {
                    if killed_at(&trial, &arguments, bytes).is_none() {
                        return Ok(None);
                    }
                    let left = contents(&out(&trial));
                    if !command.leaves && left != before {
                        return Err(format!("killed after {bytes} bytes, it left {:?}", left.keys()));
                    }
                    if let Some(path) = left.keys().find(|path| !before.contains_key(*path)) {
                        // The first one that sorts is the private directory; nobody else may look into it.
                        let mode = fs::symlink_metadata(out(&trial).join(path)).unwrap().mode();
                        if mode != 0o040_700 || !path.to_str().unwrap().starts_with(".dest.cstor-") {
                            return Err(format!("{} has mode {mode:o}", path.display()));
                        }
                    }
                }
                let outcome = trial.run(&arguments)?;
                outcome.is_success()?;
                if outcome.stderr.contains("warning") {
                    return Err(outcome.stderr);
                }
                let untouched = prepared(subject, command)?;
                let arguments = (command.arguments)(&untouched);
                untouched.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?.is_success()?;
                let (left, wanted) = (contents(&out(&trial)), contents(&out(&untouched)));
                if left != wanted {
                    return Err(format!("left {:?}, wanted {:?}", left.keys(), wanted.keys()));
                }
                Ok(Some(()))
            })
        },
    );
}

/// Two at once: one of them begins, searches and ends while the other one works.
#[test]
fn what_a_living_run_makes_is_left_alone() {
    table(
        COMMANDS,
        |command| command.name,
        |command, subject| {
            seen_at_work(|| {
                let trial = prepared(subject, command)?;
                let arguments = (command.arguments)(&trial);
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let Some(run) = stopped_at(&trial, &arguments, 1) else { return Ok(None) };
                let during = names(&out(&trial));
                let second = out(&trial).join("second").display().to_string();
                let outcomes = [
                    trial.run(&["extract", OTHER, &second]),
                    trial.run(&["image", "export", OTHER, "-o", &format!("{second}.tar")]),
                    trial.run(&["image", "copy", OTHER, &format!("oci:{second}.oci")]),
                ];
                let after: Vec<_> =
                    names(&out(&trial)).into_iter().filter(|name| !name.starts_with("second")).collect();
                kill_process(run.pid(), Signal::CONT).unwrap();
                let ended = run.finish()?;
                for outcome in outcomes.into_iter().chain([Ok(ended)]) {
                    let outcome = outcome?;
                    outcome.is_success()?;
                    if outcome.stderr.contains("warning") {
                        return Err(outcome.stderr);
                    }
                }
                if during != after {
                    return Err(format!("{during:?} became {after:?}"));
                }
                match names(&out(&trial)).into_iter().find(|name| name.contains(".cstor-")) {
                    Some(name) => Err(format!("{name} stayed")),
                    None => Ok(Some(())),
                }
            })
        },
    );
}

/// Two copies into one new layout: the first to be complete makes it, the other one adds to it.
#[test]
fn a_layout_that_appears_meanwhile_gets_both_images() {
    for &subject in Subject::all() {
        let (trial, run) = seen_at_work(|| {
            let trial = prepared(subject, &COMMANDS[5])?;
            let run = stopped_at(&trial, &["image", "copy", IMAGE, &format!("oci:{}:big", dest(&trial))], 1);
            Ok(run.map(|run| (trial, run)))
        })
        .unwrap();
        let small = format!("oci:{}:small", dest(&trial));
        trial.run(&["image", "copy", OTHER, &small]).unwrap().is_success().unwrap();
        kill_process(run.pid(), Signal::CONT).unwrap();
        run.finish().unwrap().is_success().unwrap();
        let index: Value = serde_json::from_slice(&fs::read(trial.dest.join("index.json")).unwrap()).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index}");
        // Configurations, manifests and layers.
        assert_eq!(names(&trial.dest.join("blobs/sha256")).len(), 2 + 2 + 3);
        assert_eq!(names(&out(&trial)), ["canary", "dest", "dest.kept", "passwd"]);
    }
}

/// A blob that was there when a copy began, and that another run has taken away since because it failed.
#[test]
fn a_blob_that_disappears_is_written_again() {
    let trial = Trial::new(Subject::Caller, &store());
    let to = format!("oci:{}", dest(&trial));
    trial.run(&["image", "copy", IMAGE, &to]).unwrap().is_success().unwrap();
    let whole = contents(&trial.dest);
    let blob = |layer: usize| trial.dest.join("blobs").join(trial.store.layers[layer].diff_id().replace(':', "/"));
    let run = seen_at_work(|| {
        fs::remove_file(blob(1)).unwrap();
        Ok(stopped_at(&trial, &["image", "copy", IMAGE, &to], 1))
    });
    let run = run.unwrap();
    fs::remove_file(blob(0)).unwrap();
    kill_process(run.pid(), Signal::CONT).unwrap();
    run.finish().unwrap().is_success().unwrap();
    assert!(contents(&trial.dest) == whole);
}

/// An error after the first blobs have their names.
#[test]
fn a_layout_with_a_damaged_index_gets_nothing() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 3] = [
        ("not JSON", |index| fs::write(index, "{").unwrap()),
        ("no list", |index| fs::write(index, r#"{"schemaVersion":2,"manifests":{}}"#).unwrap()),
        ("a directory", |index| {
            fs::remove_file(index).unwrap();
            fs::create_dir(index).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let trial = prepared(Subject::Caller, &COMMANDS[7]).unwrap();
        damage(&trial.dest.join("index.json"));
        let before = contents(&out(&trial));
        let outcome = trial.run(&["image", "copy", IMAGE, &format!("oci:{}", dest(&trial))]).unwrap();
        assert_eq!(outcome.code, 10, "{name}: {}", outcome.stderr);
        assert_eq!(before.keys().collect::<Vec<_>>(), contents(&out(&trial)).keys().collect::<Vec<_>>(), "{name}");
        assert!(before == contents(&out(&trial)), "{name}");
    }
}

/// Of the stream and the list there are both or none, whichever cannot be put in place; what was there before stays.
#[test]
fn a_splitfdstream_and_its_list_appear_together() {
    for blocked in ["stream", "files"] {
        for before in [false, true] {
            let trial = Trial::new(Subject::Caller, &small());
            let place = out(&trial).join("split");
            fs::create_dir(&place).unwrap();
            fs::create_dir(place.join(blocked)).unwrap();
            if before {
                let free = if blocked == "stream" { "files" } else { "stream" };
                fs::write(place.join(free), "as it was").unwrap();
            }
            let expected = contents(&place);
            let layer = trial.store.layers[0].id.clone();
            let outcome = trial.run(&["layer", "splitfd", &layer, "-o", &place.display().to_string()]).unwrap();
            assert_eq!(outcome.code, 10, "{blocked}: {}", outcome.stderr);
            assert_eq!(expected, contents(&place), "{blocked}, {before}");
            fs::remove_dir(place.join(blocked)).unwrap();
            trial.run(&["layer", "splitfd", &layer, "-o", &place.display().to_string()]).unwrap().is_success().unwrap();
            assert_eq!(names(&place), ["files", "stream"]);
        }
    }
}

/// What happens to something with a temporary name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Goes,
    /// And no word about it.
    Stays,
    /// And is named.
    Named,
}

struct Row {
    name: &'static str,
    /// Makes it; what is returned is held until the end.
    make: fn(&Trial, &Path) -> Option<File>,
    fate: Fate,
    root: bool,
}

fn directory(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(path.join("below")).unwrap();
    fs::write(path.join("below/file"), "of a killed run").unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn locked(path: &Path) -> Option<File> {
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    Some(file.into())
}

const ROWS: &[Row] = &[
    Row {
        name: "a directory",
        make: |_, at| {
            directory(at);
            None
        },
        fate: Fate::Goes,
        root: false,
    },
    Row {
        name: "a directory with a closed one",
        make: |_, at| {
            directory(at);
            mode(&at.join("below"), 0);
            None
        },
        fate: Fate::Goes,
        root: false,
    },
    Row {
        name: "a file",
        make: |_, at| {
            fs::write(at, "half").unwrap();
            None
        },
        fate: Fate::Goes,
        root: false,
    },
    Row {
        name: "a locked directory",
        make: |_, at| {
            directory(at);
            locked(at)
        },
        fate: Fate::Stays,
        root: false,
    },
    Row {
        name: "a locked file",
        make: |_, at| {
            fs::write(at, "half").unwrap();
            locked(at)
        },
        fate: Fate::Stays,
        root: false,
    },
    Row {
        name: "a link to a directory",
        make: |_, at| {
            symlink("canary", at).unwrap();
            None
        },
        fate: Fate::Stays,
        root: false,
    },
    Row {
        name: "a FIFO",
        make: |_, at| {
            mknodat(CWD, at, FileType::Fifo, Mode::RWXU, 0).unwrap();
            None
        },
        fate: Fate::Stays,
        root: false,
    },
    Row {
        name: "a directory that others may look into",
        make: |_, at| {
            directory(at);
            mode(at, 0o755);
            None
        },
        fate: Fate::Named,
        root: false,
    },
    Row {
        name: "a directory of another user",
        make: |_, at| {
            directory(at);
            chown(at, Some(54_321), None).unwrap();
            None
        },
        fate: Fate::Named,
        root: true,
    },
    Row {
        name: "a file of another user",
        make: |_, at| {
            fs::write(at, "half").unwrap();
            chown(at, Some(54_321), None).unwrap();
            None
        },
        fate: Fate::Named,
        root: true,
    },
    Row {
        name: "in a directory that everybody may write to",
        make: |t, at| {
            directory(at);
            mode(&out(t), 0o777);
            None
        },
        fate: Fate::Named,
        root: false,
    },
    Row {
        name: "in one like /tmp",
        make: |t, at| {
            directory(at);
            mode(&out(t), 0o1777);
            None
        },
        fate: Fate::Named,
        root: false,
    },
    Row {
        name: "in one that the group may write to",
        make: |t, at| {
            directory(at);
            mode(&out(t), 0o775);
            None
        },
        fate: Fate::Named,
        root: false,
    },
    Row {
        name: "in one that an ACL opens to a user",
        make: |t, at| {
            directory(at);
            rustix::fs::setxattr(out(t), "system.posix_acl_access", &acl(), rustix::fs::XattrFlags::empty()).unwrap();
            None
        },
        fate: Fate::Named,
        root: false,
    },
    Row {
        name: "in one of another user",
        make: |t, at| {
            directory(at);
            chown(out(t), Some(54_321), None).unwrap();
            None
        },
        fate: Fate::Named,
        root: true,
    },
];

/// rwx for the owner and user 54321, r-x for the rest (acl(5), linux/posix_acl_xattr.h).
fn acl() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 7, 54_321), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[test]
fn only_what_is_certainly_its_own_goes() {
    type Words = fn(&Trial) -> Vec<String>;
    let runs: [(&str, Words); 4] = [
        ("extract", |t| owned(["extract", IMAGE, &dest(t)])),
        ("export", |t| owned(["image", "export", IMAGE, "-o", &dest(t)])),
        ("layout", |t| owned(["image", "copy", IMAGE, &format!("oci:{}", dest(t))])),
        ("archive", |t| owned(["image", "copy", IMAGE, &format!("oci-archive:{}", dest(t))])),
    ];
    table(
        ROWS,
        |row| row.name,
        |row, subject| {
            if row.root && !subject.is_root() {
                return Ok(());
            }
            for (command, arguments) in runs {
                // As a run into this very place leaves it, and as one to elsewhere in the directory.
                for name in [DEAD, ".other.cstor-fedcba9876543210", ".cstor-00000000000000ff"] {
                    let trial = Trial::new(subject, &small());
                    let at = out(&trial).join(name);
                    // Before the trial is handed over, unless that would undo it.
                    let _held = (row.make)(&trial, &at);
                    if !row.root {
                        trial.settle();
                    }
                    let before = is_there(&at).then(|| identity(&at));
                    let arguments = arguments(&trial);
                    let outcome = trial.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
                    outcome.is_success().map_err(|error| format!("{command}: {error}"))?;
                    let stays = is_there(&at).then(|| identity(&at)) == before;
                    let warnings = outcome.stderr.lines().filter(|line| line.starts_with("cstor: warning: ")).count();
                    let fate = match (stays, outcome.stderr.contains(name)) {
                        (false, false) => Fate::Goes,
                        (true, false) => Fate::Stays,
                        (true, true) => Fate::Named,
                        (false, true) => return Err(format!("{command}: gone, and named: {}", outcome.stderr)),
                    };
                    if (fate, warnings) != (row.fate, usize::from(row.fate == Fate::Named)) {
                        return Err(format!("{command}: {name}: {fate:?}, {warnings} warnings: {}", outcome.stderr));
                    }
                    let left: Vec<_> = names(&out(&trial)).into_iter().filter(|left| left != name).collect();
                    if left != ["canary", "dest", "dest.kept", "passwd"] {
                        return Err(format!("{command}: {left:?}"));
                    }
                    if fs::read(out(&trial).join("canary/kept")).unwrap() != b"canary" {
                        return Err(format!("{command}: the canary has changed"));
                    }
                }
            }
            Ok(())
        },
    );
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn identity(path: &Path) -> (u64, u64) {
    let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    (stat.st_dev, stat.st_ino)
}

/// A plain user cannot ask whether somebody works in another user's directory: it is named only where it would be in
/// this run's own place.
#[test]
fn what_cannot_be_asked_is_named_in_its_own_place_only() {
    if !Subject::Caller.is_root() {
        return cstor_tests::lab::skip("only root can become another user");
    }
    for (name, named) in [(DEAD, true), (".other.cstor-fedcba9876543210", false)] {
        let trial = Trial::new(Subject::Plain, &small());
        trial.settle();
        let at = out(&trial).join(name);
        directory(&at);
        mode(&out(&trial), 0o1777);
        let outcome = trial.run(&["extract", IMAGE, &dest(&trial)]).unwrap();
        outcome.is_success().unwrap();
        assert!(at.join("below/file").is_file());
        assert_eq!(outcome.stderr.contains(name), named, "{}", outcome.stderr);
    }
}

/// However many there are, one line names them.
#[test]
fn many_remains_are_one_line() {
    let trial = Trial::new(Subject::Caller, &small());
    mode(&out(&trial), 0o777);
    for number in 0..50 {
        fs::create_dir(out(&trial).join(format!(".dest.cstor-{number:016x}"))).unwrap();
    }
    let outcome = trial.run(&["extract", IMAGE, &dest(&trial)]).unwrap();
    outcome.is_success().unwrap();
    assert_eq!(outcome.stderr.lines().filter(|line| line.contains("warning")).count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("and 47 more"), "{}", outcome.stderr);
    mode(&out(&trial), 0o755);
    trial.discard();
    assert_eq!(names(&out(&trial)).len(), 53);
    for number in 0..50 {
        mode(&out(&trial).join(format!(".dest.cstor-{number:016x}")), 0o700);
    }
    trial.run(&["extract", IMAGE, &dest(&trial)]).unwrap().is_success().unwrap();
    assert_eq!(listing(&out(&trial)).len(), 6, "{:?}", listing(&out(&trial)));
}

/// In a layout remains are elsewhere: beside its index and among its blobs.
#[test]
fn remains_in_a_layout_go() {
    for empty in [false, true] {
        let trial = prepared(Subject::Caller, &COMMANDS[if empty { 5 } else { 7 }]).unwrap();
        if empty {
            fs::create_dir_all(trial.dest.join("blobs/sha256")).unwrap();
        }
        for place in [".cstor-0123456789abcdef", ".index.json.cstor-0123456789abcdef"] {
            fs::write(trial.dest.join(place), "half").unwrap();
            fs::write(trial.dest.join("blobs/sha256").join(place), "half").unwrap();
        }
        let outcome = trial.run(&["image", "copy", IMAGE, &format!("oci:{}", dest(&trial))]).unwrap();
        outcome.is_success().unwrap();
        assert_eq!(names(&trial.dest), ["blobs", "index.json", "oci-layout"]);
        assert!(names(&trial.dest.join("blobs/sha256")).iter().all(|name| name.len() == 64));
    }
}

/// A new layout has the mode, group and ACL that mkdir(1) would give it.
#[test]
fn a_new_layout_is_as_any_new_directory() {
    let inherited = |path: &Path| {
        let acl = |name: &str| {
            let mut bytes = [0; 256];
            rustix::fs::getxattr(path, name, &mut bytes).map_or_else(|_| Vec::new(), |size| bytes[..size].to_vec())
        };
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.mode(), metadata.gid(), acl("system.posix_acl_access"), acl("system.posix_acl_default"))
    };
    let parents: [fn(&Path); 3] = [
        |_| {},
        |parent| mode(parent, 0o2755),
        |parent| {
            rustix::fs::setxattr(parent, "system.posix_acl_default", &acl(), rustix::fs::XattrFlags::empty()).unwrap();
        },
    ];
    for parent in parents {
        let trial = Trial::new(Subject::Caller, &small());
        parent(&out(&trial));
        trial.run(&["image", "copy", IMAGE, &format!("oci:{}", dest(&trial))]).unwrap().is_success().unwrap();
        let plain = out(&trial).join("plain");
        fs::create_dir(&plain).unwrap();
        assert_eq!(inherited(&trial.dest), inherited(&plain));
        fs::create_dir(plain.join("below")).unwrap();
        assert_eq!(inherited(&trial.dest.join("blobs")), inherited(&plain.join("below")));
    }
}

#[test]
fn doctor_lists_what_is_left() {
    let remains = |trial: &Trial| -> Vec<(String, String, String)> {
        let outcome = trial.run(&["doctor", "--format", "json", &out(trial).display().to_string()]).unwrap();
        let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let rows = document["findings"].as_array().unwrap().iter().filter(|row| row["name"] == "remains");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rows.map(|row| (text(&row["state"]), text(&row["value"]), text(&row["advice"]))).collect()
    };
    let trial = Trial::new(Subject::Caller, &small());
    assert_eq!(remains(&trial), [("good".into(), "nothing".into(), String::new())]);
    let [dead, living, foreign, socket] =
        [DEAD, ".a.cstor-0000000000000001", ".b.cstor-0000000000000002", ".cstor-0000000000000003"]
            .map(|name| out(&trial).join(name));
    directory(&dead);
    directory(&living);
    directory(&foreign);
    mode(&foreign, 0o755);
    drop(UnixListener::bind(&socket).unwrap());
    let _held = locked(&living);
    let found = remains(&trial);
    let paths: Vec<_> = found.iter().map(|(_, path, _)| path.clone()).collect();
    assert_eq!(paths, [&foreign, &socket, &dead].map(|path| path.display().to_string()));
    assert!(found.iter().all(|(state, ..)| state == "note"), "{found:?}");
    assert!(found[2].2.contains("removes it") && found[1].2.contains("removes it"), "{found:?}");
    assert!(found[0].2.contains("owner can remove it"), "{found:?}");
    // It has only looked.
    assert!(dead.join("below/file").is_file() && socket.exists());
    mode(&out(&trial), 0o1777);
    assert!(remains(&trial).iter().all(|(.., advice)| advice.contains("others may write there")));
}

#[test]
fn the_socket_of_a_killed_server_goes() {
    let trial = Trial::new(Subject::Caller, &small());
    let [dead, file] = [".cstor-0123456789abcdef", ".cstor-0123456789abcde0"].map(|name| out(&trial).join(name));
    drop(UnixListener::bind(&dead).unwrap());
    fs::write(&file, "no socket").unwrap();
    let socket = out(&trial).join("socket");
    let run = trial.start(&["serve", "--socket", &socket.display().to_string()]);
    let begin = Instant::now();
    while !socket.exists() {
        assert!(begin.elapsed() < PATIENCE, "there is no socket");
        std::thread::yield_now();
    }
    assert!(!dead.exists());
    assert!(file.exists());
    kill_process(run.pid(), Signal::TERM).unwrap();
    run.finish().unwrap().is_success().unwrap();
    assert_eq!(names(&out(&trial)), [".cstor-0123456789abcde0", "canary", "dest.kept", "passwd"]);
}
