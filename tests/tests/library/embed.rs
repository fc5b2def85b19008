//! A program that embeds the library and has no `cstor-helper` beside it (`src/bin/embedder.rs`): as its own helper it
//! reads what the user may not; where it forgot `init_if_helper()`, or called it too late, it says so once and starts
//! nothing. It does not test what a helper answers or refuses.

use cstor_tests::built::install;
use cstor_tests::lab::{Fs, Lab, Launcher, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{Ended, run};
use cstor_tests::tree::{self, Sight, assert_same};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// By this argument, with at most `--unshare` behind it, a program is told to be the helper (launcher.rs).
const MARK: &str = "--cstor-userns-helper";
/// Needs the helper for all but one of its files.
const IMAGE: &str = "localhost/private";
/// Nothing here has to wait for anything: an error that takes longer has tried something first.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The embedder, alone in a directory that the user can reach.
fn alone(lab: &Lab) -> TempDir {
    let directory = lab.scratch(Who::User, Fs::Ext4);
    let program = directory.path().join("embedder");
    install(env!("CARGO_BIN_EXE_embedder"), &program);
    directory
}

fn embedder(lab: &Lab, at: &TempDir, init: &str, to: &Path) -> Command {
    let mut command = lab.command(Who::User, at.path().join("embedder"));
    command
        .env("EMBEDDER_INIT", init)
        .env("EMBEDDER_STORE", lab.store(Fs::Xfs, "local"))
        .env("EMBEDDER_IMAGE", IMAGE)
        .env("EMBEDDER_DIR", to);
    command
}

#[track_caller]
fn assert_one_error(ended: &Ended, needles: &[&str], what: &str) {
    assert_eq!(ended.code(), 7, "{what}: {}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{what}: {}", ended.stderr);
    for needle in needles {
        assert!(ended.stderr.contains(needle), "{what}: no {needle:?} in: {}", ended.stderr);
    }
    assert!(ended.took < AT_ONCE, "{what}: took {:?}", ended.took);
    assert_eq!(ended.leftovers(), [""; 0], "{what}: still running");
}

#[test]
fn a_program_is_its_own_helper() {
    let lab = lab_or_skip!();
    let (at, scratch) = (alone(lab), lab.scratch(Who::User, Fs::Xfs));
    let out = scratch.path().join("out");
    // Through the real podman.
    let ended = run(&mut embedder(lab, &at, "first", &out));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stdout.starts_with("proxied true\nfiles "), "{}", ended.stdout);
    let helped = ended.stdout.trim().rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
    assert!(helped.is_some_and(|count| count > 0), "{}", ended.stdout);
    assert_eq!(ended.leftovers(), [""; 0]);
    assert_eq!(lab.names_in(scratch.path()), ["out"]);
    assert_same(&lab.podman_shows(IMAGE), &tree::list(&out).expect("root may list"), Sight::PLAIN, "embedder");

    // The same through the stand-in, which counts.
    let launcher = Launcher::new(lab, "");
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let ended = run(launcher.before(&mut embedder(lab, &at, "first", &scratch.path().join("out"))));
    assert_eq!((ended.code(), launcher.starts()), (0, 1), "{}", ended.stderr);
}

/// The example of the library, as it stands in its documentation.
#[test]
fn the_example_is_its_own_helper() {
    let lab = lab_or_skip!();
    let (at, scratch) = (lab.scratch(Who::User, Fs::Ext4), lab.scratch(Who::User, Fs::Xfs));
    let (program, out) = (at.path().join("embed"), scratch.path().join("out"));
    install(env!("CARGO_BIN_EXE_embed"), &program);
    let ended = run(lab.command(Who::User, &program).arg(lab.store(Fs::Xfs, "local")).arg(IMAGE).arg(&out));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(
        ended.stdout.ends_with(" of them through the helper\n") && !ended.stdout.contains(", 0 of"),
        "{}",
        ended.stdout
    );
    assert_eq!(ended.leftovers(), [""; 0]);
    assert_same(&lab.podman_shows(IMAGE), &tree::list(&out).expect("root may list"), Sight::PLAIN, "example");
}

