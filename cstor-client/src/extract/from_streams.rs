//! Contents of planned files out of streams: what stands in one is kept aside (`aside.rs`) until it is known what
//! survives; of a splitfdstream, files come from beside it.
//!
//! Files are asked for once, in the order of the streams and of their numbers, and only those that survive: whoever
//! gives them needs to hold few open at a time.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::fstat;
use rustix::io::Errno;

use super::aside::Aside;
use super::clone::{FillError, Filler};
use super::destination::Staging;
use super::error::ExtractError;
use super::meta::Policy;
use super::place::{File, Placer};
use super::report::{Counters, Report};
use super::{Extractor, report};
use crate::base::account::Account;
use crate::base::interrupt::{Interrupt, Interrupted};
use crate::base::progress::{Progress, Silent};
use crate::contents::ContentProblem;
use crate::splitfd::{FileSupply, Members, Place, Reader};
use crate::store::chain::MAX_LAYERS;
use crate::store::{StoreError, Territory};
use crate::tar::{Entry, Kind, Member, Piece};
use crate::tree::{FinalTree, InodeId, MergeProblem};

/// What is read or written at a time.
const PIECE: usize = 256 * 1024;

impl Extractor {
    /// Extracts layers that come as splitfdstreams, the base first, each with its external files.
    ///
    /// They are merged as an image's layers are: whiteouts and opaque directories hide what the streams before them have,
    /// and leave nothing themselves. All options hold, except that contents which stand in a stream are
    /// always copied, and that [`Extractor::before_placing`] hears of no roots: what `files` opens later is its own
    /// concern. No checksum comes with a stream, so nothing is checked against one. No store comes with one either: a caller who
    /// knows of stores keeps the destination out of them with [`crate::discover::Territory::check`].
    ///
    /// ```
    /// # use cstor_client::{Layer, Storage, extract::Extractor, splitfdstream::{self, Collect, DEFAULT_INLINE_THRESHOLD}};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../example_store.txt")]
    /// let layer = Layer::open(&Storage::open(root)?, "aee32ac4")?;
    /// let (mut stream, mut files) = (Vec::new(), Collect::new(200));
    /// layer.splitfdstream(&mut stream, &mut files, DEFAULT_INLINE_THRESHOLD)?;
    /// let files = files.into_files();
    /// Extractor::new().extract_streams([(&stream[..], &files[..])], rootfs)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn extract_streams<R: Read, F: FileSupply>(
        &self,
        layers: impl IntoIterator<Item = (R, F)>,
        destination: impl AsRef<Path>,
    ) -> Result<Report, ExtractError> {
        let mut streams = Streams::begin(destination.as_ref(), self)?;
        let mut supplies = Vec::new();
        for (stream, files) in layers {
            if supplies.len() == MAX_LAYERS {
                return Err(ExtractError::TooManyStreams { limit: MAX_LAYERS });
            }
            streams.lay(&mut Members::new(Reader::new(stream, files.count())))?;
            supplies.push(files);
        }
        streams.place(supplies, false)
    }
}

/// One layer as it comes: its members, and the contents of the last one.
pub(crate) trait Stream {
    /// What can be wrong with it, and with an extraction of it.
    type Error: From<ExtractError> + From<Interrupted>;

    /// The next member, then once what follows them, then `None`.
    fn next_entry(&mut self) -> Result<Option<Entry>, Self::Error>;

    /// The number of the file that stands for the contents of this member, which is the last one; `None` if they are in
    /// the stream.
    fn file(&mut self, _: &Entry) -> Result<Option<u32>, Self::Error> {
        Ok(None)
    }

    /// The next piece of the contents that are in the stream; `None` at their end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<Piece>, Self::Error>;

    /// The error for a member that has no place among the others.
    fn misplaced(&self, name: &[u8], problem: MergeProblem) -> Self::Error;
}

impl<R: Read> Stream for Members<Reader<R>> {
    type Error = ExtractError;

    fn next_entry(&mut self) -> Result<Option<Entry>, ExtractError> {
        Ok(Members::next_entry(self)?)
    }

    fn file(&mut self, entry: &Entry) -> Result<Option<u32>, ExtractError> {
        Ok(Members::file(self, entry)?)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<Piece>, ExtractError> {
        let length = Members::read(self, buffer)?;
        Ok((length > 0).then_some(Piece::Data(length)))
    }

    fn misplaced(&self, name: &[u8], problem: MergeProblem) -> ExtractError {
        ExtractError::Member { name: name.to_vec(), problem }
    }
}

/// Layers that come as streams: the tree that those read so far make, and where the contents of its files are.
pub(crate) struct Streams<'e> {
    extractor: &'e Extractor,
    interrupt: Interrupt,
    progress: Arc<dyn Progress>,
    policy: Policy,
    // Before the destination, so that it is closed when that is removed.
    aside: Aside,
    staging: Staging,
    confined: bool,
    tree: FinalTree,
    layers: u16,
    contents: HashMap<InodeId, At>,
}

