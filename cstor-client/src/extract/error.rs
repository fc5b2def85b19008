//! Why an extraction failed. Whatever it was, nothing is left at the destination.

use std::fmt;
use std::io;
use std::path::PathBuf;

use cstor_proto::Escaped;
use rustix::io::Errno;

use super::report::Losses;
use crate::access::helper::SourceError;
use crate::base::interrupt::Interrupted;
use crate::base::kind::{ErrorKind, destination_kind};
use crate::contents::ImageError;
use crate::splitfd::SplitFdError;
use crate::store::StoreError;
use crate::tree::MergeProblem;

/// An image could not be extracted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The image could not be read.
    #[error(transparent)]
    Image(ImageError),
    /// A stream could not be read, or a file beside it.
    #[error(transparent)]
    Stream(SplitFdError),
    /// A member of a stream has no place among the others.
    #[error("the tar in the stream: \"{}\": {problem}", Escaped(name))]
    Member {
        /// The member.
        name: Vec<u8>,
        /// What is wrong.
        #[source]
        problem: MergeProblem,
    },
    /// More streams than an image can have layers.
    #[error("the streams: more than {limit}")]
    TooManyStreams {
        /// The limit.
        limit: usize,
    },
    /// Something could not be done at the destination.
    #[error("{}: cannot {action}: {source}", Escaped(path))]
    Destination {
        /// Below the destination, or the destination itself.
        path: Vec<u8>,
        /// What could not be done.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Something stands in the way at the destination.
    #[error("{}: {what}", Escaped(path.as_os_str().as_encoded_bytes()))]
    Occupied {
        /// The destination, or what is in the way below it.
        path: PathBuf,
        /// What stands there.
        what: Obstacle,
    },
    /// The file system cannot clone the store's files, but the caller insists on it.
    #[error("{}: the contents cannot be reflinked to here: {source}", path.display())]
    NoReflink {
        /// The destination.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The result would lose something, and the caller insists on everything.
    #[error("the image: the result would lose {0}")]
    Lossy(Losses),
    /// The image has a device, and the caller wants that to be an error.
    #[error("\"{}\": a device node", Escaped(path))]
    Device {
        /// Its path.
        path: Vec<u8>,
    },
    /// Only root creates devices.
    #[error("--devices create: device nodes can be created by root alone")]
    DevicesNeedRoot,
    /// An owner that no file can have.
    #[error("\"{}\": the owner {uid}:{gid} does not fit the kernel's 32 bits", Escaped(path))]
    Owner {
        /// The file.
        path: Vec<u8>,
        /// The user.
        uid: u64,
        /// The group.
        gid: u64,
    },
    /// A path that symlinks of a layer made longer than the kernel takes.
    #[error("\"{}…\": a path of more than {limit} bytes", Escaped(start))]
    LongPath {
        /// How it begins.
        start: Vec<u8>,
        /// In bytes.
        limit: usize,
    },
    /// All contents together are more than the limit.
    #[error("the image: its files have {bytes} bytes in all, more than {limit}")]
    TooMuch {
        /// In all.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// What the caller does before placing failed.
    #[error("the extraction: what was to be done before placing failed: {0}")]
    Hook(#[source] io::Error),
    /// The caller asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// What keeps a result from being put at its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The path is `/`, or ends in `..`, or is `.`: there is no name that the result could take.
    Nameless,
    /// A directory with contents.
    NotEmpty,
    /// A symbolic link.
    Symlink,
    /// Neither a directory nor a symbolic link.
    NotADirectory,
    /// The destination is a mount point, here or in another mount of its file system.
    MountPoint,
    /// What is to be replaced holds a mount point.
    MountBelow,
    /// A file or directory has the attribute `i`.
    Immutable,
    /// A file or directory has the attribute `a`.
    AppendOnly,
    /// A directory of another user that is not empty, and to which this one may not write.
    Foreign {
        /// That user.
        owner: u32,
    },
    /// A file or directory of another user in a sticky directory.
    Sticky {
        /// That user.
        owner: u32,
    },
    /// A directory of a lower layer of an overlay mount, which the kernel does not move.
    LowerLayer,
    /// Another process holds a lock of it.
    Locked,
    /// It was not there, or was empty, when the extraction began.
    Appeared,
    /// What is there is not the directory that was to be replaced any more.
    Exchanged,
    /// The temporary name of the result is something else's.
    Taken,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Obstacle::Nameless => "has no name of its own that the result could take",
            Obstacle::NotEmpty => "is not empty",
            Obstacle::Symlink => "is a symbolic link",
            Obstacle::NotADirectory => "is not a directory",
            Obstacle::MountPoint | Obstacle::MountBelow => "is a mount point",
            Obstacle::Immutable => "is immutable",
            Obstacle::AppendOnly => "is append-only",
            Obstacle::Foreign { owner } => {
                return write!(f, "belongs to uid {owner}, is not empty, and could not be removed");
            }
            Obstacle::Sticky { owner } => {
                return write!(f, "belongs to uid {owner}, and could not be removed from a sticky directory");
            }
            Obstacle::LowerLayer => "is a directory of a lower layer of an overlay mount, which cannot be exchanged",
            Obstacle::Locked => "is locked by another process, such as another extraction that replaces it",
            Obstacle::Appeared => "appeared while the image was extracted",
            Obstacle::Exchanged => "is another directory than before the image was extracted",
            Obstacle::Taken => "was given to something else while the image was extracted",
        })
    }
}

impl ExtractError {
    pub(super) fn destination(path: &[u8], action: &'static str, errno: Errno) -> ExtractError {
        ExtractError::Destination { path: path.to_vec(), action, source: errno.into() }
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ExtractError::Image(error) => error.kind(),
            ExtractError::Stream(error) => error.kind(),
            ExtractError::Member { problem, .. } => problem.kind(),
            ExtractError::TooManyStreams { .. } => ErrorKind::Limit,
            ExtractError::Destination { source, .. } => destination_kind(source),
            ExtractError::Occupied { .. } | ExtractError::NoReflink { .. } => ErrorKind::Destination,
            ExtractError::Lossy(_) | ExtractError::Device { .. } => ErrorKind::Unsupported,
            ExtractError::DevicesNeedRoot | ExtractError::Owner { .. } => ErrorKind::Permission,
            ExtractError::LongPath { .. } | ExtractError::TooMuch { .. } => ErrorKind::Limit,
            ExtractError::Hook(_) => ErrorKind::Failure,
            ExtractError::Interrupted(_) => ErrorKind::Interrupted,
        }
    }
}

impl From<ImageError> for ExtractError {
    fn from(error: ImageError) -> ExtractError {
        match error {
            error if error.kind() == ErrorKind::Interrupted => Interrupted.into(),
            error => ExtractError::Image(error),
        }
    }
}

impl From<SplitFdError> for ExtractError {
    fn from(error: SplitFdError) -> ExtractError {
        match error {
            error if error.kind() == ErrorKind::Interrupted => Interrupted.into(),
            error => ExtractError::Stream(error),
        }
    }
}

impl From<StoreError> for ExtractError {
    fn from(error: StoreError) -> ExtractError {
        ImageError::from(error).into()
    }
}

impl From<SourceError> for ExtractError {
    fn from(error: SourceError) -> ExtractError {
        ImageError::from(error).into()
    }
}
