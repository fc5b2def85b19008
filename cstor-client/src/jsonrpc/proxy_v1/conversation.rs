//! One conversation with one image proxy: packets out and in, each wait bounded, and the end of the process.
//!
//! What is asked, and what an answer means, is in `proxy_v1.rs`; what comes through a pipe in `pipe.rs`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cstor_proto::{Channel, ChannelError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ProxyV1Error;
use crate::access::helper::{Started, said};
use crate::base::interrupt::Interrupt;

/// The first request.
pub(super) const INITIALIZE: &str = "Initialize";
/// The longest packet: the proxy's own limit (skopeo cmd/skopeo/proxy.go, `maxMsgSize`).
pub(super) const MAX_PACKET: usize = 32 * 1024;
/// Room for all that the kernel passes with one message (`SCM_MAX_FD`), so that surplus ones are seen as what they are.
const MOST_DESCRIPTORS: usize = 253;
/// How long to wait where the proxy's end of the socket is full.
const FULL: Duration = Duration::from_millis(5);
/// How often a wait looks whether the caller wants to stop.
const SLICE: Duration = Duration::from_millis(100);
/// A registry may be slow; the proxy has time-outs of its own for what it does not get.
const PATIENCE: Duration = Duration::from_secs(120);
/// For the first answer, which needs no source: `podman unshare`, which may stand before, waits for locks of its store.
const START: Duration = Duration::from_secs(30);
/// For the proxy to go when the socket is closed, before it is killed.
const END: Duration = Duration::from_secs(2);

/// How a conversation is held.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    patience: Duration,
    interrupt: Interrupt,
}

impl Default for ProxyOptions {
    fn default() -> ProxyOptions {
        ProxyOptions::new()
    }
}

impl ProxyOptions {
    /// With two minutes of patience.
    pub fn new() -> ProxyOptions {
        ProxyOptions { patience: PATIENCE, interrupt: Interrupt::new() }
    }

    /// How long the proxy may take for an answer, for a whole manifest or configuration, and between two pieces of a
    /// blob.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> ProxyOptions {
        self.patience = patience;
        self
    }

    /// A flag that ends every wait when it is set.
    #[must_use]
    pub fn interrupt(mut self, interrupt: Interrupt) -> ProxyOptions {
        self.interrupt = interrupt;
        self
    }
}

/// What is asked.
#[derive(Debug, Serialize)]
struct Request<'a> {
    method: &'static str,
    args: &'a [Value],
}

/// What is answered.
#[derive(Debug, Deserialize)]
pub(super) struct Reply {
    success: bool,
    #[serde(default)]
    pub(super) value: Value,
    #[serde(default)]
    pub(super) pipeid: u32,
    #[serde(default)]
    error: Option<String>,
}

/// For `tests/fuzz`: whether a packet is an answer; if it is one, whether it says so, and the number of its pipe.
#[cfg(fuzzing)]
pub fn parse_reply(packet: &[u8]) -> Option<(bool, u32)> {
    let reply: Reply = serde_json::from_slice(packet).ok()?;
    Some((reply.success, reply.pipeid))
}

/// The client's end.
#[derive(Debug)]
pub(super) struct Conversation {
    /// `None` once it is over.
    channel: Option<Channel>,
    started: Started,
    program: String,
    options: ProxyOptions,
    /// Answers that nobody waits for any more.
    unread: u32,
}

