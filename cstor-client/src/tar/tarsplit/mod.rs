//! tar-split: the description of a layer's tar from which podman rebuilds it (github.com/vbatts/tar-split).
//!
//! `line.rs` parses one line, `reader.rs` reads the file; what the lines mean together is in `tar/`.

mod line;
mod reader;

pub(crate) use line::Line;
pub use line::LineError;
pub use reader::TarSplitError;
pub(crate) use reader::TarSplitReader;
