//! The merged files of an image or a container: what a process in it would see.
//!
//! Whose layers they are does not matter here; an extraction to a directory is in `extract/`.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::access::{Chain, Escalating};
use crate::contents::flow::{OpenContents, SoFar};
use crate::contents::{ImageError, merged, visit};
use crate::output::OutputError;
use crate::output::flat;
use crate::output::toc::{self, Toc};
use crate::tar::Content;
use crate::tree::{FinalTree, InodeKind, LookupError, LookupProblem, TreeEntry};

/// The merged files of an image, a container or a layer. Whiteouts and what they hide are gone.
///
/// Its layers stay open, so it can be read whatever podman does meanwhile. Paths are bytes, with or without a leading
/// slash; symbolic links lead where they would in a container, never out of it.
///
/// ```
/// # use std::io::Read;
/// # use cstor_client::Storage;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("../example_store.txt")]
/// let rootfs = Storage::open(root)?.image("localhost/demo")?.rootfs()?;
/// for entry in rootfs.read_dir("/etc")? {
///     println!("{}", String::from_utf8_lossy(&entry.path));
/// }
/// let mut text = String::new();
/// rootfs.open("/etc/app.conf")?.read_to_string(&mut text)?;
/// # Ok(())
/// # }
/// ```
pub struct Rootfs {
    chain: Chain,
    tree: FinalTree,
    source: Mutex<Escalating>,
}

impl Rootfs {
    /// Reads and merges the layers of a chain.
    pub(crate) fn read(mut chain: Chain) -> Result<Rootfs, ImageError> {
        let mut source = chain.source();
        let tree = merged::merge(&mut chain, &mut source, &|_| true)?;
        Ok(Rootfs { chain, tree, source: Mutex::new(source) })
    }

    /// All files, with what the headers say of them.
    pub fn tree(&self) -> &FinalTree {
        &self.tree
    }

    /// What a path leads to, through symbolic links; see [`FinalTree::get`], and [`FinalTree::get_no_follow`] for a link
    /// itself.
    ///
    /// # Errors
    /// If it leads nowhere.
    pub fn get(&self, path: impl AsRef<[u8]>) -> Result<TreeEntry<'_>, LookupError> {
        self.tree.get(path)
    }

    /// What is in a directory, in the order of the names' bytes.
    ///
    /// # Errors
    /// If the path leads nowhere, or not to a directory.
    pub fn read_dir(&self, path: impl AsRef<[u8]>) -> Result<impl Iterator<Item = TreeEntry<'_>>, LookupError> {
        self.tree.read_dir(path)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// If there is no symbolic link at the path.
    pub fn read_link(&self, path: impl AsRef<[u8]>) -> Result<&[u8], LookupError> {
        self.tree.read_link(path)
    }

    /// What a path leads to and all that is below it, each directory before what is in it.
    ///
    /// # Errors
    /// If the path leads nowhere.
    pub fn walk(&self, path: impl AsRef<[u8]>) -> Result<impl Iterator<Item = TreeEntry<'_>>, LookupError> {
        self.tree.walk(path)
    }

    /// Opens a regular file, through the helper if this process may not.
    ///
    /// # Errors
    /// If the path does not lead to one, or its contents are missing or have another size.
    pub fn open(&self, path: impl AsRef<[u8]>) -> Result<RootfsFile<'_>, ImageError> {
        let path = path.as_ref();
        let entry = self.tree.get(path)?;
        let &InodeKind::File { size, crc, digest } = entry.inode.kind() else {
            return Err(LookupError::new(path, LookupProblem::NotAFile).into());
        };
        let content = Content { size, crc, digest };
        let contents = visit::open(&entry, content, (&self.chain, &mut self.source()))?;
        let so_far = contents.beginning();
        Ok(RootfsFile { contents, so_far })
    }

    /// The table of contents, with the digests of the files' contents if `digests` is set, else without opening any.
    ///
    /// # Errors
    /// If a file cannot be read, or is damaged.
    pub fn toc(&self, digests: bool) -> Result<Toc, OutputError> {
        Toc::collect(self.chain.account(), |take| self.rows(digests, take))
    }

    /// Writes the table of contents as JSON, row by row: it is never in memory as a whole.
    ///
    /// # Errors
    /// As [`Self::toc`], and if it cannot be written.
    pub fn write_toc(&self, out: impl Write, digests: bool, pretty: bool) -> Result<(), OutputError> {
        toc::write(out, pretty, |take| self.rows(digests, take))
    }

    fn rows(&self, digests: bool, take: toc::TakeRow<'_>) -> Result<(), OutputError> {
        toc::of_tree(&self.tree, (&self.chain, &mut self.source()), digests, take)
    }

    /// Writes the files as one tar: sorted, in PAX format, the same bytes for the same files; returns its size. Every
    /// file is checked against its checksum; what was written before an error is not the image.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged, and if the tar cannot be written.
    pub fn export(&self, out: impl Write) -> Result<u64, OutputError> {
        flat::write(&self.tree, (&self.chain, &mut self.source()), out)
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What opens files. One operation at a time has it.
    pub(crate) fn source(&self) -> MutexGuard<'_, Escalating> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Rootfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rootfs").field("layers", &self.chain.layers().len()).finish_non_exhaustive()
    }
}

/// A regular file of a [`Rootfs`], open for reading.
///
/// [`Read`] checks it on the way: where it is not what its layer says, the last read fails, and what was read before
/// must not be used. The descriptor is the file itself in the store; what is read from it is not checked.
#[derive(Debug)]
pub struct RootfsFile<'r> {
    contents: OpenContents<'r>,
    so_far: SoFar,
}

impl RootfsFile<'_> {
    /// In bytes.
    pub fn size(&self) -> u64 {
        self.contents.size()
    }

    /// Reads some of what follows into `buffer`, as [`Read::read`] does.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged.
    pub fn read_checked(&mut self, buffer: &mut [u8]) -> Result<usize, ImageError> {
        if buffer.is_empty() { Ok(0) } else { self.contents.fill(&mut self.so_far, buffer) }
    }
}

impl Read for RootfsFile<'_> {
    /// The cause of an error is the [`ImageError`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_checked(buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl AsFd for RootfsFile<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.contents.as_fd()
    }
}
