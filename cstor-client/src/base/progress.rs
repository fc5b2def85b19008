//! How an operation comes along, told while it runs.

use std::sync::Arc;

/// Is told how an operation comes along, from any of its threads.
pub trait Progress: Send + Sync {
    /// One more layer was read: its number from 1, of how many, and how many members it has.
    fn layer_read(&self, layer: usize, layers: usize, entries: u64) {
        let _ = (layer, layers, entries);
    }

    /// It is known what there is to do, in files and in bytes of their contents. An operation that cannot know it says
    /// nothing.
    fn planned(&self, files: u64, bytes: u64) {
        let _ = (files, bytes);
    }

    /// Some more is done, in files and in bytes of their contents.
    fn advanced(&self, files: u64, bytes: u64) {
        let _ = (files, bytes);
    }
}

impl<P: Progress + ?Sized> Progress for Arc<P> {
    fn layer_read(&self, layer: usize, layers: usize, entries: u64) {
        (**self).layer_read(layer, layers, entries);
    }

    fn planned(&self, files: u64, bytes: u64) {
        (**self).planned(files, bytes);
    }

    fn advanced(&self, files: u64, bytes: u64) {
        (**self).advanced(files, bytes);
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
