//! What can go wrong with the helper. A file that is refused is none of it.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use cstor_proto::{ChannelError, Escaped, Fault, MAX_ROOTS, VersionRange};

use crate::error::ErrorKind;

/// The helper could not be started, died, or did not keep to the protocol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no helper executable where it is looked for.
    #[error("cstor-helper: not found beside {}", beside.display())]
    NoHelper {
        /// The executable that looked.
        beside: PathBuf,
    },
    /// There is none where `CSTOR_HELPER` says.
    #[error("{}: no helper here, though CSTOR_HELPER says so", path.display())]
    NamedHelper {
        /// Its value.
        path: PathBuf,
    },
    /// The helper executable could be replaced by anybody.
    #[error("{}: the helper executable is writable by others", path.display())]
    UnsafeHelper {
        /// The executable.
        path: PathBuf,
    },
    /// A program embeds the library, but is not prepared to be its own helper.
    #[error("cstor-helper: this program was itself started as a helper, but did not call init_if_helper()")]
    NotInitialised,
    /// `init_if_helper` was called when it was too late.
    #[error("cstor-helper: init_if_helper() was called when {threads} threads were running")]
    TooManyThreads {
        /// How many.
        threads: usize,
    },
    /// The program that enters the user namespace is not installed.
    #[error("{launcher}: not found")]
    NoLauncher {
        /// Its name.
        launcher: &'static str,
    },
    /// It could not be started.
    #[error("{launcher}: cannot be started")]
    Spawn {
        /// Its name.
        launcher: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The helper did not answer.
    #[error("cstor-helper: no answer within {} seconds{}", waited.as_secs(), said(stderr))]
    Silent {
        /// How long it had.
        waited: Duration,
        /// What launcher and helper printed.
        stderr: Vec<u8>,
    },
    /// The helper is gone before the conversation was over.
    #[error("cstor-helper: ended unexpectedly ({}){}", how(*status), said(stderr))]
    Died {
        /// The launcher's exit status, if it ended in time.
        status: Option<ExitStatus>,
        /// What launcher and helper printed.
        stderr: Vec<u8>,
    },
    /// The helper speaks other versions of the protocol.
    #[error("cstor-helper: speaks protocol {} to {}, cstor speaks {}", theirs.min, theirs.max, cstor_proto::VERSION)]
    Version {
        /// What it speaks.
        theirs: VersionRange,
    },
    /// The helper says that this client broke the protocol.
    #[error("cstor-helper: refused the conversation: {fault}")]
    Fault {
        /// Its reason.
        fault: Fault,
    },
    /// The helper answered something else than what was asked.
    #[error("cstor-helper: an answer that fits no question")]
    Unexpected,
    /// A descriptor from the helper is not what was announced.
    #[error("cstor-helper: sent a descriptor that is {what}")]
    Descriptor {
        /// What is wrong with it.
        what: BadDescriptor,
    },
    /// Too few free descriptors even for the smallest batch.
    #[error("cstor-helper: descriptors were lost on the way")]
    DescriptorsLost,
    /// The socket failed.
    #[error("cstor-helper: {0}")]
    Channel(#[source] ChannelError),
    /// The helper has no capability to read other users' files.
    #[error("cstor-helper: it got no CAP_DAC_READ_SEARCH in the user namespace")]
    Powerless,
    /// More roots than the helper takes.
    #[error("cstor-helper: more than {MAX_ROOTS} stores")]
    TooManyRoots,
    /// The caller asked to stop.
    #[error("cstor-helper: interrupted")]
    Interrupted,
}

/// What a descriptor must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadDescriptor {
    /// Not a regular file.
    NotRegular,
    /// Not open for reading alone.
    NotReadOnly,
    /// On another file system than the layer.
    OtherDevice,
    /// One too many or too few.
    Miscounted,
}

impl std::fmt::Display for BadDescriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BadDescriptor::NotRegular => "no regular file",
            BadDescriptor::NotReadOnly => "not open for reading alone",
            BadDescriptor::OtherDevice => "on another file system than the layer",
            BadDescriptor::Miscounted => "one too many or too few",
        })
    }
}

fn how(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "still running".to_owned(), |status| status.to_string())
}

/// The last line of what was printed: podman logs warnings before it says why it failed.
fn said(stderr: &[u8]) -> String {
    match stderr.split(|&byte| byte == b'\n').rfind(|line| !line.trim_ascii().is_empty()) {
        Some(line) => format!(", saying \"{}\"", Escaped(line.trim_ascii())),
        None => String::new(),
    }
}

impl SourceError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            SourceError::Interrupted => ErrorKind::Interrupted,
            SourceError::DescriptorsLost | SourceError::TooManyRoots => ErrorKind::Limit,
            _ => ErrorKind::Helper,
        }
    }

    pub(crate) fn advice(&self) -> Option<&'static str> {
        Some(match self {
            SourceError::NoHelper { .. } => "install cstor-helper beside cstor, or set CSTOR_HELPER",
            SourceError::NamedHelper { .. } => "correct or unset CSTOR_HELPER",
            SourceError::UnsafeHelper { .. } => "remove the write permission of others",
            SourceError::NotInitialised | SourceError::TooManyThreads { .. } => {
                "call init_if_helper() first in main, before any thread is started"
            }
            SourceError::NoLauncher { .. } => "install podman, which enters the user namespace",
            SourceError::Silent { .. } => "another podman may hold the storage lock; see `podman unshare true`",
            SourceError::Powerless => "check /etc/subuid and /etc/subgid, then `podman system migrate`",
            SourceError::Version { .. } => "install cstor and cstor-helper of the same release",
            SourceError::DescriptorsLost => "raise the descriptor limit (ulimit -n)",
            _ => return None,
        })
    }
}
