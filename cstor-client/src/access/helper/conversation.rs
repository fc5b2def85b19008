//! One conversation with one helper: messages out and in, each wait bounded, and the end.
//!
//! Every answer is bounded in time and size, and end of file before `Bye` is an error. What may be said when is in
//! `process.rs`; what came back is checked in `received.rs`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use cstor_proto::{Channel, ChannelError, Reply, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::SourceError;
use super::error::BadDescriptor;
use super::executable::Executable;
use super::launcher::Way;
use super::patience::Patience;
use super::started::Started;
use crate::base::interrupt::{Interrupt, SLICE};

/// The most descriptors that the kernel passes with one message (`SCM_MAX_FD`, net/scm.h). There is always room for
/// all of them, so that `MSG_CTRUNC` means free numbers were missing, and too many are seen as what they are.
const MOST_DESCRIPTORS: usize = 253;

/// The client's end.
#[derive(Debug)]
pub(in crate::access) struct Conversation {
    /// `None` once it is over.
    channel: Option<Channel>,
    /// `None` for a peer that runs in this process, in tests.
    started: Option<Started>,
    way: Way,
    since: Instant,
    patience: Patience,
    interrupt: Interrupt,
}

impl Conversation {
    /// Starts a helper and says nothing yet.
    pub(in crate::access) fn start(
        way: Way,
        executable: &Executable,
        patience: Patience,
        interrupt: &Interrupt,
    ) -> Result<Conversation, SourceError> {
        let (channel, theirs) = Channel::pair().map_err(SourceError::Channel)?;
        tracing::debug!(launcher = way.described(), helper = %executable.path().display(), "starting the helper");
        let started = Started::start(way, executable, theirs, interrupt)?;
        let mut conversation = Conversation::over(channel, patience, interrupt);
        (conversation.started, conversation.way) = (Some(started), way);
        Ok(conversation)
    }

    /// Over a channel whose other end somebody has.
    pub(in crate::access) fn over(channel: Channel, patience: Patience, interrupt: &Interrupt) -> Conversation {
        let (since, interrupt) = (Instant::now(), interrupt.clone());
        Conversation { channel: Some(channel), started: None, way: Way::None, since, patience, interrupt }
    }

    pub(in crate::access) fn way(&self) -> Way {
        self.way
    }

    /// What ends the waits from now on: operations of one store share a helper, and each has its own.
    pub(super) fn listen_to(&mut self, interrupt: &Interrupt) {
        self.interrupt = interrupt.clone();
    }

    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    pub(in crate::access) fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), SourceError> {
        let sent = self.channel.as_ref().map_or(Err(ChannelError::Closed), |channel| channel.send(request, fds));
        sent.map_err(|error| self.broken(error))
    }

    /// The first reply, for which the time runs from the start of the helper.
    pub(in crate::access) fn receive_first(&mut self, patience: Duration) -> Result<Reply, SourceError> {
        self.wait(self.since, patience, Some(self.patience.notice))?;
        Ok(self.take(0)?.0)
    }

    /// The reply to the oldest request, with at most `max_fds` descriptors.
    pub(in crate::access) fn receive(&mut self, max_fds: usize) -> Result<(Reply, Vec<OwnedFd>), SourceError> {
        self.wait(Instant::now(), self.patience.answer, None)?;
        self.take(max_fds)
    }

    fn take(&mut self, max_fds: usize) -> Result<(Reply, Vec<OwnedFd>), SourceError> {
        let received =
            self.channel.as_mut().map_or(Err(ChannelError::Closed), |channel| channel.receive(MOST_DESCRIPTORS));
        match received {
            Ok((Reply::Fault(fault), _)) => Err(SourceError::Fault { fault }),
            Ok((_, fds)) if fds.len() > max_fds => Err(SourceError::Descriptor { what: BadDescriptor::Miscounted }),
            Ok(reply) => Ok(reply),
            Err(ChannelError::DescriptorsLost) => Err(SourceError::DescriptorsLost),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Waits until there is something to receive, collecting what the launcher prints meanwhile.
    fn wait(&mut self, since: Instant, patience: Duration, mut notice: Option<Duration>) -> Result<(), SourceError> {
        let starting = notice.is_some();
        loop {
            self.interrupt.check()?;
            let waited = since.elapsed();
            if self.poll_once(SLICE.min(patience.saturating_sub(waited)))? {
                return Ok(());
            }
            let waited = since.elapsed();
            if notice.is_some_and(|notice| waited >= notice) {
                match self.way {
                    Way::Podman | Way::Buildah => tracing::warn!(
                        "waiting for {} unshare; another podman may hold the storage lock",
                        self.way.name()
                    ),
                    Way::NewUidMap | Way::None => tracing::warn!("waiting for the helper"),
                }
                notice = None;
            }
            if waited >= patience {
                let (launcher, stderr) = (self.way.name(), self.abandon());
                return Err(match starting {
                    true => SourceError::Silent { launcher, waited: patience, stderr },
                    false => SourceError::Stuck { waited: patience, stderr },
                });
            }
        }
    }

    /// Whether the socket has something, a message or its end, within `slice`.
    fn poll_once(&mut self, slice: Duration) -> Result<bool, SourceError> {
        let Some(channel) = &self.channel else { return Ok(true) };
        let mut watched = vec![PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN)];
        let stderr = self.started.as_ref().and_then(Started::stderr);
        watched.extend(stderr.map(|stderr| PollFd::from_borrowed_fd(stderr, PollFlags::IN)));
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(slice.subsec_nanos()) };
        match poll(&mut watched, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(SourceError::Channel(ChannelError::Io(errno))),
        }
        let happened = |place: usize| watched.get(place).is_some_and(|fd| !fd.revents().is_empty());
        let (message, printed) = (happened(0), happened(1));
        if let Some(started) = self.started.as_mut().filter(|_| printed) {
            started.read_stderr();
        }
        Ok(message)
    }

    /// The error for a conversation that broke off: what the launcher said and how it ended.
    fn broken(&mut self, error: ChannelError) -> SourceError {
        if !matches!(error, ChannelError::Closed) {
            return SourceError::Channel(error);
        }
        self.channel = None;
        let status = self.started.as_mut().and_then(|started| started.await_end(self.patience.end, &self.interrupt));
        SourceError::Died { status, stderr: self.said() }
    }

    fn said(&self) -> Vec<u8> {
        self.started.as_ref().map(Started::said).unwrap_or_default()
    }

    /// Ends a launcher that does not answer; what it printed.
    fn abandon(&mut self) -> Vec<u8> {
        self.channel = None;
        if let Some(started) = &mut self.started {
            started.kill();
        }
        self.said()
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            // A helper that is gone needs no farewell; closing the socket ends the others too.
            let _ = channel.send(&Request::Bye, &[]);
            drop(channel);
            if let Some(started) = &mut self.started {
                started.await_end(self.patience.end, &self.interrupt);
            }
        }
    }
}
