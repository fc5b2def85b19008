//! `cstor extract` confines itself before it places anything: when it does so, what it then can and cannot do, and that
//! results and errors are the same as without, but for a file that is refused against the headers. What the filter for
//! system calls answers is tested beside it, in `cstor`; that every image comes out right in the sandbox, in `extract`.

use cstor_tests::lab::{Fs, Lab, Launcher, Who, assert_refused, skip};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{Running, must, run, start};
use cstor_tests::tree::{self, Sight, assert_same};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{available_parallelism, sleep};
use std::time::Duration;
use tempfile::TempDir;

/// Its files belong to many ids, so the plan asks for the helper.
const NEEDS_HELPER: &str = "localhost/private";
/// All its files are the user's own; and it has many.
const MANY_FILES: &str = "localhost/many";

/// A copy of a store that a test may damage.
fn copy_of(lab: &Lab, store: &str) -> (TempDir, PathBuf) {
    // Links of the fixtures are too long for XFS.
    let scratch = lab.scratch(Who::User, Fs::Btrfs);
    let to = scratch.path().join("store");
    must(lab.command(Who::Root, "cp").args(["-a", "--reflink=auto"]).arg(lab.store(Fs::Btrfs, store)).arg(&to));
    (scratch, to)
}

/// The places of a file in the layers that have it.
fn in_layers(store: &Path, file: &str) -> Vec<PathBuf> {
    let layers = fs::read_dir(store.join("overlay")).expect("a store").flatten();
    layers.map(|layer| layer.path().join("diff").join(file)).filter(|path| path.exists()).collect()
}

#[test]
fn a_confined_process_places_files_and_gets_nowhere_else() {
    let lab = lab_or_skip!();
    const EPERM: &str = "1";
    const EACCES: &str = "13";
    const EFAULT: &str = "14";
    const EINVAL: &str = "22";
    // attempt, without the sandbox, in it
    let table = [
        ("read a root", "ok", "ok"),
        ("list a root", "ok", "ok"),
        ("make directories", "ok", "ok"),
        ("make a file", "ok", "ok"),
        ("truncate a file", "ok", "ok"),
        ("link", "ok", "ok"),
        ("rename", "ok", "ok"),
        ("make a link", "ok", "ok"),
        ("make a fifo", "ok", "ok"),
        ("remove", "ok", "ok"),
        ("make a directory beside", "ok", "ok"),
        ("rename beside", "ok", "ok"),
        ("remove beside", "ok", "ok"),
        ("remove a directory", "ok", "ok"),
        ("read in a thread", "ok", "ok"),
        ("read elsewhere", "ok", EACCES),
        ("read elsewhere in a thread", "ok", EACCES),
        ("list elsewhere", "ok", EACCES),
        ("read /proc", "ok", EACCES),
        ("make a file beside", "ok", EACCES),
        ("write a file beside", "ok", EACCES),
        ("read a file beside", "ok", EACCES),
        ("remove a file beside", "ok", EACCES),
        ("write a root", "ok", EACCES),
        ("make a device", "ok", EACCES),
        ("write elsewhere", "ok", EACCES),
        ("execute", "ok", EPERM),
        ("socket", "ok", EPERM),
        ("socketpair", "ok", EPERM),
        ("take a descriptor", "ok", EPERM),
        ("read memory", EFAULT, EPERM),
        ("trace", "ok", EPERM),
        // It is in that namespace already, says the kernel, after it has looked at it.
        ("enter a namespace", EINVAL, EPERM),
        ("chroot", EPERM, EPERM),
        ("make a namespace", "ok", EPERM),
        ("kill", "ok", "ok"),
        ("wait", "ok", "ok"),
    ];
    for how in ["free", "confined"] {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let mut shell = lab.command(Who::User, "sh");
        must(
            shell
                .args(["-c", "mkdir -p reads beside/grows && echo something | tee reads/file >beside/file"])
                .current_dir(scratch.path()),
        );
        let mut probe = lab.command(Who::User, lab.executable("cstor-lab-sandbox"));
        probe.args([how, "reads", "beside/grows", "beside"]).current_dir(scratch.path());
        let said = must(&mut probe);
        let mut said = said.lines();
        if how == "confined" {
            assert_eq!(said.next(), Some("enter beside a thread: there are 2 threads already"));
            match said.next() {
                // Partly: a kernel before 6.10, which lacks nothing of what is tried here from 5.19 on.
                Some("Enforced true" | "Partly true") => {}
                Some("NotEnforced true") => return skip("this kernel has no Landlock, or the first version of it"),
                held => panic!("held: {held:?}"),
            }
        }
        let said: Vec<&str> = said.collect();
        let wanted =
            table.map(|(what, free, confined)| format!("{what}: {}", if how == "free" { free } else { confined }));
        assert_eq!(said, wanted, "{how}");
    }
}

