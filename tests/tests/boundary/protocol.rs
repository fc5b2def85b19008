//! What the helper does with a client that does not keep to the protocol: it ends with exit code 71, never by a signal,
//! and passes nothing back. The bytes are made by hand from docs/protocol.md. What the client does with a helper that
//! lies is tested in the client, how the two die in `helper_death`.

use cstor_tests::built::program;
use cstor_tests::peer::RawHelper;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROTOCOL: i32 = 71;
const DONE: i32 = 0;
const ID: [u8; 32] = [0xab; 32];
const HELLO: &[u8] = b"\x00CSTR\x01\x01\x01";

/// A root with one layer, which has a file `f` and what tempts to leave it.
fn root() -> (TempDir, OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join(format!("overlay/{}/diff", "ab".repeat(32)));
    fs::create_dir_all(&layer).unwrap();
    fs::write(layer.join("f"), "contents").unwrap();
    fs::write(dir.path().join("outside"), "not of the layer").unwrap();
    let fd = open(dir.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    (dir, fd)
}

fn helper() -> RawHelper {
    RawHelper::start(&mut Command::new(program("cstor-helper")))
}

/// A helper that was greeted.
fn greeted(root: &OwnedFd) -> RawHelper {
    let helper = helper();
    helper.send(HELLO, &[root.as_fd()]).unwrap();
    assert_eq!(helper.receive().0[..2], [0, 1], "Ready of version 1");
    helper
}

fn open_layer() -> Vec<u8> {
    [&[1, 0][..], &ID, &[0]].concat()
}

/// `Open` of names in handle 0, which are as long as a byte says.
fn open_names(names: &[&[u8]]) -> Vec<u8> {
    let mut frame = vec![3, 0, names.len() as u8];
    for name in names {
        let (mut length, mut varint) = (name.len(), Vec::new());
        while length > 127 {
            varint.push(length as u8 | 0x80);
            length >>= 7;
        }
        varint.push(length as u8);
        frame.extend(varint);
        frame.extend(*name);
    }
    frame
}

/// What it is, its bytes, its descriptors, and the answer.
type Hello<'a> = (&'a str, &'a [u8], &'a [BorrowedFd<'a>], &'a [u8]);

#[test]
fn the_first_message_must_be_a_hello_with_roots() {
    let (_dir, root) = root();
    let file: OwnedFd = File::open("/dev/null").unwrap().into();
    let many: Vec<_> = (0..17).map(|_| root.as_fd()).collect();
    let table: &[Hello<'_>] = &[
        ("another message", &[5], &[root.as_fd()], &[6, 1]),
        ("a request for a layer", &[4, 0], &[], &[6, 1]),
        ("another magic", b"\x00CSTS\x01\x01\x01", &[root.as_fd()], &[6, 2]),
        ("a newer version", b"\x00CSTR\x02\x07\x01", &[root.as_fd()], &[1, 1, 1]),
        ("an older version", b"\x00CSTR\x00\x00\x01", &[root.as_fd()], &[1, 1, 1]),
        ("no root", b"\x00CSTR\x01\x01\x00", &[], &[6, 2]),
        ("a root that did not come", HELLO, &[], &[6, 2]),
        ("one root too many", HELLO, &[root.as_fd(), root.as_fd()], &[6, 2]),
        ("seventeen roots", b"\x00CSTR\x01\x01\x11", &many, &[6, 0]),
        ("a root that is not a directory", HELLO, &[file.as_fd()], &[6, 2]),
    ];
    for (what, frame, fds, answer) in table {
        let mut helper = helper();
        helper.send(frame, fds).unwrap();
        let (bytes, fds) = helper.receive();
        assert_eq!((bytes.as_slice(), fds.len()), (*answer, 0), "{what}");
        assert_eq!(helper.end(), PROTOCOL, "{what}");
    }
}

#[test]
fn anything_but_a_message_ends_it() {
    let (_dir, root) = root();
    let whole = open_names(&[b"f"]);
    let long_name = vec![b'n'; 4096];
    let sixty_five = [b"f".as_slice(); 65];
    let table: Vec<(&str, Vec<u8>, &[u8])> = vec![
        ("an unknown message", vec![9], &[6, 0]),
        ("a second Hello", HELLO.to_vec(), &[6, 1]),
        ("a frame cut short", whole[..whole.len() - 1].to_vec(), &[6, 0]),
        ("bytes after a message", [&whole[..], &[0]].concat(), &[6, 0]),
        ("a frame of 64 KiB and one byte", vec![5; 64 * 1024 + 1], &[6, 0]),
        ("an absolute name", open_names(&[b"/etc/shadow"]), &[6, 0]),
        ("a name that leads up", open_names(&[b".."]), &[6, 0]),
        ("a name that leads up later", open_names(&[b"a/../../outside"]), &[6, 0]),
        ("a name with a zero byte", open_names(&[b"f\0"]), &[6, 0]),
        ("an empty name", open_names(&[b""]), &[6, 0]),
        ("a name of 4096 bytes", open_names(&[&long_name]), &[6, 0]),
        ("no name", open_names(&[]), &[6, 3]),
        ("sixty-five names", open_names(&sixty_five), &[6, 3]),
        ("a handle that was never given", [&[3, 7][..], &whole[2..]].concat(), &[6, 4]),
        ("a root that was never given", [&[1, 1][..], &ID, &[0]].concat(), &[6, 4]),
        ("an id that is too short", [&[1, 0][..], &ID[1..]].concat(), &[6, 0]),
        ("a directory that leads up", b"\x06\x00\x01\x02..".to_vec(), &[6, 0]),
        ("a directory of no handle", vec![6, 7, 0], &[6, 4]),
        ("a look at nothing", vec![7, 0, 0], &[6, 3]),
        ("a look at sixty-five names", [&[7][..], &open_names(&sixty_five)[1..]].concat(), &[6, 3]),
        ("a look in no handle", b"\x07\x07\x01\x01f".to_vec(), &[6, 4]),
        ("an attribute without a name", b"\x08\x00\x01\x01f\x00".to_vec(), &[6, 3]),
        ("an attribute with a zero byte", b"\x08\x00\x01\x01f\x01\x00".to_vec(), &[6, 3]),
        ("an attribute of 256 bytes", [&b"\x08\x00\x01\x01f\x80\x02"[..], &[b'x'; 256]].concat(), &[6, 3]),
        ("an attribute in no handle", b"\x08\x07\x01\x01f\x01x".to_vec(), &[6, 4]),
        ("a list of 2^32 names", vec![3, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], &[6, 0]),
    ];
    for (what, frame, answer) in table {
        let mut helper = greeted(&root);
        helper.send(&open_layer(), &[]).unwrap();
        assert_eq!(helper.receive().0, [2, 0, 0], "{what}: a layer first");
        helper.send(&frame, &[]).unwrap();
        let (bytes, fds) = helper.receive();
        assert_eq!((bytes.as_slice(), fds.len()), (answer, 0), "{what}");
        assert_eq!(helper.end(), PROTOCOL, "{what}");
    }
    let mut helper = greeted(&root);
    helper.send(&open_layer(), &[]).unwrap();
    assert_eq!(helper.receive().0, [2, 0, 0]);
    // The same layer, closed twice.
    helper.send(&[4, 0], &[]).unwrap();
    assert_eq!(helper.receive().0, [5]);
    helper.send(&[4, 0], &[]).unwrap();
    assert_eq!(helper.receive().0, [6, 4]);
    assert_eq!(helper.end(), PROTOCOL);
    // An empty datagram reads as the end of file.
    let mut helper = greeted(&root);
    helper.send(&[], &[]).unwrap();
    assert_eq!(helper.end(), DONE);
}

/// What a layer has, and what becomes of it when it is listed, looked at, or asked for an attribute.
#[test]
fn directories_are_listed_and_looked_at() {
    let (dir, root) = root();
    let layer = dir.path().join(format!("overlay/{}/diff", "ab".repeat(32)));
    fs::create_dir(layer.join("d")).unwrap();
    for (name, target) in [("l", "d"), ("up", "../../../.."), ("abs", "/etc")] {
        symlink(target, layer.join(name)).unwrap();
    }
    rustix::fs::setxattr(layer.join("f"), "user.note", b"hi", rustix::fs::XattrFlags::empty()).unwrap();
    let mut helper = greeted(&root);
    helper.send(&open_layer(), &[]).unwrap();
    assert_eq!(helper.receive().0, [2, 0, 0]);
    // As many names, and as long a key, as are allowed; the kernel counts `user.` too (ERANGE is 34).
    let sights = [&[7][..], &open_names(&[b"f".as_slice(); 64])[1..]].concat();
    let seen = [&[8, 64][..], &[0; 64]].concat();
    let longest = [&b"\x08\x00\x01\x01f\xff\x01"[..], &[b'x'; 255]].concat();
    type Row<'a> = (&'a str, &'a [u8], &'a [u8], usize);
    let table: &[Row<'_>] = &[
        ("the layer", b"\x06\x00\x00", &[7, 0], 1),
        ("a directory", b"\x06\x00\x01\x01d", &[7, 0], 1),
        ("a file", b"\x06\x00\x01\x01f", &[7, 1, 5], 0),
        ("a link", b"\x06\x00\x01\x01l", &[7, 1, 5], 0),
        // As in a chroot: below a link that leads up is the layer itself.
        ("below a link that leads up", b"\x06\x00\x01\x04up/d", &[7, 0], 1),
        ("below an absolute link", b"\x06\x00\x01\x07abs/apt", &[7, 1, 0], 0),
        ("sights", b"\x07\x00\x04\x01d\x01f\x01l\x01m", &[8, 4, 0, 0, 0, 1, 0], 3),
        ("sixty-four sights", &sights, &seen, 64),
        ("an attribute", b"\x08\x00\x01\x01f\x04note", &[9, 0, 2, b'h', b'i'], 0),
        ("a missing attribute", b"\x08\x00\x01\x01f\x04none", &[9, 1, 0], 0),
        ("an attribute of 255 bytes", &longest, &[9, 1, 4, 68], 0),
        ("an attribute of a link", b"\x08\x00\x01\x01l\x04note", &[9, 1, 1], 0),
    ];
    for (what, frame, answer, fds) in table {
        helper.send(frame, &[]).unwrap();
        let (bytes, received) = helper.receive();
        assert_eq!((bytes.as_slice(), received.len()), (*answer, *fds), "{what}");
        for fd in received {
            let flags = rustix::fs::fcntl_getfl(&fd).unwrap();
            assert_eq!(flags.contains(OFlags::PATH), frame[0] == 7, "{what}");
            assert!(flags.contains(OFlags::PATH) || flags & OFlags::ACCMODE == OFlags::RDONLY, "{what}");
        }
    }
    helper.send(&[5], &[]).unwrap();
    assert_eq!(helper.end(), DONE);
}

