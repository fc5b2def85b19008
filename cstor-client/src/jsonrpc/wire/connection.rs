//! One end of a connection: messages in and out, with descriptors, and every wait with an end.
//!
//! The socket is never made non-blocking, since other processes may share it: each call says that it will not wait,
//! and waiting is done by poll(2), in slices in which an interrupt is noticed.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;

use super::frame::Frame;
use super::{MOST_IN_BATCH, Message, Patience, WireError};
use crate::base::interrupt::Interrupt;

/// How often a wait looks whether the caller wants to stop.
const SLICE: Duration = Duration::from_millis(100);
/// How long to let the descriptors that are on their way arrive, when the kernel takes no more of them.
const BREATH: Duration = Duration::from_millis(2);
/// What is received at a time.
const PIECE: usize = 64 * 1024;

/// What a peer may send.
#[derive(Debug, Clone, Copy)]
pub(in crate::jsonrpc) struct Limits {
    /// Bytes of one message.
    pub(in crate::jsonrpc) message: usize,
    /// Descriptors of one message.
    pub(in crate::jsonrpc) files: usize,
}

/// One end.
#[derive(Debug)]
pub(in crate::jsonrpc) struct Connection {
    socket: OwnedFd,
    limits: Limits,
    patience: Patience,
    interrupt: Interrupt,
    /// Received bytes; those before `taken` belonged to messages that were given out.
    buffer: Vec<u8>,
    taken: usize,
    frame: Frame,
    /// Received descriptors of messages that are not complete.
    files: VecDeque<OwnedFd>,
    /// A message that waits for descriptors, and how many it needs.
    pending: Option<(Message, usize)>,
    /// When the message that is not complete began.
    since: Option<Instant>,
}

impl Connection {
    pub(in crate::jsonrpc) fn new(
        socket: OwnedFd,
        limits: Limits,
        patience: Patience,
        interrupt: Interrupt,
    ) -> Connection {
        Connection {
            socket,
            limits,
            patience,
            interrupt,
            buffer: Vec::new(),
            taken: 0,
            frame: Frame::default(),
            files: VecDeque::new(),
            pending: None,
            since: None,
        }
    }

    pub(in crate::jsonrpc) fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    pub(in crate::jsonrpc) fn set_interrupt(&mut self, interrupt: Interrupt) {
        self.interrupt = interrupt;
    }

    /// Waits for the next request; `None` if the peer has closed the connection between two of them.
    pub(in crate::jsonrpc) fn receive(&mut self) -> Result<Option<Message>, WireError> {
        self.receive_within(self.patience.idle)
    }

    /// Waits for an answer or a notification, which must come.
    pub(in crate::jsonrpc) fn receive_answer(&mut self) -> Result<Message, WireError> {
        self.receive_within(self.patience.answer)?.ok_or(WireError::CutShort)
    }

    fn receive_within(&mut self, patience: Duration) -> Result<Option<Message>, WireError> {
        let asked = Instant::now();
        loop {
            if let Some(message) = self.take()? {
                self.since = None;
                return Ok(Some(message));
            }
            let begun = self.pending.is_some() || self.taken < self.buffer.len();
            let waited = if begun {
                let since = *self.since.get_or_insert_with(Instant::now);
                let waited = self.patience.message;
                self.wait(PollFlags::IN, since + waited)?.then_some(()).ok_or(WireError::Slow { waited })
            } else {
                self.wait(PollFlags::IN, asked + patience)?.then_some(()).ok_or(WireError::Silent { waited: patience })
            };
            waited?;
            if !self.fill()? {
                return if begun { Err(WireError::CutShort) } else { Ok(None) };
            }
        }
    }

    /// The next message of which everything is there.
    fn take(&mut self) -> Result<Option<Message>, WireError> {
        let left = self.buffer.get(self.taken..).unwrap_or_default();
        let blank = left.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if self.pending.is_some() || self.frame.is_new() {
            self.taken += blank;
        }
        let left = self.buffer.get(self.taken..).unwrap_or_default();
        if self.pending.is_none() {
            let Some(length) = self.frame.end_in(left)? else {
                return if left.len() > self.limits.message { Err(self.too_long()) } else { Ok(None) };
            };
            if length > self.limits.message {
                return Err(self.too_long());
            }
            let message = Message::parse(left.get(..length).unwrap_or_default().to_vec())?;
            self.taken += length;
            let (wanted, limit) = (message.announced(), self.limits.files);
            let fits = usize::try_from(wanted).ok().filter(|&wanted| wanted <= limit);
            self.pending = Some((message, fits.ok_or(WireError::TooMany { wanted, limit })?));
        }
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let more = rest.iter().any(|byte| !byte.is_ascii_whitespace());
        let found = self.files.len();
        match self.pending.take() {
            Some((mut message, wanted)) if found >= wanted => {
                message.files = self.files.drain(..wanted).collect();
                // What arrived with the first byte of a message that has begun belongs to that one.
                match self.files.len() {
                    0 => Ok(Some(message)),
                    _ if more => Ok(Some(message)),
                    found => Err(WireError::Surplus { found }),
                }
            }
            Some((_, wanted)) if more => Err(WireError::Missing { wanted, found }),
            pending => {
                self.pending = pending;
                Ok(None)
            }
        }
    }

