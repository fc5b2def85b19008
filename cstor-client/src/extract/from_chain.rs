//! Contents of planned files out of the store: what this process may open by several threads, and then what the
//! helper must open, layer by layer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use cstor_proto::{Refusal, RelPath};
use rustix::fs::{AtFlags, Mode, OFlags, ioctl_ficlone, openat2, unlinkat};
use rustix::io::Errno;

use super::clone::{FillError, Filler};
use super::error::ExtractError;
use super::place::{File, Placer};
use super::plan::source_path;
use super::report::Counters;
use crate::access::{By, Chain, Direct, Escalating, FileSource, OpenedFile, Proxied, worth_asking};
use crate::base::beneath::CONFINED;
use crate::base::parallel::start_helpers;
use crate::base::path::join;
use crate::contents::{ContentProblem, ImageError, ReadError};
use crate::store::chain::ChainLayer;

/// Directories that a thread takes at a time.
const DIRS_A_TURN: usize = 16;
/// Files that a thread has open at a time.
const FILES_A_TURN: usize = 8;

/// Places files whose contents are those of a chain of layers.
pub(super) struct FromChain<'p, 'a> {
    placer: &'p Placer<'a>,
    chain: &'p Chain,
    /// For each layer, whether its file system turned out not to clone to this one.
    uncloneable: Vec<AtomicBool>,
    /// Tells the other threads that one has failed.
    failed: AtomicBool,
}

impl<'p, 'a> FromChain<'p, 'a> {
    pub(super) fn new(placer: &'p Placer<'a>, chain: &'p Chain) -> FromChain<'p, 'a> {
        let uncloneable = chain.layers().iter().map(|_| AtomicBool::new(false)).collect();
        FromChain { placer, chain, uncloneable, failed: AtomicBool::new(false) }
    }

    /// Places all files.
    pub(super) fn place_files(&self, source: &mut Escalating, threads: usize) -> Result<(), ExtractError> {
        let mut refused = self.place_directly(source, threads)?;
        match source.proxied() {
            Some(proxied) => self.place_through_helper(proxied, &mut refused),
            None => Ok(()),
        }
    }

    /// Clones one file of the image, and removes it again, to learn whether the file systems can.
    pub(super) fn probe_clone(&self, source: &mut Escalating, destination: &Path) -> Result<(), ExtractError> {
        const PROBE: &str = "probe";
        let mut files = (0..self.placer.plan.dirs.len()).flat_map(|place| self.placer.files_of(place));
        let Some(file) = files.find(|file| file.size() > 0) else { return Ok(()) };
        let Some(layer) = self.chain.layers().get(file.inode.layer()) else { return Ok(()) };
        let opened = source.open_batch(layer, &self.wanted(&[file])?)?.pop().unwrap_or(Err(Refusal::NotFound));
        let opened = opened.map_err(|refusal| self.unreadable(layer, &file, refusal))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let failed = |action| move |errno| ExtractError::destination(PROBE.as_bytes(), action, errno);
        let probe =
            openat2(self.placer.root, PROBE, flags, Mode::from(0o600), CONFINED).map_err(failed("create a file"))?;
        let cloned = ioctl_ficlone(&probe, &opened.fd);
        unlinkat(self.placer.root, PROBE, AtFlags::empty()).map_err(failed("remove a file"))?;
        cloned.map_err(|errno| ExtractError::NoReflink { path: destination.into(), source: errno.into() })
    }

