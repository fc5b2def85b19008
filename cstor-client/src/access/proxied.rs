//! Opening files through the helper, in batches, without trusting what comes back.
//!
//! A helper that was taken over can send any descriptor that it has. Contents must be a regular file, a list of names a
//! directory, each open for reading alone, and what is only looked at an `O_PATH` descriptor, all on the layer's file
//! system. The size of a file is checked against its header by the caller.

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use cstor_proto::{LayerDir, LayerHandle, MAX_BATCH, MAX_FRAME, MAX_HANDLES, Refusal, RelPath, StoreIndex};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstat, statat};

use super::helper::HelperProcess;
use super::helper::{SharedHelper, SourceError};
use super::received::{Expected, checked, checked_size, pair};
use super::{Access, DirSource, FileSource, OpenedFile};
use super::{Answer, Answers};
use crate::base::ambient;
use crate::base::descriptors::descriptor_limit;
use crate::base::interrupt::Interrupt;
use crate::store::Store;
use crate::store::chain::{ChainLayer, ContentsDir, DirId};

/// Questions that wait for an answer at once: the helper opens while the client works.
const IN_FLIGHT: usize = 2;
/// What a frame holds beside the names: tag, handle, lengths.
const FRAME_RESERVE: usize = 512;

/// Opens files through the helper.
pub(crate) struct Proxied {
    store: Arc<Store>,
    interrupt: Interrupt,
    helper: SharedHelper,
    /// The directories that are open at the helper, the least recently used first.
    handles: Vec<(DirId, LayerHandle)>,
    limits: Limits,
}

/// What the descriptor limit leaves for files in flight and for open layers.
#[derive(Debug, Clone, Copy)]
struct Limits {
    batch: usize,
    handles: usize,
}

impl Proxied {
    /// `None` where the store has no helper.
    pub(super) fn new(access: &Access) -> Option<Proxied> {
        let helper = access.helper.clone()?;
        let (store, interrupt) = (Arc::clone(&access.store), access.interrupt.clone());
        Some(Proxied { store, interrupt, helper, handles: Vec::new(), limits: Limits::of_this_process() })
    }

    /// How many files to ask for at once: what the descriptor limit lets be in flight.
    pub(crate) fn window(&self) -> usize {
        IN_FLIGHT * self.limits.batch
    }

    /// Whether a helper runs, or may still be started.
    pub(super) fn can_help(&self) -> bool {
        self.helper.can_help()
    }

    /// Has the helper ready if it is needed; afterwards none is started any more.
    pub(crate) fn settle(&self, needed: bool) -> Result<(), SourceError> {
        self.helper.settle(&roots(&self.store), &self.interrupt, needed)
    }

    /// Starts the helper, so that it gets ready while the client works. If that fails it does not matter
    /// until a file is refused: headers tell less than the files themselves.
    pub(crate) fn start_early(&self) {
        if let Err(error) = self.helper.start(&roots(&self.store), &self.interrupt) {
            tracing::debug!(%error, "the helper cannot be started early");
        }
    }
}

impl Drop for Proxied {
    /// Gives the directories back: the helper outlives this, and has a limit of them.
    fn drop(&mut self) {
        let Proxied { store, interrupt, helper, handles, .. } = self;
        if handles.is_empty() {
            return;
        }
        let closed = helper.with(&roots(store), interrupt, |process| {
            handles.drain(..).try_for_each(|(_, handle)| process.ask_close_layer(handle))
        });
        if let Err(error) = closed {
            tracing::debug!(%error, "directories cannot be given back to the helper");
        }
    }
}

impl Limits {
    fn of_this_process() -> Limits {
        let limit = descriptor_limit();
        let free = limit.saturating_sub(open_descriptors());
        // The batches in flight take at most half of what is free.
        Limits { batch: (free / (2 * IN_FLIGHT)).clamp(1, MAX_BATCH), handles: (limit / 4).clamp(1, MAX_HANDLES) }
    }
}

fn open_descriptors() -> usize {
    let listed = ambient::open("/proc/self/fd", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    listed.and_then(Dir::new).map_or(0, Iterator::count)
}

fn roots(store: &Store) -> Vec<BorrowedFd<'_>> {
    store.roots.with_layers().map(|(_, root)| root.dir()).collect()
}

