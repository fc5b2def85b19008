//! Contents of planned files out of splitfdstreams: files come from beside a stream, and what stands in one is kept
//! aside in a single file without a name until it is known what survives.
//!
//! Files are asked for once, in the order of the streams and of their numbers, and only those that survive: whoever
//! gives them needs to hold few open at a time.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat2, unlinkat};
use rustix::io::{Errno, pread, retry_on_intr};

use super::clone::{FillError, Filler, write_at};
use super::destination::{CONFINED, Staging};
use super::error::ExtractError;
use super::place::{File, Placer};
use super::plan::MAX_BYTES;
use super::report::{Counters, Report, Silent};
use super::{Extractor, report};
use crate::chain::MAX_LAYERS;
use crate::entry::Member;
use crate::layer::ContentProblem;
use crate::merge::{FinalTree, InodeId};
use crate::sink::splitfd::{FileSupply, Members, Place, Reader, SplitFdError};

/// What is read or written at a time.
const PIECE: usize = 256 * 1024;
/// Under which name the file for contents is made, before it loses it.
const ASIDE: &str = "contents";

/// Extracts layers that come as splitfdstreams, the base first, each with its external files.
///
/// They are merged as an image's layers are: whiteouts and opaque directories hide what the streams before them have,
/// and leave nothing themselves. All options of `extractor` hold, except that contents which stand in a stream are
/// always copied, and that [`Extractor::before_placing`] hears of no roots: what `files` opens later is its own
/// concern. No checksum comes with a stream, so nothing is held against one.
///
/// ```
/// # use cstor_client::{Layer, Storage, extract::Extractor, splitfdstream::{self, Collect, DEFAULT_INLINE_THRESHOLD}};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("../example_store.txt")]
/// let layer = Layer::open(&Storage::open(root)?, "aee32ac4")?;
/// let (mut stream, mut files) = (Vec::new(), Collect::new(200));
/// layer.splitfdstream(&mut stream, &mut files, DEFAULT_INLINE_THRESHOLD)?;
/// let files = files.into_files();
/// splitfdstream::extract([(&stream[..], &files[..])], rootfs, &Extractor::new())?;
/// # Ok(())
/// # }
/// ```
pub fn extract<R: Read, F: FileSupply>(
    layers: impl IntoIterator<Item = (R, F)>,
    destination: impl AsRef<Path>,
    extractor: &Extractor,
) -> Result<Report, ExtractError> {
    let staging = Staging::create(destination.as_ref(), extractor.options.replace)?;
    let mut aside = Aside::create(staging.root())?;
    let mut tree = FinalTree::new();
    let (mut supplies, mut contents) = (Vec::new(), HashMap::new());
    for (stream, files) in layers {
        let layer = supplies.len();
        if layer == MAX_LAYERS {
            return Err(ExtractError::stream(SplitFdError::TooManyStreams { limit: MAX_LAYERS }));
        }
        let stream = Reader::new(stream, files.count());
        read(&mut tree, layer as u16, stream, &mut aside, &mut contents, &extractor.interrupt)?;
        supplies.push(files);
    }
    let (policy, counters) = (extractor.policy(), Counters::default());
    let plan = extractor.plan(&tree, &policy)?;
    if let Some(hook) = &extractor.before_placing {
        hook.call(Vec::new(), &staging)?;
    }
    let placer = Placer {
        tree: &tree,
        plan: &plan,
        options: &extractor.options,
        policy,
        root: staging.root(),
        counters: &counters,
        progress: &Silent,
        interrupt: &extractor.interrupt,
    };
    placer.place(|| FromStreams { placer: &placer, aside: &aside, contents: &contents, supplies }.place_files())?;
    staging.publish()?;
    Ok(report(&plan, &counters, false))
}

/// Where the contents of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    /// In the file of contents that stood in a stream, from this byte on.
    Aside(u64),
    /// In the external file of this number.
    External(u32),
}

/// Reads a stream to its end and lays its tree over those before it.
fn read<R: Read>(
    tree: &mut FinalTree,
    layer: u16,
    stream: Reader<R>,
    aside: &mut Aside,
    contents: &mut HashMap<InodeId, At>,
    interrupt: &AtomicBool,
) -> Result<(), ExtractError> {
    let (mut members, mut buffer) = (Members::new(stream), vec![0; PIECE]);
    let wanted = || if interrupt.load(Ordering::Relaxed) { Err(ExtractError::Interrupted) } else { Ok(()) };
    tree.lay(layer, |upper| {
        while let Some(entry) = members.next_entry().map_err(ExtractError::stream)? {
            wanted()?;
            let file = members.file(&entry).map_err(ExtractError::stream)?;
            let at = file.map_or(At::Aside(aside.size), At::External);
            if let Some(member) = &entry.member {
                let misplaced = |problem| SplitFdError::Member { name: member.header.path.clone(), problem };
                let inode = upper.add(member).map_err(|problem| ExtractError::stream(misplaced(problem)))?;
                if let Some(inode) = inode.filter(|_| has_contents(member)) {
                    contents.insert(inode, at);
                }
            }
            if at != At::Aside(aside.size) {
                continue;
            }
            let keep = entry.member.as_ref().is_some_and(has_contents);
            loop {
                wanted()?;
                let length = members.read(&mut buffer).map_err(ExtractError::stream)?;
                if length == 0 {
                    break;
                }
                // What follows the last member, and the records of a global header, are nobody's contents.
                if keep {
                    aside.append(buffer.get(..length).unwrap_or_default())?;
                }
            }
        }
        Ok(())
    })
}