/// The calls of the main thread, in order, of one extraction.
fn calls(lab: &Lab, arguments: &[&str]) -> Vec<String> {
    let (scratch, launcher) = (lab.scratch(Who::User, Fs::Xfs), Launcher::new(lab, ""));
    let trace = launcher.path().join("trace");
    let mut command = lab.command(Who::User, "strace");
    // Not its children: what starts under a tracer gets no rights from newuidmap.
    command.arg("-qq").arg("-o").arg(&trace);
    command
        .arg("-e")
        .arg("trace=clone,clone3,vfork,mkdirat,recvmsg,prctl,landlock_restrict_self,seccomp,openat2,execve");
    command.arg(lab.executable("cstor")).arg("--root").arg(lab.store(Fs::Xfs, "local"));
    command.args(arguments).arg(scratch.path().join("out"));
    let ended = run(launcher.before(&mut command));
    assert_eq!(ended.code(), 0, "{arguments:?}: {}", ended.stderr);
    assert_eq!(ended.leftovers(), [""; 0], "{arguments:?}");
    fs::read_to_string(trace).expect("a trace").lines().map(str::to_owned).collect()
}

#[test]
fn it_is_confined_after_the_helper_is_ready_and_before_anything_is_placed() {
    let lab = lab_or_skip!();
    for (arguments, helper) in [
        (&["extract", NEEDS_HELPER][..], true),
        (&["image", "extract", MANY_FILES], false),
        (&["extract", "--helper", "always", MANY_FILES], true),
    ] {
        let calls = calls(lab, arguments);
        let place = |what: &[&str]| calls.iter().position(|call| what.iter().all(|part| call.contains(part)));
        let at = |what: &[&str]| place(what).unwrap_or_else(|| panic!("{arguments:?}: no {what:?} in {calls:#?}"));
        let restricted = at(&["prctl(PR_SET_NO_NEW_PRIVS, 1", "= 0"]);
        // That there is such a call where the kernel has it, shows in what the probe cannot do.
        let landlock = place(&["landlock_restrict_self("]).unwrap_or(restricted + 1);
        assert!(restricted < landlock && landlock < at(&["seccomp("]), "{calls:#?}");
        assert!(at(&["mkdirat(", "\".out.cstor-"]) < restricted, "{arguments:?}: the sibling is there");
        let filters: Vec<usize> =
            (0..calls.len()).filter(|&call| calls[call].starts_with("seccomp(SECCOMP_SET_MODE_FILTER")).collect();
        assert_eq!(filters.len(), 2, "{calls:#?}");
        let confined = filters[1];
        assert!(restricted < filters[0] && calls[filters[1]].ends_with("= 0"), "{calls:#?}");
        // The launcher: the parent goes on when its child has been replaced by podman.
        let launched = calls.iter().position(|call| call.contains("CLONE_VFORK") || call.starts_with("vfork("));
        assert_eq!(launched.is_some(), helper, "{calls:#?}");
        let ready = place(&["recvmsg("]);
        assert_eq!(ready.is_some(), helper, "{calls:#?}");
        assert!(launched < Some(restricted) && ready < Some(restricted), "{arguments:?}: {calls:#?}");
        assert!(at(&["openat2(", "O_CREAT"]) > confined, "{arguments:?}: a file before the sandbox");
        if available_parallelism().is_ok_and(|cores| cores.get() > 1) {
            assert!(at(&["clone(", "CLONE_THREAD"]) > confined, "{arguments:?}: a thread before the sandbox");
            assert!(at(&["clone3(", "= -1 ENOSYS"]) > confined, "{arguments:?}: the filter cannot read clone3's flags");
        }
    }
    let unconfined = calls(lab, &["extract", "--no-sandbox", NEEDS_HELPER]);
    let confining = |call: &&String| ["PR_SET_NO_NEW_PRIVS", "landlock_", "seccomp("].iter().any(|c| call.contains(c));
    assert_eq!(unconfined.iter().find(confining), None);
}

