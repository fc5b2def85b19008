//! Every entry of a tree, from the leaves up, whatever its depth and the number of names in a directory.
//!
//! It goes down by descriptors, one name at a time, and comes back through `..`, which must be the directory that it
//! came from. Of each directory on the way it keeps some numbers, and of the last few an open stream and a name; it
//! never holds a list of names. What is done with an entry, and how a directory is opened, is the visitor's concern.

use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use crate::base::path::join;

/// How many of the directories on the way stay open: ordinary trees are not deeper.
const OPEN_LEVELS: usize = 16;

/// What is to be done with the next entry, or with a directory that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Next,
    Enter,
}

/// What is done in a tree.
pub(crate) trait Visit {
    type Problem: From<Errno>;

    /// Whether an entry that was entered is visited once more where its name was not kept.
    const COMES_BACK: bool;

    /// Whether to go down into an entry, which is a directory then.
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<Step, Self::Problem>;

    /// Opens a directory for reading; nothing if it is not to be looked into, or gone.
    fn open(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Self::Problem>;

    /// Whether to go down once more into a directory that was left.
    fn left(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Step, Self::Problem>;

    /// Whether to read the uppermost directory once more.
    fn again(&mut self) -> bool;

    /// Whether it was for want of descriptors that a directory was not opened.
    fn lacks_descriptors(problem: &Self::Problem) -> bool;
}

/// Where in a tree something was wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct At<P> {
    /// From the top of the tree; empty for the top itself. Of a path that is too deep only the end is known.
    pub(crate) path: Vec<u8>,
    pub(crate) problem: P,
}

/// A directory on the way.
struct Level {
    inode: (u64, u64),
    /// Its stream; closed while the way is much deeper.
    stream: Option<Dir>,
    /// The entry that the way goes through, or that is visited; not kept longer than the stream.
    name: Option<CString>,
    /// Where a stream that was closed goes on.
    position: i64,
    /// Where the entry ends that the way goes through.
    after: i64,
}

impl Level {
    fn open(fd: OwnedFd) -> Result<Level, Errno> {
        let found = fstat(&fd)?;
        let stream = Some(Dir::new(fd)?);
        Ok(Level { inode: (found.st_dev, found.st_ino), stream, name: None, position: 0, after: 0 })
    }

    fn close(&mut self) {
        (self.stream, self.name) = (None, None);
    }
}

/// Visits everything below a directory that is open for reading.
pub(crate) fn descend<V: Visit>(top: OwnedFd, visit: &mut V) -> Result<(), At<V::Problem>> {
    let mut way = Way(Vec::new());
    let visited = Level::open(top).map_err(V::Problem::from).and_then(|top| {
        way.0.push(top);
        way.walk(visit)
    });
    visited.map_err(|problem| At { path: way.path(), problem })
}

/// All directories from the top to where the walk is.
struct Way(Vec<Level>);

impl Way {
    fn walk<V: Visit>(&mut self, visit: &mut V) -> Result<(), V::Problem> {
        loop {
            let depth = self.0.len();
            let Some(level) = self.0.last_mut() else { return Ok(()) };
            // The last one is always open.
            let stream = level.stream.as_mut().ok_or(Errno::BADF)?;
            let Some(entry) = stream.read() else {
                if depth > 1 {
                    self.come_back(visit)?;
                } else if visit.again() {
                    stream.rewind();
                } else {
                    return Ok(());
                }
                continue;
            };
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let step = visit.entry(stream.fd()?, name, entry.file_type());
            level.after = entry.offset();
            if !matches!(step, Ok(Step::Next)) {
                level.name = Some(name.to_owned());
            }
            match step? {
                Step::Enter => self.enter(visit)?,
                Step::Next => level.position = level.after,
            }
        }
    }

    /// Goes down into the directory that the last level names.
    fn enter<V: Visit>(&mut self, visit: &mut V) -> Result<(), V::Problem> {
        if let Some(old) = self.0.len().checked_sub(OPEN_LEVELS).and_then(|old| self.0.get_mut(old)) {
            old.close();
        }
        let opened = match self.open(visit) {
            Err(problem) if V::lacks_descriptors(&problem) && self.0.len() > 1 => {
                // Rather slower than not at all.
                let above = self.0.len() - 1;
                self.0.iter_mut().take(above).for_each(Level::close);
                self.open(visit)
            }
            opened => opened,
        };
        match opened? {
            Some(fd) => self.0.push(Level::open(fd)?),
            None => self.pass(),
        }
        Ok(())
    }

    fn open<V: Visit>(&self, visit: &mut V) -> Result<Option<OwnedFd>, V::Problem> {
        match self.0.last() {
            Some(Level { stream: Some(stream), name: Some(name), .. }) => visit.open(stream.fd()?, name),
            _ => Err(Errno::BADF.into()),
        }
    }

    /// Leaves the entry behind that the last level names.
    fn pass(&mut self) {
        if let Some(level) = self.0.last_mut() {
            (level.name, level.position) = (None, level.after);
        }
    }

    fn come_back<V: Visit>(&mut self, visit: &mut V) -> Result<(), V::Problem> {
        let child = self.0.pop();
        let Some(level) = self.0.last_mut() else { return Ok(()) };
        match (&level.stream, &level.name) {
            (Some(stream), Some(name)) => {
                drop(child);
                match visit.left(stream.fd()?, name)? {
                    Step::Enter => self.enter(visit)?,
                    Step::Next => self.pass(),
                }
            }
            _ => {
                let below = child.as_ref().and_then(|child| child.stream.as_ref()).ok_or(Errno::BADF)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let up = openat(below.fd()?, "..", flags, Mode::empty())?;
                let found = fstat(&up)?;
                if (found.st_dev, found.st_ino) != level.inode {
                    // Somebody moved the directory that the walk was in.
                    return Err(Errno::STALE.into());
                }
                let mut stream = Dir::new(up)?;
                stream.seek(if V::COMES_BACK { level.position } else { level.after })?;
                level.stream = Some(stream);
            }
        }
        Ok(())
    }

    /// The way from the top to the last entry, as far as its names are known.
    fn path(&self) -> Vec<u8> {
        let mut path = Vec::new();
        for (depth, level) in self.0.iter().enumerate() {
            match &level.name {
                Some(name) => path = join(&path, name.to_bytes()),
                None if depth + 1 < self.0.len() => path = "…".into(),
                None => {}
            }
        }
        path
    }
}
