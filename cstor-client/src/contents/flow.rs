//! The one loop that joins a layer's entries, the source of their contents and a sink.
//!
//! It looks ahead by a window, so that contents are opened in batches; what becomes of them is the sink's
//! concern. After an error the sink is dropped without `finish`: no output is complete then.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use cstor_proto::{LayerId, Refusal, RelPath};
use rustix::io::{pread, retry_on_intr};

use crate::access::{Chain, FileSource, OpenedFile};
use crate::base::descriptors::descriptor_limit;
use crate::base::digest::Digest;
use crate::base::hashed::Hashed;
use crate::base::interrupt::Interrupt;
use crate::contents::{ContentProblem, Entries, ImageError, ReadError, ReadProblem, Sum};
use crate::store::chain::ChainLayer;
use crate::tar::{Content, Entry, Member};

/// Contents that are open at a time: enough to fill a message to the helper and answer from the next.
const WINDOW: usize = 64;
/// Header bytes that may wait; PAX records of a mebibyte each must not add up.
const MAX_WAITING: usize = 4 << 20;

/// What is read of a file at a time.
const MAX_PIECE: usize = 256 * 1024;

/// Takes the members of a layer, one after the other.
pub(crate) trait EntrySink {
    /// What it makes of them.
    type Output;
    /// What can keep it from that.
    type Error: From<ImageError>;

    /// Whether the output contains the tar's own bytes, which a sparse member does not let be known.
    const EXACT: bool;

    /// Whether the contents of members are opened.
    fn opens_contents(&self) -> bool {
        true
    }

    /// Takes one member: the bytes before its contents, what they mean, and the contents if it wanted them.
    fn member(&mut self, raw: &[u8], member: &Member, contents: Option<&OpenContents<'_>>) -> Result<(), Self::Error>;

    /// Takes the error of a member whose contents cannot be opened, or have another size. To give it back
    /// ends everything; to keep it passes over the member.
    fn refused(&mut self, error: ReadError) -> Result<(), ReadError> {
        Err(error)
    }

    /// Takes what follows the last member.
    fn trailer(&mut self, raw: &[u8]) -> Result<(), Self::Error>;

    /// Completes the output. It is called once, and only if everything before went well.
    fn finish(self) -> Result<Self::Output, Self::Error>;
}

/// The contents of a member, open and of the right size, but not yet read.
#[derive(Debug)]
pub(crate) struct OpenContents<'a> {
    file: OpenedFile,
    content: Content,
    layer: LayerId,
    name: Cow<'a, [u8]>,
    interrupt: &'a Interrupt,
}

impl<'a> OpenContents<'a> {
    /// Takes an open file for the contents of a member, if it has their size.
    pub(crate) fn new(
        file: OpenedFile,
        content: Content,
        layer: LayerId,
        name: impl Into<Cow<'a, [u8]>>,
        interrupt: &'a Interrupt,
    ) -> Result<OpenContents<'a>, ContentProblem> {
        match file.size {
            size if size == content.size => Ok(OpenContents { file, content, layer, name: name.into(), interrupt }),
            found => Err(ContentProblem::size(content, found)),
        }
    }

    /// Reads it from the beginning.
    pub(crate) fn reader(&self) -> ContentReader<'_, 'a> {
        ContentReader { contents: self, so_far: self.beginning() }
    }

    /// The same without a checksum: only the size is checked.
    pub(crate) fn reader_of_size(&self) -> ContentReader<'_, 'a> {
        ContentReader { contents: self, so_far: SoFar { sum: Sum::None, offset: 0 } }
    }

    /// Where reading begins, for [`Self::fill`].
    pub(crate) fn beginning(&self) -> SoFar {
        SoFar { sum: Sum::of(self.content), offset: 0 }
    }

    /// Fills some of `space`, which is not empty; 0 at the end, when everything was right.
    pub(crate) fn fill(&self, so_far: &mut SoFar, space: &mut [u8]) -> Result<usize, ImageError> {
        self.interrupt.check()?;
        let left = self.content.size - so_far.offset;
        if left == 0 {
            return so_far.sum.check().map(|()| 0).map_err(|problem| self.damaged(problem));
        }
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(space.len());
        let space = space.get_mut(..room).unwrap_or_default();
        let length = retry_on_intr(|| pread(&self.file.fd, &mut *space, so_far.offset))
            .map_err(|errno| self.damaged(ContentProblem::Read(errno.into())))?;
        if length == 0 {
            return Err(self.cut_short(so_far.offset));
        }
        so_far.sum.update(space.get(..length).unwrap_or_default());
        so_far.offset += length as u64;
        Ok(length)
    }

    /// SHA-256 of all of it, which is checked on the way.
    pub(crate) fn digest(&self) -> Result<Digest, ImageError> {
        let mut buffer = vec![0; usize::try_from(self.content.size).unwrap_or(MAX_PIECE).min(MAX_PIECE)];
        let mut hash = Hashed::new(());
        self.read(&mut buffer, |bytes| -> Result<(), ImageError> {
            hash.update(bytes);
            Ok(())
        })?;
        Ok(hash.digest())
    }

    /// Passes all of it on, in pieces that fit the buffer, and checks it on the way.
    pub(crate) fn read<E: From<ImageError>>(
        &self,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = self.reader();
        loop {
            match reader.fill(buffer)? {
                0 => return Ok(()),
                length => take(buffer.get(..length).unwrap_or_default())?,
            }
        }
    }

    /// Whether the caller wants to stop.
    pub(crate) fn check_interrupt(&self) -> Result<(), ImageError> {
        Ok(self.interrupt.check()?)
    }

    /// In bytes; the file had as many when it was opened.
    pub(crate) fn size(&self) -> u64 {
        self.content.size
    }

    /// The error for a file that turns out to be shorter.
    pub(crate) fn cut_short(&self, found: u64) -> ImageError {
        self.damaged(ContentProblem::size(self.content, found))
    }

    fn damaged(&self, problem: ContentProblem) -> ImageError {
        ImageError::Read(ReadError { layer: self.layer, name: Some(self.name.to_vec()), problem: problem.into() })
    }
}

