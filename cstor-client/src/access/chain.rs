//! The layers that one operation reads, from the base up, opened for it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use cstor_proto::{LayerId, Refusal};

use super::helper::SharedHelper;
use super::{Access, Escalating};
use crate::base::account::Account;
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::store::chain::{self, ChainLayer};
use crate::store::{LayerPart, LayerRecord, Store, StoreError};

/// Layers from the base up, each with the descriptors that could be opened while the store was locked.
pub(crate) struct Chain {
    access: Access,
    account: Account,
    layers: Vec<ChainLayer>,
}

impl Chain {
    /// Opens the chain below `top` in one locked moment, after `check` has approved of it.
    pub(crate) fn open(
        access: &Access,
        top: Option<LayerId>,
        check: impl Fn(&[Arc<LayerRecord>]) -> Result<(), StoreError>,
    ) -> Result<Chain, StoreError> {
        check(&chain::records(&*access.snapshot()?, top)?)?;
        let account = access.account()?;
        let layers = chain::open_layers(access.store(), access.interrupt(), |now| chain::records(now, top))?;
        Ok(Chain { access: access.clone(), account, layers })
    }

    /// Opens one layer without those below it.
    pub(crate) fn open_one(access: &Access, id: LayerId) -> Result<Chain, StoreError> {
        let account = access.account()?;
        let layers = chain::open_layers(access.store(), access.interrupt(), |now| {
            let record = now.layer(id).ok_or(StoreError::Vanished { layer: id })?;
            Ok(vec![Arc::clone(record)])
        })?;
        Ok(Chain { access: access.clone(), account, layers })
    }

    /// The layers, the base first.
    pub(crate) fn layers(&self) -> &[ChainLayer] {
        &self.layers
    }

    pub(crate) fn store(&self) -> &Store {
        self.access.store()
    }

    /// What stops the operation.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        self.access.interrupt()
    }

    /// Who is told how the operation comes along.
    pub(crate) fn progress(&self) -> &dyn Progress {
        self.access.progress()
    }

    /// What the operation may keep in memory.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// What opens the files of the layers. An operation makes one, since what it has open is worth keeping.
    pub(crate) fn source(&self) -> Escalating {
        Escalating::new(&self.access)
    }

    /// Whether a helper runs for the store, or may still be started.
    pub(crate) fn can_be_helped(&self) -> bool {
        self.access.helper.as_ref().is_some_and(SharedHelper::can_help)
    }

    /// Takes the description of the layer at `place`; `None` if it was not opened with the others.
    pub(crate) fn take_description(&mut self, place: usize) -> Option<OwnedFd> {
        self.layers.get_mut(place)?.description.take()
    }

    /// Opens the table of contents of a layer.
    pub(crate) fn open_toc(&self, record: &LayerRecord) -> Result<OwnedFd, StoreError> {
        chain::open_toc(self.store(), record, self.interrupt())
    }

    /// Whether podman has removed a layer since the chain was opened, or is about to.
    pub(crate) fn is_lost(&self, record: &LayerRecord) -> bool {
        chain::is_lost(self.store(), record, self.interrupt())
    }

    /// The error for a part of a layer that cannot be opened.
    pub(crate) fn refused(&self, record: &LayerRecord, part: LayerPart, refusal: Refusal) -> StoreError {
        chain::refused(self.store(), record, self.interrupt(), (part, refusal))
    }
}
