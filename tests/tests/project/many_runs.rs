//! Many clients at once, many runs one after the other, and clients that are killed at any moment: the store stays as it
//! was, nothing is left but at most the unfinished sibling of a killed one, and the next run works. How helpers die is
//! tested in `helper_death`.

use cstor_tests::alone::turn;
use cstor_tests::lab::{Fs, Launcher, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run, start};
use cstor_tests::tree::{self, Sight, assert_same};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Needs the helper for all but one of its files, in several batches.
const IMAGE: &str = "localhost/private";
const CLIENTS: usize = 50;
const RUNS: usize = 1000;

/// Everything in a store, with the times that any change of it would change.
fn state(store: &Path) -> String {
    must(Command::new("find").arg(store).args(["-printf", "%p %i %m %U %s %T@ %C@\\n"]))
}

#[test]
fn a_client_killed_at_any_moment_harms_nothing() {
    let lab = lab_or_skip!();
    let _turn = turn();
    let store = lab.store(Fs::Xfs, "local");
    let before = state(&store.join("overlay-layers")) + &state(&store.join("overlay-images"));
    let launcher = Launcher::new(lab, "");
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let extraction = |wrap: &[&str], name: &str| {
        let mut command = lab.command(Who::User, wrap.first().copied().unwrap_or("env"));
        command.args(wrap.iter().skip(1)).arg(lab.executable("cstor")).arg("--root").arg(&store);
        launcher.before(command.args(["extract", IMAGE]).arg(scratch.path().join(name)));
        command
    };
    let mut killed = 0;
    // Messages to the helper, and what makes, fills and completes the result.
    for call in ["sendmsg", "recvmsg", "mkdirat", "openat2", "ioctl", "utimensat", "renameat2"] {
        let trace = scratch.path().join("trace");
        let traced = ["strace", "-qq", "-e", &format!("trace={call}"), "-o", trace.to_str().unwrap()];
        must(&mut extraction(&traced, "undisturbed"));
        let count = fs::read_to_string(&trace).unwrap().lines().filter(|line| line.starts_with(call)).count();
        assert!(count > 0, "{call} is not called any more");
        fs::remove_dir_all(scratch.path().join("undisturbed")).unwrap();
        fs::remove_file(&trace).unwrap();
        // All messages; of the calls for each file some.
        let step = if ["sendmsg", "recvmsg"].contains(&call) { 1 } else { (count / 12).max(1) };
        for n in (1..=count).step_by(step) {
            let what = format!("killed at {call} {n} of {count}");
            let inject = format!("inject={call}:signal=KILL:when={n}");
            let ended = run(&mut extraction(&["strace", "-qq", "-o", "/dev/null", "-e", &inject], "out"));
            assert_eq!(ended.leftovers(), [""; 0], "{what}: still running");
            let names = lab.names_in(scratch.path());
            match ended.code() {
                // How many calls a thread makes differs from run to run.
                0 => assert_eq!(names, ["out"], "{what}"),
                code => {
                    assert_eq!(code, 137, "{what}: {}", ended.stderr);
                    assert!(names.len() <= 1, "{what}: {names:?}");
                    // Before the renaming under its temporary name, after it complete.
                    assert!(
                        names.iter().all(|name| name.starts_with(".out.cstor-") || name == "out"),
                        "{what}: {names:?}"
                    );
                    killed += 1;
                }
            }
            if names != ["out"] {
                must(&mut extraction(&[], "out"));
            }
            fs::remove_dir_all(scratch.path().join("out")).unwrap();
            let left = lab.names_in(scratch.path());
            // Whoever is killed when the directory has its last mode leaves one that is only named (docs/cli.md).
            assert!(left.is_empty() || ["utimensat", "renameat2"].contains(&call), "{what}: {left:?} is left");
            left.iter().for_each(|name| fs::remove_dir_all(scratch.path().join(name)).unwrap());
        }
    }
    assert!(killed > 30, "only {killed} were killed");
    assert!(
        state(&store.join("overlay-layers")) + &state(&store.join("overlay-images")) == before,
        "the store changed"
    );
}

#[test]
fn fifty_clients_at_once() {
    let lab = lab_or_skip!();
    let _turn = turn();
    let store = lab.store(Fs::Xfs, "local");
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    // podman itself, which takes the locks of the store for each of them.
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let out = scratch.path().join(number.to_string());
            start(lab.cstor(Who::User, &store).args(["--helper", "always", "extract", IMAGE]).arg(out))
        })
        .collect();
    let shown = lab.podman_shows(IMAGE);
    for (number, client) in clients.into_iter().enumerate() {
        let ended = client.wait();
        assert_eq!(ended.code(), 0, "client {number}: {}", ended.stderr);
        assert_eq!(ended.leftovers(), [""; 0], "client {number}");
        let found = tree::list(&scratch.path().join(number.to_string())).unwrap();
        assert_same(&shown, &found, Sight::PLAIN, &format!("client {number}"));
    }
    assert_eq!(lab.names_in(scratch.path()).len(), CLIENTS);
}

#[test]
fn a_thousand_runs_leave_nothing() {
    let lab = lab_or_skip!();
    let _turn = turn();
    let store = lab.store(Fs::Xfs, "local");
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let launcher = Launcher::new(lab, "");
    let look = || {
        let processes =
            run(Command::new("pgrep").args(["-u", &lab.uid().to_string(), "-x", "cstor|cstor-helper|unshare"]));
        let files = must(lab.command(Who::User, "sh").args(["-c", "find \"$TMPDIR\" \"$XDG_RUNTIME_DIR\" | sort"]));
        (processes.stdout, files, fs::read_dir("/proc/self/fd").unwrap().count())
    };
    let before = look();
    for number in 0..RUNS {
        let out = scratch.path().join("out");
        let mut command = lab.cstor(Who::User, &store);
        command.args(["--helper", "always", "extract", "localhost/tool"]).arg(&out);
        let ended = run(launcher.before(&mut command));
        assert_eq!(ended.code(), 0, "run {number}: {}", ended.stderr);
        fs::remove_dir_all(&out).unwrap();
    }
    assert_eq!(launcher.starts(), RUNS);
    assert_eq!(lab.names_in(scratch.path()), [""; 0]);
    let after = look();
    assert_eq!((before.0, before.1), (after.0, after.1));
    // The tests of other files, which run beside it, open a file at a time.
    assert!(after.2 <= before.2 + CLIENTS, "{} descriptors, {} before", after.2, before.2);
}
