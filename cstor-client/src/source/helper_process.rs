//! The running helper: its start, the conversation, its end.
//!
//! The client trusts the helper with opening and with nothing else: every answer is bounded in time and
//! size, and end of file before `Bye` is an error. What came back is checked in `proxied.rs`.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cstor_proto::{
    Channel, ChannelError, Confinement, LayerDir, LayerHandle, LayerId, MAGIC, MAX_ROOTS, Ready, Refusal, RelPath,
    Reply, Request, StoreIndex, VERSION, VersionRange,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::SourceError;
use super::launcher::{Executable, Launcher};

/// `podman unshare` takes 30 to 200 ms, but waits for as long as another podman holds a store lock.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// When to say that the start takes unusually long.
const START_NOTICE: Duration = Duration::from_secs(2);
/// For one batch of opens; a slow network file system is the only reason to need seconds.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// How long the helper may take to go when the socket is closed, before its launcher is killed.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// How often a wait looks whether the caller wants to stop.
const SLICE: Duration = Duration::from_millis(100);
/// What is kept of the launcher's error output.
const MAX_STDERR: usize = 4096;

/// When the helper is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HelperPolicy {
    /// For what this process may not open itself.
    #[default]
    Auto,
    /// For every file.
    Always,
    /// For none; what is refused is an error.
    Never,
}

/// Set from elsewhere to stop what is going on.
pub(crate) type Interrupt = Arc<AtomicBool>;

/// The one helper of a store, started when it is first needed.
#[derive(Debug, Clone)]
pub(crate) struct SharedHelper {
    policy: HelperPolicy,
    interrupt: Interrupt,
    process: Arc<Mutex<Slot>>,
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    NotStarted,
    Running(HelperProcess),
    /// It is not started a second time: what was in flight is lost.
    Gone,
}

impl SharedHelper {
    pub(crate) fn new(policy: HelperPolicy, interrupt: Interrupt) -> SharedHelper {
        SharedHelper { policy, interrupt, process: Arc::default() }
    }

    pub(crate) fn policy(&self) -> HelperPolicy {
        self.policy
    }

