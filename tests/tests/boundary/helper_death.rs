//! Whatever becomes of the helper, an extraction ends with exit code 7 and without a trace. A tracer between namespace
//! and helper kills it when it is about to send (or to wait for) its Nth message, for every N there is; other helpers
//! never start, end at once, or are no helper at all. It does not test what the helper refuses (that is the helper's
//! own test).

use cstor_tests::lab::{Fs, Lab, Launcher, Who, assert_refused};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{Ended, run};
use cstor_tests::tree::{self, Sight, assert_same};
use std::collections::BTreeSet;
use std::fs;
use tempfile::TempDir;

/// Needs the helper for all but one of its files, in several batches.
const IMAGE: &str = "localhost/private";
/// The system calls in which a message ends or begins.
const CALLS: [&str; 2] = ["sendmsg", "recvmsg"];

fn extract(lab: &Lab, launcher: &Launcher, environment: &[(&str, &str)]) -> (TempDir, Ended) {
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let mut command = lab.cstor(Who::User, &lab.store(Fs::Xfs, "local"));
    command.args(["extract", IMAGE]).arg(scratch.path().join("out")).envs(environment.iter().copied());
    let ended = run(launcher.before(&mut command));
    (scratch, ended)
}

/// How many such calls the helper makes when nothing disturbs it.
fn count(lab: &Lab, call: &str) -> usize {
    let launcher = Launcher::of(
        lab,
        &format!("exec unshare --map-root-user --map-auto strace -f -qq -e trace={call} -o \"${{0%/*}}/trace\" \"$@\""),
    );
    let (_scratch, ended) = extract(lab, &launcher, &[]);
    assert_eq!(ended.code(), 0, "traced and undisturbed: {}", ended.stderr);
    let trace = fs::read_to_string(launcher.path().join("trace")).expect("a trace");
    trace.lines().filter(|line| line.contains(&format!("{call}("))).count()
}

#[test]
fn a_helper_killed_at_any_message_leaves_nothing() {
    let lab = lab_or_skip!();
    let counts = CALLS.map(|call| count(lab, call));
    assert!(counts[0] >= 4, "too few messages for a test of dying between them: {counts:?}");
    for (call, count) in CALLS.into_iter().zip(counts) {
        for n in 1..=count {
            let what = format!("killed at {call} {n} of {count}");
            let wrap = format!("strace -f -qq -o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={n}");
            let launcher = Launcher::new(lab, &wrap);
            let (scratch, ended) = extract(lab, &launcher, &[]);
            // By then every file is there: the last answer is to giving back a directory, and the last two waits are
            // for that question and the farewell.
            let late = if call == "sendmsg" { 1 } else { 2 };
            if n + late > count && ended.code() == 0 {
                assert_eq!(lab.names_in(scratch.path()), ["out"], "{what}");
                assert_eq!(ended.leftovers(), [""; 0], "{what}");
            } else {
                assert_refused(lab, &ended, 7, scratch.path(), &what);
            }
            assert_eq!(launcher.starts(), 1, "{what}: a helper that died is not started again");
        }
    }
}

#[test]
fn a_helper_that_does_not_come_up_is_an_error() {
    let lab = lab_or_skip!();
    let table = [
        ("ends at once", "exit 0"),
        ("fails at once", "echo 'no subuid ranges' >&2; exit 125"),
        ("is killed at once", "kill -KILL $$"),
        ("closes its input and lingers", "exec <&-; exec sleep 20"),
        ("answers nonsense", "echo nonsense >&0; exec sleep 20"),
        ("is not in a namespace", "exec \"$@\""),
    ];
    for (what, commands) in table {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let mut command = lab.cstor(Who::User, &lab.store(Fs::Xfs, "local"));
        command.args(["--launcher", "podman", "extract", IMAGE]).arg(scratch.path().join("out"));
        let ended = run(Launcher::of(lab, commands).before(&mut command));
        assert_refused(lab, &ended, 7, scratch.path(), what);
    }
    let launcher = Launcher::new(lab, "");
    for wrong in ["/nonexistent/cstor-helper", "/dev/null", "/etc/passwd", "/etc"] {
        let (scratch, ended) = extract(lab, &launcher, &[("CSTOR_HELPER", wrong)]);
        assert_refused(lab, &ended, 7, scratch.path(), wrong);
    }
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let mut command = lab.cstor(Who::User, &lab.store(Fs::Xfs, "local"));
    command.env("PATH", "/nonexistent").args(["extract", IMAGE]).arg(scratch.path().join("out"));
    assert_refused(lab, &run(&mut command), 7, scratch.path(), "no podman on PATH");
}

