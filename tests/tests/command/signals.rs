//! SIGINT, SIGTERM and SIGHUP at any moment of any command: the right code, in no time, and nothing left.
//!
//! Each command is signalled at 9 moments; `CSTOR_SIGNALS=N` makes it N.

use cstor_tests::forge::{Store, Subject, Trial, dir, file};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const IMAGE: &str = "localhost/signalled:1";
const SIGNALS: [(Signal, i32); 3] = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];
/// How long a command may go on: 0.2 s are for itself, the rest is for what else the machine does.
const AT_ONCE: Duration = Duration::from_secs(2);
/// The same with the removal of an incomplete tree.
const REMOVED: Duration = Duration::from_secs(10);
/// A file system in memory: a busy disk can take a minute for what is removed here.
const MEMORY: &str = "/dev/shm";

/// Many headers to read, and a file that takes time to copy.
fn store() -> Store {
    let many = (0..5_000).map(|number| dir(format!("d{number}")).absent());
    Store::stack(IMAGE, [many.chain([file("large", vec![7; 32 << 20])]).collect::<Vec<_>>()])
}

/// What is beside the destination when nothing is left.
fn beside(trial: &Trial) -> Vec<String> {
    let names = fs::read_dir(trial.dir().join("out")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn started(trial: &Trial, words: &[&str], stdout: Stdio) -> Child {
    // nohup(1) around the tests would have SIGHUP ignored.
    let mut command: Command = trial.command_through(&["/usr/bin/env", "--default-signal=HUP"], words);
    command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends a signal; the code and the message of the end.
fn signalled(child: Child, signal: Signal, within: Duration, what: &str) -> (Option<i32>, String) {
    let sent = Instant::now();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(sent.elapsed() < within, "{what}: went on for {:?}", sent.elapsed());
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}

#[test]
fn a_signal_at_any_moment_leaves_nothing() {
    let trial = Trial::within(Path::new(MEMORY), Subject::Caller, &store());
    let layer = trial.store.layers[0].id.clone();
    let clean = beside(&trial);
    let moments = std::env::var("CSTOR_SIGNALS").map_or(9, |number| number.parse().expect("CSTOR_SIGNALS is a number"));
    let commands: [&[&str]; 11] = [
        &["extract", IMAGE, "out/dest", "--reflink", "never"],
        &["image", "export", IMAGE, "-o", "out/dest"],
        &["image", "copy", IMAGE, "oci:out/dest"],
        &["image", "copy", IMAGE, "oci-archive:out/dest"],
        &["layer", "extract", &layer, "out/dest", "--reflink", "never"],
        &["layer", "export", &layer, "-o", "out/dest"],
        &["layer", "splitfd", &layer, "-o", "out/dest"],
        &["image", "toc", IMAGE, "--digests"],
        &["verify", "--all"],
        &["image", "list", "--sizes"],
        &["info"],
    ];
    for words in commands {
        let began = Instant::now();
        let whole = started(&trial, words, Stdio::null()).wait_with_output().unwrap();
        assert!(whole.status.success(), "{words:?}: {}", String::from_utf8_lossy(&whole.stderr));
        let took = began.elapsed();
        remove(&trial.dest);
        for (number, (signal, code)) in SIGNALS.into_iter().cycle().take(moments).enumerate() {
            // Moments without a pattern that could hide a gap: multiples of the golden ratio.
            let moment = took.mul_f64((number as f64 * 0.618_033_988_749_895 + 0.1).fract());
            let what = format!("{words:?}, {signal:?} after {moment:?} of {took:?}");
            let child = started(&trial, words, Stdio::null());
            sleep(moment);
            let within = if words.contains(&"extract") { REMOVED } else { AT_ONCE };
            let (found, said) = signalled(child, signal, within, &what);
            match found {
                // It came when everything was done.
                Some(0) => remove(&trial.dest),
                // It came before the handlers were there.
                None if moment < Duration::from_millis(20) => {}
                found => assert_eq!(found, Some(code), "{what}: {said}"),
            }
            assert_eq!(beside(&trial), clean, "{what}: {said}");
        }
    }
}

/// Results and lists beside them.
fn remove(path: &Path) {
    fs::remove_dir_all(path).or_else(|_| fs::remove_file(path)).unwrap_or_default();
    fs::remove_file(path.with_extension("files")).unwrap_or_default();
    let mut list = path.as_os_str().to_owned();
    list.push(".files");
    fs::remove_file(list).unwrap_or_default();
}

/// Whatever a command waits for: a lock of the store, a reader, a pipe that is full.
#[test]
fn no_wait_is_longer_than_a_signal() {
    let trial = Trial::within(Path::new(MEMORY), Subject::Caller, &store());
    let layer = trial.store.layers[0].id.clone();
    // Open-file-description locks are what podman's locks respect; see store/lock.rs.
    let lock = File::options().write(true).open(trial.store.root.join("overlay-layers/layers.lock")).unwrap();
    for (signal, code) in SIGNALS {
        let held = nix::libc::flock { l_type: nix::libc::F_WRLCK as _, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
        nix::fcntl::fcntl(&lock, nix::fcntl::FcntlArg::F_OFD_SETLK(&held)).unwrap();
        let child = started(&trial, &["extract", IMAGE, "out/dest"], Stdio::null());
        sleep(Duration::from_millis(300));
        assert_eq!(signalled(child, signal, AT_ONCE, "a lock").0, Some(code));
        let free = nix::libc::flock { l_type: nix::libc::F_UNLCK as _, ..held };
        nix::fcntl::fcntl(&lock, nix::fcntl::FcntlArg::F_OFD_SETLK(&free)).unwrap();
        for words in [&["image", "export", IMAGE][..], &["layer", "export", &layer], &["image", "toc", IMAGE]] {
            // Nobody reads.
            let child = started(&trial, words, Stdio::piped());
            sleep(Duration::from_millis(500));
            let sent = Instant::now();
            kill_process(Pid::from_child(&child), signal).unwrap();
            let mut child = child;
            let status = child.wait().unwrap();
            assert!(sent.elapsed() < AT_ONCE, "{words:?}: {:?}", sent.elapsed());
            assert_eq!(status.code(), Some(code), "{words:?}");
        }
    }
}

/// A layout into which another process writes is waited for, but not for ever.
#[test]
fn a_locked_layout_is_not_waited_for_after_a_signal() {
    let trial = Trial::new(Subject::Caller, &Store::stack(IMAGE, [vec![file("f", "x")]]));
    let copy = ["image", "copy", IMAGE, "oci:out/dest"];
    assert!(started(&trial, &copy, Stdio::null()).wait_with_output().unwrap().status.success());
    let layout = File::open(&trial.dest).unwrap();
    rustix::fs::flock(layout.as_fd(), FlockOperation::LockExclusive).unwrap();
    let child = started(&trial, &copy, Stdio::null());
    sleep(Duration::from_millis(300));
    let (code, said) = signalled(child, Signal::TERM, AT_ONCE, "a layout");
    assert_eq!(code, Some(143), "{said}");
    assert_eq!(said.lines().count(), 1, "one line: {said}");
}