#[test]
fn a_forgotten_or_late_call_is_one_error_and_starts_nothing() {
    let lab = lab_or_skip!();
    let table: [(&str, &[&str]); 2] = [
        ("never", &["cstor-helper: not found beside"]),
        ("late", &["init_if_helper() was called when 2 threads were running"]),
    ];
    let at = alone(lab);
    for (init, needles) in table {
        let (scratch, launcher) = (lab.scratch(Who::User, Fs::Xfs), Launcher::new(lab, ""));
        let ended = run(launcher.before(&mut embedder(lab, &at, init, &scratch.path().join("out"))));
        assert_one_error(&ended, needles, init);
        assert_eq!(launcher.starts(), 0, "{init}: nothing to start");
        assert_eq!(lab.names_in(scratch.path()), [""; 0], "{init}");
    }
}

/// `CSTOR_HELPER` names the program itself, which does not know that it could be one: each start does all the work
/// again. A wrapper counts them and ends what would go on for ever.
#[test]
fn a_program_that_is_named_as_its_helper_is_no_fork_loop() {
    let lab = lab_or_skip!();
    let at = alone(lab);
    let (counted, wrapper) = (at.path().join("starts"), at.path().join("wrapper"));
    let script = format!(
        "#!/bin/sh\necho x >>{0}\n[ $(wc -l <{0}) -le 8 ] || exit 99\nexec {1} \"$@\"\n",
        counted.display(),
        at.path().join("embedder").display()
    );
    fs::write(&wrapper, script).expect("root may write");
    fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).expect("root may chmod");
    for policy in ["auto", "always"] {
        fs::write(&counted, "").expect("root may write");
        fs::set_permissions(&counted, Permissions::from_mode(0o666)).expect("root may chmod");
        let (scratch, launcher) = (lab.scratch(Who::User, Fs::Xfs), Launcher::new(lab, ""));
        let mut command = embedder(lab, &at, "never", &scratch.path().join("out"));
        let ended = run(launcher.before(command.env("CSTOR_HELPER", &wrapper).env("EMBEDDER_POLICY", policy)));
        let starts = fs::read_to_string(&counted).expect("root may read").lines().count();
        assert_one_error(&ended, &["cstor-helper: "], policy);
        assert_eq!((launcher.starts(), starts), (1, 1), "{policy}: {}", ended.stderr);
    }
}

#[test]
fn the_mark_alone_makes_no_helper() {
    let lab = lab_or_skip!();
    let at = alone(lab);
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let out = scratch.path().join("out");
    // Standard input is /dev/null, not cstor's socket. The exit code is that of cstor-helper (exit.rs).
    for (init, code) in [("first", 64), ("late", 71)] {
        let ended = run(embedder(lab, &at, init, &out).arg(MARK));
        assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (code, "", ""), "{init}");
        assert!(ended.took < AT_ONCE && ended.leftovers().is_empty(), "{init}");
    }
    let ended = run(&mut lab.command(Who::User, lab.executable("cstor-helper")));
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (64, "", ""), "cstor-helper by hand");

    // A program that was started as a helper, and does not know, must not start another.
    let launcher = Launcher::new(lab, "");
    let ended = run(launcher.before(embedder(lab, &at, "never", &out).arg(MARK)));
    assert_one_error(&ended, &["itself started as a helper", "did not call init_if_helper()"], "never");
    assert_eq!(launcher.starts(), 0);
    assert_eq!(lab.names_in(scratch.path()), [""; 0]);

    // Beside other arguments the mark means nothing.
    let ended = run(launcher.before(embedder(lab, &at, "first", &out).args([MARK, "more"])));
    assert_eq!((ended.code(), launcher.starts()), (0, 1), "{}", ended.stderr);
}
