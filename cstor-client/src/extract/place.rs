//! Putting the plan into the staging directory, one pass after the other:
//! directories, files with their contents, links and special files, and last the metadata of directories, since
//! everything before changes their times and may need their permission.
//!
//! Every path is written once and under a name that did not exist; a directory is reached from the
//! staging directory through directories alone. Where contents come from is not decided here:
//! `from_chain.rs` and `from_streams.rs` do.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;

use rustix::fs::{Mode, OFlags, mkdirat, openat2};
use rustix::io::Errno;

use super::Options;
use super::clone::{Fill, FillError, Filled, Filler};
use super::error::ExtractError;
use super::meta::Policy;
use super::plan::{Plan, Step};
use super::report::Counters;
use crate::base::beneath::{CONFINED, open_dir};
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::tar::Content;
use crate::tree::{FinalTree, Inode, InodeId, InodeKind};

/// Everything that placing needs to know, except where contents come from.
pub(super) struct Placer<'a> {
    pub(super) tree: &'a FinalTree,
    pub(super) plan: &'a Plan<'a>,
    pub(super) options: &'a Options,
    pub(super) policy: Policy,
    pub(super) root: BorrowedFd<'a>,
    pub(super) counters: &'a Counters,
    pub(super) progress: &'a dyn Progress,
    pub(super) interrupt: &'a Interrupt,
}

/// A file that is to be placed.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    /// Its directory, by its place in the plan.
    pub(super) dir: usize,
    pub(super) name: &'a [u8],
    pub(super) id: InodeId,
    pub(super) inode: &'a Inode,
}

impl File<'_> {
    /// What it is to contain.
    pub(super) fn content(&self) -> Content {
        match *self.inode.kind() {
            InodeKind::File { size, crc, digest } => Content { size, crc, digest },
            // Only files are placed as such.
            _ => Content { size: 0, crc: None, digest: None },
        }
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.content().size
    }
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
        for (place, dir) in self.plan.dirs.iter().enumerate() {
            let mut children = self.tree.children(dir.inode).filter(|(_, id)| self.tree.inode(*id).is_dir()).peekable();
            if children.peek().is_none() {
                continue;
            }
            let fd = self.open(place)?;
            for (name, _) in children {
                self.check_interrupt()?;
                // Private until it is complete.
                mkdirat(&fd, name, Mode::from(0o700))
                    .map_err(|errno| self.failed_at(place, name, "create a directory", errno))?;
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
        let counter = match filler.fill(Fill { from, start: 0, to, content: file.content() }, uncloneable)? {
            Filled::Cloned => &self.counters.reflinked_bytes,
            Filled::Copied => &self.counters.copied_bytes,
        };
        Counters::add(counter, file.size());
        Ok(())
    }

    /// Sets the metadata of directories, the deepest first; that of the root last.
    fn finish_dirs(&self) -> Result<(), ExtractError> {
        for (place, dir) in self.plan.dirs.iter().enumerate().rev() {
            self.check_interrupt()?;
            let fd = self.open(place)?;
            let meta = self.tree.inode(dir.inode).meta();
            let applied = self.policy.apply(fd.as_fd(), meta, true);
            applied.map_err(|(action, errno)| ExtractError::destination(&self.plan.path(place), action, errno))?;
        }
        Ok(())
    }

    pub(super) fn filler(&self) -> Filler<'a> {
        Filler::new(self.options.reflink, self.options.verify, self.interrupt)
    }

    /// The files of a directory that have contents of their own, ordered by layer.
    pub(super) fn files_of(&self, place: usize) -> Vec<File<'a>> {
        let dir = self.plan.dir(place);
        let file = |(name, id): (&'a [u8], InodeId)| {
            let inode = self.tree.inode(id);
            match self.plan.step(inode, id, place, name, self.options.devices) {
                Step::File => Some(File { dir: place, name, id, inode }),
                _ => None,
            }
        };
        let mut files: Vec<_> = self.tree.children(dir.inode).filter_map(file).collect();
        files.sort_by_key(|file| file.inode.layer());
        files
    }

    /// Opens a directory of the result by its place in the plan.
    pub(super) fn open(&self, place: usize) -> Result<OwnedFd, ExtractError> {
        let path = self.plan.path(place);
        open_dir(self.root, &path).map_err(|errno| ExtractError::destination(&path, "open a directory", errno))
    }

    pub(super) fn check_interrupt(&self) -> Result<(), ExtractError> {
        Ok(self.interrupt.check()?)
    }

    pub(super) fn failed_at(&self, place: usize, name: &[u8], action: &'static str, errno: Errno) -> ExtractError {
        ExtractError::destination(&self.plan.path_of(place, name), action, errno)
    }

    /// The path of a file in the result.
    pub(super) fn path(&self, file: &File<'_>) -> Vec<u8> {
        self.plan.path_of(file.dir, file.name)
    }
}
