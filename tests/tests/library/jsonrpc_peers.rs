//! Peers that break the protocol, or say nothing: each is told what is wrong or waited for no longer than was agreed,
//! and the server goes on with others, in the same memory. So does a client whose server does the same.

use cstor_client::Storage;
use cstor_client::error::ErrorKind;
use cstor_client::extract::Extractor;
use cstor_client::interrupt::Interrupt;
use cstor_client::jsonrpc::{Client, Patience, ProxyV2Client, RpcError, Server, WireError};
use cstor_tests::alone::own_process;
use cstor_tests::forge::{Store, file};
use cstor_tests::lab::{Fs, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::serving::Serving;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{JoinHandle, scope, sleep, spawn};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long the servers of these tests wait.
const SHORT: Duration = Duration::from_millis(400);
/// Nothing may take longer than this, on a machine that has other things to do.
const LONG: Duration = Duration::from_secs(20);
/// Enough that their headers do not fit into the buffer of a socket.
const FILES: usize = 3000;

fn short() -> Patience {
    Patience::default().idle(2 * SHORT).message(SHORT).write(SHORT).answer(SHORT)
}

/// A server in this process.
struct Local {
    place: TempDir,
    interrupt: Interrupt,
    serving: Option<JoinHandle<Result<(), WireError>>>,
}

impl Local {
    fn start() -> Local {
        let place = tempfile::tempdir().unwrap();
        let files = (0..FILES).map(|number| file(format!("file-{number}"), vec![b'x'; 10 + number % 7]));
        let store = Store::stack("localhost/app:latest", [files.collect::<Vec<_>>()]);
        let forged = store.write(&place.path().join("store"), false).unwrap();
        let listener = UnixListener::bind(place.path().join("socket")).unwrap();
        let interrupt = Interrupt::new();
        let server = Server::new(&Storage::open(&forged.root).unwrap());
        let server = server.patience(short()).interrupt(interrupt.clone());
        let serving = Some(spawn(move || server.serve(listener)));
        Local { place, interrupt, serving }
    }

    fn connect(&self) -> UnixStream {
        let socket = UnixStream::connect(self.place.path().join("socket")).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket.set_write_timeout(Some(LONG)).unwrap();
        socket
    }

    /// Whether it still serves others.
    #[track_caller]
    fn assert_alive(&self, what: &str) {
        let mut client = Client::over(self.connect());
        assert_eq!(client.images().unwrap_or_else(|error| panic!("{what}: {error}")).len(), 1, "{what}");
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.interrupt.raise();
        let ended = self.serving.take().unwrap().join();
        assert!(std::thread::panicking() || ended.unwrap().is_ok());
    }
}

/// Gives false where the other end has gone.
fn send_with(socket: &UnixStream, bytes: &[u8], files: &[BorrowedFd<'_>]) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(files.is_empty() || control.push(SendAncillaryMessage::ScmRights(files)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) == Ok(bytes.len())
}

/// Everything until the server closes; a reset says no more than an end.
fn rest(mut socket: &UnixStream) -> String {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// What a peer does.
type Deed<'a> = Box<dyn Fn(&UnixStream) + 'a>;

/// Sends these bytes.
fn send<'a>(bytes: &'a [u8]) -> Deed<'a> {
    Box::new(move |mut socket| socket.write_all(bytes).unwrap())
}

#[test]
fn bad_peers_are_told_and_the_server_goes_on() {
    let server = Local::start();
    let stdin = std::io::stdin();
    let request = br#"{"jsonrpc":"2.0","method":"ListImages","id":1}"#;
    let tower = format!("{{\"a\":{}", "[".repeat(100));
    // What it does, what it is told, whether the connection ends.
    let table: Vec<(&str, Deed<'_>, &str, bool)> = vec![
        ("no JSON", send(b"{nonsense}"), "-32700", true),
        ("no object", send(b"GET / HTTP/1.1\r\n"), "-32700", true),
        ("a list", send(b"[1]"), "-32700", true),
        ("a tower", send(tower.as_bytes()), "-32700", true),
        ("an id of another type", send(br#"{"jsonrpc":"2.0","method":"ListImages","id":{}}"#), "-32600", true),
        ("no version", send(br#"{"method":"ListImages","id":1}"#), "-32600", false),
        ("a notification without a version", send(br#"{"method":"ListImages"}"#), "-32600", false),
        ("an end without a version", send(br#"{"method":"shutdown","id":1}"#), "-32600", false),
        (
            "an id that no number holds",
            send(br#"{"jsonrpc":"2.0","method":"ListImages","id":18446744073709551616}"#),
            "-32600",
            true,
        ),
        ("an answer", send(br#"{"jsonrpc":"2.0","result":1,"id":1}"#), "-32600", false),
        ("no such method", send(br#"{"jsonrpc":"2.0","method":"Nothing","id":1}"#), "-32601", false),
        ("no parameters", send(br#"{"jsonrpc":"2.0","method":"GetImage","id":1}"#), "-32602", false),
        (
            "parameters of another type",
            send(br#"{"jsonrpc":"2.0","method":"CloseImage","params":{"image_id":"x"},"id":1}"#),
            "-32602",
            false,
        ),
        (
            "version 3",
            send(br#"{"jsonrpc":"2.0","method":"Initialize","params":{"version":3},"id":1}"#),
            "-32602",
            false,
        ),
        ("no such handle", send(br#"{"jsonrpc":"2.0","method":"GetManifest","params":[7],"id":1}"#), "-32001", false),
        (
            "no such image",
            send(br#"{"jsonrpc":"2.0","method":"OpenImage","params":["localhost/none"],"id":1}"#),
            "-32001",
            false,
        ),
        ("a descriptor", Box::new(|socket| assert!(send_with(socket, request, &[stdin.as_fd()]))), "-32050", true),
        (
            "a descriptor that is missing",
            send(br#"{"jsonrpc":"2.0","method":"ListImages","id":1,"fds":1}"#),
            "-32050",
            true,
        ),
        ("half a message", send(br#"{"jsonrpc":"2.0","met"#), "-32000", true),
        ("nothing", Box::new(|_| {}), "-32000", true),
        (
            "one byte at a time",
            Box::new(|mut socket| {
                // For longer than a message may take, and never as long as the server would wait for one byte.
                for byte in request.iter().cycle().take(12) {
                    let _ = socket.write_all(&[if *byte == b'}' { b' ' } else { *byte }]);
                    sleep(SHORT / 6);
                }
            }),
            "-32000",
            true,
        ),
    ];
    for (what, deed, told, ends) in table {
        let began = Instant::now();
        let socket = server.connect();
        deed(&socket);
        if !ends {
            // A server that waits for more would not answer this.
            assert!(send_with(&socket, br#"{"jsonrpc":"2.0","method":"shutdown","id":"end"}"#, &[]));
        }
        let answers = rest(&socket);
        assert!(answers.contains(&format!("\"code\":{told}")), "{what}: {answers}");
        assert_eq!(answers.contains(r#""id":"end""#), !ends, "{what}: {answers}");
        assert!(began.elapsed() < LONG, "{what}");
        server.assert_alive(what);
    }
}

#[test]
fn whoever_leaves_or_never_reads_holds_nobody_up() {
    if !own_process() {
        return; // its descriptors are counted
    }
    let server = Local::start();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let layer = Client::over(server.connect()).open_image("localhost/app").unwrap().layers[0].id.clone();
    let before = descriptors();
    let request = format!(r#"{{"jsonrpc":"2.0","method":"GetLayerTarSplit","params":{{"layer":"{layer}"}},"id":1}}"#);
    let stays: Vec<_> = (0..5)
        .map(|_| {
            let mut socket = server.connect();
            socket.write_all(request.as_bytes()).unwrap();
            socket
        })
        .collect();
    // Others leave with a request unanswered, within a message, or after a part of an answer.
    for end in [0, 10, request.len()] {
        let mut socket = server.connect();
        socket.write_all(&request.as_bytes()[..end]).unwrap();
        if end == request.len() {
            socket.read_exact(&mut [0; 100]).unwrap();
        }
    }
    server.assert_alive("beside those who do not read");
    sleep(3 * SHORT);
    // The server has given them up: what it had sent is there, and then the end.
    for socket in stays {
        let answers = rest(&socket);
        assert!(answers.contains("layer.start") && !answers.contains("layer.end"), "{}", answers.len());
    }
    let began = Instant::now();
    while descriptors() > before {
        assert!(began.elapsed() < LONG, "{} descriptors, {before} before", descriptors());
        sleep(SHORT / 10);
    }
    server.assert_alive("after all of them");
}

/// Of a process, in KiB.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn memory_and_descriptors_stay_what_they_are() {
    let lab = lab_or_skip!();
    let serving = Serving::start(lab, Who::Root, &lab.store(Fs::Xfs, "root-local"), 1024, &[]);
    let alive = |what: &str| {
        let images = Client::connect(serving.socket()).unwrap().images();
        assert!(images.is_ok_and(|images| !images.is_empty()), "{what}");
    };
    alive("at the beginning");
    let before = memory(serving.pid());
    let mut socket = UnixStream::connect(serving.socket()).unwrap();
    socket.write_all(br#"{"jsonrpc":"2.0","method":"GetImage","params":{"imageId":""#).unwrap();
    let piece = vec![b'a'; 1 << 20];
    // It says no long before the end.
    let sent = (0..100).take_while(|_| socket.write_all(&piece).is_ok()).count();
    assert!(sent < 10, "{sent} MB were taken");
    assert!(rest(&socket).contains("-32600"));
    alive("after a message of 100 MB");

    let sockets: Vec<_> = (0..200).map(|_| UnixStream::connect(serving.socket())).collect();
    let refused = sockets.iter().flatten().filter(|socket| {
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        rest(socket).contains("too many connections")
    });
    let refused = refused.count();
    assert!((100..200).contains(&refused), "{refused} were refused");
    drop(sockets);
    let open = || fs::read_dir(format!("/proc/{}/fd", serving.pid())).unwrap().count();
    let began = Instant::now();
    while open() > 20 {
        assert!(began.elapsed() < LONG, "{} descriptors", open());
        sleep(Duration::from_millis(20));
    }
    alive("after 200 connections");
    let after = memory(serving.pid());
    assert!(after < before + 20_000, "{before} kB before, {after} kB after");
    serving.end();
}

/// What a server sends, and whether a descriptor goes with it.
type Script = &'static [(&'static str, bool)];
/// Whether an error is the one that is due.
type Due = fn(&RpcError) -> bool;

#[test]
fn bad_servers_are_errors_of_the_client() {
    const START: (&str, bool) =
        (r#"{"jsonrpc":"2.0","method":"layer.start","params":{"uncompressed_size":1024}}"#, false);
    const END: (&str, bool) = (r#"{"jsonrpc":"2.0","method":"layer.end","params":{"files_sent":0}}"#, false);
    const DONE: (&str, bool) = (r#"{"jsonrpc":"2.0","result":{"success":true},"id":1}"#, false);
    const SHORT_SEGMENT: (&str, bool) =
        (r#"{"jsonrpc":"2.0","method":"layer.segment","params":{"data":"AAAA"}}"#, false);
    const FILE: &str = r#"{"jsonrpc":"2.0","method":"layer.file","params":{"name":"a","size":1024},"fds":1}"#;
    const FILE_WITHOUT: &str = r#"{"jsonrpc":"2.0","method":"layer.file","params":{"name":"a","size":1024}}"#;
    const NO_RESULT: (&str, bool) = (r#"{"jsonrpc":"2.0","id":1}"#, false);
    const OTHER: (&str, bool) = (r#"{"jsonrpc":"2.0","result":{"success":true},"id":2}"#, false);
    const ERROR: (&str, bool) =
        (r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"no","data":{"kind":"changed"}},"id":1}"#, false);
    let table: [(&str, Script, Due); 15] = [
        ("closes at once", &[], |e| matches!(e, RpcError::Wire(WireError::CutShort))),
        ("closes after the start", &[START], |e| matches!(e, RpcError::Wire(WireError::CutShort))),
        ("closes before the answer", &[START, SHORT_SEGMENT], |e| matches!(e, RpcError::Wire(WireError::CutShort))),
        ("sends too little", &[START, SHORT_SEGMENT, END, DONE], |e| matches!(e, RpcError::Size { found: 3, .. })),
        ("answers without an end", &[START, DONE], |e| matches!(e, RpcError::Unexpected { .. })),
        ("ends without a start", &[END, DONE], |e| matches!(e, RpcError::Unexpected { .. })),
        ("announces other files", &[START, (FILE, true), END, DONE], |e| matches!(e, RpcError::Stream(_))),
        ("a file that is missing", &[START, (FILE, false), END], |e| {
            matches!(e, RpcError::Wire(WireError::Missing { wanted: 1, found: 0 }))
        }),
        ("a file that is not announced", &[START, (FILE_WITHOUT, true)], |e| {
            matches!(e, RpcError::Wire(WireError::Surplus { found: 1 }))
        }),
        ("a file without contents", &[START, (FILE_WITHOUT, false)], |e| matches!(e, RpcError::Descriptors { .. })),
        ("neither result nor error", &[NO_RESULT], |e| matches!(e, RpcError::Unexpected { .. })),
        ("answers something else", &[OTHER], |e| matches!(e, RpcError::Unexpected { .. })),
        ("an error on the way", &[START, ERROR], |e| e.kind() == ErrorKind::Changed),
        ("no JSON", &[("nonsense", false)], |e| matches!(e, RpcError::Wire(WireError::NoObject { .. }))),
        ("half a message", &[START, ("{", false), ("", true)], |e| {
            matches!(e, RpcError::Wire(WireError::Slow { .. } | WireError::CutShort))
        }),
    ];
    let contents = tempfile::tempfile().unwrap();
    for (what, script, expected) in table {
        let (ours, theirs) = UnixStream::pair().unwrap();
        scope(|scope| {
            scope.spawn(|| {
                let mut theirs = theirs;
                assert!(theirs.read(&mut [0; 4096]).unwrap() > 0);
                for (text, with) in script {
                    let files = [contents.as_fd()];
                    // The client may have seen enough.
                    if text.is_empty() {
                        sleep(2 * SHORT);
                    } else if !send_with(&theirs, text.as_bytes(), if *with { &files } else { &[] }) {
                        break;
                    }
                }
            });
            let mut client = Client::over(ours).patience(short());
            let error = client.layer("layer").unwrap().rebuild(std::io::sink()).unwrap_err();
            assert!(expected(&error), "{what}: {error:?}");
            // An error of the server leaves the connection in step, anything else does not.
            let next = client.images().unwrap_err();
            assert_eq!(matches!(next, RpcError::OutOfStep), !what.contains("on the way"), "{what}: {next:?}");
        });
    }
}

/// A server with these answers, in order; the extraction from it must fail and leave nothing.
#[test]
fn a_layer_that_is_another_one_the_second_time_is_no_layer() {
    let header = |name: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(600);
        header.set_mode(0o644);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let contents = tempfile::tempfile().unwrap();
    contents.set_len(600).unwrap();
    for (second, works) in [("f", true), ("g", false)] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        let result = scope(|scope| {
            scope.spawn(|| {
                use base64::Engine;
                let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
                for (id, name) in ["f", second].into_iter().enumerate() {
                    let mut request = [0; 4096];
                    let length = theirs.read(&mut request).unwrap();
                    let asked = String::from_utf8_lossy(&request[..length]).into_owned();
                    let with_contents = !asked.contains(r#""contents":false"#);
                    let say =
                        |text: String, files: &[BorrowedFd<'_>]| assert!(send_with(&theirs, text.as_bytes(), files));
                    let segment = |bytes: &[u8]| {
                        format!(r#"{{"method":"layer.segment","params":{{"data":"{}"}}}}"#, encode(bytes))
                    };
                    say(r#"{"method":"layer.start","params":{}}"#.to_owned(), &[]);
                    say(segment(&header(name)), &[]);
                    let fds = if with_contents { r#","fds":1"# } else { "" };
                    let file = format!(r#"{{"method":"layer.file","params":{{"name":"{name}","size":600}}{fds}}}"#);
                    let files = [contents.as_fd()];
                    say(file, if with_contents { &files } else { &[] });
                    say(segment(&[0; 424 + 1024]), &[]);
                    say(r#"{"method":"layer.end","params":{}}"#.to_owned(), &[]);
                    say(format!(r#"{{"result":{{"success":true}},"id":{}}}"#, id + 1), &[]);
                }
            });
            let image = serde_json::json!({"image_id": 1, "layers": [{"id": "l", "diff_id": null, "size": null}]});
            let image = serde_json::from_value(image).unwrap();
            Client::over(ours).patience(short()).extract(&image, &out, &Extractor::new())
        });
        match result {
            Ok(report) if works => assert_eq!(report.files, 1),
            Err(RpcError::Changed) if !works => assert!(!out.exists()),
            other => panic!("{second}: {other:?}"),
        }
    }
}

#[test]
fn the_published_shapes_of_initialize_are_understood() {
    let table = [
        (r#"{"version":"2.0.0","capabilities":["tar-split-stream"]}"#, Ok("2.0.0")),
        (r#"{"version":"1.0.0"}"#, Err("1.0.0")),
        (r#"{"value":{"version":"1.0.0","v1_compat":"0.2.8"}}"#, Err("1.0.0")),
        (r#"{"version":"1.1.0","capabilities":["tar-split-stream"]}"#, Ok("1.1.0")),
    ];
    for (result, expected) in table {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let answering = spawn(move || {
            assert!(theirs.read(&mut [0; 4096]).unwrap() > 0);
            theirs.write_all(format!(r#"{{"jsonrpc":"2.0","result":{result},"id":1}}"#).as_bytes()).unwrap();
        });
        match (ProxyV2Client::negotiate(ours), expected) {
            (Ok(client), Ok(version)) => assert_eq!(client.version(), version),
            (Err(RpcError::Version { version }), Err(wanted)) => assert_eq!(version, wanted),
            (other, _) => panic!("{result}: {other:?}"),
        }
        answering.join().unwrap();
    }
}

#[test]
fn nobody_serves_there() {
    let place = tempfile::tempdir().unwrap();
    let error = Client::connect(place.path().join("socket")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&Path::new("socket").display().to_string()), "{error}");
}
