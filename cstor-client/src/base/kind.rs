//! The classes of errors, which the exit codes are made of.

use std::io;

use rustix::io::Errno;

/// What an error means to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Anything without a class of its own.
    Failure,
    /// What was asked for is not there, or not unique.
    NotFound,
    /// The store contradicts itself.
    Corrupt,
    /// Valid, but more than this reader can do.
    Unsupported,
    /// The rights do not suffice, with or without the helper.
    Permission,
    /// The helper could not be started, died, or broke the protocol.
    Helper,
    /// Somebody holds the store's lock.
    Busy,
    /// The store changed while it was read.
    Changed,
    /// The destination cannot take the result.
    Destination,
    /// A limit was exceeded.
    Limit,
    /// The caller asked to stop.
    Interrupted,
}

/// The class of an error number of the store's file system.
pub(crate) fn kind_of_io(error: &io::Error) -> ErrorKind {
    match Errno::from_io_error(error) {
        Some(Errno::ACCESS | Errno::PERM) => ErrorKind::Permission,
        Some(Errno::MFILE | Errno::NFILE | Errno::TOOBIG) => ErrorKind::Limit,
        Some(Errno::IO) => ErrorKind::Corrupt,
        _ => ErrorKind::Failure,
    }
}

/// The class of an error number of the file system that is written to.
pub fn destination_kind(error: &io::Error) -> ErrorKind {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => ErrorKind::Limit,
        _ => ErrorKind::Destination,
    }
}