    /// Places what this process may read; gives what it may not.
    fn place_directly(&self, source: &Escalating, threads: usize) -> Result<Vec<File<'a>>, ExtractError> {
        let next = AtomicUsize::new(0);
        let refused = Mutex::new(Vec::new());
        let work = || {
            let mut worker =
                Worker { from: self, direct: source.direct(), filler: self.placer.filler(), refused: Vec::new() };
            let result = worker.take_turns(&next);
            if result.is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            refused.lock().unwrap_or_else(PoisonError::into_inner).append(&mut worker.refused);
            result
        };
        std::thread::scope(|scope| {
            let others = start_helpers(scope, threads.saturating_sub(1), work);
            let mut result = work();
            for other in others {
                let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(other);
            }
            result
        })?;
        Ok(refused.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Places what the helper must open: layer by layer, in batches of what may be in flight.
    fn place_through_helper(&self, proxied: &mut Proxied, files: &mut [File<'a>]) -> Result<(), ExtractError> {
        files.sort_by_key(|file| (file.inode.layer(), file.dir));
        let mut filler = self.placer.filler();
        let mut parent: Option<(usize, OwnedFd)> = None;
        for of_layer in files.chunk_by(|a, b| a.inode.layer() == b.inode.layer()) {
            for batch in of_layer.chunks(proxied.window()) {
                let Some(layer) = batch.first().and_then(|file| self.chain.layers().get(file.inode.layer())) else {
                    continue;
                };
                let opened = proxied.open_batch(layer, &self.wanted(batch)?)?;
                for (file, opened) in batch.iter().zip(opened) {
                    self.placer.check_interrupt()?;
                    let opened = opened.map_err(|refusal| self.unreadable(layer, file, refusal))?;
                    let fd = match parent.take() {
                        Some((place, fd)) if place == file.dir => fd,
                        _ => self.placer.open(file.dir)?,
                    };
                    self.place_file(fd.as_fd(), file, Some(opened), &mut filler)?;
                    self.placer.progress.advanced(1, file.size());
                    parent = Some((file.dir, fd));
                }
            }
        }
        Ok(())
    }

    fn place_file(
        &self,
        parent: BorrowedFd<'_>,
        file: &File<'_>,
        opened: Option<OpenedFile>,
        filler: &mut Filler<'_>,
    ) -> Result<(), ExtractError> {
        let placed = self.placer.place_file(parent, file, |created| match &opened {
            Some(opened) => self.fill(file, opened, created, filler),
            None => Ok(()),
        });
        placed.map_err(|error| match error {
            FillError::Source(problem) => self.damaged(file, problem),
            FillError::Interrupted(interrupted) => interrupted.into(),
            FillError::Destination(action, errno) => self.placer.failed_at(file.dir, file.name, action, errno),
        })
    }

    fn fill(
        &self,
        file: &File<'_>,
        opened: &OpenedFile,
        created: BorrowedFd<'_>,
        filler: &mut Filler<'_>,
    ) -> Result<(), FillError> {
        if opened.size != file.size() {
            return Err(FillError::Source(ContentProblem::size(file.content(), opened.size)));
        }
        let never = AtomicBool::new(false);
        let uncloneable = self.uncloneable.get(file.inode.layer()).unwrap_or(&never);
        self.placer.fill(file, opened.fd.as_fd(), created, filler, uncloneable)?;
        if opened.by == By::Helper {
            Counters::add(&self.placer.counters.through_helper, 1);
        }
        Ok(())
    }

    fn wanted(&self, files: &[File<'_>]) -> Result<Vec<RelPath>, ExtractError> {
        // Mostly they are of one directory.
        let mut dir: Option<(usize, Vec<u8>)> = None;
        let wanted = files.iter().map(|file| {
            let parent = match dir.take() {
                Some((place, path)) if place == file.dir => path,
                _ => self.placer.plan.path(file.dir),
            };
            let path = source_path(join(&parent, file.name))?;
            dir = Some((file.dir, parent));
            let layer = self.chain.layers().get(file.inode.layer());
            Ok(layer.map(|layer| layer.place(path.clone(), file.content().digest)).unwrap_or(path))
        });
        wanted.collect()
    }

    fn damaged(&self, file: &File<'_>, problem: ContentProblem) -> ExtractError {
        let path = self.placer.path(file);
        match self.chain.layers().get(file.inode.layer()) {
            Some(layer) => {
                let layer = layer.record.id;
                ImageError::from(ReadError { layer, name: Some(path), problem: problem.into() }).into()
            }
            None => ExtractError::destination(&path, "find its layer", Errno::NOENT),
        }
    }

    fn unreadable(&self, layer: &ChainLayer, file: &File<'_>, refusal: Refusal) -> ExtractError {
        self.damaged(file, ContentProblem::unopened(self.chain, layer, Some(file.content()), refusal))
    }
}

/// One thread that places files.
struct Worker<'w, 'p, 'a> {
    from: &'w FromChain<'p, 'a>,
    /// `None` where everything goes through the helper.
    direct: Option<Direct>,
    filler: Filler<'a>,
    refused: Vec<File<'a>>,
}

impl Worker<'_, '_, '_> {
    /// Takes some directories after others until there are none left, or another thread has failed.
    fn take_turns(&mut self, next: &AtomicUsize) -> Result<(), ExtractError> {
        loop {
            let start = next.fetch_add(DIRS_A_TURN, Ordering::Relaxed);
            if start >= self.from.placer.plan.dirs.len() {
                return Ok(());
            }
            for place in start..(start + DIRS_A_TURN).min(self.from.placer.plan.dirs.len()) {
                self.place_files(place)?;
            }
        }
    }

    fn place_files(&mut self, place: usize) -> Result<(), ExtractError> {
        let (from, placer) = (self.from, self.from.placer);
        let files = placer.files_of(place);
        if files.is_empty() {
            return Ok(());
        }
        let parent = placer.open(place)?;
        let (mut placed, mut bytes) = (0, 0);
        for of_layer in files.chunk_by(|a, b| a.inode.layer() == b.inode.layer()) {
            for batch in of_layer.chunks(FILES_A_TURN) {
                placer.check_interrupt()?;
                if from.failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                for (file, opened) in batch.iter().zip(self.open(batch)?) {
                    match opened {
                        Err(refusal) if worth_asking(refusal) && self.may_escalate() => self.refused.push(*file),
                        Err(refusal) => {
                            let layer = from.chain.layers().get(file.inode.layer());
                            return Err(match layer {
                                Some(layer) => from.unreadable(layer, file, refusal),
                                None => from.damaged(file, ContentProblem::refused(file.content(), refusal)),
                            });
                        }
                        Ok(opened) => {
                            from.place_file(parent.as_fd(), file, opened, &mut self.filler)?;
                            placed += 1;
                            bytes += file.size();
                        }
                    }
                }
            }
        }
        placer.progress.advanced(placed, bytes);
        Ok(())
    }

    fn may_escalate(&self) -> bool {
        self.from.chain.can_be_helped()
    }

    /// Opens the contents of files of one layer; an empty file has none to open.
    fn open(&mut self, batch: &[File<'_>]) -> Result<Vec<Result<Option<OpenedFile>, Refusal>>, ExtractError> {
        let with_contents: Vec<File<'_>> = batch.iter().filter(|file| file.size() > 0).copied().collect();
        let layer = batch.first().and_then(|file| self.from.chain.layers().get(file.inode.layer()));
        let mut opened = match (&mut self.direct, layer) {
            (Some(direct), Some(layer)) => direct.open_batch(layer, &self.from.wanted(&with_contents)?)?,
            _ => with_contents.iter().map(|_| Err(Refusal::Denied)).collect(),
        }
        .into_iter();
        let each = batch.iter().map(|file| match file.size() {
            0 => Ok(None),
            _ => opened.next().unwrap_or(Err(Refusal::NotFound)).map(Some),
        });
        Ok(each.collect())
    }
}