#[test]
fn a_helper_whose_call_fails_once_says_so_or_ends() {
    let lab = lab_or_skip!();
    let shown = lab.podman_shows(IMAGE);
    // What the kernel may answer, and what that may come to: all is well, or one of these codes.
    let table: [(&str, &[&str], &[i32]); 6] = [
        ("EIO", &["openat2", "fstat", "sendmsg", "recvmsg"], &[4, 7]),
        ("EMFILE", &["openat2"], &[7, 11]),
        ("ENOMEM", &["openat2", "sendmsg", "recvmsg", "mmap", "brk"], &[1, 7]),
        ("EACCES", &["openat2"], &[6, 7]),
        ("EINTR", &["openat2", "sendmsg", "recvmsg", "poll", "ppoll"], &[7]),
        ("EAGAIN", &["openat2"], &[7]),
    ];
    let mut failed = 0;
    for (error, calls, codes) in table {
        for call in calls {
            let count = count(lab, call);
            for n in (1..=count).step_by((count / 10).max(1)) {
                let what = format!("{call} {n} of {count} fails with {error}");
                let wrap =
                    format!("strace -f -qq -o /dev/null -e trace={call} -e inject={call}:error={error}:when={n}");
                let (scratch, ended) = extract(lab, &Launcher::new(lab, &wrap), &[]);
                if ended.code() == 0 {
                    let found = tree::list(&scratch.path().join("out")).unwrap();
                    assert_same(&shown, &found, Sight::PLAIN, &what);
                    assert_eq!(ended.leftovers(), [""; 0], "{what}");
                    continue;
                }
                failed += 1;
                assert!(codes.contains(&ended.code()), "{what}: {} {}", ended.code(), ended.stderr);
                assert_refused(lab, &ended, ended.code(), scratch.path(), &what);
            }
        }
    }
    assert!(failed > 20, "only {failed} calls failed");
}

/// What the sandbox is made of; without one of them it is not complete.
const SETUP: [&str; 8] = [
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "seccomp",
    "setgroups",
    "setresgid",
    "setresuid",
    "capset",
];

#[test]
fn any_system_call_of_the_helper_may_be_refused() {
    let lab = lab_or_skip!();
    let launcher =
        Launcher::of(lab, "exec unshare --map-root-user --map-auto strace -f -qq -o \"${0%/*}/trace\" \"$@\"");
    let (_scratch, ended) = extract(lab, &launcher, &[]);
    assert_eq!(ended.code(), 0, "traced and undisturbed: {}", ended.stderr);
    let trace = fs::read_to_string(launcher.path().join("trace")).expect("a trace");
    let name = |line: &str| Some(line.split_once(' ')?.1.trim().split_once('(')?.0.to_owned());
    let calls: BTreeSet<String> = trace.lines().filter_map(name).collect();
    for call in SETUP {
        assert!(calls.contains(call), "{call} is not called: {calls:?}");
    }
    for call in calls.iter().filter(|call| !["execve", "exit_group"].contains(&call.as_str())) {
        let wrap = format!("strace -f -qq -o /dev/null -e trace={call} -e inject={call}:error=EPERM:when=1");
        let what = format!("the first {call} is refused");
        let (scratch, ended) = extract(lab, &Launcher::new(lab, &wrap), &[]);
        match ended.code() {
            // It could do without.
            0 => assert_eq!(ended.leftovers(), [""; 0], "{what}"),
            6 | 7 => assert_refused(lab, &ended, ended.code(), scratch.path(), &what),
            code => panic!("{what}: {code} {}", ended.stderr),
        }
        if SETUP.contains(&call.as_str()) {
            let scratch = lab.scratch(Who::User, Fs::Xfs);
            let mut command = lab.cstor(Who::User, &lab.store(Fs::Xfs, "local"));
            command.args(["--require-sandbox", "extract", IMAGE]).arg(scratch.path().join("out"));
            let ended = run(Launcher::new(lab, &wrap).before(&mut command));
            assert_refused(lab, &ended, 7, scratch.path(), &format!("{what}, but the sandbox is required"));
        }
    }
}
