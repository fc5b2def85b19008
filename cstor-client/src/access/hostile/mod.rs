//! Tests with a helper that was taken over: a thread at the other end of the socket that sends what it likes.
//!
//! The client must end the conversation with an error of the right class, without reading a byte of what came, and
//! without waiting longer than it said. What a real helper does is not tested here.
#![allow(clippy::disallowed_methods, reason = "the other end opens what it likes")]

mod lost;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use cstor_proto::{
    Channel, Confinement, Enforced, LayerHandle, MAX_BATCH, Ready, Refusal, RelPath, Reply, Request, VERSION,
    VersionRange,
};
use rustix::fs::{MemfdFlags, Mode, OFlags, fstat, memfd_create, open};
use rustix::io::write;

use super::Answers;
use super::OpenedFile;
use super::helper::BadDescriptor;
use super::helper::Conversation;
use super::helper::HelperProcess;
use super::helper::Patience;
use super::helper::SourceError;
use super::proxied::ask_in_batches;
use crate::base::interrupt::Interrupt;
use crate::base::kind::ErrorKind;

/// Long enough for a loaded machine to answer, short enough for a test to wait out.
const SOON: Duration = Duration::from_millis(400);
const PATIENCE: Patience = Patience { start: SOON, start_with_another: SOON, notice: SOON, answer: SOON, end: SOON };

/// A client whose helper is `peer`, in a thread of its own.
fn against(peer: impl FnOnce(Channel, OwnedFd) + Send + 'static) -> HelperProcess {
    let (ours, theirs) = Channel::pair().unwrap();
    let raw = theirs.try_clone().unwrap();
    let theirs = Channel::from_fd(theirs).unwrap();
    thread::spawn(move || peer(theirs, raw));
    HelperProcess::over(Conversation::over(ours, PATIENCE, &Default::default()), PATIENCE)
}

fn ready(version: u16, effective: u64) -> Reply {
    let confinement = Confinement {
        effective,
        regainable: effective,
        no_new_privs: true,
        nobody: true,
        landlock: Enforced::Fully,
        seccomp: true,
        mapped_uids: 65_537,
        mapped_gids: 65_537,
    };
    Reply::Ready(Ready { version, confinement })
}

fn names(count: usize) -> Vec<RelPath> {
    (0..count).map(|n| RelPath::clean(format!("file{n}").as_bytes()).unwrap()).collect()
}

/// Asks for so many files of the file system of `file`, at most `batch` at once.
fn ask(helper: &mut HelperProcess, count: usize, mut batch: usize, device: u64) -> Answers<OpenedFile> {
    ask_in_batches(helper, LayerHandle(0), &names(count), &mut batch, device)
}

/// The number that was asked for in the next request, or `None` when the client is gone.
fn asked(channel: &mut Channel) -> Option<usize> {
    match channel.receive::<Request>(0) {
        Ok((Request::Open { names, .. }, _)) => Some(names.len()),
        _ => None,
    }
}

#[test]
fn a_number_of_descriptors_that_was_not_announced_ends_it() {
    let file = tempfile::tempfile().unwrap();
    let device = fstat(&file).unwrap().st_dev;
    // asked, answers that say yes, answers that say no, descriptors
    let table = [
        (1, 1, 0, 0),
        (1, 1, 0, 2),
        (1, 0, 1, 1),
        (3, 3, 0, 2),
        (3, 2, 1, 3),
        (3, 3, 0, 4),
        (3, 3, 0, 253),
        (3, 2, 0, 2),
        (3, 4, 0, 3),
        (3, 4, 0, 4),
        (3, 0, 0, 0),
        (MAX_BATCH, MAX_BATCH, 0, MAX_BATCH + 1),
    ];
    for (count, yes, no, sent) in table {
        let mut helper = against(move |mut channel, _raw| {
            asked(&mut channel);
            let path = open("/proc/self/exe", OFlags::RDONLY, Mode::empty()).unwrap();
            let answers = vec![Ok(()); yes].into_iter().chain(vec![Err(Refusal::NotFound); no]).collect();
            let _ = channel.send(&Reply::Opened(answers), &vec![path.as_fd(); sent]);
            asked(&mut channel);
        });
        let refused = ask(&mut helper, count, MAX_BATCH, device).unwrap_err();
        let miscounted = matches!(refused, SourceError::Descriptor { what: BadDescriptor::Miscounted });
        assert!(miscounted, "{count} asked, {yes} + {no} answered, {sent} sent: {refused}");
        assert_eq!(refused.kind(), ErrorKind::Helper);
    }
}