/// An extraction that is in its sandbox.
fn in_the_sandbox(lab: &Lab, image: &str, scratch: &TempDir, launcher: &Launcher) -> Running {
    let mut command = lab.cstor(Who::User, &lab.store(Fs::Xfs, "local"));
    // Copies, which take time.
    command.args(["extract", "--reflink", "never", image]).arg(scratch.path().join("out"));
    let running = start(launcher.before(&mut command));
    let status = format!("/proc/{}/status", running.pid());
    while !fs::read_to_string(&status).expect("it runs until it is stopped").contains("\nSeccomp_filters:\t2\n") {
        sleep(Duration::from_micros(200));
    }
    running.signal(Signal::STOP);
    running
}

/// While podman runs, `overlay` is mounted on itself, and what cstor has open was opened through that mount.
#[test]
fn podman_may_unmount_the_directory_of_the_layers() {
    let lab = lab_or_skip!();
    let store = lab.store(Fs::Xfs, "local");
    let mounted = r#"mount --bind "$1/overlay" "$1/overlay"; shift; exec "$@""#;
    for helper in ["never", "always"] {
        let (scratch, copies) = (lab.scratch(Who::User, Fs::Ext4), ["extract", "--reflink", "never"]);
        let out = scratch.path().join("out");
        let mut command = lab.command(Who::User, "unshare");
        command
            .args(["--map-root-user", "--map-auto", "--mount", "sh", "-ec", mounted, "sh"])
            .arg(&store)
            .arg(lab.executable("cstor"));
        command.arg("--root").arg(&store).args(["--helper", helper, "--launcher", "none"]).args(copies);
        let running = start(command.arg("localhost/debian").arg(&out));
        let a_file = || must(Command::new("find").arg(scratch.path()).args(["-type", "f", "-print", "-quit"]));
        while a_file().is_empty() {}
        running.signal(Signal::STOP);
        assert_ne!(lab.names_in(scratch.path()), ["out"], "it ended before it was stopped");
        let pid = running.pid().to_string();
        must(lab.command(Who::Root, "nsenter").args(["-m", "-t", &pid, "umount", "--lazy"]).arg(store.join("overlay")));
        running.signal(Signal::CONT);
        let ended = running.wait();
        assert_eq!(ended.code(), 0, "--helper {helper}: {}", ended.stderr);
    }
}

#[test]
fn all_threads_are_confined_and_go_on() {
    let lab = lab_or_skip!();
    let (scratch, launcher) = (lab.scratch(Who::User, Fs::Ext4), Launcher::new(lab, ""));
    let running = in_the_sandbox(lab, "localhost/debian", &scratch, &launcher);
    let mut threads = 0;
    // Its second thread is soon there.
    for _ in 0..200 {
        sleep(Duration::from_millis(1));
        threads = 0;
        for task in fs::read_dir(format!("/proc/{}/task", running.pid())).expect("it is stopped").flatten() {
            let status = fs::read_to_string(task.path().join("status")).expect("it is stopped");
            for line in ["\nNoNewPrivs:\t1\n", "\nSeccomp:\t2\n", "\nSeccomp_filters:\t2\n"] {
                assert!(status.contains(line), "{line:?} in {status}");
            }
            threads += 1;
        }
        if threads > 1 {
            break;
        }
        running.signal(Signal::CONT);
        sleep(Duration::from_micros(300));
        running.signal(Signal::STOP);
    }
    assert!(threads > 1 || available_parallelism().is_ok_and(|cores| cores.get() == 1), "{threads} threads");
    running.signal(Signal::CONT);
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(ended.leftovers(), [""; 0]);
    let listed = tree::list(&scratch.path().join("out")).unwrap();
    assert_same(&lab.podman_shows("localhost/debian"), &listed, Sight::PLAIN, "stopped and continued");
}

#[test]
fn an_interrupted_extraction_cleans_up_from_inside() {
    let lab = lab_or_skip!();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (scratch, launcher) = (lab.scratch(Who::User, Fs::Ext4), Launcher::new(lab, ""));
        let running = in_the_sandbox(lab, "localhost/debian", &scratch, &launcher);
        assert_eq!(lab.names_in(scratch.path()).len(), 1, "the sibling");
        running.signal(signal);
        running.signal(Signal::CONT);
        let ended = running.wait();
        assert_eq!(ended.code(), code, "{}", ended.stderr);
        assert_eq!(lab.names_in(scratch.path()), [""; 0], "{signal:?}: left behind");
        assert_eq!(ended.leftovers(), [""; 0], "{signal:?}: still running");
    }
}

#[test]
fn a_locked_tree_is_replaced_from_inside() {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let mut shell = lab.command(Who::User, "sh");
    let prepare = "mkdir -p out/locked/in/deep && touch out/locked/in/file && chmod 0 out/locked/in out/locked";
    must(shell.args(["-c", prepare]).current_dir(scratch.path()));
    let mut command = lab.cstor(Who::User, &lab.store(Fs::Xfs, "local"));
    must(command.args(["extract", "--replace", "localhost/tool"]).arg(scratch.path().join("out")));
    assert_eq!(lab.names_in(scratch.path()), ["out"], "the old tree is gone");
}

