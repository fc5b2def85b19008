//! Extraction of layers that come file by file, whatever the number of files: every layer is asked for twice.
//!
//! The first time its headers are merged with those of the other layers, and descriptors are not asked for, or dropped
//! where the server sends them anyway. When it is known what survives, the second time each file is cloned as it arrives:
//! one is open at a time. Both times the same must come.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use super::Client;
use super::progress::{Part, Progress};
use crate::extract::{Extractor, Report};
use crate::jsonrpc::error::RpcError;
use crate::jsonrpc::shapes::{FileOf, LayerOf, OpenedImage};
use crate::splitfd::FileSupply;

impl Client {
    /// Extracts an open image to a directory that does not exist or is empty, as [`Extractor::extract_streams`] does.
    pub fn extract(
        &mut self,
        image: &OpenedImage,
        destination: impl AsRef<Path>,
        extractor: &Extractor,
    ) -> Result<Report, RpcError> {
        let layer = |id: &str| LayerOf { layer: Some(id.to_owned()), ..LayerOf::default() };
        let layers = image.layers.iter().map(|known| layer(&known.id)).collect();
        extract(self, layers, destination.as_ref(), extractor)
    }
}

/// Extracts layers, the base first. Those that say `contents` have descriptors also the first time.
pub(in crate::jsonrpc) fn extract(
    client: &mut Client,
    layers: Vec<LayerOf>,
    destination: &Path,
    extractor: &Extractor,
) -> Result<Report, RpcError> {
    let link = Rc::new(RefCell::new(Link { client, running: None, error: None, parts: 0 }));
    let streams = layers.into_iter().map(|layer| {
        let marks = Marks::default();
        let second = LayerOf { contents: true, ..layer.clone() };
        let headers = Headers {
            link: Rc::clone(&link),
            layer,
            marks: Rc::clone(&marks),
            phase: Phase::New,
            chunk: Default::default(),
        };
        (headers, Files { link: Rc::clone(&link), layer: second, marks, begun: false, next: 0, open: None })
    });
    let report = extractor.extract_streams(streams, destination);
    let mut link = link.borrow_mut();
    match (report, link.error.take()) {
        (Ok(report), _) => {
            // What did not survive is still on its way. The result is there; an error here is the next request's.
            let _ = link.finish();
            Ok(report)
        }
        (Err(_), Some(error)) => Err(error),
        (Err(error), None) => Err(error.into()),
    }
}

/// What all layers share.
struct Link<'c> {
    client: &'c mut Client,
    /// A layer that has not come to its end.
    running: Option<Progress>,
    /// Why there is nothing more to read, if it is not a matter of a stream.
    error: Option<RpcError>,
    /// How many parts have come.
    parts: u64,
}

impl Link<'_> {
    /// Asks for a layer when the one before has come to its end.
    fn ask(&mut self, layer: &LayerOf) -> io::Result<()> {
        let asked = self.finish().and_then(|()| Progress::ask(self.client, layer));
        self.running = Some(asked.map_err(|error| self.fail(error))?);
        Ok(())
    }

    /// Passes over what is left of a layer: less than what has come of all, since it has come once.
    fn finish(&mut self) -> Result<(), RpcError> {
        let mut left = self.parts;
        while let Some(running) = &mut self.running {
            if left == 0 {
                self.client.in_step = false;
                return Err(RpcError::Changed);
            }
            left -= 1;
            if let Part::End(_) = running.next(self.client)? {
                self.running = None;
            }
        }
        Ok(())
    }

    fn next(&mut self) -> io::Result<Part> {
        let Some(running) = &mut self.running else {
            return Err(self.fail(RpcError::Changed));
        };
        let part = running.next(self.client).map_err(|error| self.fail(error))?;
        self.parts += 1;
        if let Part::End(_) = part {
            self.running = None;
        }
        Ok(part)
    }

    fn fail(&mut self, error: RpcError) -> io::Error {
        let stands_for = io::Error::other(error.to_string());
        self.error = Some(error);
        stands_for
    }
}

/// By which each file is known again the second time.
type Marks = Rc<RefCell<Vec<u64>>>;

fn mark(file: &FileOf) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&file.name, file.size, file.mode, file.uid, file.gid).hash(&mut hasher);
    hasher.finish()
}

/// A layer as a splitfdstream, the first time.
struct Headers<'c> {
    link: Rc<RefCell<Link<'c>>>,
    layer: LayerOf,
    marks: Marks,
    phase: Phase,
    /// A chunk, and how much of it was read.
    chunk: (Vec<u8>, usize),
}

#[derive(PartialEq, Eq)]
enum Phase {
    New,
    Running,
    Ended,
}

impl Headers<'_> {
    /// The next chunk; `None` at the end.
    fn advance(&mut self) -> io::Result<()> {
        let mut link = self.link.borrow_mut();
        if self.phase == Phase::New {
            link.ask(&self.layer)?;
            self.phase = Phase::Running;
        }
        let chunk = match link.next()? {
            Part::Bytes(bytes) => [&(-(bytes.len() as i64)).to_le_bytes()[..], &bytes].concat(),
            Part::File { file, .. } => {
                let mut marks = self.marks.borrow_mut();
                marks.push(mark(&file));
                (marks.len() as i64 - 1).to_le_bytes().to_vec()
            }
            Part::End(_) => {
                self.phase = Phase::Ended;
                Vec::new()
            }
        };
        self.chunk = (chunk, 0);
        Ok(())
    }
}

impl Read for Headers<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.chunk.1 == self.chunk.0.len() && self.phase != Phase::Ended {
            self.advance()?;
        }
        let (chunk, read) = &mut self.chunk;
        let length = chunk.get(*read..).unwrap_or_default().read(space)?;
        *read += length;
        Ok(length)
    }
}

/// The files of a layer, the second time.
struct Files<'c> {
    link: Rc<RefCell<Link<'c>>>,
    layer: LayerOf,
    marks: Marks,
    begun: bool,
    /// The number of the next file that will come.
    next: usize,
    open: Option<OwnedFd>,
}

impl FileSupply for Files<'_> {
    /// As many as there may be: the stream is read when the first of them comes.
    fn count(&self) -> u32 {
        u32::MAX
    }

    /// Files are asked for in the order in which they come.
    fn file(&mut self, number: u32) -> io::Result<BorrowedFd<'_>> {
        let mut link = self.link.borrow_mut();
        if !std::mem::replace(&mut self.begun, true) {
            link.ask(&self.layer)?;
        }
        while self.next <= number as usize {
            match link.next()? {
                Part::Bytes(_) => {}
                Part::File { file, fd } => {
                    if self.marks.borrow().get(self.next) != Some(&mark(&file)) {
                        return Err(link.fail(RpcError::Changed));
                    }
                    self.open = fd;
                    self.next += 1;
                }
                Part::End(_) => return Err(link.fail(RpcError::Changed)),
            }
        }
        let is_last = self.next == number as usize + 1;
        let open = self.open.as_ref().filter(|_| is_last);
        open.map(AsFd::as_fd).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
