//! The one helper of a store: when it is started, by which launcher, and what it is asked.
//!
//! How messages travel is in `conversation.rs`; the client trusts the helper with opening and with nothing else, and
//! what came back is checked in `received.rs`.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cstor_proto::{
    Confinement, Enforced, LayerDir, LayerHandle, LayerId, MAGIC, MAX_ROOTS, Ready, Refusal, RelPath, Reply, Request,
    StoreIndex, VERSION, VersionRange,
};

use super::SourceError;
use super::conversation::Conversation;
use super::diagnose::cause;
use super::executable::Executable;
use super::launcher::Way;
use super::options::{HelperOptions, HelperPolicy};
use super::patience::Patience;
use super::seen::Seen;
use crate::access::Answer;
use crate::base::interrupt::Interrupt;

/// The one helper of a store, started when it is first needed.
#[derive(Debug, Clone)]
pub(crate) struct SharedHelper {
    options: HelperOptions,
    patience: Patience,
    process: Arc<Mutex<Slot>>,
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    NotStarted,
    Running(Box<HelperProcess>),
    /// It did not become ready; the first operation that needs it is told why.
    Failed(SourceError),
    /// It was not needed in time, and is not started any more.
    TooLate,
    /// It is not started a second time: what was in flight is lost.
    Gone,
}

impl SharedHelper {
    pub(crate) fn new(options: HelperOptions) -> SharedHelper {
        SharedHelper { options, patience: Patience::default(), process: Arc::default() }
    }

    pub(crate) fn policy(&self) -> HelperPolicy {
        self.options.policy
    }