#[test]
fn the_table_of_layers_has_an_end() {
    let (_dir, root) = root();
    let mut helper = greeted(&root);
    for _ in 0..512 {
        helper.send(&open_layer(), &[]).unwrap();
        assert_eq!(helper.receive().0[..2], [2, 0]);
    }
    helper.send(&open_layer(), &[]).unwrap();
    assert_eq!(helper.receive().0, [6, 3]);
    assert_eq!(helper.end(), PROTOCOL);
}

/// Bytes without a pattern, the same each time.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    (0u64..).flat_map(move |round| Sha256::digest([seed.to_le_bytes(), round.to_le_bytes()].concat()))
}

#[test]
fn random_bytes_never_crash_it() {
    let (_dir, root) = root();
    for start in 0..1000u64 {
        let mut bytes = noise(start);
        let mut helper = if start % 2 == 0 { helper() } else { greeted(&root) };
        // It ends at the first that is no message; the others wait in vain.
        for _ in 0..100 {
            let length = usize::from(bytes.next().unwrap()) % 80 + 1;
            let mut frame: Vec<u8> = bytes.by_ref().take(length).collect();
            // Half of them begin like a message.
            if frame[0] < 128 {
                frame[0] %= 9;
            }
            if helper.send(&frame, &[]).is_err() {
                break;
            }
        }
        helper.hang_up();
        let code = helper.end();
        assert!([DONE, PROTOCOL].contains(&code), "seed {start}: {code}");
    }
}