#[test]
fn only_a_plain_file_of_the_layer_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("file");
    let opened = |flags| -> OwnedFd { open(&place, flags | OFlags::CREATE, Mode::from(0o600)).unwrap() };
    let device = fstat(opened(OFlags::RDWR)).unwrap().st_dev;
    let memfd = memfd_create("x", MemfdFlags::empty()).unwrap();
    let again =
        |fd: &OwnedFd| open(format!("/proc/self/fd/{}", fd.as_raw_fd()), OFlags::RDONLY, Mode::empty()).unwrap();
    let (pipe, full) = rustix::pipe::pipe().unwrap();
    write(&full, b"must not be read").unwrap();
    let watched = pipe.try_clone().unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let system = |path: &str, flags| open(path, flags, Mode::empty()).unwrap();
    let table = [
        ("a pipe", pipe, BadDescriptor::NotRegular),
        ("a directory", open(directory.path(), OFlags::RDONLY, Mode::empty()).unwrap(), BadDescriptor::NotRegular),
        ("a device", system("/dev/null", OFlags::RDONLY), BadDescriptor::NotRegular),
        ("a terminal's master", system("/dev/ptmx", OFlags::RDONLY | OFlags::NOCTTY), BadDescriptor::NotRegular),
        ("O_PATH", open(&place, OFlags::PATH, Mode::empty()).unwrap(), BadDescriptor::NotReadOnly),
        ("O_RDWR", opened(OFlags::RDWR), BadDescriptor::NotReadOnly),
        ("O_WRONLY", opened(OFlags::WRONLY), BadDescriptor::NotReadOnly),
        ("a memfd", again(&memfd), BadDescriptor::OtherDevice),
        ("a memfd to write to", memfd, BadDescriptor::NotReadOnly),
        ("a file of /proc", system("/proc/self/status", OFlags::RDONLY), BadDescriptor::OtherDevice),
        (
            "a file of /sys",
            system("/sys/kernel/mm/transparent_hugepage/enabled", OFlags::RDONLY),
            BadDescriptor::OtherDevice,
        ),
        ("a socket", socket.into(), BadDescriptor::NotReadOnly),
    ];
    for (what, fd, wanted) in table {
        let mut helper = against(move |mut channel, _raw| {
            asked(&mut channel);
            channel.send(&Reply::Opened(vec![Ok(())]), &[fd.as_fd()]).unwrap();
            asked(&mut channel);
        });
        let refused = ask(&mut helper, 1, 1, device).unwrap_err();
        assert!(matches!(refused, SourceError::Descriptor { what } if what == wanted), "{what}: {refused}");
        assert_eq!(refused.kind(), ErrorKind::Helper, "{what}");
    }
    let mut unread = [0; 16];
    assert_eq!(rustix::io::read(&watched, &mut unread), Ok(16), "nothing was read from the pipe");
    // And a good one is taken, so that the table means something.
    let good = opened(OFlags::RDONLY);
    let mut helper = against(move |mut channel, _raw| {
        asked(&mut channel);
        channel.send(&Reply::Opened(vec![Ok(())]), &[good.as_fd()]).unwrap();
    });
    assert!(ask(&mut helper, 1, 1, device).unwrap().remove(0).is_ok());
}

#[test]
fn an_end_of_the_conversation_itself_is_not_taken() {
    let device = fstat(tempfile::tempfile().unwrap()).unwrap().st_dev;
    // The helper's own end, and the client's.
    for own in [true, false] {
        let (ours, theirs) = Channel::pair().unwrap();
        let client_end = ours.as_fd().try_clone_to_owned().unwrap();
        let helper_end = theirs.try_clone().unwrap();
        let mut peer = Channel::from_fd(theirs).unwrap();
        let ended = thread::spawn(move || {
            asked(&mut peer);
            let fd = if own { &helper_end } else { &client_end };
            peer.send(&Reply::Opened(vec![Ok(())]), &[fd.as_fd()]).unwrap();
            drop((helper_end, client_end));
            // The client has closed what it got: nothing keeps the conversation open.
            while peer.receive::<Request>(0).is_ok() {}
        });
        let mut helper = HelperProcess::over(Conversation::over(ours, PATIENCE, &Default::default()), PATIENCE);
        let refused = ask(&mut helper, 1, 1, device).unwrap_err();
        assert!(matches!(refused, SourceError::Descriptor { what: BadDescriptor::NotReadOnly }), "{own}: {refused}");
        drop(helper);
        ended.join().unwrap();
    }
}

