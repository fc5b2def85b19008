//! What can go wrong with the helper. A refused file is not an error; see `Refusal`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use cstor_proto::{ChannelError, Escaped, Fault, MAX_ROOTS, VersionRange};

use super::executable::Replaceable;
use crate::base::interrupt::Interrupted;
use crate::base::kind::ErrorKind;

/// The helper could not be started, died, or did not keep to the protocol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no helper executable where it is looked for.
    #[error("cstor-helper: not found beside {}", shown(beside))]
    NoHelper {
        /// The executable that looked.
        beside: PathBuf,
    },
    /// There is no helper where `CSTOR_HELPER` says.
    #[error("{}: no helper here, though CSTOR_HELPER says so", shown(path))]
    NamedHelper {
        /// Its value.
        path: PathBuf,
    },
    /// The helper executable could be replaced by somebody else.
    #[error("{}: the helper executable {how}", shown(path))]
    UnsafeHelper {
        /// The executable.
        path: PathBuf,
        /// By whom.
        how: Replaceable,
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
    /// The helper did not become ready.
    #[error("{launcher}: no answer from the helper within {} seconds{}", waited.as_secs(), said(stderr))]
    Silent {
        /// What carries it into the namespace.
        launcher: &'static str,
        /// How long it had.
        waited: Duration,
        /// What launcher and helper printed.
        stderr: Vec<u8>,
    },
    /// The helper was ready, and then did not answer.
    #[error("cstor-helper: gave no answer within {} seconds{}", waited.as_secs(), said(stderr))]
    Stuck {
        /// How long it had.
        waited: Duration,
        /// What launcher and helper printed.
        stderr: Vec<u8>,
    },
    /// Neither root's nor the user's switch, but the kernel's: there are no user namespaces.
    #[error("{switch}: is 0, so that there are no user namespaces")]
    NoUserNamespaces {
        /// The switch, as sysctl(8) names it.
        switch: &'static str,
    },
    /// AppArmor leaves programs without a profile no capability in a namespace that they made.
    #[error("kernel.apparmor_restrict_unprivileged_userns: is 1, which takes the capabilities of the helper")]
    AppArmor,
    /// A program that maps ids is not installed.
    #[error("{program}: not found")]
    NoMapper {
        /// newuidmap or newgidmap.
        program: &'static str,
    },
    /// A program that maps ids has no rights of its own.
    #[error("{}: is neither set-uid root nor has file capabilities, so it can map no ids", shown(path))]
    PowerlessMapper {
        /// Where it was found.
        path: PathBuf,
    },
    /// `no_new_privs` keeps set-uid programs from getting rights.
    #[error("{launcher}: cannot map ids, since no_new_privs keeps newuidmap from its rights{}", said(stderr))]
    NoNewPrivs {
        /// What was to carry the helper into the namespace.
        launcher: &'static str,
        /// What it printed.
        stderr: Vec<u8>,
    },
    /// The user has no subordinate ids.
    #[error("{file}: has no range of ids for {}", Escaped(user.as_bytes()))]
    NoSubordinateIds {
        /// The user's name, or uid.
        user: String,
        /// /etc/subuid or /etc/subgid.
        file: &'static str,
    },
    /// A line for the user is no range, or overlaps another.
    #[error("{file}: line {line} gives no range of ids that can be mapped")]
    SubordinateLine {
        /// /etc/subuid or /etc/subgid.
        file: &'static str,
        /// Counted from 1.
        line: usize,
    },
    /// The file cannot be read.
    #[error("{file}: cannot be read")]
    SubordinateFile {
        /// /etc/subuid or /etc/subgid.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
    /// newuidmap or newgidmap failed.
    #[error("{program}: could not map the subordinate ids ({}){}", how(*status), said(stderr))]
    Unmappable {
        /// Which.
        program: &'static str,
        /// `None` if it did not end.
        status: Option<ExitStatus>,
        /// What it printed.
        stderr: Vec<u8>,
    },
    /// The helper made no user namespace.
    #[error("cstor-helper: made no user namespace within {} seconds", waited.as_secs())]
    NoNamespace {
        /// How long it had.
        waited: Duration,
    },
    /// The helper is not confined as it must be.
    #[error("cstor-helper: is not confined by {}", missing.join(", "))]
    Unconfined {
        /// The layers of the sandbox that do not hold.
        missing: Vec<&'static str>,
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
    #[error("{}: speaks protocol {} to {}, cstor speaks {}", shown(path), theirs.min, theirs.max, cstor_proto::VERSION)]
    Version {
        /// The helper executable.
        path: PathBuf,
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
    #[error("cstor-helper: has no CAP_DAC_READ_SEARCH where it was started ({launcher})")]
    Powerless {
        /// What carried it there.
        launcher: &'static str,
        /// How many user ids the namespace maps.
        mapped_uids: u32,
    },
    /// More roots than the helper takes.
    #[error("cstor-helper: more than {MAX_ROOTS} stores")]
    TooManyRoots,
    /// The caller asked to stop.
    #[error("cstor-helper: {0}")]
    Interrupted(#[from] Interrupted),
}

/// What a descriptor must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadDescriptor {
    /// Not a regular file.
    NotRegular,
    /// Not open for reading alone.
    NotReadOnly,
    /// Not a directory where one was asked for, or more than a sight of a file.
    NotAsAsked,
    /// On another file system than the layer.
    OtherDevice,
    /// One too many or too few.
    Miscounted,
}

impl std::fmt::Display for BadDescriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BadDescriptor::NotRegular => "not a regular file",
            BadDescriptor::NotReadOnly => "not open for reading alone",
            BadDescriptor::NotAsAsked => "no directory, or more than a sight of a file",
            BadDescriptor::OtherDevice => "on another file system than the layer",
            BadDescriptor::Miscounted => "one too many or too few",
        })
    }
}

/// For people: CSTOR_HELPER and PATH can hold anything.
fn shown(path: &Path) -> Escaped<'_> {
    Escaped(path.as_os_str().as_encoded_bytes())
}

fn how(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "still running".to_owned(), |status| status.to_string())
}

/// The last line of what was printed: podman logs warnings before it says why it failed.
pub(crate) fn said(stderr: &[u8]) -> String {
    match stderr.split(|&byte| byte == b'\n').rfind(|line| !line.trim_ascii().is_empty()) {
        Some(line) => format!(", saying \"{}\"", Escaped(line.trim_ascii())),
        None => String::new(),
    }
}

impl SourceError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            SourceError::Interrupted(_) => ErrorKind::Interrupted,
            SourceError::DescriptorsLost | SourceError::TooManyRoots => ErrorKind::Limit,
            _ => ErrorKind::Helper,
        }
    }
}