#[test]
fn descriptors_after_the_hello_do_not_arrive() {
    let (_dir, root) = root();
    let file: OwnedFd = File::open("/dev/null").unwrap().into();
    let mut helper = greeted(&root);
    let before = helper.occupies().0;
    let flood: Vec<_> = (0..253).map(|_| file.as_fd()).collect();
    for _ in 0..10 {
        // The helper ends at the first; the kernel may also refuse to send.
        let _ = helper.send(&open_layer(), &flood);
        let now = helper.occupies().0;
        assert!(now <= before, "{now} descriptors, {before} before");
    }
    assert_eq!(helper.end(), PROTOCOL);
}

#[test]
fn a_client_that_does_not_read_is_waited_for_without_memory() {
    let (_dir, root) = root();
    let mut helper = greeted(&root);
    helper.send(&open_layer(), &[]).unwrap();
    assert_eq!(helper.receive().0, [2, 0, 0]);
    let before = helper.occupies();
    // Questions until its answers fill one buffer and more questions the other.
    let began = Instant::now();
    let mut asked = 0;
    while began.elapsed() < Duration::from_millis(500) {
        match helper.try_send(&open_names(&[b"missing".as_slice(); 64])) {
            Ok(()) => asked += 1,
            Err(errno) => assert_eq!(errno, Errno::AGAIN),
        }
    }
    assert!(asked > 100, "{asked}");
    sleep(Duration::from_millis(500));
    assert!(!helper.has_ended());
    let now = helper.settles_at(before.0);
    assert_eq!(now.0, before.0, "descriptors");
    assert!(now.1 <= before.1 + 512, "{} KiB, {} before", now.1, before.1);
    helper.hang_up();
    assert_eq!(helper.end(), DONE);
}

