//! splitdirfdstream: the sibling format, which names files below open directories instead of passing each open.
//!
//! A chunk begins with its type: 0 for bytes of the tar that are no contents, 1 for contents, both with a
//! length of 32 bits; 2 for a file: its size (64 bits), its directory's number, the length of its name
//! (32 bits each) and the name. All numbers are little-endian. It is composefs-rs's successor of
//! splitfdstream; see `docs/formats/splitfdstream.md`.

mod read;
mod untar;
mod write;

pub use read::{Piece, Reader};
pub use untar::reconstruct;
pub use write::Writer;

use super::BadName;

/// The longest name of a file.
pub const MAX_NAME: usize = 4096;

const METADATA: u8 = 0;
const INLINE: u8 = 1;
const FILE: u8 = 2;

/// A name below a directory: no zero byte, no way up, not from the root.
fn check_name(name: &[u8]) -> Result<(), BadName> {
    if name.is_empty() {
        return Err(BadName::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(BadName::Long(u32::try_from(name.len()).unwrap_or(u32::MAX)));
    }
    if name.starts_with(b"/") {
        return Err(BadName::Absolute);
    }
    if name.contains(&0) {
        return Err(BadName::Nul);
    }
    if name.split(|&byte| byte == b'/').any(|component| component == b"..") {
        return Err(BadName::Parent);
    }
    Ok(())
}
