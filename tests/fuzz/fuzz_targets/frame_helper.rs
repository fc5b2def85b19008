//! A conversation of any frames with the helper, over a real layer that tempts it to leave.
//!
//! It must not panic; what it passes back must be files of the layer, open for reading alone, as many as it announces;
//! and it must end. The sandbox is left out: it would close in the fuzzer.
//!
//! Input: a byte of which the lowest bit says whether a whole `Hello` comes first; then frames, each behind a byte that
//! is its length.

#![no_main]

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use cstor_helper::Exit;
use cstor_proto::{Channel, MAGIC, Reply, Request, VERSION, VersionRange, decode, encode};
use libfuzzer_sys::fuzz_target;
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, mknodat, open};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown, socketpair,
};

/// Their answers fit into one socket buffer together, so that nobody waits for anybody.
const MAX_FRAMES: usize = 48;
const ID: &str = "abababababababababababababababababababababababababababababababab";

struct Store {
    root: OwnedFd,
    /// Device and inode of what may be passed back for its contents.
    allowed: Vec<(u64, u64)>,
    /// Of the directory that everything else lies in, or is.
    layer: Vec<(u64, u64)>,
    _dir: tempfile::TempDir,
}

fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let diff = dir.path().join(format!("overlay/{ID}/diff"));
        fs::create_dir_all(diff.join("d")).expect("a layer");
        fs::create_dir_all(dir.path().join("overlay-layers")).expect("a store");
        let split = dir.path().join(format!("overlay-layers/{ID}.tar-split.gz"));
        let inside = [diff.join("f"), diff.join("d/g"), split];
        for path in &inside {
            fs::write(path, "inside").expect("a file");
        }
        fs::write(dir.path().join("outside"), "outside").expect("a file");
        for (name, target) in
            [("l", "d"), ("up", "../../.."), ("abs", "/etc"), ("passwd", "/etc/passwd"), ("loop", "loop")]
        {
            std::os::unix::fs::symlink(target, diff.join(name)).expect("a link");
        }
        let root =
            open(dir.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("the root");
        let layer = open(&diff, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("the layer");
        mknodat(&layer, "fifo", FileType::Fifo, Mode::from(0o644), 0).expect("a FIFO");
        let allowed =
            inside.iter().map(|path| fs::metadata(path).map(|stat| (stat.dev(), stat.ino())).expect("a file"));
        let names = ["", "d", "f", "d/g", "l", "up", "abs", "passwd", "loop", "fifo"];
        let layer = names.iter().map(|name| {
            let stat = fs::symlink_metadata(diff.join(name)).expect("a name of the layer");
            (stat.dev(), stat.ino())
        });
        Store { root, allowed: allowed.collect(), layer: layer.collect(), _dir: dir }
    })
}

fn send(socket: &OwnedFd, frame: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(frame)], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok()
}

/// Checks every answer that came.
fn look(socket: &OwnedFd, store: &Store) {
    let mut bytes = vec![0; cstor_proto::MAX_FRAME];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let Ok(received) = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) else { return };
        if received.bytes == 0 {
            return;
        }
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights.collect::<Vec<OwnedFd>>()),
            _ => None,
        });
        let fds: Vec<OwnedFd> = rights.flatten().collect();
        let reply = decode::<Reply>(&bytes[..received.bytes]).expect("an answer is a message");
        let announced = match &reply {
            Reply::TarSplit(Ok(())) | Reply::Listed(Ok(())) => 1,
            Reply::Opened(results) | Reply::Seen(results) => results.iter().filter(|result| result.is_ok()).count(),
            _ => 0,
        };
        assert_eq!(fds.len(), announced, "as many descriptors as announced");
        for fd in fds {
            let stat = fstat(&fd).expect("a descriptor");
            let known = if matches!(reply, Reply::Listed(_) | Reply::Seen(_)) { &store.layer } else { &store.allowed };
            assert!(known.contains(&(stat.st_dev, stat.st_ino)), "something of the layer");
            let flags = fcntl_getfl(&fd).expect("a descriptor");
            let sight = flags.contains(OFlags::PATH);
            assert_eq!(sight, matches!(reply, Reply::Seen(_)), "no more than was asked for");
            assert!(sight || flags & OFlags::ACCMODE == OFlags::RDONLY, "for reading alone");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, mut rest)) = data.split_first() else { return };
    let store = store();
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("sockets");
    let hello = Request::Hello { magic: MAGIC, versions: VersionRange { min: VERSION, max: VERSION }, roots: 1 };
    let mut root = vec![store.root.as_fd()];
    if mode & 1 != 0 {
        send(&ours, &encode(&hello).expect("a frame"), &root);
        // What follows must come without.
        if mode & 2 == 0 {
            root.clear();
        }
    }
    for _ in 0..MAX_FRAMES {
        let Some((&length, after)) = rest.split_first() else { break };
        let (frame, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        if !send(&ours, frame, &root) {
            break;
        }
        root.clear();
    }
    shutdown(&ours, Shutdown::Write).expect("a socket");
    let exit = cstor_helper::serve_unconfined(Channel::from_fd(theirs).expect("a channel"));
    assert!(matches!(exit, Exit::Done | Exit::Protocol | Exit::Version | Exit::Socket), "{exit:?}");
    look(&ours, store);
});
