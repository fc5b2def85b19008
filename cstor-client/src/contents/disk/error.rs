//! Why a layer's directory cannot be made into members.

use std::io;

use cstor_proto::{Escaped, Refusal};

use crate::base::account::OverMemoryLimit;
use crate::base::kind::{ErrorKind, kind_of_io};

/// What is wrong with a file of a layer that is described by its directory alone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// A directory whose names cannot be read.
    #[error("its names cannot be read: {0}")]
    List(Refusal),
    /// A file that cannot be looked at.
    #[error("it cannot be looked at: {0}")]
    Look(Refusal),
    /// Its metadata cannot be read.
    #[error("its {what} cannot be read")]
    Metadata {
        /// Which.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// An extended attribute that cannot be read.
    #[error("its attribute \"{}\" cannot be read: {refusal}", Escaped(name))]
    Attribute {
        /// Its name.
        name: Vec<u8>,
        /// Why.
        refusal: Refusal,
    },
    /// An owner that no container id stands for.
    #[error("it belongs to {uid}:{gid} on this machine, which no id of the container stands for")]
    Owner {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// A directory that was renamed, whose contents overlayfs has elsewhere.
    #[error("a renamed directory, whose files lie under its old name (overlay.redirect)")]
    Redirect,
    /// A file of which only the metadata was changed; its contents are below.
    #[error("a file without its contents, which lie in a layer below (overlay.metacopy)")]
    Metacopy,
    /// A file that a tar cannot tell from a whiteout.
    #[error("its name is that of a whiteout, but it is a file of the container")]
    WhiteoutName,
    /// What `force_mask` has written aside makes no sense.
    #[error("its attribute \"{}\" is damaged", Escaped(.0))]
    Override(&'static [u8]),
    /// A path that is longer than the kernel takes at once.
    #[error("what is below has paths of more than 4095 bytes")]
    LongPath,
    /// More memory than the operation may use.
    #[error(transparent)]
    Memory(#[from] OverMemoryLimit),
    /// A change of the id map has left contents in several directories.
    #[error("its files lie in several directories after a change of its id map")]
    SeveralDirectories,
}

impl DiskError {
    /// The class of the error.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            DiskError::List(refusal) | DiskError::Look(refusal) | DiskError::Attribute { refusal, .. } => {
                match refusal {
                    // It was there a moment ago.
                    Refusal::NotFound | Refusal::NotRegular | Refusal::NotDirectory => ErrorKind::Changed,
                    Refusal::Denied | Refusal::Unmapped => ErrorKind::Permission,
                    Refusal::Busy => ErrorKind::Limit,
                    Refusal::Io(errno) => kind_of_io(&io::Error::from_raw_os_error(*errno)),
                }
            }
            DiskError::Metadata { source, .. } => kind_of_io(source),
            DiskError::Owner { .. } => ErrorKind::Permission,
            DiskError::Redirect | DiskError::Metacopy | DiskError::WhiteoutName | DiskError::SeveralDirectories => {
                ErrorKind::Unsupported
            }
            DiskError::Override(_) => ErrorKind::Corrupt,
            DiskError::LongPath | DiskError::Memory(_) => ErrorKind::Limit,
        }
    }
}
