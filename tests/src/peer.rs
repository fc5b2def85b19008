//! The raw ends of the privilege boundary: a helper that is told any bytes with any descriptors, without the types of
//! the protocol in between. It knows nothing of what they mean.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};
use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A helper that does not end by then is stuck.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any message is.
const ROOM: usize = 256 * 1024;

/// A helper and the client's end of its socket.
#[derive(Debug)]
pub struct RawHelper {
    child: Child,
    socket: Option<OwnedFd>,
}

/// What came of sending.
pub type Sent = Result<(), rustix::io::Errno>;

impl RawHelper {
    /// Starts a helper with a socket as standard input.
    pub fn start(command: &mut Command) -> RawHelper {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("a pair of sockets");
        // Whoever waits for an answer that never comes must not wait for ever.
        sockopt::set_socket_timeout(&ours, sockopt::Timeout::Recv, Some(PATIENCE)).expect("a time-out");
        sockopt::set_socket_timeout(&ours, sockopt::Timeout::Send, Some(PATIENCE)).expect("a time-out");
        let child = command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        RawHelper { child: child.expect("the helper starts"), socket: Some(ours) }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("not closed").as_fd()
    }

    /// Sends one datagram; waits for room.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Sent {
        self.send_with(bytes, fds, SendFlags::NOSIGNAL)
    }

    /// The same, but EAGAIN where there is no room.
    pub fn try_send(&self, bytes: &[u8]) -> Sent {
        self.send_with(bytes, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn send_with(&self, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: SendFlags) -> Sent {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        sendmsg(self.socket(), &[IoSlice::new(bytes)], &mut control, flags).map(drop)
    }

    /// The next datagram and its descriptors; empty at the end of file.
    pub fn receive(&self) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; ROOM];
        let received =
            recvmsg(self.socket(), &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
        let length = received.map_or(0, |received| received.bytes);
        bytes.truncate(length);
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights.collect::<Vec<_>>()),
            _ => None,
        });
        (bytes, rights.flatten().collect())
    }

    /// Closes the client's end.
    pub fn hang_up(&mut self) {
        self.socket = None;
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many descriptors it has open, and its resident memory in KiB.
    pub fn occupies(&self) -> (usize, u64) {
        let fds = fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count);
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        (fds, line.trim().trim_end_matches(" kB").parse().unwrap_or(0))
    }

    /// The same when it waits for a request again, with so many descriptors, or after a second.
    pub fn settles_at(&self, fds: usize) -> (usize, u64) {
        let began = Instant::now();
        loop {
            let now = self.occupies();
            if now.0 == fds || began.elapsed() > Duration::from_secs(1) {
                return now;
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end: the exit code, or 128 and the signal.
    #[track_caller]
    pub fn end(&mut self) -> i32 {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            }
            if began.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("the helper goes on after {PATIENCE:?}");
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }
}

impl Drop for RawHelper {
    fn drop(&mut self) {
        self.socket = None;
        if !self.has_ended() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
