//! Which part of a layer, and which kind of overlap, an error is about.

use std::fmt;

/// How a destination lies to a directory of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// It is that directory.
    Is,
    /// It is, or would be, somewhere below it.
    LiesIn,
    /// It is somewhere above it.
    Holds,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Overlap::Is => "is",
            Overlap::LiesIn => "lies in",
            Overlap::Holds => "holds",
        })
    }
}

/// A part of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerPart {
    /// The contents: `overlay/<id>/diff`.
    Diff,
    /// The headers: `overlay-layers/<id>.tar-split.gz`.
    TarSplit,
    /// The tar in an additional layer store: `blob`.
    Blob,
}

impl fmt::Display for LayerPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LayerPart::Diff => "diff directory",
            LayerPart::TarSplit => "tar-split file",
            LayerPart::Blob => "blob",
        })
    }
}
