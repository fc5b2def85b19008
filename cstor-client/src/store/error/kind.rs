//! The classes of what can be wrong with a store.

use cstor_proto::Refusal;
use rustix::io::Errno;

use super::StoreError;
use crate::base::kind::{ErrorKind, kind_of_io};

impl StoreError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StoreError::NoHome { .. } | StoreError::ConfSyntax { .. } | StoreError::RelativeRoot { .. } => {
                ErrorKind::Failure
            }
            StoreError::ConfRead { source, .. } | StoreError::Open { source, .. } => kind_of_io(source),
            StoreError::ConfMissing { .. }
            | StoreError::NoStore { .. }
            | StoreError::NoImage { .. }
            | StoreError::AmbiguousImage { .. }
            | StoreError::NoContainer { .. }
            | StoreError::AmbiguousContainer { .. }
            | StoreError::NoLayer { .. }
            | StoreError::AmbiguousLayer { .. } => ErrorKind::NotFound,
            StoreError::Driver { .. }
            | StoreError::UnknownLayout { .. }
            | StoreError::ManifestList { .. }
            | StoreError::LayerStore { .. }
            | StoreError::NotAnImage { .. } => ErrorKind::Unsupported,
            StoreError::Interrupted(_) => ErrorKind::Interrupted,
            StoreError::ForeignStore { .. } => ErrorKind::Permission,
            StoreError::Memory(_)
            | StoreError::TooLarge { .. }
            | StoreError::TooDeep { .. }
            | StoreError::TooManyStores { .. } => ErrorKind::Limit,
            StoreError::Destination { .. } => ErrorKind::Destination,
            StoreError::Unseen { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::MFILE | Errno::NFILE) => ErrorKind::Limit,
                _ => ErrorKind::Destination,
            },
            StoreError::Locked { .. } => ErrorKind::Busy,
            StoreError::Restless { .. } | StoreError::Vanished { .. } | StoreError::ImageVanished { .. } => {
                ErrorKind::Changed
            }
            StoreError::LayerPart { refusal: Refusal::Denied | Refusal::Unmapped, .. } => ErrorKind::Permission,
            StoreError::LayerPart { refusal: Refusal::Io(errno), .. } => {
                match Errno::from_raw_os_error(*errno) {
                    // A link where a directory belongs.
                    Errno::LOOP | Errno::XDEV => ErrorKind::Corrupt,
                    errno => kind_of_io(&errno.into()),
                }
            }
            StoreError::Missing { .. }
            | StoreError::NotRegular { .. }
            | StoreError::Json { .. }
            | StoreError::Id { .. }
            | StoreError::LayerMissing { .. }
            | StoreError::Cycle { .. }
            | StoreError::Incomplete { .. }
            | StoreError::LayerPart { .. }
            | StoreError::LayerCount { .. }
            | StoreError::DiffId { .. }
            | StoreError::NoBigData { .. }
            | StoreError::BigData { .. }
            | StoreError::BadDigest { .. } => ErrorKind::Corrupt,
        }
    }
}
