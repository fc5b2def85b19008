//! Putting the plan into the staging directory, one pass after the other:
//! directories, files by several threads, what the helper must open, links and special files, and last the
//! metadata of directories, since everything before changes their times and may need their permission.
//!
//! Every path is written once and under a name that did not exist; a directory is reached from the
//! staging directory through directories alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use cstor_proto::{Refusal, RelPath};
use rustix::fs::{AtFlags, Mode, OFlags, ioctl_ficlone, mkdirat, openat2, unlinkat};
use rustix::io::Errno;

use super::Options;
use super::clone::{Fill, FillError, Filled, Filler};
use super::destination::{CONFINED, open_dir};
use super::error::ExtractError;
use super::meta::Policy;
use super::plan::{Plan, PlannedDir, Step, join, source_path};
use super::report::{Counters, Progress};
use crate::chain::{Chain, ChainLayer};
use crate::error::Error;
use crate::layer::{ContentProblem, ReadError};
use crate::merge::{FinalTree, Inode, InodeId};
use crate::source::{By, Direct, Escalating, FileSource, OpenedFile, Proxied, SharedHelper, worth_asking};

/// Directories that a thread takes at a time.
const DIRS_A_TURN: usize = 16;
/// Files that a thread has open at a time.
const FILES_A_TURN: usize = 8;

/// Everything that placing needs to know.
pub(super) struct Placer<'a> {
    pub(super) tree: &'a FinalTree,
    pub(super) chain: &'a Chain,
    pub(super) plan: &'a Plan,
    pub(super) options: &'a Options,
    pub(super) policy: Policy,
    pub(super) root: BorrowedFd<'a>,
    pub(super) counters: &'a Counters,
    pub(super) progress: &'a dyn Progress,
    pub(super) interrupt: &'a AtomicBool,
    /// For each layer, whether its file system turned out not to clone to this one.
    pub(super) uncloneable: Vec<AtomicBool>,
    /// Tells the other threads that one has failed.
    pub(super) failed: AtomicBool,
}

/// A file that is to be placed.
#[derive(Clone, Copy)]
struct File<'a> {
    dir: usize,
    name: &'a [u8],
    inode: &'a Inode,
    size: u64,
    crc: Option<u64>,
}

impl<'a> Placer<'a> {
    /// Places everything but the root's own metadata.
    pub(super) fn place(&self, source: &mut Escalating, threads: usize) -> Result<(), ExtractError> {
        self.place_dirs()?;
        let mut refused = self.place_files_directly(source, threads)?;
        if let Some(proxied) = source.proxied() {
            self.place_files_through_helper(proxied, &mut refused)?;
        }
        self.place_links()?;
        self.finish_dirs()
    }

