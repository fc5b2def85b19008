//! How the helper gets into the user namespace: each launcher by itself, what `auto` falls back to, what is said when
//! something is missing, and which executables are refused as the helper. What a helper may open is not tested here.

use cstor_tests::forge::{Store, file};
use cstor_tests::lab::{Fs, Lab, Launcher, Who, assert_refused};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{Ended, must, run};
use cstor_tests::tree::{self, Sight, assert_same};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Needs the helper for all but one of its files, in several batches.
const IMAGE: &str = "localhost/private";
/// How long `auto` waits for podman.
const FALLS_BACK: Duration = Duration::from_secs(5);
/// A namespace in which nobody has a capability.
const POWERLESS: &str =
    "exec unshare --map-root-user --map-auto setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all \"$@\"";

fn extraction(lab: &Lab, launcher: &str, to: &Path) -> Command {
    let mut command = lab.cstor(Who::User, &lab.store(Fs::Xfs, "local"));
    command.args(["-v", "--launcher", launcher, "extract", IMAGE]).arg(to);
    command
}

#[track_caller]
fn assert_extracted(lab: &Lab, ended: &Ended, out: &Path, by: &str, what: &str) {
    assert_eq!(ended.code(), 0, "{what}: {}", ended.stderr);
    assert!(ended.stderr.contains(&format!("the helper is ready: launcher=\"{by}\"")), "{what}: {}", ended.stderr);
    assert!(ended.stderr.contains(" 300 files through the helper"), "{what}: {}", ended.stderr);
    assert_eq!(ended.leftovers(), [""; 0], "{what}");
    assert_same(&lab.podman_shows(IMAGE), &tree::list(out).expect("root may list"), Sight::PLAIN, what);
}

#[track_caller]
fn assert_says(ended: &Ended, needles: &[&str], what: &str) {
    let line = ended.stderr.lines().find(|line| line.starts_with("cstor: error: ")).unwrap_or_default();
    for needle in needles {
        assert!(line.contains(needle), "{what}: no {needle:?} in: {}", ended.stderr);
    }
}

#[test]
fn each_launcher_by_itself() {
    let lab = lab_or_skip!();
    for launcher in ["podman", "buildah", "newuidmap"] {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let out = scratch.path().join("out");
        let ended = run(&mut extraction(lab, launcher, &out));
        assert_extracted(lab, &ended, &out, launcher, launcher);
        assert!(!ended.stderr.contains("warning"), "{launcher}: {}", ended.stderr);
    }
    // Without one: only where the rights are there already.
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let ended = run(&mut extraction(lab, "none", &scratch.path().join("out")));
    assert_refused(lab, &ended, 7, scratch.path(), "none");
    assert_says(&ended, &["has no CAP_DAC_READ_SEARCH", "no launcher"], "none");
    for launcher in ["none", "auto"] {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let out = scratch.path().join("out");
        let mut inside = lab.command(Who::User, "podman");
        inside.arg("unshare").arg(lab.executable("cstor")).arg("--root").arg(lab.store(Fs::Xfs, "local"));
        inside
            .args(["-v", "--helper", "always", "--launcher", launcher, "extract", "--no-same-owner", IMAGE])
            .arg(&out);
        let ended = run(&mut inside);
        assert_eq!(ended.code(), 0, "{launcher} inside: {}", ended.stderr);
        assert!(ended.stderr.contains("launcher=\"no launcher\""), "{launcher} inside: {}", ended.stderr);
    }
}