#[test]
fn descriptors_where_none_belong_end_it() {
    let mut helper = against(|mut channel, _raw| {
        let _ = channel.receive::<Request>(0);
        let file = tempfile::tempfile().unwrap();
        let _ = channel.send(&Reply::TarSplit(Err(Refusal::NotFound)), &[file.as_fd()]);
    });
    let refused = helper.ask_open_tar_split(cstor_proto::StoreIndex(0), cstor_proto::LayerId::from_bytes([7; 32]));
    assert!(matches!(refused, Err(SourceError::Unexpected)), "{refused:?}");
    let mut helper = against(|channel, _raw| {
        let file = tempfile::tempfile().unwrap();
        let _ = channel.send(&ready(VERSION, 4), &[file.as_fd(), file.as_fd()]);
        thread::sleep(SOON);
    });
    let refused = helper.await_ready(&[]);
    assert!(matches!(refused, Err(SourceError::Descriptor { what: BadDescriptor::Miscounted })), "{refused:?}");
}

/// What cannot be sent because too much is in flight is asked for again, and comes in its place.
#[test]
fn a_busy_helper_is_asked_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let device = fstat(file.as_file()).unwrap().st_dev;
    let mut helper = against(move |mut channel, _raw| {
        for round in 0.. {
            let Some(count) = asked(&mut channel) else { return };
            let answer = Reply::Opened(vec![Ok(()); count]);
            let files: Vec<_> = (0..count).map(|_| open(file.path(), OFlags::RDONLY, Mode::empty()).unwrap()).collect();
            let fds: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
            // Every other answer; two questions wait at a time.
            let sent = if round % 2 == 0 { channel.send(&answer.busy(), &[]) } else { channel.send(&answer, &fds) };
            if sent.is_err() {
                return;
            }
        }
    });
    let files = ask(&mut helper, 10, 3, device).unwrap();
    assert!(files.len() == 10 && files.iter().all(Result::is_ok), "{files:?}");
}

/// Answers about directories that do not fit what was asked, or the descriptors that come with them.
#[test]
fn looks_are_answered_as_asked() {
    let names = || ["a", "b"].map(|name| RelPath::clean(name.as_bytes()).unwrap()).to_vec();
    let layer = LayerHandle(0);
    let table: [(Reply, usize, bool); 6] = [
        (Reply::Seen(vec![Ok(()), Err(Refusal::NotFound)]), 1, true),
        (Reply::Seen(vec![Ok(()), Ok(())]), 1, false),
        (Reply::Seen(vec![Ok(()), Err(Refusal::NotFound)]), 2, false),
        (Reply::Seen(vec![Ok(())]), 1, false),
        (Reply::Seen(vec![Ok(()); 3]), 3, false),
        (Reply::Opened(vec![Ok(()); 2]), 2, false),
    ];
    let with = |reply: &Reply, fds: usize| {
        let reply = reply.clone();
        against(move |mut channel, _raw| {
            asked(&mut channel);
            let file = tempfile::tempfile().unwrap();
            let _ = channel.send(&reply, &vec![file.as_fd(); fds]);
            thread::sleep(SOON / 4);
        })
    };
    for (reply, fds, good) in table {
        assert_eq!(with(&reply, fds).ask_look(layer, names()).is_ok(), good, "{reply:?} with {fds}");
    }
    let table: [(Reply, usize, bool); 5] = [
        (Reply::Listed(Ok(())), 1, true),
        (Reply::Listed(Err(Refusal::NotDirectory)), 0, true),
        (Reply::Listed(Ok(())), 0, false),
        (Reply::Listed(Err(Refusal::NotDirectory)), 1, false),
        (Reply::UserXattr(Ok(Vec::new())), 0, false),
    ];
    for (reply, fds, good) in table {
        assert_eq!(with(&reply, fds).ask_list(layer, None).is_ok(), good, "{reply:?} with {fds}");
    }
    let value = Reply::UserXattr(Ok(b"hi".to_vec()));
    let ask = |reply, fds| with(reply, fds).ask_user_xattr(layer, None, b"note".to_vec());
    assert_eq!(ask(&value, 0).unwrap(), Ok(b"hi".to_vec()));
    assert!(ask(&value, 1).is_err() && ask(&Reply::Closed, 0).is_err());
}

