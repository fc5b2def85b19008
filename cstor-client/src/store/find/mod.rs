//! What a reference means: which of the records it names.

pub(crate) mod container;
pub(crate) mod image;
pub(crate) mod layer;