    /// Starts the helper without waiting for it.
    pub(super) fn start(&self, roots: &[BorrowedFd<'_>]) -> Result<(), SourceError> {
        self.with(roots, |_| Ok(()))
    }

    /// Talks to the helper, starting it first if that has not been done.
    pub(super) fn with<T>(
        &self,
        roots: &[BorrowedFd<'_>],
        talk: impl FnOnce(&mut HelperProcess) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let mut slot = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::NotStarted) {
            *slot = Slot::Running(HelperProcess::start(roots, Arc::clone(&self.interrupt))?);
        }
        let Slot::Running(process) = &mut *slot else {
            return Err(SourceError::Died { status: None, stderr: Vec::new() });
        };
        let result = talk(process);
        if result.is_err() {
            *slot = Slot::Gone;
        }
        result
    }
}

/// A helper and the launcher that carried it into the namespace.
#[derive(Debug)]
pub(super) struct HelperProcess {
    /// None once the conversation is over.
    channel: Option<Channel>,
    launcher: Child,
    stderr: Option<ChildStderr>,
    said: VecDeque<u8>,
    confinement: Option<Confinement>,
    interrupt: Interrupt,
    /// Keeps the thread that started it.
    _parent: Sender<()>,
}

impl HelperProcess {
    /// Starts it and says `Hello`; the answer is awaited when it is first needed.
    fn start(roots: &[BorrowedFd<'_>], interrupt: Interrupt) -> Result<HelperProcess, SourceError> {
        let count = u8::try_from(roots.len()).ok().filter(|&count| usize::from(count) <= MAX_ROOTS);
        let roots_announced = count.ok_or(SourceError::TooManyRoots)?;
        let executable = Executable::find()?;
        let (channel, theirs) = Channel::pair().map_err(SourceError::Channel)?;
        let launcher = Launcher::for_this_process();
        tracing::debug!(launcher = launcher.name(), ?executable, "starting the helper");
        let (mut child, parent) = launcher.start(&executable, theirs)?;
        let stderr = child.stderr.take();
        if let Some(stderr) = &stderr {
            let flags = fcntl_getfl(stderr).unwrap_or(OFlags::empty());
            let unblocked = fcntl_setfl(stderr, flags | OFlags::NONBLOCK);
            unblocked.map_err(|errno| SourceError::Spawn { launcher: launcher.name(), source: errno.into() })?;
        }
        let mut process = HelperProcess {
            channel: Some(channel),
            launcher: child,
            stderr,
            said: VecDeque::new(),
            confinement: None,
            interrupt,
            _parent: parent,
        };
        let versions = VersionRange { min: VERSION, max: VERSION };
        process.send(&Request::Hello { magic: MAGIC, versions, roots: roots_announced }, roots)?;
        Ok(process)
    }

    /// Waits for `Ready`, once.
    fn await_ready(&mut self) -> Result<(), SourceError> {
        if self.confinement.is_some() {
            return Ok(());
        }
        match self.receive(0, START_PATIENCE)? {
            (Reply::Ready(Ready { version: VERSION, confinement }), _) => {
                tracing::debug!(?confinement, "the helper is ready");
                if !confinement.reads_everything() {
                    return Err(SourceError::Powerless);
                }
                self.confinement = Some(confinement);
                Ok(())
            }
            (Reply::Rejected(theirs), _) => Err(SourceError::Version { theirs }),
            _ => Err(SourceError::Unexpected),
        }
    }

    /// Asks for a layer directory.
    pub(super) fn ask_open_layer(
        &mut self,
        root: StoreIndex,
        id: LayerId,
        dir: LayerDir,
    ) -> Result<Result<LayerHandle, Refusal>, SourceError> {
        self.await_ready()?;
        self.send(&Request::OpenLayer { root, id, dir }, &[])?;
        match self.receive(0, ANSWER_PATIENCE)? {
            (Reply::Layer(result), _) => Ok(result),
            _ => Err(SourceError::Unexpected),
        }
    }

    /// Asks for the tar-split file of a layer.
    pub(super) fn ask_open_tar_split(
        &mut self,
        root: StoreIndex,
        id: LayerId,
    ) -> Result<Result<OwnedFd, Refusal>, SourceError> {
        self.await_ready()?;
        self.send(&Request::OpenTarSplit { root, id }, &[])?;
        match self.receive(1, ANSWER_PATIENCE)? {
            (Reply::TarSplit(Ok(())), mut fds) => fds.pop().map(Ok).ok_or(SourceError::Unexpected),
            (Reply::TarSplit(Err(refusal)), _) => Ok(Err(refusal)),
            _ => Err(SourceError::Unexpected),
        }
    }

    /// Gives a layer directory back.
    pub(super) fn ask_close_layer(&mut self, layer: LayerHandle) -> Result<(), SourceError> {
        self.send(&Request::CloseLayer { layer }, &[])?;
        match self.receive(0, ANSWER_PATIENCE)? {
            (Reply::Closed, _) => Ok(()),
            _ => Err(SourceError::Unexpected),
        }
    }

    /// Asks for files; the answers come in the order of the questions, through [`Self::opened`].
    pub(super) fn ask_open(&mut self, layer: LayerHandle, names: Vec<RelPath>) -> Result<(), SourceError> {
        self.send(&Request::Open { layer, names }, &[])
    }

    /// The answer to the oldest [`Self::ask_open`] that has none yet.
    #[allow(clippy::type_complexity, reason = "the two halves of one reply")]
    pub(super) fn opened(&mut self, asked: usize) -> Result<(Vec<Result<(), Refusal>>, Vec<OwnedFd>), SourceError> {
        match self.receive(asked, ANSWER_PATIENCE)? {
            (Reply::Opened(results), fds) => Ok((results, fds)),
            _ => Err(SourceError::Unexpected),
        }
    }

    fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), SourceError> {
        let sent = self.channel.as_ref().map_or(Err(ChannelError::Closed), |channel| channel.send(request, fds));
        sent.map_err(|error| self.broken(error))
    }

