//! Opening files with this process's own rights.
//!
//! In a rootless store that is nearly every file: the container's root is the user.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use cstor_helper::open::{self, Care};
use cstor_proto::{Refusal, RelPath};

use super::{Answer, Answers};
use super::{By, DirSource, FileSource, OpenedFile};
use crate::store::Store;
use crate::store::chain::{ChainLayer, ContentsDir, DirId};

/// Layers that were not opened with the chain: how many to keep open.
const KEPT_LAYERS: usize = 4;

/// Opens files directly. It remembers the last directory, since files are asked for directory by directory.
pub(crate) struct Direct {
    store: Arc<Store>,
    care: Care,
    layers: Vec<(DirId, OwnedFd)>,
    parent: Option<(DirId, Vec<u8>, OwnedFd)>,
}

impl Direct {
    pub(super) fn new(store: &Arc<Store>) -> Direct {
        // To open a device acts on it, and only root may open most of them.
        let care = if rustix::process::geteuid().is_root() { Care::LookFirst } else { Care::OpenAtOnce };
        Direct { store: Arc::clone(store), care, layers: Vec::new(), parent: None }
    }

    /// One more for the same store.
    pub(super) fn another(&self) -> Direct {
        Direct::new(&self.store)
    }

    fn open(&mut self, dir: &ContentsDir, name: &RelPath) -> Result<OpenedFile, Refusal> {
        let (parent, last) = name.split();
        let care = self.care;
        let (fd, size) = open::file_in(self.parent(dir, parent)?, last, care)?;
        Ok(OpenedFile { fd, size, by: By::Direct })
    }

    /// A directory of a layer, kept for the next question about it.
    fn parent(&mut self, dir: &ContentsDir, path: &[u8]) -> Result<BorrowedFd<'_>, Refusal> {
        let known = self.parent.as_ref().is_some_and(|(of, known, _)| *of == dir.at && known == path);
        if !known {
            let directory = open::directory(self.top(dir)?, path)?;
            self.parent = Some((dir.at, path.to_vec(), directory));
        }
        self.parent.as_ref().map(|(_, _, directory)| directory.as_fd()).ok_or(Refusal::NotFound)
    }

    fn top<'a>(&'a mut self, dir: &'a ContentsDir) -> Result<BorrowedFd<'a>, Refusal> {
        match &dir.fd {
            Some(diff) => Ok(diff.as_fd()),
            None => self.layer_dir(dir.at),
        }
    }

    /// A layer that the descriptor limit left closed.
    fn layer_dir(&mut self, at: DirId) -> Result<BorrowedFd<'_>, Refusal> {
        let place = match self.layers.iter().position(|(known, _)| *known == at) {
            Some(place) => place,
            None => {
                let root = self.store.root(at.root).map_err(|_| Refusal::NotFound)?;
                let directory = open::layer_dir(root.dir(), at.layer, at.dir)?;
                self.layers.truncate(KEPT_LAYERS - 1);
                self.layers.insert(0, (at, directory));
                0
            }
        };
        self.layers.get(place).map(|(_, fd)| fd.as_fd()).ok_or(Refusal::NotFound)
    }
}

impl FileSource for Direct {
    fn open_in(&mut self, dir: &ContentsDir, wanted: &[RelPath]) -> Answers<OpenedFile> {
        Ok(wanted.iter().map(|file| self.open(dir, file)).collect())
    }

    fn open_tar_split(&mut self, layer: &ChainLayer) -> Answer<OwnedFd> {
        let root = self.store.root(layer.record.root).map_err(|_| Refusal::NotFound);
        Ok(root.and_then(|root| open::tar_split(root.dir(), layer.record.id)))
    }
}

impl DirSource for Direct {
    fn list(&mut self, dir: &ContentsDir, name: Option<&RelPath>) -> Answer<OwnedFd> {
        Ok(self.top(dir).and_then(|top| open::listing(top, name.map_or(b".", RelPath::as_bytes))))
    }

    fn look(&mut self, dir: &ContentsDir, names: &[RelPath]) -> Answers<OwnedFd> {
        let mut look = |name: &RelPath| {
            let (parent, last) = name.split();
            open::sight(self.parent(dir, parent)?, last)
        };
        Ok(names.iter().map(&mut look).collect())
    }
}