    /// Clones one file of the image, and removes it again, to learn whether the file systems can.
    pub(super) fn probe_clone(&self, source: &mut Escalating, destination: &Path) -> Result<(), ExtractError> {
        const PROBE: &str = "probe";
        let mut files = (0..self.plan.dirs.len()).flat_map(|place| self.files_of(place));
        let Some(file) = files.find(|file| file.size > 0) else { return Ok(()) };
        let Some(layer) = self.chain.layers().get(file.inode.layer()) else { return Ok(()) };
        let opened = source.open_batch(layer, &self.wanted(&[file])?)?.pop().unwrap_or(Err(Refusal::NotFound));
        let opened = opened.map_err(|refusal| self.unreadable(layer, &file, refusal))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let failed = |action| move |errno| ExtractError::destination(PROBE.as_bytes(), action, errno);
        let probe = openat2(self.root, PROBE, flags, Mode::from(0o600), CONFINED).map_err(failed("create a file"))?;
        let cloned = ioctl_ficlone(&probe, &opened.fd);
        unlinkat(self.root, PROBE, AtFlags::empty()).map_err(failed("remove a file"))?;
        cloned.map_err(|errno| ExtractError::NoReflink { path: destination.into(), source: errno.into() })
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

    /// Places what this process may read; gives what it may not.
    fn place_files_directly(&self, source: &Escalating, threads: usize) -> Result<Vec<File<'a>>, ExtractError> {
        let next = AtomicUsize::new(0);
        let refused = Mutex::new(Vec::new());
        let work = || {
            let mut worker = Worker {
                placer: self,
                direct: source.direct(self.chain.shared()),
                filler: self.filler(),
                refused: Vec::new(),
            };
            let result = worker.take_turns(&next);
            if result.is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            refused.lock().unwrap_or_else(PoisonError::into_inner).append(&mut worker.refused);
            result
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut result = work();
            for other in others {
                // A thread that panicked has said so itself.
                let other = other.join().unwrap_or(Err(ExtractError::Interrupted));
                result = result.and(other);
            }
            result
        })?;
        Ok(refused.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Places what the helper must open: layer by layer, in batches of what may be in flight.
    fn place_files_through_helper(&self, proxied: &mut Proxied, files: &mut [File<'a>]) -> Result<(), ExtractError> {
        files.sort_by_key(|file| (file.inode.layer(), file.dir));
        let mut filler = self.filler();
        let mut parent: Option<(usize, OwnedFd)> = None;
        for of_layer in files.chunk_by(|a, b| a.inode.layer() == b.inode.layer()) {
            for batch in of_layer.chunks(proxied.window()) {
                let Some(layer) = batch.first().and_then(|file| self.chain.layers().get(file.inode.layer())) else {
                    continue;
                };
                let opened = proxied.open_batch(layer, &self.wanted(batch)?)?;
                for (file, opened) in batch.iter().zip(opened) {
                    self.check_interrupt()?;
                    let opened = opened.map_err(|refusal| self.unreadable(layer, file, refusal))?;
                    let fd = match parent.take() {
                        Some((place, fd)) if place == file.dir => fd,
                        _ => self.open(self.dir(file.dir))?,
                    };
                    self.place_file(fd.as_fd(), file, Some(opened), &mut filler)?;
                    self.progress.placed(1, file.size);
                    parent = Some((file.dir, fd));
                }
            }
        }
        Ok(())
    }

    /// Creates one file, fills it and gives it its metadata.
    fn place_file(
        &self,
        parent: BorrowedFd<'_>,
        file: &File<'_>,
        opened: Option<OpenedFile>,
        filler: &mut Filler,
    ) -> Result<(), ExtractError> {
        let dir = self.dir(file.dir);
        let failed = |action, errno| self.failed_at(dir, file.name, action, errno);
        let meta = file.inode.meta();
        let (mode, change_mode) = self.policy.creation_mode(meta);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let created =
            openat2(parent, file.name, flags, mode, CONFINED).map_err(|errno| failed("create a file", errno))?;
        if let Some(opened) = opened {
            self.fill(&created, file, opened, filler)?;
        }
        self.policy.apply(created.as_fd(), meta, change_mode).map_err(|(action, errno)| failed(action, errno))
    }

    fn fill(
        &self,
        created: &OwnedFd,
        file: &File<'_>,
        opened: OpenedFile,
        filler: &mut Filler,
    ) -> Result<(), ExtractError> {
        if opened.size != file.size {
            return Err(self.damaged(file, ContentProblem::Size { found: opened.size, wanted: file.size }));
        }
        let fill = Fill { from: opened.fd.as_fd(), to: created.as_fd(), size: file.size, crc: file.crc };
        let never = AtomicBool::new(false);
        let uncloneable = self.uncloneable.get(file.inode.layer()).unwrap_or(&never);
        match filler.fill(fill, uncloneable) {
            Ok(Filled::Cloned) => Counters::add(&self.counters.reflinked_bytes, file.size),
            Ok(Filled::Copied) => Counters::add(&self.counters.copied_bytes, file.size),
            Err(FillError::Source(problem)) => return Err(self.damaged(file, problem)),
            Err(FillError::Destination(action, errno)) => {
                return Err(self.failed_at(self.dir(file.dir), file.name, action, errno));
            }
        }
        if opened.by == By::Helper {
            Counters::add(&self.counters.through_helper, 1);
        }
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

    fn filler(&self) -> Filler {
        Filler::new(self.options.reflink, self.options.verify)
    }

    fn wanted(&self, files: &[File<'_>]) -> Result<Vec<RelPath>, ExtractError> {
        let wanted = files.iter().map(|file| source_path(&self.dir(file.dir).path, file.name));
        wanted.collect()
    }

    /// The files of a directory that have contents of their own, ordered by layer.
    fn files_of(&self, place: usize) -> Vec<File<'a>> {
        let dir = self.dir(place);
        let file = |(name, id): (&'a [u8], InodeId)| {
            let inode = self.tree.inode(id);
            match self.plan.step(inode, id, place, name, self.options.devices) {
                Step::File { size, crc } => Some(File { dir: place, name, inode, size, crc }),
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

    fn damaged(&self, file: &File<'_>, problem: ContentProblem) -> ExtractError {
        let path = join(&self.dir(file.dir).path, file.name);
        match self.chain.layers().get(file.inode.layer()) {
            Some(layer) => {
                let layer = layer.record.id;
                Error::from(ReadError { layer, name: Some(path), problem: problem.into() }).into()
            }
            None => ExtractError::destination(&path, "find its layer", Errno::NOENT),
        }
    }

    /// A file that cannot be opened is damage, unless its layer has been removed meanwhile.
    fn unreadable(&self, layer: &ChainLayer, file: &File<'_>, refusal: Refusal) -> ExtractError {
        let gone = refusal == Refusal::NotFound && self.chain.has_lost(layer);
        self.damaged(file, if gone { ContentProblem::Vanished } else { ContentProblem::Refused(refusal) })
    }
}

/// One thread that places files.
struct Worker<'p, 'a> {
    placer: &'p Placer<'a>,
    /// None where everything goes through the helper.
    direct: Option<Direct>,
    filler: Filler,
    refused: Vec<File<'a>>,
}

impl Worker<'_, '_> {
    /// Takes some directories after others until there are none left, or another thread has failed.
    fn take_turns(&mut self, next: &AtomicUsize) -> Result<(), ExtractError> {
        loop {
            let start = next.fetch_add(DIRS_A_TURN, Ordering::Relaxed);
            if start >= self.placer.plan.dirs.len() {
                return Ok(());
            }
            for place in start..(start + DIRS_A_TURN).min(self.placer.plan.dirs.len()) {
                self.place_files(place)?;
            }
        }
    }

    fn place_files(&mut self, place: usize) -> Result<(), ExtractError> {
        let placer = self.placer;
        let files = placer.files_of(place);
        if files.is_empty() {
            return Ok(());
        }
        let parent = placer.open(placer.dir(place))?;
        let (mut placed, mut bytes) = (0, 0);
        for of_layer in files.chunk_by(|a, b| a.inode.layer() == b.inode.layer()) {
            for batch in of_layer.chunks(FILES_A_TURN) {
                placer.check_interrupt()?;
                if placer.failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                for (file, opened) in batch.iter().zip(self.open(batch)?) {
                    match opened {
                        Err(refusal) if worth_asking(refusal) && self.may_escalate() => self.refused.push(*file),
                        Err(refusal) => {
                            let layer = placer.chain.layers().get(file.inode.layer());
                            return Err(layer
                                .map_or(ExtractError::Interrupted, |layer| placer.unreadable(layer, file, refusal)));
                        }
                        Ok(opened) => {
                            placer.place_file(parent.as_fd(), file, opened, &mut self.filler)?;
                            placed += 1;
                            bytes += file.size;
                        }
                    }
                }
            }
        }
        placer.progress.placed(placed, bytes);
        Ok(())
    }

    fn may_escalate(&self) -> bool {
        self.placer.chain.shared().helper.as_ref().is_some_and(SharedHelper::can_help)
    }

    /// Opens the contents of files of one layer; an empty file has none to open.
    fn open(&mut self, batch: &[File<'_>]) -> Result<Vec<Result<Option<OpenedFile>, Refusal>>, ExtractError> {
        let with_contents: Vec<File<'_>> = batch.iter().filter(|file| file.size > 0).copied().collect();
        let layer = batch.first().and_then(|file| self.placer.chain.layers().get(file.inode.layer()));
        let mut opened = match (&mut self.direct, layer) {
            (Some(direct), Some(layer)) => direct.open_batch(layer, &self.placer.wanted(&with_contents)?)?,
            _ => with_contents.iter().map(|_| Err(Refusal::Denied)).collect(),
        }
        .into_iter();
        let each = batch.iter().map(|file| match file.size {
            0 => Ok(None),
            _ => opened.next().unwrap_or(Err(Refusal::NotFound)).map(Some),
        });
        Ok(each.collect())
    }
}
