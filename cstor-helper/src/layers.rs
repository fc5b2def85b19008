//! The layer directories that one client holds open, by handle.

use cstor_proto::{LayerHandle, MAX_HANDLES};
use rustix::fd::OwnedFd;

/// A table with room for [`MAX_HANDLES`] directories; a handle is a place in it.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    places: Vec<Option<OwnedFd>>,
}

impl Layers {
    /// A free handle, or `None` when the table is full.
    pub(crate) fn free_handle(&self) -> Option<LayerHandle> {
        let place = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        if place < MAX_HANDLES { u16::try_from(place).ok().map(LayerHandle) } else { None }
    }

    /// Puts a directory at a free handle.
    pub(crate) fn insert(&mut self, handle: LayerHandle, dir: OwnedFd) {
        let place = usize::from(handle.0);
        if place == self.places.len() {
            self.places.push(Some(dir));
        } else if let Some(free) = self.places.get_mut(place) {
            *free = Some(dir);
        }
    }

    /// The directory at a handle.
    pub(crate) fn get(&self, handle: LayerHandle) -> Option<&OwnedFd> {
        self.places.get(usize::from(handle.0))?.as_ref()
    }

    /// Closes the directory at a handle; `None` if there is none.
    pub(crate) fn remove(&mut self, handle: LayerHandle) -> Option<OwnedFd> {
        self.places.get_mut(usize::from(handle.0))?.take()
    }
}
