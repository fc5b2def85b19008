//! The error that any public call can be turned into.

use std::io;

use cstor_proto::LayerId;
use rustix::io::Errno;

pub use crate::access::helper::{BadDescriptor, Replaceable, SourceError};
pub use crate::base::account::{NoMemory, OverMemoryLimit};
pub use crate::base::interrupt::Interrupted;
pub use crate::base::kind::{ErrorKind, destination_kind};
pub use crate::contents::BlobError;
pub use crate::contents::DiskError;
pub use crate::contents::{ContentProblem, ReadError, ReadProblem};
pub use crate::extract::ExtractError;
#[cfg(feature = "jsonrpc")]
pub use crate::jsonrpc::ProxyV1Error;
pub use crate::oci::error::CopyError;
pub use crate::output::SinkError;
pub use crate::splitfd::{BadName, SplitFdError};
pub use crate::store::{LayerPart, Overlap, StoreError};
pub use crate::tar::tarsplit::{LineError, TarSplitError};
pub use crate::tar::{ChunkedError, HeaderError};
pub use crate::tree::{MergeError, MergeProblem};

/// Any error of this library.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked to stop.
    Interrupted(#[from] Interrupted),
    /// More memory was wanted than the operation may use.
    Memory(#[from] OverMemoryLimit),
    /// The store.
    Store(#[from] StoreError),
    /// The headers of a layer.
    Read(#[from] ReadError),
    /// The combination of layers.
    Merge(#[from] MergeError),
    /// The access to contents.
    Source(#[from] SourceError),
    /// The output of a layer.
    Sink(#[from] SinkError),
    /// The extraction.
    Extract(#[from] ExtractError),
    /// The copy of an image.
    Copy(#[from] CopyError),
    /// A splitfdstream.
    SplitFd(#[from] SplitFdError),
    /// A request to another program, or the serving of one.
    #[cfg(feature = "jsonrpc")]
    Rpc(#[from] crate::jsonrpc::RpcError),
    /// An image proxy, and the image that it gives.
    #[cfg(feature = "jsonrpc")]
    ProxyV1(#[from] ProxyV1Error),
}

impl Error {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Interrupted(_) => ErrorKind::Interrupted,
            Error::Memory(_) => ErrorKind::Limit,
            Error::Store(error) => error.kind(),
            Error::Read(error) => error.kind(),
            Error::Merge(error) => error.kind(),
            Error::Source(error) => error.kind(),
            Error::Sink(error) => error.kind(),
            Error::Extract(error) => error.kind(),
            Error::Copy(error) => error.kind(),
            Error::SplitFd(error) => error.kind(),
            #[cfg(feature = "jsonrpc")]
            Error::Rpc(error) => error.kind(),
            #[cfg(feature = "jsonrpc")]
            Error::ProxyV1(error) => error.kind(),
        }
    }

    /// The layer whose description or contents it is about, if it is about those of one.
    pub fn layer(&self) -> Option<LayerId> {
        match self {
            Error::Read(error) | Error::Sink(SinkError::Read(error)) => Some(error.layer),
            Error::Merge(error) => Some(error.layer),
            Error::Extract(ExtractError::Image(error)) => error.layer(),
            _ => None,
        }
    }

    /// What to do about it, where that is more than its class says.
    pub(crate) fn own_advice(&self) -> Option<&'static str> {
        match self {
            Error::Interrupted(_) => None,
            Error::Memory(_) => Some(MEMORY_ADVICE),
            Error::Store(error) => error.advice(),
            Error::Read(error) => error.advice(),
            Error::Sink(SinkError::Read(error)) => error.advice(),
            Error::Merge(error) => error.advice(),
            Error::Sink(SinkError::Memory(_)) => Some(MEMORY_ADVICE),
            Error::Sink(SinkError::Write(error)) => Some(destination_advice(error)),
            Error::Sink(_) => None,
            Error::Source(error) => error.advice(),
            Error::Extract(error) => error.advice(),
            Error::Copy(error) => error.advice(),
            Error::SplitFd(error) => error.advice(),
            #[cfg(feature = "jsonrpc")]
            Error::Rpc(error) => error.advice(),
            #[cfg(feature = "jsonrpc")]
            Error::ProxyV1(error) => error.advice(),
        }
    }

    /// What the user can do about it.
    pub fn advice(&self) -> &'static str {
        self.own_advice().unwrap_or(match self.kind() {
            ErrorKind::Failure => "see the cause above",
            ErrorKind::NotFound => "check the name",
            ErrorKind::Corrupt => "the store is damaged: `podman system check` may repair it, or pull the image again",
            ErrorKind::Unsupported => "cstor cannot do this",
            ErrorKind::Permission => "run as the owner of the store",
            ErrorKind::Helper => "try `podman unshare true`, or -v for details",
            ErrorKind::Busy => "try again later",
            ErrorKind::Changed => "try again",
            ErrorKind::Destination => "choose another destination",
            ErrorKind::Limit => "this is more than cstor takes; where it is about descriptors, raise `ulimit -n`",
            ErrorKind::Interrupted => "nothing was left behind",
        })
    }
}

/// What to do about [`OverMemoryLimit`].
pub(crate) const MEMORY_ADVICE: &str = "raise --memory-limit, if you trust the image";

/// An error with its causes, the innermost one last.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some messages quote their cause already.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What the user can do where something cannot be written, by what the kernel said.
pub fn destination_advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC) => "make room there, or choose another destination",
        Some(Errno::DQUOT) => "make room within your quota there, or choose another destination",
        Some(Errno::FBIG) => "raise the limit of file sizes (ulimit -f), or choose another file system",
        Some(Errno::ROFS) => "choose a destination on a file system that is not mounted read-only",
        Some(Errno::ACCESS | Errno::PERM) => "choose a destination that you may write to",
        Some(Errno::NOENT) => "make the directory that it is to be in first, or choose another destination",
        Some(Errno::NOTDIR) => "choose a path that leads through directories",
        Some(Errno::ISDIR) => "name a file, not a directory",
        Some(Errno::LOOP) => "name the directory itself, not a symbolic link",
        Some(Errno::EXIST | Errno::NOTEMPTY) => "choose a name that is not taken",
        Some(Errno::NAMETOOLONG) => "choose a shorter path, or a file system that takes longer names",
        Some(Errno::MLINK) => "choose a file system that takes more hard links to one file",
        Some(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::TOOBIG | Errno::RANGE | Errno::ILSEQ) => {
            "choose a file system that can hold it"
        }
        Some(Errno::BUSY | Errno::TXTBSY) => "choose another destination, or end what uses this one",
        Some(Errno::IO | Errno::STALE | Errno::TIMEDOUT) => "see whether the disk or its server is well (dmesg)",
        Some(Errno::MFILE | Errno::NFILE) => "raise the limit of open files (ulimit -n)",
        Some(Errno::NOMEM) => "try again with more memory",
        _ => "choose another destination",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever follows the advice must get further, so room is asked for where room is missing, and nowhere else.
    #[test]
    fn advice_is_true_for_the_error_that_it_is_given_for() {
        for number in 1..=133 {
            let error = io::Error::from_raw_os_error(number);
            let advice = destination_advice(&error);
            let about_room = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error).contains(&number);
            assert_eq!(advice.contains("make room"), about_room, "{error}: {advice}");
            assert_eq!(advice.contains("ulimit -n"), destination_kind(&error) == ErrorKind::Limit && number != 12);
        }
        assert_eq!(destination_advice(&io::Error::other("not the kernel")), "choose another destination");
    }
}