/// A directory with the programs that map ids and no podman.
fn without_podman() -> TempDir {
    let directory = TempDir::new().expect("a directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("ours");
    for program in ["newuidmap", "newgidmap"] {
        symlink(Path::new("/usr/bin").join(program), directory.path().join(program)).expect("a link");
    }
    directory
}

#[test]
fn auto_takes_newuidmap_where_podman_will_not_do() {
    let lab = lab_or_skip!();
    let none = without_podman();
    let table = [
        ("podman is missing", None, "podman: not found", Duration::ZERO),
        ("podman sleeps", Some("exec sleep 30"), "podman: no answer", FALLS_BACK),
        ("podman waits in a child", Some("sleep 30 & wait"), "podman: no answer", FALLS_BACK),
        ("podman is another program", Some("exec cat"), "podman: no answer", FALLS_BACK),
        ("podman's namespace has no capabilities", Some(POWERLESS), "has no CAP_DAC_READ_SEARCH", Duration::ZERO),
    ];
    for (what, commands, reason, at_least) in table {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let out = scratch.path().join("out");
        let stand_in = commands.map(|commands| Launcher::of(lab, commands));
        let mut command = extraction(lab, "auto", &out);
        match &stand_in {
            Some(stand_in) => stand_in.before(&mut command),
            None => command.env("PATH", none.path()),
        };
        let ended = run(&mut command);
        assert_extracted(lab, &ended, &out, "newuidmap", what);
        let warning = ended.stderr.lines().find(|line| line.contains("warning: trying newuidmap instead"));
        assert!(warning.is_some_and(|line| line.contains(reason)), "{what}: {}", ended.stderr);
        assert!(ended.took >= at_least && ended.took < 3 * FALLS_BACK, "{what}: {:?}", ended.took);
    }
    // The program that was asked for, and no other.
    for (what, commands, needle) in [
        ("missing", None, "podman: not found: install podman"),
        ("fails", Some("echo 'no such thing' >&2; exit 125"), "exit status: 125), saying \"no such thing\""),
        (
            "prints garbage",
            Some("echo nonsense >&0; head -c 1000000 /dev/urandom >&2; exec sleep 30"),
            "cstor-helper: ",
        ),
        ("no capabilities", Some(POWERLESS), "has no CAP_DAC_READ_SEARCH where it was started (podman)"),
    ] {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let stand_in = commands.map(|commands| Launcher::of(lab, commands));
        let mut command = extraction(lab, "podman", &scratch.path().join("out"));
        match &stand_in {
            Some(stand_in) => stand_in.before(&mut command),
            None => command.env("PATH", none.path()),
        };
        let ended = run(&mut command);
        assert_refused(lab, &ended, 7, scratch.path(), what);
        assert_says(&ended, &[needle], what);
    }
    // A helper that died would die again.
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let stand_in = Launcher::of(lab, "exit 125");
    let ended = run(stand_in.before(&mut extraction(lab, "auto", &scratch.path().join("out"))));
    assert_refused(lab, &ended, 7, scratch.path(), "auto, podman fails");
    assert!(stand_in.starts() > 0 && !ended.stderr.contains("newuidmap"), "{}", ended.stderr);
}

/// The real podman, of a store of its own, whose lock another process holds.
#[test]
fn auto_does_not_wait_for_a_lock_of_podmans_store() {
    let lab = lab_or_skip!();
    let home = lab.scratch(Who::User, Fs::Ext4);
    fs::set_permissions(home.path(), Permissions::from_mode(0o700)).unwrap();
    let at_home = |command: &mut Command| {
        for variable in ["HOME", "XDG_RUNTIME_DIR"] {
            command.env(variable, home.path());
        }
    };
    let mut first = lab.command(Who::User, "podman");
    at_home(first.args(["unshare", "true"]));
    must(&mut first);
    let path = home.path().join(".local/share/containers/storage/storage.lock");
    let lock = fs::File::options().read(true).write(true).open(path).expect("podman made it");
    fcntl_lock(&lock, FlockOperation::LockExclusive).expect("nobody else has it");
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let out = scratch.path().join("out");
    let mut command = extraction(lab, "auto", &out);
    at_home(&mut command);
    let ended = run(&mut command);
    drop(lock);
    assert_extracted(lab, &ended, &out, "newuidmap", "a held lock");
    for line in ["waiting for podman unshare; another podman may hold the storage lock", "trying newuidmap instead"] {
        assert!(ended.stderr.contains(line), "no {line:?}: {}", ended.stderr);
    }
    assert!(ended.took >= FALLS_BACK && ended.took < 3 * FALLS_BACK, "{:?}", ended.took);
    // podman leaves a process to find the namespace again.
    let pause = fs::read_to_string(home.path().join("libpod/tmp/pause.pid")).expect("podman made it");
    let pid = pause.trim().parse().ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::KILL).expect("it runs");
}

