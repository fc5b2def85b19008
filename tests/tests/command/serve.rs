//! The socket of `cstor serve`: who finds it, when it is replaced and removed, how it is inherited, and how the server
//! ends. What is said over it is in `jsonrpc` and `jsonrpc_peers`.

use cstor_client::jsonrpc::Client;
use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run, start};
use cstor_tests::serving::Serving;
use rustix::fd::OwnedFd;
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const ROOT: Who = Who::Root;
const PATIENCE: Duration = Duration::from_secs(30);

fn store(lab: &Lab) -> PathBuf {
    lab.store(Fs::Btrfs, "root-tour")
}

#[track_caller]
fn assert_serves(socket: UnixStream, what: &str) {
    let mut client = Client::over(socket);
    assert!(client.images().is_ok_and(|images| !images.is_empty()), "{what}");
    client.shutdown().unwrap();
}

#[test]
fn the_socket_is_its_owners_and_is_removed() {
    let lab = lab_or_skip!();
    let serving = Serving::start(lab, ROOT, &store(lab), 1024, &[]);
    let found = fs::symlink_metadata(serving.socket()).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.mode() & 0o777, 0o600);
    assert_eq!(lab.names_in(serving.socket().parent().unwrap()), ["socket"], "a temporary name stayed");
    // Nobody takes the place of a server that is there.
    let second = run(lab.cstor(ROOT, &store(lab)).args(["serve", "--socket"]).arg(serving.socket()));
    assert_eq!(second.code(), 10, "{}", second.stderr);
    assert!(second.stderr.contains("in use"), "{}", second.stderr);
    assert_serves(UnixStream::connect(serving.socket()).unwrap(), "after another one tried");
    assert_eq!(lab.names_in(serving.socket().parent().unwrap()), ["socket"]);
    serving.end();
}

#[test]
fn what_nobody_listens_at_is_replaced_and_nothing_else() {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(ROOT, Fs::Ext4);
    let socket = scratch.path().join("socket");
    type Make = fn(&Path);
    let table: [(&str, Make, bool); 4] = [
        ("a stale socket", |path| drop(UnixListener::bind(path).unwrap()), true),
        ("a file", |path| fs::write(path, "kept").unwrap(), false),
        ("a directory", |path| fs::create_dir(path).unwrap(), false),
        ("a link", |path| symlink("/nowhere", path).unwrap(), false),
    ];
    for (what, make, works) in table {
        make(&socket);
        let before = fs::symlink_metadata(&socket).unwrap().ino();
        let mut running = start(lab.cstor(ROOT, &store(lab)).args(["serve", "--socket"]).arg(&socket));
        let began = Instant::now();
        while works && fs::symlink_metadata(&socket).unwrap().ino() == before {
            assert!(!running.ended() && began.elapsed() < PATIENCE, "{what}: {}", running.wait().stderr);
            sleep(Duration::from_millis(5));
        }
        if works {
            assert_serves(UnixStream::connect(&socket).unwrap(), what);
            running.signal(Signal::INT);
        }
        let ended = running.wait();
        assert_eq!(ended.code(), if works { 0 } else { 10 }, "{what}: {}", ended.stderr);
        let left = if works { &[][..] } else { &["socket"] };
        assert_eq!(lab.names_in(scratch.path()), left, "{what}");
        if !works {
            assert_eq!(fs::symlink_metadata(&socket).unwrap().ino(), before, "{what}");
            fs::remove_dir(&socket).or_else(|_| fs::remove_file(&socket)).unwrap();
        }
    }
}

#[test]
fn somebody_elses_file_is_not_removed() {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(ROOT, Fs::Ext4);
    let socket = scratch.path().join("socket");
    let running = start(lab.cstor(ROOT, &store(lab)).args(["serve", "--socket"]).arg(&socket));
    let began = Instant::now();
    while !socket.exists() {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(5));
    }
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "another").unwrap();
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), 0);
    assert_eq!(fs::read(&socket).unwrap(), b"another");
}

#[test]
fn another_user_is_refused() {
    let lab = lab_or_skip!();
    let serving = Serving::start(lab, Who::User, &lab.store(Fs::Xfs, "local"), 1024, &[]);
    // The mode of the socket does not keep root out. It sends nothing: what the server left unread would take its answer
    // along (unix(7)), and the client could not tell a refusal from a server that breaks.
    let mut socket = UnixStream::connect(serving.socket()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("this server is for another user") && answer.contains("-32600"), "{answer:?}");
    // It still serves its own.
    let mut command = lab.command(Who::User, lab.executable("cstor-lab-rpc"));
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    command.args(["extract".as_ref(), serving.socket().as_os_str(), "localhost/tool".as_ref()]);
    must(command.arg(scratch.path().join("out")));
    serving.end();
}

#[test]
fn one_client_and_the_end() {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(ROOT, Fs::Ext4);
    let socket = scratch.path().join("socket");
    let mut running = start(lab.cstor(ROOT, &store(lab)).args(["serve", "--once", "--socket"]).arg(&socket));
    let began = Instant::now();
    while !socket.exists() {
        assert!(!running.ended() && began.elapsed() < PATIENCE, "{}", running.wait().stderr);
        sleep(Duration::from_millis(5));
    }
    // To ask whether anybody listens is not to be a client.
    let other = run(lab.cstor(ROOT, &store(lab)).args(["serve", "--socket"]).arg(&socket));
    assert_eq!(other.code(), 10, "{}", other.stderr);
    assert!(!running.ended(), "{}", running.wait().stderr);
    assert_serves(UnixStream::connect(&socket).unwrap(), "once");
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(!socket.exists());
}

