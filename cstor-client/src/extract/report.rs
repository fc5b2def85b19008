//! What an extraction did, and what it had to leave out.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Regular files, hard links counted once.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Bytes of the files that share the store's extents.
    pub reflinked_bytes: u64,
    /// Bytes of the files that were read and written.
    pub copied_bytes: u64,
    /// Files that the helper opened.
    pub through_helper: u64,
    /// Files without a checksum: those of a container's own layer.
    pub without_checksum: u64,
    /// Whether every byte was checked against its checksum. Cloning reads nothing, so it checks nothing.
    pub verified: bool,
    /// What was left out.
    pub losses: Losses,
    /// What is left of the directory that was replaced, where not all of it could be removed. The result is complete.
    pub remainder: Option<PathBuf>,
}

/// What the result cannot have, and so was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Losses {
    /// Device nodes.
    pub devices: u64,
    /// Files and directories that lost a set-user-id or set-group-id bit.
    pub set_id: u64,
    /// File capabilities.
    pub capabilities: u64,
    /// Other extended attributes.
    pub xattrs: u64,
}

impl Losses {
    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        *self == Losses::default()
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            (self.devices, "device node", "device nodes"),
            (self.set_id, "set-id bit", "set-id bits"),
            (self.capabilities, "file capability", "file capabilities"),
            (self.xattrs, "extended attribute", "extended attributes"),
        ];
        let mut separator = "";
        for (count, one, several) in named.into_iter().filter(|(count, ..)| *count > 0) {
            write!(f, "{separator}{count} {}", if count == 1 { one } else { several })?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}

/// What the threads that place files count together.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) reflinked_bytes: AtomicU64,
    pub(super) copied_bytes: AtomicU64,
    pub(super) through_helper: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