#[test]
fn newuidmap_says_what_is_missing() {
    let lab = lab_or_skip!();
    let place = without_podman();
    let plain = place.path().join("newuidmap");
    let try_it = || {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let mut command = extraction(lab, "newuidmap", &scratch.path().join("out"));
        let ended = run(command.env("PATH", place.path()));
        assert_refused(lab, &ended, 7, scratch.path(), "newuidmap");
        ended
    };
    fs::remove_file(&plain).unwrap();
    assert_says(&try_it(), &["newuidmap: not found: install uidmap"], "missing");
    must(Command::new("cp").arg("/usr/bin/newuidmap").arg(&plain));
    fs::set_permissions(&plain, Permissions::from_mode(0o755)).unwrap();
    let needle = format!("{}: is neither set-uid root nor has file capabilities", plain.display());
    assert_says(&try_it(), &[&needle, "install uidmap"], "not set-uid");
    fs::write(&plain, "#!/bin/sh\nexec /bin/sleep 30\n").unwrap();
    fs::set_permissions(&plain, Permissions::from_mode(0o4755)).unwrap();
    assert_says(&try_it(), &["newuidmap: could not map the subordinate ids (still running)"], "stuck");
    fs::write(&plain, "#!/bin/sh\necho no such range >&2; /usr/bin/setsid /bin/sleep 20 &\nexit 1\n").unwrap();
    fs::set_permissions(&plain, Permissions::from_mode(0o4755)).unwrap();
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let mut command = extraction(lab, "newuidmap", &scratch.path().join("out"));
    let ended = run(command.env("PATH", place.path()));
    for left in ended.leftovers() {
        let pid = left.split(' ').next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        kill_process(pid.expect("a pid"), Signal::KILL).unwrap();
    }
    assert_eq!(ended.code(), 7, "{}", ended.stderr);
    assert_says(&ended, &["(exit status: 1), saying \"no such range\""], "another process keeps the pipe");
    assert!(ended.took < FALLS_BACK, "{:?}", ended.took);
}

#[test]
fn no_new_privs_needs_a_pause_process() {
    let lab = lab_or_skip!();
    let bound = |launcher: &str, runtime: Option<&Path>, to: &Path| {
        let mut command = lab.command(Who::User, "setpriv");
        command.arg("--no-new-privs").arg(lab.executable("cstor")).arg("--root").arg(lab.store(Fs::Xfs, "local"));
        command.args(["-v", "--launcher", launcher, "extract", IMAGE]).arg(to);
        for variable in ["XDG_RUNTIME_DIR", "HOME"] {
            command.envs(runtime.map(|runtime| (variable, runtime)));
        }
        run(&mut command)
    };
    // podman looks for its pause process below XDG_RUNTIME_DIR, or where its database says.
    let elsewhere = lab.scratch(Who::User, Fs::Ext4);
    fs::set_permissions(elsewhere.path(), Permissions::from_mode(0o700)).unwrap();
    for (launcher, hint) in [
        ("podman", "run `podman unshare true` once outside"),
        ("auto", "run `podman unshare true` once outside"),
        ("newuidmap", "do without no_new_privs"),
    ] {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let ended = bound(launcher, Some(elsewhere.path()), &scratch.path().join("out"));
        assert_refused(lab, &ended, 7, scratch.path(), launcher);
        assert_says(&ended, &["no_new_privs keeps newuidmap from its rights", hint], launcher);
    }
    must(lab.command(Who::User, "podman").args(["unshare", "true"]));
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let out = scratch.path().join("out");
    assert_extracted(lab, &bound("podman", None, &out), &out, "podman", "with a pause process");
}