    fn receive(&mut self, max_fds: usize, patience: Duration) -> Result<(Reply, Vec<OwnedFd>), SourceError> {
        self.wait(patience)?;
        let received = self.channel.as_mut().map_or(Err(ChannelError::Closed), |channel| channel.receive(max_fds));
        match received {
            Ok((Reply::Fault(fault), _)) => Err(SourceError::Fault { fault }),
            Ok(reply) => Ok(reply),
            Err(ChannelError::DescriptorsLost) => Err(SourceError::DescriptorsLost),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Waits until there is something to receive, collecting what the launcher prints meanwhile.
    fn wait(&mut self, patience: Duration) -> Result<(), SourceError> {
        let start = Instant::now();
        let mut noticed = self.confinement.is_some();
        loop {
            if self.interrupt.load(Ordering::Relaxed) {
                return Err(SourceError::Interrupted);
            }
            if self.poll_once(SLICE)? {
                return Ok(());
            }
            let waited = start.elapsed();
            if !noticed && waited >= START_NOTICE {
                tracing::warn!("waiting for podman unshare; another podman may hold the storage lock");
                noticed = true;
            }
            if waited >= patience {
                return Err(SourceError::Silent { waited: patience, stderr: self.said() });
            }
        }
    }

    /// Whether the socket has something, a message or its end, within `slice`.
    fn poll_once(&mut self, slice: Duration) -> Result<bool, SourceError> {
        let Some(channel) = &self.channel else { return Ok(true) };
        let mut watched = vec![PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN)];
        watched.extend(self.stderr.as_ref().map(|stderr| PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::IN)));
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(slice.subsec_nanos()) };
        match poll(&mut watched, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(SourceError::Channel(ChannelError::Io(errno))),
        }
        let happened = |place: usize| watched.get(place).is_some_and(|fd| !fd.revents().is_empty());
        let (message, printed) = (happened(0), happened(1));
        if printed {
            self.read_stderr();
        }
        Ok(message)
    }

    /// Keeps the end of what was printed; a launcher that prints without end is not waited for.
    fn read_stderr(&mut self) {
        let mut buffer = [0; MAX_STDERR];
        let Some(stderr) = &mut self.stderr else { return };
        match stderr.read(&mut buffer) {
            Ok(0) => self.stderr = None,
            Ok(length) => {
                self.said.extend(buffer.get(..length).unwrap_or_default());
                let surplus = self.said.len().saturating_sub(MAX_STDERR);
                self.said.drain(..surplus);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.stderr = None,
        }
    }

    fn said(&self) -> Vec<u8> {
        self.said.iter().copied().collect()
    }

    /// The error for a conversation that broke off: what the launcher said and how it ended.
    fn broken(&mut self, error: ChannelError) -> SourceError {
        if !matches!(error, ChannelError::Closed) {
            return SourceError::Channel(error);
        }
        self.channel = None;
        let status = self.await_end();
        while self.stderr.is_some() && self.said.len() < MAX_STDERR {
            let before = self.said.len();
            self.read_stderr();
            if self.said.len() == before {
                break;
            }
        }
        SourceError::Died { status, stderr: self.said() }
    }

    /// Waits for the launcher, which ends after the helper, and kills it if it does not.
    fn await_end(&mut self) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + END_PATIENCE;
        let mut pause = Duration::from_micros(200);
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.launcher.try_wait() {
                return Some(status);
            }
            // A full pipe would keep it from ending.
            self.read_stderr();
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        tracing::warn!(pid = self.launcher.id(), "the launcher of the helper does not end; killing it");
        let _ = self.launcher.kill();
        self.launcher.wait().ok()
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            // A helper that is gone needs no farewell; closing the socket ends the others too.
            let _ = channel.send(&Request::Bye, &[]);
            drop(channel);
            self.await_end();
        }
    }
}