    /// Starts the helper without waiting for it.
    pub(in crate::access) fn start(&self, roots: &[BorrowedFd<'_>], interrupt: &Interrupt) -> Result<(), SourceError> {
        self.start_in(&mut self.slot(), roots, interrupt)
    }

    /// Whether a helper runs, or may still be started, or has an error to tell.
    pub(crate) fn can_help(&self) -> bool {
        !matches!(*self.slot(), Slot::TooLate)
    }

    /// Has the helper ready if it is `needed`; afterwards none is started any more. A failure is kept for the
    /// first file that is refused: headers tell less than the files themselves.
    pub(in crate::access) fn settle(
        &self,
        roots: &[BorrowedFd<'_>],
        interrupt: &Interrupt,
        needed: bool,
    ) -> Result<(), SourceError> {
        let ready = if needed && self.can_help() { self.with(roots, interrupt, |_| Ok(())) } else { Ok(()) };
        let mut slot = self.slot();
        match ready {
            Err(error @ SourceError::Interrupted(_)) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "the helper is not ready");
                *slot = Slot::Failed(error);
            }
            Ok(()) if matches!(*slot, Slot::NotStarted) => *slot = Slot::TooLate,
            Ok(()) => {}
        }
        Ok(())
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_in(&self, slot: &mut Slot, roots: &[BorrowedFd<'_>], interrupt: &Interrupt) -> Result<(), SourceError> {
        if matches!(slot, Slot::NotStarted) {
            let process = HelperProcess::start(roots, self.options, self.patience, interrupt)?;
            *slot = Slot::Running(Box::new(process));
        }
        Ok(())
    }

    /// Talks to the helper, starting it first if that has not been done. All waits end with the interrupt.
    pub(crate) fn with<T>(
        &self,
        roots: &[BorrowedFd<'_>],
        interrupt: &Interrupt,
        talk: impl FnOnce(&mut HelperProcess) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let mut slot = self.slot();
        self.start_in(&mut slot, roots, interrupt)?;
        let result = match &mut *slot {
            Slot::Running(process) => {
                process.conversation.listen_to(interrupt);
                process.await_ready(roots).and_then(|()| talk(process))
            }
            other => match std::mem::replace(other, Slot::Gone) {
                Slot::Failed(error) => Err(error),
                _ => Err(SourceError::Died { status: None, stderr: Vec::new() }),
            },
        };
        if result.is_err() {
            *slot = Slot::Gone;
        }
        result
    }
}

/// A helper that was started, in the namespace or on the way there.
#[derive(Debug)]
pub(crate) struct HelperProcess {
    conversation: Conversation,
    /// The launchers that can still be tried.
    ways: slice::Iter<'static, Way>,
    executable: Executable,
    require_sandbox: bool,
    patience: Patience,
    /// Known once it is ready.
    confinement: Option<Confinement>,
}

impl HelperProcess {
    /// Starts it and says `Hello`; the answer is awaited when it is first needed.
    fn start(
        roots: &[BorrowedFd<'_>],
        options: HelperOptions,
        patience: Patience,
        interrupt: &Interrupt,
    ) -> Result<HelperProcess, SourceError> {
        let executable = Executable::find()?;
        let mut ways = Way::of(options.launcher).iter();
        let conversation = begin(&mut ways, &executable, roots, patience, interrupt, None)?;
        Ok(HelperProcess {
            conversation,
            ways,
            executable,
            require_sandbox: options.require_sandbox,
            patience,
            confinement: None,
        })
    }

    /// A conversation with a peer that is no process of its own.
    #[cfg(test)]
    pub(in crate::access) fn over(conversation: Conversation, patience: Patience) -> HelperProcess {
        HelperProcess {
            conversation,
            ways: [].iter(),
            executable: Executable::Separate("/a/helper".into()),
            require_sandbox: false,
            patience,
            confinement: None,
        }
    }

    /// Waits for `Ready`, once; where this launcher did not do, and another may, through that one.
    pub(in crate::access) fn await_ready(&mut self, roots: &[BorrowedFd<'_>]) -> Result<(), SourceError> {
        while self.confinement.is_none() {
            match self.hear_ready() {
                Ok(confinement) => {
                    let missing = missing_layers(&confinement);
                    if self.require_sandbox && !missing.is_empty() {
                        return Err(SourceError::Unconfined { missing });
                    }
                    self.confinement = Some(confinement);
                }
                Err(error) => {
                    let error = cause(self.conversation.way(), error, &Seen::now());
                    let (executable, patience) = (&self.executable, self.patience);
                    let interrupt = self.conversation.interrupt().clone();
                    self.conversation = begin(&mut self.ways, executable, roots, patience, &interrupt, Some(error))?;
                }
            }
        }
        Ok(())
    }

    fn hear_ready(&mut self) -> Result<Confinement, SourceError> {
        let Patience { start, start_with_another, .. } = self.patience;
        let way = self.conversation.way();
        let patience = if self.ways.as_slice().is_empty() { start } else { start_with_another };
        let skew = |theirs| SourceError::Version { path: self.executable.path().into(), theirs };
        let (version, confinement) = match self.conversation.receive_first(patience)? {
            Reply::Ready(Ready { version, confinement }) => (version, confinement),
            Reply::Rejected(theirs) => return Err(skew(theirs)),
            _ => return Err(SourceError::Unexpected),
        };
        if version != VERSION {
            return Err(skew(VersionRange { min: version, max: version }));
        }
        tracing::debug!(launcher = way.described(), ?confinement, "the helper is ready");
        if !confinement.reads_everything() {
            return Err(SourceError::Powerless { launcher: way.described(), mapped_uids: confinement.mapped_uids });
        }
        if way != Way::None && (confinement.mapped_uids <= 1 || confinement.mapped_gids <= 1) {
            tracing::warn!(
                uids = confinement.mapped_uids,
                gids = confinement.mapped_gids,
                "the user namespace has no subordinate ids, so that files of other owners stay out of reach; \
                 see /etc/subuid and /etc/subgid"
            );
        }
        Ok(confinement)
    }

    /// What it said of itself, and which launcher carried it. Known within [`SharedHelper::with`].
    #[cfg(feature = "cli")]
    pub(crate) fn facts(&self) -> Option<(Confinement, Way)> {
        self.confinement.map(|confinement| (confinement, self.conversation.way()))
    }

    /// Asks for a layer directory.
    pub(in crate::access) fn ask_open_layer(
        &mut self,
        root: StoreIndex,
        id: LayerId,
        dir: LayerDir,
    ) -> Answer<LayerHandle> {
        self.conversation.send(&Request::OpenLayer { root, id, dir }, &[])?;
        match self.conversation.receive(0)? {
            (Reply::Layer(result), _) => Ok(result),
            _ => Err(SourceError::Unexpected),
        }
    }

    /// Asks for the tar-split file of a layer.
    pub(in crate::access) fn ask_open_tar_split(&mut self, root: StoreIndex, id: LayerId) -> Answer<OwnedFd> {
        self.conversation.send(&Request::OpenTarSplit { root, id }, &[])?;
        match self.conversation.receive(1)? {
            (Reply::TarSplit(Ok(())), mut fds) => fds.pop().map(Ok).ok_or(SourceError::Unexpected),
            (Reply::TarSplit(Err(refusal)), fds) if fds.is_empty() => Ok(Err(refusal)),
            _ => Err(SourceError::Unexpected),
        }
    }

    /// Gives a layer directory back.
    pub(in crate::access) fn ask_close_layer(&mut self, layer: LayerHandle) -> Result<(), SourceError> {
        self.conversation.send(&Request::CloseLayer { layer }, &[])?;
        match self.conversation.receive(0)? {
            (Reply::Closed, _) => Ok(()),
            _ => Err(SourceError::Unexpected),
        }
    }

    /// Asks for a directory's names.
    pub(in crate::access) fn ask_list(&mut self, layer: LayerHandle, name: Option<RelPath>) -> Answer<OwnedFd> {
        self.conversation.send(&Request::List { layer, name }, &[])?;
        match self.conversation.receive(1)? {
            (Reply::Listed(Ok(())), mut fds) => fds.pop().map(Ok).ok_or(SourceError::Unexpected),
            (Reply::Listed(Err(refusal)), fds) if fds.is_empty() => Ok(Err(refusal)),
            _ => Err(SourceError::Unexpected),
        }
    }

    /// Asks for sights of files.
    #[allow(clippy::type_complexity, reason = "the two halves of one reply")]
    pub(in crate::access) fn ask_look(
        &mut self,
        layer: LayerHandle,
        names: Vec<RelPath>,
    ) -> Result<(Vec<Result<(), Refusal>>, Vec<OwnedFd>), SourceError> {
        let asked = names.len();
        self.conversation.send(&Request::Look { layer, names }, &[])?;
        match self.conversation.receive(asked)? {
            (Reply::Seen(results), fds)
                if results.len() == asked && fds.len() == results.iter().filter(|result| result.is_ok()).count() =>
            {
                Ok((results, fds))
            }
            _ => Err(SourceError::Unexpected),
        }
    }

    /// Asks for the value of an attribute.
    pub(in crate::access) fn ask_user_xattr(
        &mut self,
        layer: LayerHandle,
        name: Option<RelPath>,
        key: Vec<u8>,
    ) -> Answer<Vec<u8>> {
        self.conversation.send(&Request::UserXattr { layer, name, key }, &[])?;
        match self.conversation.receive(0)? {
            (Reply::UserXattr(result), _) => Ok(result),
            _ => Err(SourceError::Unexpected),
        }
    }

    /// Asks for files; the answers come in the order of the questions, through [`Self::opened`].
    pub(in crate::access) fn ask_open(&mut self, layer: LayerHandle, names: Vec<RelPath>) -> Result<(), SourceError> {
        self.conversation.send(&Request::Open { layer, names }, &[])
    }

    /// The answer to the oldest [`Self::ask_open`] that has none yet.
    #[allow(clippy::type_complexity, reason = "the two halves of one reply")]
    pub(in crate::access) fn opened(
        &mut self,
        asked: usize,
    ) -> Result<(Vec<Result<(), Refusal>>, Vec<OwnedFd>), SourceError> {
        match self.conversation.receive(asked)? {
            (Reply::Opened(results), fds) => Ok((results, fds)),
            _ => Err(SourceError::Unexpected),
        }
    }
}

/// Starts a helper by the next way that leads to one, and says `Hello`. `failure` is what became of the way before, if
/// there was one; it is the error where no other may do better.
fn begin(
    ways: &mut slice::Iter<'static, Way>,
    executable: &Executable,
    roots: &[BorrowedFd<'_>],
    patience: Patience,
    interrupt: &Interrupt,
    mut failure: Option<SourceError>,
) -> Result<Conversation, SourceError> {
    let count = u8::try_from(roots.len()).ok().filter(|&count| usize::from(count) <= MAX_ROOTS);
    let roots_announced = count.ok_or(SourceError::TooManyRoots)?;
    let hello =
        Request::Hello { magic: MAGIC, versions: VersionRange { min: VERSION, max: VERSION }, roots: roots_announced };
    loop {
        let next = if failure.as_ref().is_none_or(another_way_may_do) { ways.next() } else { None };
        let Some(&way) = next else { return Err(failure.unwrap_or(SourceError::Unexpected)) };
        if let Some(reason) = &failure {
            tracing::warn!(%reason, "trying {} instead", way.name());
        }
        let begun = Conversation::start(way, executable, patience, interrupt)
            .and_then(|mut conversation| conversation.send(&hello, roots).map(|()| conversation));
        match begun {
            Ok(conversation) => return Ok(conversation),
            Err(error) => failure = Some(cause(way, error, &Seen::now())),
        }
    }
}

/// Only what lies with the launcher; a helper that dies would die again.
fn another_way_may_do(failure: &SourceError) -> bool {
    matches!(
        failure,
        SourceError::NoLauncher { .. }
            | SourceError::Spawn { .. }
            | SourceError::Silent { .. }
            | SourceError::Powerless { .. }
    )
}

/// The layers of the sandbox that do not hold. Empty if and only if [`Confinement::is_complete`].
pub(crate) fn missing_layers(confinement: &Confinement) -> Vec<&'static str> {
    [
        ("no_new_privs", confinement.no_new_privs),
        ("empty capability sets", confinement.regainable & !Confinement::DAC_READ_SEARCH == 0),
        ("ids that are nobody's", confinement.nobody),
        ("Landlock", confinement.landlock == Enforced::Fully),
        ("seccomp", confinement.seccomp),
    ]
    .into_iter()
    .filter_map(|(layer, holds)| (!holds).then_some(layer))
    .collect()
}