/// What a peer does instead of answering, and how long the client may take to see it.
#[test]
fn nothing_goes_on_for_ever() {
    type Peer = fn(Channel, OwnedFd);
    let device = fstat(tempfile::tempfile().unwrap()).unwrap().st_dev;
    let table: [(&str, Peer, &str); 8] = [
        ("silence", |_channel, _raw| thread::sleep(4 * SOON), "Stuck"),
        (
            "half a wait of silence, then the end",
            |channel, _raw| {
                thread::sleep(SOON / 2);
                drop(channel);
            },
            "Died",
        ),
        (
            "one byte, and another every second",
            |_channel, raw| {
                for _ in 0..3 {
                    let _ = write(&raw, &[4]);
                    thread::sleep(SOON / 2);
                }
            },
            "Channel",
        ),
        ("a stream without end", |_channel, raw| while write(&raw, &[0xff; 60 * 1024]).is_ok() {}, "Channel"),
        (
            "answers to other questions without end",
            |channel, _raw| while channel.send(&Reply::Closed, &[]).is_ok() {},
            "Unexpected",
        ),
        (
            "a frame that is too long",
            |_channel, raw| {
                let _ = write(&raw, &[0; 61 * 1024]);
                thread::sleep(SOON);
            },
            "Channel",
        ),
        (
            "an empty datagram",
            |_channel, raw| {
                let _ = write(&raw, &[]);
                drop(raw);
            },
            "Died",
        ),
        (
            "a fault",
            |mut channel, _raw| {
                asked(&mut channel);
                let _ = channel.send(&Reply::Fault(cstor_proto::Fault::Malformed), &[]);
            },
            "Fault",
        ),
    ];
    for (what, peer, expected) in table {
        let mut helper = against(move |channel, raw| {
            // Only the peer's own end is open while it runs.
            peer(channel, raw);
        });
        let began = Instant::now();
        let refused = ask(&mut helper, 1, 1, device).unwrap_err();
        let found = format!("{refused:?}");
        assert!(found.starts_with(expected), "{what}: {found}");
        assert_eq!(refused.kind(), ErrorKind::Helper, "{what}");
        assert!(began.elapsed() < 3 * SOON, "{what}: {:?}", began.elapsed());
    }
}

#[test]
fn another_version_is_named_with_the_helper() {
    let (older, newer) = (VERSION - 1, VERSION + 1);
    let table = [
        (Reply::Rejected(VersionRange { min: newer, max: newer }), newer),
        (Reply::Rejected(VersionRange { min: older, max: older }), older),
        (ready(newer, 4), newer),
        (ready(older, 4), older),
    ];
    for (reply, version) in table {
        let mut helper = against(move |channel, _raw| {
            let _ = channel.send(&reply, &[]);
            thread::sleep(SOON / 4);
        });
        let refused = helper.await_ready(&[]).unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, SourceError::Version { .. }), "{text}");
        assert_eq!(text, format!("/a/helper: speaks protocol {version} to {version}, cstor speaks {VERSION}"));
    }
    let mut helper = against(|channel, _raw| {
        let _ = channel.send(&ready(VERSION, 0), &[]);
        thread::sleep(SOON / 4);
    });
    assert!(matches!(helper.await_ready(&[]), Err(SourceError::Powerless { mapped_uids: 65_537, .. })));
}

/// An interrupt is looked at for every answer that is awaited.
#[test]
fn every_message_is_a_moment_to_stop() {
    const MESSAGES: u64 = 50;
    let (ours, theirs) = Channel::pair().unwrap();
    let mut theirs = Channel::from_fd(theirs).unwrap();
    let interrupt = Interrupt::new();
    let mut helper = HelperProcess::over(Conversation::over(ours, PATIENCE, &interrupt), PATIENCE);
    let peer = thread::spawn(move || {
        while matches!(theirs.receive::<Request>(0), Ok((Request::CloseLayer { .. }, _))) {
            // The client is gone when it is to stop.
            let _ = theirs.send(&Reply::Closed, &[]);
        }
    });
    for _ in 0..MESSAGES {
        helper.ask_close_layer(LayerHandle(0)).unwrap();
    }
    assert!(interrupt.looks() >= MESSAGES, "{} looks", interrupt.looks());
    interrupt.raise();
    assert!(matches!(helper.ask_close_layer(LayerHandle(0)), Err(SourceError::Interrupted(_))));
    drop(helper);
    peer.join().unwrap();
}