fn has_contents(member: &Member) -> bool {
    member.content.is_some() && member.header.kind == crate::entry::Kind::File
}

struct FromStreams<'p, 'a, F> {
    placer: &'p Placer<'a>,
    aside: &'p Aside,
    contents: &'p HashMap<InodeId, At>,
    supplies: Vec<F>,
}

impl<F: FileSupply> FromStreams<'_, '_, F> {
    fn place_files(mut self) -> Result<(), ExtractError> {
        let placer = self.placer;
        let mut files: Vec<_> = (0..placer.plan.dirs.len()).flat_map(|place| placer.files_of(place)).collect();
        files.sort_by_key(|file| (file.inode.layer(), self.contents.get(&file.id)));
        let (mut filler, mut parent) = (placer.filler(), None::<(usize, OwnedFd)>);
        // A stream's files may lie on several file systems.
        let uncloneable = AtomicBool::new(false);
        for file in &files {
            placer.check_interrupt()?;
            let fd = match parent.take() {
                Some((place, fd)) if place == file.dir => fd,
                _ => placer.open(placer.dir(file.dir))?,
            };
            self.place_file(fd.as_fd(), file, &mut filler, &uncloneable)?;
            placer.progress.placed(1, file.size);
            parent = Some((file.dir, fd));
        }
        Ok(())
    }

    fn place_file(
        &mut self,
        parent: BorrowedFd<'_>,
        file: &File<'_>,
        filler: &mut Filler<'_>,
        uncloneable: &AtomicBool,
    ) -> Result<(), ExtractError> {
        let (placer, aside) = (self.placer, self.aside);
        let name = placer.path(file);
        let failed = |action, errno| ExtractError::destination(&name, action, errno);
        let (number, offset) = match self.contents.get(&file.id) {
            Some(&At::External(number)) => (number, None),
            Some(&At::Aside(offset)) => (0, Some(offset)),
            None => (0, Some(0)),
        };
        let place = Place { name: &name, number, wanted: file.size };
        let broken = |error| ExtractError::stream(place.unreadable(error));
        let external = match (offset, self.supplies.get_mut(file.inode.layer())) {
            (None, Some(supply)) => Some(supply.file(number).map_err(broken)?),
            _ => None,
        };
        external.map_or(Ok(()), |fd| place.check(fd)).map_err(ExtractError::stream)?;
        let placed = placer.place_file(parent, file, |created| {
            match external {
                Some(fd) => placer.fill(file, fd, created, filler, uncloneable)?,
                None => {
                    aside.copy(offset.unwrap_or_default(), file.size, created, || filler.check_interrupt())?;
                    Counters::add(&placer.counters.copied_bytes, file.size);
                }
            }
            // A file beside a stream may have grown since it was looked at.
            let stat = fstat(created).map_err(|errno| FillError::Destination("look at a file", errno))?;
            match u64::try_from(stat.st_size).unwrap_or_default() {
                found if found == file.size => Ok(()),
                found => Err(FillError::Source(ContentProblem::Size { found, wanted: file.size })),
            }
        });
        placed.map_err(|error| match error {
            FillError::Source(ContentProblem::Size { found, .. }) => ExtractError::stream(place.other_size(found)),
            FillError::Source(ContentProblem::Read(error)) => broken(error),
            FillError::Interrupted => ExtractError::Interrupted,
            FillError::Source(_) => broken(Errno::IO.into()),
            FillError::Destination(action, errno) => failed(action, errno),
        })
    }
}

/// Contents that stood in a stream, one after the other, on the file system of the result.
struct Aside {
    file: OwnedFd,
    size: u64,
}

impl Aside {
    fn create(root: BorrowedFd<'_>) -> Result<Aside, ExtractError> {
        let failed = |errno| ExtractError::destination(ASIDE.as_bytes(), "keep contents aside", errno);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat2(root, ASIDE, flags, Mode::from(0o600), CONFINED).map_err(failed)?;
        unlinkat(root, ASIDE, AtFlags::empty()).map_err(failed)?;
        Ok(Aside { file, size: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), ExtractError> {
        if self.size > MAX_BYTES {
            return Err(ExtractError::TooMuch { bytes: self.size, limit: MAX_BYTES });
        }
        self.size = write_at(self.file.as_fd(), bytes, self.size)
            .map_err(|errno| ExtractError::destination(ASIDE.as_bytes(), "keep contents aside", errno))?;
        Ok(())
    }

    fn copy(
        &self,
        offset: u64,
        size: u64,
        to: BorrowedFd<'_>,
        check: impl Fn() -> Result<(), FillError>,
    ) -> Result<(), FillError> {
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(PIECE).min(PIECE)];
        let mut copied = 0;
        while copied < size {
            check()?;
            let room = usize::try_from(size - copied).unwrap_or(PIECE).min(buffer.len());
            let space = buffer.get_mut(..room).unwrap_or_default();
            let length = retry_on_intr(|| pread(&self.file, &mut *space, offset + copied))
                .map_err(|errno| FillError::Destination("read contents kept aside", errno))?;
            if length == 0 {
                return Err(FillError::Destination("read contents kept aside", Errno::IO));
            }
            copied = write_at(to, space.get(..length).unwrap_or_default(), copied)
                .map_err(|errno| FillError::Destination("write a file", errno))?;
        }
        Ok(())
    }
}