#[test]
fn results_are_the_same_without_the_sandbox() {
    let lab = lab_or_skip!();
    let local = lab.store(Fs::Xfs, "local");
    for image in [NEEDS_HELPER, MANY_FILES, "localhost/odd", "localhost/walk:v2"] {
        let shown = lab.podman_shows(image);
        for flags in [&[][..], &["--no-sandbox"], &["--reflink", "always"], &["--reflink", "never", "--verify"]] {
            let (scratch, launcher) = (lab.scratch(Who::User, Fs::Xfs), Launcher::new(lab, ""));
            let mut command = lab.cstor(Who::User, &local);
            command.args(["extract", image]).arg(scratch.path().join("out")).args(flags);
            let ended = run(launcher.before(&mut command));
            assert_eq!(ended.code(), 0, "{image} {flags:?}: {}", ended.stderr);
            let listed = tree::list(&scratch.path().join("out")).unwrap();
            assert_same(&shown, &listed, Sight::PLAIN, &format!("{image} {flags:?}"));
        }
    }
    // Only extractions plan before they read, and -v says so.
    let mut command = lab.cstor(Who::User, &local);
    let ended = run(command.args(["-v", "image", "export", "-o", "/dev/null", "localhost/tool"]));
    assert!(ended.stderr.contains("cstor: no sandbox for this command\n"), "{}", ended.stderr);
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let mut command = lab.cstor(Who::User, &local);
    let ended = run(command.args(["-v", "extract", "localhost/tool"]).arg(scratch.path().join("out")));
    assert!(
        ended.stderr.contains("cstor: in the sandbox: landlock=") && ended.stderr.contains(", seccomp=true\n"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_file_that_is_refused_against_its_header_needs_the_helper_from_the_start() {
    let lab = lab_or_skip!();
    let (_kept, store) = copy_of(lab, "tour");
    must(lab.command(Who::Root, "chmod").arg("0").args(in_layers(&store, "opt/lower/keep")));
    // image, flags, exit code, starts of the helper. By their headers only tour needs the helper.
    let table: [(&str, &[&str], i32, usize); 6] = [
        ("localhost/plain", &[], 6, 0),
        ("localhost/plain", &["--reflink", "always"], 6, 0),
        ("localhost/plain", &["--helper", "always"], 0, 1),
        ("localhost/plain", &["--no-sandbox"], 0, 1),
        ("localhost/tour:v1", &[], 0, 1),
        ("localhost/tour:v1", &["--reflink", "always"], 0, 1),
    ];
    for (image, flags, code, starts) in table {
        let (scratch, launcher) = (lab.scratch(Who::User, Fs::Btrfs), Launcher::new(lab, ""));
        let mut command = lab.cstor(Who::User, &store);
        command.args(["extract", image]).arg(scratch.path().join("out")).args(flags);
        let ended = run(launcher.before(&mut command));
        let what = format!("{image} {flags:?}: {}", ended.stderr);
        assert_eq!((ended.code(), launcher.starts()), (code, starts), "{what}");
        if code != 0 {
            assert_refused(lab, &ended, code, scratch.path(), &what);
            assert!(ended.stderr.contains("opt/lower/keep") && ended.stderr.contains("--helper always"), "{what}");
        }
    }
}

#[test]
fn a_helper_that_turns_out_not_to_be_needed_need_not_come_up() {
    let lab = lab_or_skip!();
    let (_kept, store) = copy_of(lab, "tour");
    let extract = || {
        let scratch = lab.scratch(Who::User, Fs::Btrfs);
        let mut command = lab.cstor(Who::User, &store);
        command.env("PATH", "/nonexistent").args(["extract", "localhost/tour:v1"]).arg(scratch.path().join("out"));
        (run(&mut command), scratch)
    };
    let (ended, scratch) = extract();
    assert_refused(lab, &ended, 7, scratch.path(), "no podman");
    assert!(ended.stderr.contains("podman: not found"), "{}", ended.stderr);
    // Its header still says 0000.
    must(lab.command(Who::Root, "chmod").args(["-R", "u+rwX"]).arg(store.join("overlay")));
    must(lab.command(Who::Root, "chown").args(["-R", &lab.uid().to_string()]).arg(store.join("overlay")));
    let (ended, _scratch) = extract();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}