impl Conversation {
    /// Starts the proxy, the first of the words, and says nothing yet.
    pub(super) fn start(words: &[String], options: ProxyOptions) -> Result<Conversation, ProxyV1Error> {
        let program = words.first().cloned().unwrap_or_default();
        let (channel, theirs) =
            Channel::pair().map_err(|source| ProxyV1Error::Channel { program: program.clone(), source })?;
        // A proxy that does not read must not hold us.
        let unblocked = fcntl_getfl(&channel).and_then(|flags| fcntl_setfl(&channel, flags | OFlags::NONBLOCK));
        unblocked
            .map_err(|errno| ProxyV1Error::Channel { program: program.clone(), source: ChannelError::Io(errno) })?;
        tracing::debug!(command = words.join(" "), "starting the image proxy");
        let started = Started::program(words, theirs, &options.interrupt).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => ProxyV1Error::NoProgram { program: program.clone() },
            _ => ProxyV1Error::Spawn { program: program.clone(), source },
        })?;
        Ok(Conversation { channel: Some(channel), started, program, options, unread: 0 })
    }

    pub(super) fn program(&self) -> &str {
        &self.program
    }

    fn patience(&self, method: &str) -> Duration {
        if method == INITIALIZE { self.options.patience.min(START) } else { self.options.patience }
    }

    /// When what begins now has taken too long.
    pub(super) fn deadline(&self, method: &str) -> Instant {
        Instant::now() + self.patience(method)
    }

    /// Asks, and waits for the answer with so many descriptors.
    pub(super) fn call(
        &mut self,
        method: &'static str,
        args: &[Value],
        descriptors: usize,
    ) -> Result<(Reply, Vec<OwnedFd>), ProxyV1Error> {
        self.send(method, args)?;
        self.receive(method, descriptors)
    }

    pub(super) fn send(&mut self, method: &'static str, args: &[Value]) -> Result<(), ProxyV1Error> {
        let request = serde_json::to_vec(&Request { method, args }).map_err(|source| ProxyV1Error::Reply {
            program: self.program.clone(),
            method,
            source,
        })?;
        if request.len() > MAX_PACKET {
            return Err(ProxyV1Error::LongRequest { method, size: request.len() });
        }
        let deadline = self.deadline(method);
        loop {
            let channel = self.channel.as_ref();
            match channel.map_or(Err(ChannelError::Closed), |channel| channel.send_frame(&request, &[])) {
                Err(ChannelError::Io(Errno::AGAIN)) => {}
                sent => return sent.map_err(|error| self.broken(error)),
            }
            self.options.interrupt.check()?;
            if Instant::now() >= deadline {
                return Err(self.silent(method));
            }
            sleep(FULL);
        }
    }

    /// The answer to the oldest request that has none.
    pub(super) fn receive(
        &mut self,
        method: &'static str,
        descriptors: usize,
    ) -> Result<(Reply, Vec<OwnedFd>), ProxyV1Error> {
        while self.unread > 0 {
            // Whatever it says is about a pipe that was given up.
            self.receive_packet(method)?;
            self.unread -= 1;
        }
        let (reply, fds) = self.receive_packet(method)?;
        let program = || self.program.clone();
        if !reply.success {
            let message = reply.error.unwrap_or_default();
            return Err(ProxyV1Error::Refused { program: program(), method, message });
        }
        if fds.len() != descriptors {
            let (found, wanted) = (fds.len(), descriptors);
            return Err(ProxyV1Error::Descriptors { program: program(), method, found, wanted });
        }
        Ok((reply, fds))
    }

    /// Leaves the answer to a request to the next call.
    pub(super) fn leave_unread(&mut self) {
        self.unread = self.unread.saturating_add(1);
    }

    fn receive_packet(&mut self, method: &'static str) -> Result<(Reply, Vec<OwnedFd>), ProxyV1Error> {
        self.wait(None, method, self.deadline(method))?;
        let received = match &mut self.channel {
            Some(channel) => channel.receive_frame(MOST_DESCRIPTORS),
            None => Err(ChannelError::Closed),
        };
        match received {
            Ok((packet, _)) if packet.len() > MAX_PACKET => {
                Err(ProxyV1Error::LongReply { program: self.program.clone(), method })
            }
            Ok((packet, fds)) => match serde_json::from_slice(packet) {
                Ok(reply) => Ok((reply, fds)),
                Err(source) => Err(ProxyV1Error::Reply { program: self.program.clone(), method, source }),
            },
            Err(ChannelError::Truncated) => Err(ProxyV1Error::LongReply { program: self.program.clone(), method }),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Waits until a pipe can be read, or else the socket, collecting what the proxy prints meanwhile.
    pub(super) fn wait(
        &mut self,
        pipe: Option<BorrowedFd<'_>>,
        method: &'static str,
        deadline: Instant,
    ) -> Result<(), ProxyV1Error> {
        loop {
            self.options.interrupt.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(fd) = pipe.or(self.channel.as_ref().map(AsFd::as_fd)) else { return Ok(()) };
            match poll_once(fd, &mut self.started, SLICE.min(left)) {
                Ok(true) => return Ok(()),
                Ok(false) if left.is_zero() => return Err(self.silent(method)),
                Ok(false) => {}
                Err(errno) => return Err(self.broken(ChannelError::Io(errno))),
            }
        }
    }

    /// Ends a proxy that does not answer.
    fn silent(&mut self, method: &'static str) -> ProxyV1Error {
        self.channel = None;
        self.started.kill();
        let waited = self.patience(method);
        ProxyV1Error::Silent { program: self.program.clone(), method, waited, stderr: self.started.said() }
    }

    /// The error for a conversation that broke off: what the proxy said and how it ended.
    fn broken(&mut self, error: ChannelError) -> ProxyV1Error {
        let program = self.program.clone();
        if !matches!(error, ChannelError::Closed) {
            return ProxyV1Error::Channel { program, source: error };
        }
        self.channel = None;
        let status = self.started.await_end(END, &self.options.interrupt);
        ProxyV1Error::Ended { program, status, stderr: self.started.said() }
    }

    /// Says that there is nothing more to ask, and waits for the end.
    pub(super) fn end(&mut self) {
        if self.channel.is_some() {
            // No answer comes, and one that is gone needs no farewell; closing the socket ends the others too.
            let _ = self.send("Shutdown", &[]);
            self.channel = None;
            self.started.await_end(END, &self.options.interrupt);
            let stderr = self.started.said();
            if !stderr.is_empty() {
                tracing::debug!(program = self.program, "the image proxy ended{}", said(&stderr));
            }
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether a descriptor has something, data or its end, within `slice`.
fn poll_once(fd: BorrowedFd<'_>, started: &mut Started, slice: Duration) -> Result<bool, Errno> {
    let mut watched = vec![PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    watched.extend(started.stderr().map(|stderr| PollFd::from_borrowed_fd(stderr, PollFlags::IN)));
    let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(slice.subsec_nanos()) };
    match poll(&mut watched, Some(&wait)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno),
    }
    let happened = |place: usize| watched.get(place).is_some_and(|fd| !fd.revents().is_empty());
    let (ready, printed) = (happened(0), happened(1));
    if printed {
        started.read_stderr();
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that answers ahead would let us ask on and on; here it is only asked.
    #[test]
    fn a_proxy_that_never_reads_holds_nobody() {
        let options = ProxyOptions::new().patience(Duration::from_millis(100));
        let words = ["sleep", "60"].map(str::to_owned);
        let mut conversation = Conversation::start(&words, options).unwrap();
        let began = Instant::now();
        let refused = (0..10_000).find_map(|_| conversation.send("GetBlob", &[]).err());
        assert!(matches!(refused, Some(ProxyV1Error::Silent { .. })), "{refused:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
