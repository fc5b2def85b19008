//! What the user can do about an error. The library says what is wrong and nothing more: what to do names flags and
//! commands, which another program with this library, or at the other end of a socket, does not have.

mod doctor;
mod helper;
mod output;
mod peers;
mod store;
#[cfg(test)]
mod tests;

use std::io;

use cstor_client::error::{ImageError, OutputError};
use cstor_client::{Error, ErrorKind};
use rustix::io::Errno;

pub(crate) use doctor::problem;

/// What to do where an image needs more memory than it may use.
const MEMORY: &str = "raise --memory-limit, if you trust the image";

/// What to do about an error: what suits this one, else what suits its class.
pub(crate) fn advice(error: &Error) -> &'static str {
    own(error).unwrap_or_else(|| class(error.kind()))
}

/// What suits this error better than what its class says.
fn own(error: &Error) -> Option<&'static str> {
    match error {
        Error::Memory(_) => Some(MEMORY),
        Error::Store(error) => store::store(error),
        Error::Read(error) => store::read(error),
        Error::Merge(error) => store::merge(error),
        Error::Source(error) => helper::helper(error),
        Error::Output(OutputError::Write(error)) => Some(destination(error)),
        Error::Extract(error) => output::extract(error),
        Error::Copy(error) => output::copy(error),
        Error::SplitFd(error) => output::split_fd(error),
        Error::Rpc(error) => peers::rpc(error),
        Error::ProxyV1(error) => peers::proxy_v1(error),
        _ => None,
    }
}

/// What suits an error of reading an image.
fn image(error: &ImageError) -> Option<&'static str> {
    match error {
        ImageError::Memory(_) => Some(MEMORY),
        ImageError::Store(error) => store::store(error),
        ImageError::Read(error) => store::read(error),
        ImageError::Merge(error) => store::merge(error),
        ImageError::Source(error) => helper::helper(error),
        _ => None,
    }
}

fn class(kind: ErrorKind) -> &'static str {
    match kind {
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
        _ => "see the cause above",
    }
}

/// What to do where something cannot be written, by what the kernel said.
pub(crate) fn destination(error: &io::Error) -> &'static str {
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