#[test]
fn a_signal_ends_a_layer_on_its_way() {
    let lab = lab_or_skip!();
    let who = Who::User;
    let store = lab.store(Fs::Xfs, "local");
    let scratch = lab.scratch(who, Fs::Xfs);
    for reads in [true, false] {
        let serving = Serving::start(lab, who, &store, 1024, &[]);
        let socket = serving.socket();
        let client = if reads {
            let mut command = lab.command(who, lab.executable("cstor-lab-rpc"));
            start(
                command
                    .args(["extract".as_ref(), socket.as_os_str(), "localhost/crowd".as_ref()])
                    .arg(scratch.path().join("out")),
            )
        } else {
            // Asks for all, and takes nothing.
            let layers = must(lab.cstor(who, &store).args(["image", "layers", "localhost/crowd", "--format", "json"]));
            let layers: serde_json::Value = serde_json::from_str(&layers).unwrap();
            let id = layers["layers"][0]["id"].as_str().unwrap();
            let request =
                format!(r#"{{"jsonrpc":"2.0","method":"GetLayerTarSplit","params":{{"layer":"{id}"}},"id":1}}"#);
            let script = "import socket,sys,time; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                          s.sendall(sys.argv[2].encode()); s.recv(1); s.recv(10000); time.sleep(60)";
            let mut command = lab.command(who, "/usr/bin/python3");
            start(command.args(["-c", script]).arg(&socket).arg(request))
        };
        sleep(Duration::from_secs(1));
        let began = Instant::now();
        serving.end();
        assert!(began.elapsed() < Duration::from_secs(5), "reads: {reads}: {:?}", began.elapsed());
        if !reads {
            client.signal(Signal::KILL);
        }
        let ended = client.wait();
        if reads {
            assert_eq!(ended.code(), 1, "{}", ended.stderr);
            assert_eq!(lab.names_in(scratch.path()), [""; 0]);
        }
    }
}

/// `cstor serve` with a socket as standard input, through a shell that may move it.
fn inherit(lab: &Lab, socket: impl Into<OwnedFd>, script: &str) -> Child {
    let mut command = lab.command(ROOT, "sh");
    command.args(["-c", script, "sh"]).arg(lab.executable("cstor")).arg("--root").arg(store(lab)).arg("serve");
    command.stdin(Stdio::from(socket.into())).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn sockets_are_inherited() {
    let lab = lab_or_skip!();
    for script in ["exec \"$@\" --fd 0", "exec \"$@\" --fd 7 7<&0 </dev/null"] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = inherit(lab, theirs, script);
        assert_serves(ours, script);
        assert_eq!(ended(child).0, Some(0), "{script}");
    }
    let scratch = lab.scratch(ROOT, Fs::Ext4);
    let scripts = ["exec \"$@\" --once --fd 0", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\" --once 3<&0 </dev/null"];
    for (number, script) in scripts.into_iter().enumerate() {
        let path = scratch.path().join(number.to_string());
        let child = inherit(lab, UnixListener::bind(&path).unwrap(), script);
        assert_serves(UnixStream::connect(&path).unwrap(), script);
        assert_eq!(ended(child).0, Some(0), "{script}");
        // Whoever made it removes it.
        assert!(path.exists());
    }
}

#[test]
fn a_socket_of_systemd_is_served_at() {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(ROOT, Fs::Ext4);
    let path = scratch.path().join("socket");
    let mut command = lab.command(ROOT, "systemd-socket-activate");
    command.arg("-l").arg(&path).arg(lab.executable("cstor")).arg("--root").arg(store(lab)).args(["serve", "--once"]);
    let running = start(&mut command);
    let began = Instant::now();
    while UnixStream::connect(&path).is_err() {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(10));
    }
    // The first connection started it and is the one it serves; it was closed.
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}

#[test]
fn what_is_no_socket_is_an_error() {
    let lab = lab_or_skip!();
    let file = || File::open("/dev/null").unwrap();
    let table: [(&str, OwnedFd, i32, &str); 8] = [
        // Numbers that descriptors of its own would have.
        ("exec \"$@\" --fd 3", file().into(), 10, "--fd 3: cannot be served at"),
        ("LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", file().into(), 10, "LISTEN_FDS: cannot be served at"),
        ("exec \"$@\" --fd 0", file().into(), 10, "--fd 0: cannot be served at"),
        ("exec \"$@\" --fd 99", file().into(), 10, "--fd 99: cannot be served at"),
        ("exec \"$@\"", file().into(), 2, "--socket"),
        ("LISTEN_FDS=1 LISTEN_PID=1 exec \"$@\"", file().into(), 2, "--socket"),
        ("LISTEN_FDS=2 LISTEN_PID=$$ exec \"$@\" 3<&0", file().into(), 2, "one socket"),
        ("exec \"$@\" --fd 0 --socket x", file().into(), 2, "cannot be used with"),
    ];
    for (script, socket, code, says) in table {
        let (found, stderr) = ended(inherit(lab, socket, script));
        assert_eq!(found, Some(code), "{script}: {stderr}");
        assert!(stderr.contains(says), "{script}: {stderr}");
        assert_eq!(stderr.lines().filter(|line| line.starts_with("cstor: error: ")).count(), 1, "{stderr}");
    }
    let long = format!("/tmp/{}", "x".repeat(120));
    let ended = run(lab.cstor(ROOT, &store(lab)).args(["serve", "--socket", &long]));
    assert_eq!(ended.code(), 10, "{}", ended.stderr);
    let nowhere = run(lab.cstor(ROOT, Path::new("/nowhere")).args(["serve", "--socket", "/tmp/never"]));
    assert_eq!(nowhere.code(), 3, "{}", nowhere.stderr);
}
