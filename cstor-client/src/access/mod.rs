//! Who opens the files of a layer: this process itself, or the helper where it may not.
//!
//! A source is asked for files by name and gives descriptors; what is done with them is not its concern.

mod chain;
mod direct;
mod escalating;
pub(crate) mod helper;
#[cfg(test)]
mod hostile;
mod proxied;
mod received;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cstor_proto::{Refusal, RelPath};

pub(crate) use chain::Chain;
pub(crate) use direct::Direct;
pub(crate) use escalating::{Escalating, worth_asking};
pub(crate) use proxied::Proxied;
#[cfg(fuzzing)]
pub use received::take_answer;

use crate::base::account::Account;
use crate::base::interrupt::Interrupt;
use crate::base::progress::{Progress, Silent};
use crate::store::chain::{ChainLayer, ContentsDir};
use crate::store::{ContainerRecord, Snapshot, Store, StoreError};
use helper::{SharedHelper, SourceError};

/// What an operation reads with: the store, who opens what this process may not, what stops it, who hears how it
/// comes along, and what it may keep in memory.
#[derive(Clone)]
pub(crate) struct Access {
    store: Arc<Store>,
    helper: Option<SharedHelper>,
    interrupt: Interrupt,
    progress: Arc<dyn Progress>,
    /// In bytes; `None` for the default.
    memory_limit: Option<u64>,
}

impl Access {
    /// To a store, by this process alone.
    pub(crate) fn new(store: Store) -> Access {
        let (store, progress) = (Arc::new(store), Arc::new(Silent));
        Access { store, helper: None, interrupt: Interrupt::new(), progress, memory_limit: None }
    }

    /// The same access with another helper, or without one.
    pub(crate) fn helped_by(self, helper: Option<SharedHelper>) -> Access {
        Access { helper, ..self }
    }

    /// The same access under another interrupt.
    pub(crate) fn interrupted_by(self, interrupt: Interrupt) -> Access {
        Access { interrupt, ..self }
    }

    /// The same access, reporting to `progress`.
    pub(crate) fn reporting_to(self, progress: Arc<dyn Progress>) -> Access {
        Access { progress, ..self }
    }

    /// The same access with so many bytes of memory for each operation.
    pub(crate) fn limited_to(self, bytes: u64) -> Access {
        Access { memory_limit: Some(bytes.max(1)), ..self }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    pub(crate) fn progress(&self) -> &dyn Progress {
        &*self.progress
    }

    pub(crate) fn helper(&self) -> Option<&SharedHelper> {
        self.helper.as_ref()
    }

    /// An account for one operation.
    pub(crate) fn account(&self) -> Result<Account, StoreError> {
        Ok(Account::open(self.memory_limit)?)
    }

    /// What the store says now.
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        self.store.snapshot(&self.interrupt)
    }

    /// The containers that are listed now.
    pub(crate) fn containers(&self) -> Result<Vec<Arc<ContainerRecord>>, StoreError> {
        self.store.containers(&self.interrupt)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("helper", &self.helper).finish_non_exhaustive()
    }
}

/// What comes of one question: an error ends everything, a [`Refusal`] nothing.
pub(crate) type Answer<T> = Result<Result<T, Refusal>, SourceError>;
/// What comes of as many questions at once, in their order.
pub(crate) type Answers<T> = Result<Vec<Result<T, Refusal>>, SourceError>;

/// Who opened a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// This process.
    Direct,
    /// The helper.
    Helper,
}

/// A regular file, open for reading.
#[derive(Debug)]
pub(crate) struct OpenedFile {
    pub(crate) fd: OwnedFd,
    /// As the kernel says after the open.
    pub(crate) size: u64,
    pub(crate) by: By,
}

/// Replaces the refusals that are worth it by the answers to a second question.
fn ask_again<T>(
    results: &mut [Result<T, Refusal>],
    wanted: &[RelPath],
    worth: impl Fn(Refusal) -> bool,
    ask: impl FnOnce(&[RelPath]) -> Answers<T>,
) -> Result<(), SourceError> {
    let refused = |result: &Result<T, Refusal>| matches!(result, Err(refusal) if worth(*refusal));
    let again: Vec<RelPath> =
        results.iter().zip(wanted).filter(|(result, _)| refused(result)).map(|(_, file)| file.clone()).collect();
    if again.is_empty() {
        return Ok(());
    }
    let places = results.iter_mut().filter(|result| refused(result));
    for (place, answer) in places.zip(ask(&again)?) {
        *place = answer;
    }
    Ok(())
}

/// Opens the files and the description of layers.
pub(crate) trait FileSource {
    /// Opens files by their places in one directory; one result for each, in order. An error ends everything, a
    /// refusal nothing.
    fn open_in(&mut self, dir: &ContentsDir, wanted: &[RelPath]) -> Answers<OpenedFile>;

    /// Opens files by their places in one layer. What one of its directories has not, the next one may have.
    fn open_batch(&mut self, layer: &ChainLayer, wanted: &[RelPath]) -> Answers<OpenedFile> {
        let mut results: Vec<_> = wanted.iter().map(|_| Err(Refusal::NotFound)).collect();
        for dir in &layer.dirs {
            ask_again(&mut results, wanted, |refusal| refusal == Refusal::NotFound, |names| self.open_in(dir, names))?;
        }
        Ok(results)
    }

    /// Opens the tar-split file of a layer.
    fn open_tar_split(&mut self, layer: &ChainLayer) -> Answer<OwnedFd>;
}

/// Looks around in the directories of a layer, where no description says what there is.
pub(crate) trait DirSource {
    /// Opens a directory for reading its names; `None` stands for the layer's own.
    fn list(&mut self, dir: &ContentsDir, name: Option<&RelPath>) -> Answer<OwnedFd>;

    /// Opens files of any kind with `O_PATH`; one result for each, in order.
    fn look(&mut self, dir: &ContentsDir, names: &[RelPath]) -> Answers<OwnedFd>;
}