/// A user of the machine for the time of a test.
struct Passing {
    name: String,
    uid: u32,
    gid: u32,
    home: TempDir,
}

impl Passing {
    fn new(lab: &Lab, kind: &str) -> Passing {
        let home = lab.scratch(Who::Root, Fs::Ext4);
        let name = format!("cstor-l{}-{kind}", std::process::id());
        must(
            Command::new("useradd")
                .args(["--no-create-home", "--shell", "/bin/sh", "--home-dir"])
                .arg(home.path())
                .arg(&name),
        );
        let number = |flag: &str| must(Command::new("id").args([flag, &name])).trim().parse().expect("a number");
        let (uid, gid) = (number("-u"), number("-g"));
        chown(home.path(), Some(uid), Some(gid)).expect("root may chown");
        let passing = Passing { name, uid, gid, home };
        // useradd gives some where login.defs says so.
        for file in ["subuid", "subgid"] {
            let lines = fs::read_to_string(Path::new("/etc").join(file)).expect("readable");
            for line in lines.lines().filter(|line| line.starts_with(&format!("{}:", passing.name))) {
                let mut fields = line.split(':').skip(1).map(|field| field.parse::<u64>().expect("a number"));
                let (first, count) = (fields.next().unwrap(), fields.next().unwrap());
                let range = format!("{first}-{}", first + count - 1);
                must(Command::new("usermod").arg(format!("--del-{file}s")).args([&range, &passing.name]));
            }
        }
        passing
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs([("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"), ("USER", &*self.name)]);
        command.env("HOME", self.home.path()).env("XDG_RUNTIME_DIR", self.home.path());
        command.current_dir("/").uid(self.uid).gid(self.gid);
        command
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // podman leaves a pause process of this user.
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let own = process.metadata().is_ok_and(|found| found.uid() == self.uid);
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| own) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for _ in 0..50 {
            if Command::new("userdel").arg(&self.name).output().is_ok_and(|ended| ended.status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn users_without_subordinate_ids() {
    let lab = lab_or_skip!();
    // Above all that useradd gives out on a machine like this one.
    let first = 1_000_000_000 + std::process::id();
    for (kind, range) in [("none", None), ("one", Some(format!("{first}-{first}")))] {
        let user = Passing::new(lab, kind);
        if let Some(range) = &range {
            let mut add = Command::new("usermod");
            must(add.args(["--add-subuids", range, "--add-subgids", range, &user.name]));
        }
        let members = vec![file("mine", "closed, but mine"), file("foreign", "of another id")];
        let store =
            Store::stack("localhost/img:latest", [members]).write(&user.home.path().join("store"), false).unwrap();
        must(Command::new("chown").args(["-R", &user.name]).arg(&store.root));
        must(Command::new("chgrp").args(["-R", &user.name]).arg(&store.root));
        fs::set_permissions(store.diff(0, "mine"), Permissions::from_mode(0o0)).unwrap();
        let extract = |launcher: &str| {
            let scratch = TempDir::new_in(user.home.path()).unwrap();
            chown(scratch.path(), Some(user.uid), Some(user.gid)).unwrap();
            let mut command = user.command(lab.executable("cstor"));
            // The headers promise files that anybody may read, so that an extraction would not foresee the helper.
            command.arg("--root").arg(&store.root).args(["-v", "--helper", "always", "--launcher", launcher]);
            command.args(["extract", "localhost/img"]);
            let ended = run(command.arg(scratch.path().join("out")));
            (scratch, ended)
        };
        let launchers = ["podman", "newuidmap"];
        for launcher in launchers {
            let (scratch, ended) = extract(launcher);
            let what = format!("{kind}, {launcher}, a closed file of the user: {}", ended.stderr);
            if (launcher, kind) == ("newuidmap", "none") {
                assert_refused(lab, &ended, 7, scratch.path(), &what);
                let needle = format!("/etc/subuid: has no range of ids for {}: add one", user.name);
                assert_says(&ended, &[&needle], &what);
            } else {
                assert_eq!(ended.code(), 0, "{what}");
                let warned = ended.stderr.contains("warning: the user namespace has no subordinate ids");
                assert_eq!(warned, range.is_none(), "{what}");
            }
        }
        chown(store.diff(0, "foreign"), Some(12_345), Some(12_345)).unwrap();
        fs::set_permissions(store.diff(0, "foreign"), Permissions::from_mode(0o600)).unwrap();
        for launcher in launchers.into_iter().filter(|launcher| (*launcher, kind) != ("newuidmap", "none")) {
            let (scratch, ended) = extract(launcher);
            let what = format!("{kind}, {launcher}, a file of an id outside the map");
            assert_refused(lab, &ended, 6, scratch.path(), &what);
            assert_says(&ended, &["\"foreign\"", "not mapped in the user namespace", ": extend the ranges"], &what);
        }
    }
}

#[test]
fn few_descriptors_make_small_batches() {
    let lab = lab_or_skip!();
    let shown = lab.podman_shows(IMAGE);
    for launcher in ["podman", "newuidmap"] {
        for limit in [32, 64, 256] {
            let scratch = lab.scratch(Who::User, Fs::Xfs);
            let out = scratch.path().join("out");
            let mut command = lab.cstor_with_descriptors(limit, Who::User, &lab.store(Fs::Xfs, "local"));
            let ended = run(command.args(["--launcher", launcher, "extract", IMAGE]).arg(&out));
            let what = format!("{launcher}, {limit} descriptors");
            if limit == 32 && ended.code() == 11 {
                assert_refused(lab, &ended, 11, scratch.path(), &what);
                continue;
            }
            assert_eq!(ended.code(), 0, "{what}: {}", ended.stderr);
            assert_same(&shown, &tree::list(&out).unwrap(), Sight::PLAIN, &what);
        }
    }
}

/// Runs an extraction with this file as the helper.
fn with_helper(lab: &Lab, helper: &Path, flags: &[&str]) -> (TempDir, Ended) {
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let mut command = lab.cstor(Who::User, &lab.store(Fs::Xfs, "local"));
    command.args(flags).args(["extract", IMAGE]).arg(scratch.path().join("out")).env("CSTOR_HELPER", helper);
    let ended = run(&mut command);
    (scratch, ended)
}

#[test]
fn a_helper_that_others_can_replace_is_refused() {
    let lab = lab_or_skip!();
    let place = lab.scratch(Who::User, Fs::Ext4);
    let helper = place.path().join("cstor-helper");
    must(Command::new("cp").arg(lab.executable("cstor-helper")).arg(&helper));
    let (uid, gid) = (lab.uid(), fs::metadata(place.path()).unwrap().gid());
    let table = [
        (0o755, 0, 0, None),
        (0o775, 0, 0, None),
        (0o755, uid, gid, None),
        (0o775, uid, gid, None),
        (0o757, 0, 0, Some("is writable by others")),
        (0o777, uid, gid, Some("is writable by others")),
        // The group games is in every Debian, and nobody's own.
        (0o775, uid, 60, Some("is writable by the group 60")),
        (0o775, 0, gid, Some("is writable by the group ")),
        (0o755, 65534, 65534, Some("belongs to the uid 65534, who is neither root nor you")),
        (0o755, 12_345, 0, Some("belongs to the uid 12345")),
    ];
    for (mode, uid, gid, refused) in table {
        chown(&helper, Some(uid), Some(gid)).unwrap();
        fs::set_permissions(&helper, Permissions::from_mode(mode)).unwrap();
        let (scratch, ended) = with_helper(lab, &helper, &[]);
        let what = format!("{mode:o} {uid} {gid}");
        match refused {
            None => assert_eq!(ended.code(), 0, "{what}: {}", ended.stderr),
            Some(needle) => {
                assert_refused(lab, &ended, 7, scratch.path(), &what);
                assert_says(&ended, &[&format!("{}: the helper executable {needle}", helper.display())], &what);
            }
        }
    }
}

#[test]
fn a_path_of_the_helper_cannot_write_to_the_terminal() {
    let lab = lab_or_skip!();
    let (scratch, ended) = with_helper(lab, Path::new("/none/\u{1b}[31m\nhelper"), &[]);
    assert_refused(lab, &ended, 7, scratch.path(), "escape");
    assert_says(&ended, &["/none/\\u{1b}[31m\\nhelper: no helper here"], "escape");
    assert!(!ended.stderr.contains('\u{1b}'), "{:?}", ended.stderr);
}

/// A helper that gives one answer to `Hello`, whatever it is.
fn one_answer(place: &Path, bytes: &str) -> PathBuf {
    let helper = place.join("answers");
    let script = format!(
        "#!/usr/bin/perl\nopen(my $socket, '+<&=', 0); recv($socket, my $hello, 65536, 0);\nsend($socket, \"{bytes}\", 0); sleep 1;\n"
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, Permissions::from_mode(0o755)).unwrap();
    helper
}

#[test]
fn another_version_and_an_open_sandbox_are_refused() {
    let lab = lab_or_skip!();
    let place = lab.scratch(Who::User, Fs::Ext4);
    // docs/protocol.md: Rejected is 01 and two versions; Ready is 00, the version, capabilities held and regainable,
    // no_new_privs, nobody, Landlock, seccomp, mapped uids and gids.
    let ready = |capabilities: &str, sandbox: &str| format!("\\x00\\x01\\x04{capabilities}{sandbox}\\x02\\x02");
    let table: [(&str, String, &[&str], Option<&str>); 8] = [
        ("older", "\\x01\\x00\\x00".to_owned(), &[], Some("answers: speaks protocol 0 to 0, cstor speaks 1")),
        ("newer", "\\x01\\x02\\x02".to_owned(), &[], Some("answers: speaks protocol 2 to 2, cstor speaks 1")),
        (
            "newer, unasked",
            "\\x00\\x02\\x04\\x04\\x01\\x01\\x02\\x01\\x02\\x02".to_owned(),
            &[],
            Some("answers: speaks protocol 2 to 2"),
        ),
        (
            "no seccomp",
            ready("\\x04", "\\x01\\x01\\x02\\x00"),
            &["--require-sandbox"],
            Some("is not confined by seccomp: "),
        ),
        (
            "half Landlock",
            ready("\\x04", "\\x01\\x01\\x01\\x01"),
            &["--require-sandbox"],
            Some("is not confined by Landlock: "),
        ),
        (
            "neither",
            ready("\\x04", "\\x01\\x01\\x00\\x00"),
            &["--require-sandbox"],
            Some("is not confined by Landlock, seccomp: "),
        ),
        (
            "all else",
            ready("\\x05", "\\x00\\x00\\x02\\x01"),
            &["--require-sandbox"],
            Some("no_new_privs, empty capability sets, ids that are nobody's: "),
        ),
        // It is gone before it opens anything: the sandbox was not asked for.
        ("not asked for", ready("\\x04", "\\x01\\x01\\x00\\x00"), &[], Some("ended unexpectedly")),
    ];
    for (what, answer, flags, needle) in table {
        let helper = one_answer(place.path(), &answer);
        let (scratch, ended) = with_helper(lab, &helper, &[flags, &["--launcher", "none"]].concat());
        assert_refused(lab, &ended, 7, scratch.path(), what);
        assert_says(&ended, needle.as_slice(), what);
    }
    // Nothing of this is the launcher's fault, so no other one is tried.
    for launcher in ["none", "auto"] {
        let helper = one_answer(place.path(), "\\x05");
        let (scratch, ended) = with_helper(lab, &helper, &["--launcher", launcher]);
        assert_refused(lab, &ended, 7, scratch.path(), launcher);
        assert_says(&ended, &["cstor-helper: an answer that fits no question"], launcher);
    }
    // The real one is confined.
    let (_scratch, ended) = with_helper(lab, &lab.executable("cstor-helper"), &["--require-sandbox"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}
