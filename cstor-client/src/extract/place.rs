//! Putting the plan into the staging directory, one pass after the other:
//! directories, files with their contents, links and special files, and last the metadata of directories, since
//! everything before changes their times and may need their permission.
//!
//! Every path is written once and under a name that did not exist; a directory is reached from the
//! staging directory through directories alone. Where contents come from is not decided here:
//! `from_chain.rs` and `from_streams.rs` do.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, mkdirat, openat2};
use rustix::io::Errno;

use super::Options;
use super::clone::{Fill, FillError, Filled, Filler};
use super::destination::{CONFINED, open_dir};
use super::error::ExtractError;
use super::meta::Policy;
use super::plan::{Plan, PlannedDir, Step};
use super::report::{Counters, Progress};
use crate::entry::Content;
use crate::merge::{FinalTree, Inode, InodeId, join};

/// Everything that placing needs to know, except where contents come from.
pub(super) struct Placer<'a> {
    pub(super) tree: &'a FinalTree,
    pub(super) plan: &'a Plan,
    pub(super) options: &'a Options,
    pub(super) policy: Policy,
    pub(super) root: BorrowedFd<'a>,
    pub(super) counters: &'a Counters,
    pub(super) progress: &'a dyn Progress,
    pub(super) interrupt: &'a AtomicBool,
}

/// A file that is to be placed.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    /// Its directory, by its place in the plan.
    pub(super) dir: usize,
    pub(super) name: &'a [u8],
    pub(super) id: InodeId,
    pub(super) inode: &'a Inode,
    pub(super) size: u64,
    pub(super) content: Content,
}

impl<'a> Placer<'a> {
    /// Places everything; `files` places the files, of which [`Self::files_of`] tells.
    pub(super) fn place(&self, files: impl FnOnce() -> Result<(), ExtractError>) -> Result<(), ExtractError> {
        self.place_dirs()?;
        files()?;
        self.place_links()?;
        self.finish_dirs()
    }

    fn place_dirs(&self) -> Result<(), ExtractError> {
        for dir in &self.plan.dirs {
            let mut children = self.tree.children(dir.inode).filter(|(_, id)| self.tree.inode(*id).is_dir()).peekable();
            if children.peek().is_none() {
                continue;
            }
            self.check_interrupt()?;
            let fd = self.open(dir)?;
            for (name, _) in children {
                // Private until it is complete.
                mkdirat(&fd, name, Mode::from(0o700))
                    .map_err(|errno| self.failed_at(dir, name, "create a directory", errno))?;
            }
        }
        Ok(())
    }

    /// Creates one file, lets `fill` give it its contents, and gives it its metadata.
    pub(super) fn place_file(
        &self,
        parent: BorrowedFd<'_>,
        file: &File<'_>,
        fill: impl FnOnce(BorrowedFd<'_>) -> Result<(), FillError>,
    ) -> Result<(), FillError> {
        let meta = file.inode.meta();
        let (mode, change_mode) = self.policy.creation_mode(meta);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let created = openat2(parent, file.name, flags, mode, CONFINED)
            .map_err(|errno| FillError::Destination("create a file", errno))?;
        fill(created.as_fd())?;
        let applied = self.policy.apply(created.as_fd(), meta, change_mode);
        applied.map_err(|(action, errno)| FillError::Destination(action, errno))
    }

    /// Fills a file with all of another one, which has its size.
    pub(super) fn fill(
        &self,
        file: &File<'_>,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        filler: &mut Filler<'_>,
        uncloneable: &AtomicBool,
    ) -> Result<(), FillError> {
        let counter = match filler.fill(Fill { from, start: 0, to, content: file.content }, uncloneable)? {
            Filled::Cloned => &self.counters.reflinked_bytes,
            Filled::Copied => &self.counters.copied_bytes,
        };
        Counters::add(counter, file.size);
        Ok(())
    }

    /// Sets the metadata of directories, the deepest first; that of the root last.
    fn finish_dirs(&self) -> Result<(), ExtractError> {
        for dir in self.plan.dirs.iter().rev() {
            self.check_interrupt()?;
            let fd = self.open(dir)?;
            let meta = self.tree.inode(dir.inode).meta();
            let applied = self.policy.apply(fd.as_fd(), meta, true);
            applied.map_err(|(action, errno)| ExtractError::destination(&dir.path, action, errno))?;
        }
        Ok(())
    }

    pub(super) fn filler(&self) -> Filler<'a> {
        Filler::new(self.options.reflink, self.options.verify, self.interrupt)
    }

    /// The files of a directory that have contents of their own, ordered by layer.
    pub(super) fn files_of(&self, place: usize) -> Vec<File<'a>> {
        let dir = self.dir(place);
        let file = |(name, id): (&'a [u8], InodeId)| {
            let inode = self.tree.inode(id);
            match self.plan.step(inode, id, place, name, self.options.devices) {
                Step::File(content) => Some(File { dir: place, name, id, inode, size: content.size, content }),
                _ => None,
            }
        };
        let mut files: Vec<_> = self.tree.children(dir.inode).filter_map(file).collect();
        files.sort_by_key(|file| file.inode.layer());
        files
    }

    #[allow(clippy::indexing_slicing, reason = "places come from the plan's own list")]
    pub(super) fn dir(&self, place: usize) -> &'a PlannedDir {
        &self.plan.dirs[place]
    }

    pub(super) fn open(&self, dir: &PlannedDir) -> Result<OwnedFd, ExtractError> {
        open_dir(self.root, &dir.path).map_err(|errno| ExtractError::destination(&dir.path, "open a directory", errno))
    }

    pub(super) fn check_interrupt(&self) -> Result<(), ExtractError> {
        if self.interrupt.load(Ordering::Relaxed) { Err(ExtractError::Interrupted) } else { Ok(()) }
    }

    pub(super) fn failed_at(&self, dir: &PlannedDir, name: &[u8], action: &'static str, errno: Errno) -> ExtractError {
        ExtractError::destination(&join(&dir.path, name), action, errno)
    }

    /// The path of a file in the result.
    pub(super) fn path(&self, file: &File<'_>) -> Vec<u8> {
        join(&self.dir(file.dir).path, file.name)
    }
}