impl FileSource for Proxied {
    fn open_in(&mut self, dir: &ContentsDir, wanted: &[RelPath]) -> Answers<OpenedFile> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.at(dir, |process, handle, limits, device| {
            ask_in_batches(process, handle, wanted, &mut limits.batch, device).map(Ok)
        })?;
        Ok(answers.unwrap_or_else(|refusal| wanted.iter().map(|_| Err(refusal)).collect()))
    }

    fn open_tar_split(&mut self, layer: &ChainLayer) -> Answer<OwnedFd> {
        let record = &layer.record;
        let device = device_of_listing(&self.store, record.root)?;
        let opened = self.helper.with(&roots(&self.store), &self.interrupt, |process| {
            Busy::until_over(
                || process.ask_open_tar_split(record.root, record.id),
                |opened| matches!(opened, Err(Refusal::Busy)),
            )
        })?;
        if let Ok(fd) = &opened {
            checked_size(fd, device)?;
        }
        Ok(opened)
    }
}

impl Proxied {
    /// Reads the attribute `user.<key>` of a regular file or directory.
    pub(super) fn user_xattr(&mut self, dir: &ContentsDir, name: Option<&RelPath>, key: &[u8]) -> Answer<Vec<u8>> {
        self.at(dir, |process, handle, _, _| process.ask_user_xattr(handle, name.cloned(), key.to_vec()))
    }

    /// Asks about a directory that the helper has open, or will have then.
    fn at<T>(
        &mut self,
        dir: &ContentsDir,
        ask: impl FnOnce(&mut HelperProcess, LayerHandle, &mut Limits, u64) -> Answer<T>,
    ) -> Answer<T> {
        let device = device_of(&self.store, dir)?;
        let Proxied { store, interrupt, helper, handles, limits } = self;
        helper.with(&roots(store), interrupt, |process| match handle(process, handles, limits.handles, dir.at)? {
            Ok(handle) => ask(process, handle, limits, device),
            // It lies below an image's reference, of which the helper does not know.
            Err(Refusal::NotFound) if dir.at.dir == LayerDir::AdditionalDiff => Ok(Err(Refusal::Denied)),
            Err(refusal) => Ok(Err(refusal)),
        })
    }
}

impl DirSource for Proxied {
    fn list(&mut self, dir: &ContentsDir, name: Option<&RelPath>) -> Answer<OwnedFd> {
        self.at(dir, |process, handle, _, device| {
            let opened = Busy::until_over(
                || process.ask_list(handle, name.cloned()),
                |opened| matches!(opened, Err(Refusal::Busy)),
            )?;
            opened
                .map(|fd| checked(fd, device, Expected::Directory))
                .map_or_else(|refusal| Ok(Err(refusal)), |fd| fd.map(Ok))
        })
    }

    fn look(&mut self, dir: &ContentsDir, names: &[RelPath]) -> Answers<OwnedFd> {
        let answers = self.at(dir, |process, handle, limits, device| {
            let mut results = Vec::with_capacity(names.len());
            for range in batches(names, limits.batch) {
                let asked = names.get(range).unwrap_or_default().to_vec();
                let (answers, fds) =
                    Busy::until_over(|| process.ask_look(handle, asked.clone()), |(answers, _)| is_busy(answers))?;
                let mut fds = fds.into_iter();
                for answer in answers {
                    results.push(match answer {
                        Ok(()) => {
                            let fd = fds.next().ok_or(SourceError::Unexpected)?;
                            Ok(checked(fd, device, Expected::Sight)?)
                        }
                        Err(refusal) => Err(refusal),
                    });
                }
            }
            Ok(Ok(results))
        })?;
        Ok(answers.unwrap_or_else(|refusal| names.iter().map(|_| Err(refusal)).collect()))
    }
}

/// The directory's handle at the helper.
fn handle(
    process: &mut HelperProcess,
    handles: &mut Vec<(DirId, LayerHandle)>,
    limit: usize,
    at: DirId,
) -> Answer<LayerHandle> {
    if let Some(place) = handles.iter().position(|(known, _)| *known == at) {
        let known = handles.remove(place);
        handles.push(known);
        return Ok(Ok(known.1));
    }
    if handles.len() >= limit {
        process.ask_close_layer(handles.remove(0).1)?;
    }
    let opened = process.ask_open_layer(at.root, at.layer, at.dir)?;
    if let Ok(handle) = opened {
        handles.push((at, handle));
    }
    Ok(opened)
}