/// How far contents were read, and the checksum so far.
#[derive(Debug)]
pub(crate) struct SoFar {
    sum: Sum,
    offset: u64,
}

/// Reads contents and checks size and checksum; what it gave before an error must not be used.
pub(crate) struct ContentReader<'c, 'a> {
    contents: &'c OpenContents<'a>,
    so_far: SoFar,
}

impl ContentReader<'_, '_> {
    /// Fills some of `space`, which is not empty; 0 at the end, when everything was right.
    pub(crate) fn fill(&mut self, space: &mut [u8]) -> Result<usize, ImageError> {
        self.contents.fill(&mut self.so_far, space)
    }
}

impl AsFd for OpenContents<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.fd.as_fd()
    }
}

/// Passes all entries of a layer of a chain to a sink.
pub(crate) fn pump<S: EntrySink>(
    mut entries: Entries,
    (chain, layer): (&Chain, &ChainLayer),
    source: &mut dyn FileSource,
    mut sink: S,
) -> Result<S::Output, S::Error> {
    if S::EXACT
        && let Some(problem) = entries.inexact()
    {
        return Err(ImageError::from(ReadError { layer: layer.record.id, name: None, problem }).into());
    }
    let window = window();
    let mut waiting: VecDeque<Entry> = VecDeque::new();
    let mut ended = false;
    while !ended {
        let (mut wanted, mut bytes) = (0, 0);
        while wanted < window && bytes < MAX_WAITING {
            chain.interrupt().check().map_err(ImageError::from)?;
            let Some(entry) = entries.next().transpose().map_err(ImageError::from)? else {
                ended = true;
                break;
            };
            bytes += entry.raw.len();
            wanted += usize::from(is_wanted(&sink, &entry));
            waiting.push_back(entry);
        }
        deliver(&mut waiting, (chain, layer), source, &mut sink)?;
    }
    sink.finish()
}

/// As many contents at a time as the descriptor limit leaves room for, beside layers and outputs.
pub(crate) fn window() -> usize {
    (descriptor_limit() / 4).clamp(1, WINDOW)
}

fn is_wanted<S: EntrySink>(sink: &S, entry: &Entry) -> bool {
    let member = entry.member.as_ref().filter(|member| member.content.is_some());
    member.is_some() && sink.opens_contents()
}

/// Opens what a window of entries needs, and passes them on in order.
fn deliver<S: EntrySink>(
    waiting: &mut VecDeque<Entry>,
    (chain, layer): (&Chain, &ChainLayer),
    source: &mut dyn FileSource,
    sink: &mut S,
) -> Result<(), S::Error> {
    let read_error =
        |name: &[u8], problem: ReadProblem| ReadError { layer: layer.record.id, name: Some(name.to_vec()), problem };
    let wanted = waiting.iter().filter(|entry| is_wanted(sink, entry)).filter_map(|entry| entry.member.as_ref());
    let places = wanted.map(|member| {
        let name = &member.header.path;
        let path = RelPath::clean(name).map_err(|invalid| read_error(name, invalid.into()))?;
        Ok(layer.place(path, member.content.and_then(|content| content.digest)))
    });
    let places = places.collect::<Result<Vec<_>, ReadError>>().map_err(ImageError::from)?;
    let mut opened = source.open_batch(layer, &places).map_err(ImageError::from)?.into_iter();
    while let Some(entry) = waiting.pop_front() {
        let Some(member) = &entry.member else {
            sink.trailer(&entry.raw)?;
            continue;
        };
        let name = &member.header.path;
        if S::EXACT && member.sparse {
            return Err(ImageError::from(read_error(name, ReadProblem::Sparse)).into());
        }
        let contents = match member.content.filter(|_| is_wanted(sink, &entry)) {
            None => None,
            Some(content) => match opened
                .next()
                .unwrap_or(Err(Refusal::NotFound))
                .map_err(|refusal| ContentProblem::unopened(chain, layer, Some(content), refusal))
                .and_then(|file| OpenContents::new(file, content, layer.record.id, name, chain.interrupt()))
            {
                Ok(contents) => Some(contents),
                Err(problem) => {
                    sink.refused(read_error(name, problem.into())).map_err(ImageError::from)?;
                    continue;
                }
            },
        };
        sink.member(&entry.raw, member, contents.as_ref())?;
        chain.progress().advanced(1, contents.as_ref().map_or(0, OpenContents::size));
    }
    Ok(())
}