    fn too_long(&self) -> WireError {
        WireError::TooLong { limit: self.limits.message }
    }

    /// Receives what there is; false at the end.
    fn fill(&mut self) -> Result<bool, WireError> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let mut bytes = [0; PIECE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_IN_BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            // The peer closed without having read everything.
            Err(Errno::CONNRESET) => return Ok(false),
            Err(errno) => return Err(WireError::Socket(errno.into())),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                self.files.extend(rights);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(WireError::DescriptorsLost);
        }
        self.buffer.extend_from_slice(bytes.get(..received.bytes).unwrap_or_default());
        // A batch may have come with the beginning of the next message.
        let most = if self.limits.files == 0 { 0 } else { self.limits.files + MOST_IN_BATCH };
        match self.files.len() {
            found if found > most => Err(WireError::Surplus { found }),
            _ => Ok(received.bytes > 0),
        }
    }

    /// Sends one message, with as many descriptors as it announces.
    pub(in crate::jsonrpc) fn send(
        &mut self,
        message: &impl Serialize,
        files: &[BorrowedFd<'_>],
    ) -> Result<(), WireError> {
        self.check_interrupt()?;
        let bytes = serde_json::to_vec(message).map_err(WireError::Unwritable)?;
        let (mut bytes, mut files) = (bytes.as_slice(), files);
        let waited = self.patience.write;
        let mut deadline = Instant::now() + waited;
        while !bytes.is_empty() || !files.is_empty() {
            let batch = files.get(..MOST_IN_BATCH).unwrap_or(files);
            match send_once(self.socket.as_fd(), if bytes.is_empty() { b" " } else { bytes }, batch) {
                Ok(sent) => {
                    bytes = bytes.get(sent..).unwrap_or_default();
                    files = files.get(batch.len()..).unwrap_or_default();
                    deadline = Instant::now() + waited;
                }
                Err(Errno::AGAIN) => {
                    if !self.wait(PollFlags::OUT, deadline)? {
                        return Err(WireError::Stuck { waited });
                    }
                }
                // RLIMIT_NOFILE also bounds what the user has on the way in all sockets (unix(7), ETOOMANYREFS).
                Err(Errno::TOOMANYREFS) => {
                    self.check_interrupt()?;
                    if Instant::now() >= deadline {
                        return Err(WireError::InFlight { waited });
                    }
                    sleep(BREATH);
                }
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(WireError::Closed),
                Err(errno) => return Err(WireError::Socket(errno.into())),
            }
        }
        Ok(())
    }

    fn check_interrupt(&self) -> Result<(), WireError> {
        Ok(self.interrupt.check()?)
    }

    /// Whether the socket is ready before the deadline.
    fn wait(&self, flags: PollFlags, deadline: Instant) -> Result<bool, WireError> {
        loop {
            self.check_interrupt()?;
            let left = deadline.saturating_duration_since(Instant::now());
            let slice = Timespec { tv_sec: 0, tv_nsec: i64::from(SLICE.min(left).subsec_nanos()) };
            let mut watched = [PollFd::new(&self.socket, flags)];
            match poll(&mut watched, Some(&slice)) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(WireError::Socket(errno.into())),
            }
        }
    }
}

fn send_once(socket: BorrowedFd<'_>, bytes: &[u8], files: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_IN_BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(Errno::INVAL);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn an_interrupt_is_noticed_by_whoever_need_not_wait() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let stop = Interrupt::new();
        let limits = Limits { message: 100, files: 0 };
        let connection = |socket: UnixStream| Connection::new(socket.into(), limits, Patience::default(), stop.clone());
        let (mut ours, mut theirs) = (connection(ours), connection(theirs));
        let message = crate::jsonrpc::wire::Notification::new("a", &(), 0);
        ours.send(&message, &[]).unwrap();
        assert_eq!(theirs.receive().unwrap().unwrap().method(), Some("a"));
        stop.raise();
        assert!(matches!(ours.send(&message, &[]), Err(WireError::Interrupted(_))));
        assert!(matches!(theirs.receive(), Err(WireError::Interrupted(_))));
    }
}