/// Asks for all files, a few questions ahead of the answers. Where descriptors were lost for want of
/// free numbers, the question is asked again in halves.
pub(super) fn ask_in_batches(
    process: &mut HelperProcess,
    handle: LayerHandle,
    wanted: &[RelPath],
    batch: &mut usize,
    device: u64,
) -> Answers<OpenedFile> {
    let mut results: Vec<Option<Result<OpenedFile, Refusal>>> = wanted.iter().map(|_| None).collect();
    let mut to_ask = batches(wanted, *batch);
    let mut asked: VecDeque<Range<usize>> = VecDeque::new();
    let mut busy = Busy::default();
    loop {
        while asked.len() < IN_FLIGHT {
            let Some(range) = to_ask.pop_front() else { break };
            let names = wanted.get(range.clone()).unwrap_or_default().to_vec();
            process.ask_open(handle, names)?;
            asked.push_back(range);
        }
        let Some(range) = asked.pop_front() else { break };
        match process.opened(range.len()) {
            Ok((answers, fds)) => {
                let files = pair(answers, fds, range.len(), device)?;
                if is_busy(&files) && busy.wait() {
                    to_ask.push_front(range);
                    continue;
                }
                for (place, file) in results.iter_mut().skip(range.start).zip(files) {
                    *place = Some(file);
                }
            }
            Err(SourceError::DescriptorsLost) if range.len() > 1 => {
                *batch = (*batch / 2).max(1);
                let middle = range.start + range.len() / 2;
                to_ask.push_front(middle..range.end);
                to_ask.push_front(range.start..middle);
            }
            Err(error) => return Err(error),
        }
    }
    results.into_iter().map(|result| result.ok_or(SourceError::Unexpected)).collect()
}

/// Waits for other processes of the user to take the descriptors that are in flight.
#[derive(Default)]
struct Busy {
    waits: u32,
}

impl Busy {
    const PAUSE: Duration = Duration::from_millis(5);
    /// A minute, as for an answer.
    const MAX_WAITS: u32 = 12_000;

    /// Asks again for as long as the answer is that, and the time is not over.
    fn until_over<T>(
        mut ask: impl FnMut() -> Result<T, SourceError>,
        is_busy: impl Fn(&T) -> bool,
    ) -> Result<T, SourceError> {
        let mut busy = Busy::default();
        loop {
            let answer = ask()?;
            if !is_busy(&answer) || !busy.wait() {
                return Ok(answer);
            }
        }
    }

    /// Whether to ask once more.
    fn wait(&mut self) -> bool {
        self.waits += 1;
        std::thread::sleep(Busy::PAUSE);
        self.waits < Busy::MAX_WAITS
    }
}

fn is_busy<T>(answers: &[Result<T, Refusal>]) -> bool {
    answers.iter().any(|answer| matches!(answer, Err(Refusal::Busy)))
}

/// Ranges of at most `batch` names that fit a frame together.
fn batches(wanted: &[RelPath], batch: usize) -> VecDeque<Range<usize>> {
    let mut ranges = VecDeque::new();
    let (mut start, mut bytes) = (0, 0);
    for (place, file) in wanted.iter().enumerate() {
        let length = file.as_bytes().len() + size_of::<u32>();
        if place > start && (place - start == batch || bytes + length > MAX_FRAME - FRAME_RESERVE) {
            ranges.push_back(start..place);
            (start, bytes) = (place, 0);
        }
        bytes += length;
    }
    if start < wanted.len() {
        ranges.push_back(start..wanted.len());
    }
    ranges
}

/// The file system of a directory, as this process sees it.
fn device_of(store: &Store, dir: &ContentsDir) -> Result<u64, SourceError> {
    match &dir.fd {
        Some(fd) => device(fd.as_fd()),
        None => device_of_root(store, dir.at.root),
    }
}

fn device_of_root(store: &Store, root: StoreIndex) -> Result<u64, SourceError> {
    store.root(root).map_err(|_| SourceError::Unexpected).and_then(|root| device(root.dir()))
}

/// The file system of the tar-split files of a root, which may be another than the root's.
fn device_of_listing(store: &Store, root: StoreIndex) -> Result<u64, SourceError> {
    let dir = store.root(root).map_err(|_| SourceError::Unexpected)?.dir();
    match statat(dir, "overlay-layers", AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(stat.st_dev),
        Err(_) => device(dir),
    }
}

fn device(fd: BorrowedFd<'_>) -> Result<u64, SourceError> {
    fstat(fd).map(|stat| stat.st_dev).map_err(|_| SourceError::Unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_fit_frames_and_leave_nothing_out() {
        let wanted = |count: usize, length: usize| -> Vec<RelPath> {
            let name = RelPath::clean(&vec![b'n'; length]).unwrap();
            vec![name; count]
        };
        for (count, length, batch, expected) in
            [(0, 1, 64, 0), (1, 1, 64, 1), (64, 1, 64, 1), (65, 1, 64, 2), (64, 4000, 64, 5), (3, 1, 1, 3)]
        {
            let ranges = batches(&wanted(count, length), batch);
            assert_eq!(ranges.len(), expected, "{count} names of {length} bytes, {batch} a batch");
            assert_eq!(ranges.iter().map(ExactSizeIterator::len).sum::<usize>(), count);
        }
    }
}