#[test]
fn thousands_of_requests_leave_no_descriptor() {
    let (_dir, root) = root();
    let mut helper = greeted(&root);
    helper.send(&open_layer(), &[]).unwrap();
    assert_eq!(helper.receive().0, [2, 0, 0]);
    let names: Vec<&[u8]> = (0..64).map(|n| if n % 2 == 0 { b"f".as_slice() } else { b"missing" }).collect();
    let ask = |count: usize| {
        for _ in 0..count {
            helper.send(&open_names(&names), &[]).unwrap();
            assert_eq!(helper.receive().1.len(), 32);
        }
    };
    let before = helper.occupies();
    ask(10);
    let first = helper.settles_at(before.0);
    ask(2000);
    let last = helper.settles_at(before.0);
    assert_eq!((first.0, last.0), (before.0, before.0), "descriptors");
    assert!(last.1 <= first.1 + 64, "{} KiB after {}", last.1, first.1);
    helper.send(&[5], &[]).unwrap();
    assert_eq!(helper.end(), DONE);
}

#[test]
fn inherited_descriptors_are_closed() {
    let (_dir, root) = root();
    // As a careless caller has them: not close-on-exec.
    let host = open("/etc", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let held = |helper: &RawHelper| {
        let fds = fs::read_dir(format!("/proc/{}/fd", helper.pid())).unwrap();
        fds.filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to == Path::new("/etc"))).count()
    };
    let helper = helper();
    // It closes them before it reads a byte.
    let began = Instant::now();
    let mut before = held(&helper);
    while before > 0 && began.elapsed() < Duration::from_secs(2) {
        sleep(Duration::from_millis(1));
        before = held(&helper);
    }
    assert_eq!(before, 0, "open before the first message");
    helper.send(HELLO, &[root.as_fd()]).unwrap();
    assert_eq!(helper.receive().0[..2], [0, 1]);
    assert_eq!(held(&helper), 0);
    drop(host);
}