impl<'e> Streams<'e> {
    pub(crate) fn begin(destination: &Path, extractor: &'e Extractor) -> Result<Streams<'e>, ExtractError> {
        let account = Account::open(extractor.memory_limit).map_err(StoreError::from)?;
        let interrupt = extractor.interrupt.clone().unwrap_or_default();
        let staging = Staging::create(destination, extractor.options.replace, &Territory::default(), &interrupt)?;
        let aside = Aside::create(staging.root())?;
        // Looks at the umask, which a sandbox may hide.
        let policy = extractor.policy();
        let (tree, contents) = (FinalTree::new(&account), HashMap::new());
        let progress = extractor.progress.clone().unwrap_or_else(|| Arc::new(Silent));
        Ok(Streams {
            extractor,
            interrupt,
            progress,
            policy,
            aside,
            staging,
            confined: false,
            tree,
            layers: 0,
            contents,
        })
    }

    /// Who is told how the extraction comes along.
    #[cfg(feature = "jsonrpc")]
    pub(crate) fn progress(&self) -> &dyn Progress {
        &*self.progress
    }

    /// Calls the hook of the extractor now, for streams of which everything is open, instead of before placing.
    pub(crate) fn confine(&mut self) -> Result<(), ExtractError> {
        let hook = self.extractor.before_placing.as_ref().filter(|_| !self.confined);
        self.confined = true;
        hook.map_or(Ok(()), |hook| hook.call(Vec::new(), &self.staging))
    }

    /// Reads a stream to its end and lays its tree over those before it; gives the number of its members.
    pub(crate) fn lay<S: Stream>(&mut self, stream: &mut S) -> Result<u64, S::Error> {
        let Streams { interrupt, policy, aside, tree, contents, .. } = self;
        let keep = |name: &[u8]| policy.keeps(name);
        let (mut buffer, mut members) = (vec![0; PIECE], 0);
        tree.lay(self.layers, &keep, interrupt, |upper| -> Result<(), S::Error> {
            while let Some(entry) = stream.next_entry()? {
                interrupt.check()?;
                let file = stream.file(&entry)?;
                let at = file.map_or(At::Aside(aside.end()), At::External);
                if let Some(member) = &entry.member {
                    members += 1;
                    let inode = upper.add(member).map_err(|problem| stream.misplaced(&member.header.path, problem))?;
                    // The number of an inode that is gone may have come to another one.
                    match inode.filter(|_| member.header.kind == Kind::File) {
                        Some(inode) if has_contents(member) => drop(contents.insert(inode, at)),
                        Some(inode) => drop(contents.remove(&inode)),
                        None => {}
                    }
                }
                if at != At::Aside(aside.end()) {
                    continue;
                }
                // What follows the last member, and the records of a global header, are nobody's contents.
                let keep = entry.member.as_ref().is_some_and(has_contents);
                while let Some(piece) = stream.read(&mut buffer)? {
                    interrupt.check()?;
                    match piece {
                        Piece::Data(length) if keep => aside.append(buffer.get(..length).unwrap_or_default())?,
                        Piece::Hole(length) if keep => aside.append_hole(length)?,
                        Piece::Data(_) | Piece::Hole(_) => {}
                    }
                }
            }
            Ok(())
        })?;
        self.layers = self.layers.saturating_add(1);
        Ok(members)
    }

    /// Places what survives. Each stream's files come from its supply; `verified` says whether what stood in the streams
    /// was checked against digests.
    pub(crate) fn place<F: FileSupply>(mut self, supplies: Vec<F>, verified: bool) -> Result<Report, ExtractError> {
        self.confine()?;
        let Streams { extractor, interrupt, progress, policy, staging, aside, tree, contents, .. } = self;
        let plan = extractor.plan(&tree, &policy, &interrupt)?;
        let counters = Counters::default();
        progress.planned(plan.files, plan.bytes);
        let placer = Placer {
            tree: &tree,
            plan: &plan,
            options: &extractor.options,
            policy,
            root: staging.root(),
            counters: &counters,
            progress: &*progress,
            interrupt: &interrupt,
        };
        placer.place(|| FromStreams { placer: &placer, aside: &aside, contents: &contents, supplies }.place_files())?;
        let remainder = staging.publish()?;
        Ok(Report { remainder, ..report(&plan, &counters, verified) })
    }
}

/// Where the contents of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    /// In the file of contents that stood in a stream, from this byte on.
    Aside(u64),
    /// In the external file of this number.
    External(u32),
}

fn has_contents(member: &Member) -> bool {
    member.content.is_some() && member.header.kind == Kind::File
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
                _ => placer.open(file.dir)?,
            };
            self.place_file(fd.as_fd(), file, &mut filler, &uncloneable)?;
            placer.progress.advanced(1, file.size());
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
        let place = Place { name: &name, number, wanted: file.size() };
        let broken = |error| ExtractError::from(place.unreadable(error));
        let external = match (offset, self.supplies.get_mut(file.inode.layer())) {
            (None, Some(supply)) => Some(supply.file(number).map_err(broken)?),
            _ => None,
        };
        external.map_or(Ok(()), |fd| place.check(fd))?;
        let placed = placer.place_file(parent, file, |created| {
            match external {
                Some(fd) => placer.fill(file, fd, created, filler, uncloneable)?,
                None => {
                    aside.copy(offset.unwrap_or_default(), file.content(), created, filler)?;
                    Counters::add(&placer.counters.copied_bytes, file.size());
                }
            }
            // A file beside a stream may have grown since it was looked at.
            let stat = fstat(created).map_err(|errno| FillError::Destination("look at a file", errno))?;
            match u64::try_from(stat.st_size).unwrap_or_default() {
                found if found == file.size() => Ok(()),
                found => Err(FillError::Source(ContentProblem::Size { found, wanted: file.size() })),
            }
        });
        placed.map_err(|error| match error {
            FillError::Source(ContentProblem::Size { found, .. }) => place.other_size(found).into(),
            FillError::Source(ContentProblem::Read(error)) => broken(error),
            FillError::Interrupted(interrupted) => interrupted.into(),
            FillError::Source(_) => broken(Errno::IO.into()),
            FillError::Destination(action, errno) => failed(action, errno),
        })
    }
}
