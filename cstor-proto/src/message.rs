//! Every message of the protocol, and every limit.
//!
//! One datagram holds one message; descriptors travel with the message that announces them. The order
//! of the variants is the encoding (postcard numbers them): append, never reorder.

use serde::{Deserialize, Serialize};

use crate::{LayerHandle, LayerId, RelPath, StoreIndex};

/// The first bytes of a conversation, so that a stray peer is recognised at once.
pub const MAGIC: [u8; 4] = *b"CSTR";
/// The version of the protocol that this crate speaks.
pub const VERSION: u16 = 1;
/// The longest datagram. The kernel's default socket buffer takes 212,960 bytes; two replies and two
/// requests must be able to wait in it.
pub const MAX_FRAME: usize = 60 * 1024;
/// Files in one `Open`. The kernel passes at most 253 descriptors a message (`SCM_MAX_FD`), and those in
/// flight count against RLIMIT_NOFILE of their sender; beyond 64 a larger batch saves almost nothing.
pub const MAX_BATCH: usize = 64;
/// Roots in one `Hello`: a store, its image store and some additional ones.
pub const MAX_ROOTS: usize = 16;
/// Layer directories that the helper holds open at once; a chain has at most 500.
pub const MAX_HANDLES: usize = 512;
/// The longest name of an extended attribute (`XATTR_NAME_MAX`, linux/limits.h).
pub const MAX_XATTR_NAME: usize = 255;
/// The longest value of an extended attribute that is passed on: what fits a frame. The kernel has 64 KiB.
pub const MAX_XATTR_VALUE: usize = 56 * 1024;

/// What the client asks. Valid orders: `Hello`, then any of the others, then `Bye`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Opens the conversation; carries `roots` directory descriptors, the only ones the helper ever takes.
    Hello {
        /// [`MAGIC`].
        magic: [u8; 4],
        /// The versions that the client speaks.
        versions: VersionRange,
        /// How many descriptors ride along.
        roots: u8,
    },
    /// Opens a contents directory of a layer, for lookups only; answered by [`Reply::Layer`].
    OpenLayer {
        /// The root that holds the layer.
        root: StoreIndex,
        /// The layer.
        id: LayerId,
        /// Which of its directories.
        dir: LayerDir,
    },
    /// Opens `overlay-layers/<id>.tar-split.gz` of a root; answered by [`Reply::TarSplit`].
    OpenTarSplit {
        /// The root that holds the file.
        root: StoreIndex,
        /// The layer.
        id: LayerId,
    },
    /// Opens files of a layer for reading; answered by [`Reply::Opened`].
    Open {
        /// The directory to open them in.
        layer: LayerHandle,
        /// At most [`MAX_BATCH`] names.
        names: Vec<RelPath>,
    },
    /// Gives a handle back; answered by [`Reply::Closed`].
    CloseLayer {
        /// The handle.
        layer: LayerHandle,
    },
    /// Ends the conversation; not answered.
    Bye,
    /// Opens a directory of a layer for reading its names; answered by [`Reply::Listed`]. Only layers without a
    /// tar-split are listed: those that containers write to.
    List {
        /// The layer directory.
        layer: LayerHandle,
        /// The directory below it; `None` for itself.
        name: Option<RelPath>,
    },
    /// Opens anything in a layer with `O_PATH`, which lets it be looked at and nothing else; answered by
    /// [`Reply::Seen`].
    Look {
        /// The layer directory.
        layer: LayerHandle,
        /// At most [`MAX_BATCH`] names.
        names: Vec<RelPath>,
    },
    /// Reads an attribute of a regular file or directory in the `user` namespace, which takes the right to read the
    /// file (xattr(7)); answered by [`Reply::UserXattr`].
    UserXattr {
        /// The layer directory.
        layer: LayerHandle,
        /// The file; `None` for the layer directory itself.
        name: Option<RelPath>,
        /// The name of the attribute behind `user.`.
        key: Vec<u8>,
    },
}

/// The contents directories that a layer can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LayerDir {
    /// `diff`.
    Diff,
    /// `diff1`, `diff2`, …: older contents, left by a change of the id map (overlay.go, `UpdateLayerIDMap`).
    DiffN(u16),
    /// `diff` of an additional layer store. The root is that store, or its directory for one image reference, and
    /// the id is the digest of the layer's table of contents: `sha256:<id>/diff` (overlay.go,
    /// `getAdditionalLayerPath`).
    AdditionalDiff,
}

/// A range of protocol versions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

/// What the helper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The helper is confined and serves.
    Ready(Ready),
    /// The helper does not speak any of the client's versions; it ends.
    Rejected(VersionRange),
    /// A layer directory is open under this handle.
    Layer(Result<LayerHandle, Refusal>),
    /// The tar-split file; one descriptor when `Ok`.
    TarSplit(Result<(), Refusal>),
    /// One result a name, in order; a descriptor for each `Ok`, in order.
    Opened(Vec<Result<(), Refusal>>),
    /// The handle is free.
    Closed,
    /// The client broke the protocol; the helper ends.
    Fault(Fault),
    /// A directory that is open for reading; one descriptor when `Ok`.
    Listed(Result<(), Refusal>),
    /// One result a name, in order; a descriptor for each `Ok`, in order.
    Seen(Vec<Result<(), Refusal>>),
    /// The value.
    UserXattr(Result<Vec<u8>, Refusal>),
}

/// What a helper says of itself once it is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The version that both speak from here on.
    pub version: u16,
    /// What it can and cannot do.
    pub confinement: Confinement,
}

/// The limits that hold in the helper's process, read back from the kernel after they were set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The effective capabilities, as in `CapEff` of /proc/PID/status.
    pub effective: u64,
    /// The permitted, inheritable, bounding and ambient sets together.
    pub regainable: u64,
    /// Whether `no_new_privs` is set.
    pub no_new_privs: bool,
    /// Whether it runs as the ids 65534, which are nobody's, and in no other group.
    pub nobody: bool,
    /// How much of its Landlock rules the kernel enforces.
    pub landlock: Enforced,
    /// Whether its system calls are filtered.
    pub seccomp: bool,
    /// How many user ids its namespace maps.
    pub mapped_uids: u32,
    /// How many group ids its namespace maps.
    pub mapped_gids: u32,
}

impl Confinement {
    /// Bit 2 of a capability mask: CAP_DAC_READ_SEARCH (linux/capability.h).
    pub const DAC_READ_SEARCH: u64 = 1 << 2;

    /// Whether the helper may read files of every mapped id.
    pub fn reads_everything(&self) -> bool {
        self.effective & Self::DAC_READ_SEARCH != 0
    }

    /// Whether every layer of the sandbox holds: what a client may insist on.
    pub fn is_complete(&self) -> bool {
        self.regainable & !Self::DAC_READ_SEARCH == 0
            && self.no_new_privs
            && self.nobody
            && self.landlock == Enforced::Fully
            && self.seccomp
    }
}

/// How much of what was asked for the kernel enforces; an older kernel knows fewer rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enforced {
    /// Nothing.
    Not,
    /// What this kernel knows.
    Partly,
    /// All access to files, TCP, abstract sockets and signals, which takes Linux 6.12.
    Fully,
}

/// Why one file could not be opened. It ends nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No such file.
    #[error("no such file")]
    NotFound,
    /// A directory, link, FIFO, socket or device.
    #[error("not a regular file")]
    NotRegular,
    /// Its owner has no id in the namespace, where no capability reaches it.
    #[error("it belongs to an id that is not mapped in the user namespace")]
    Unmapped,
    /// The kernel refused.
    #[error("permission denied")]
    Denied,
    /// Any other error number.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Io(i32),
    /// Something else where a directory was to be listed.
    #[error("not a directory")]
    NotDirectory,
    /// Too many descriptors are in flight for all processes of the user together (unix(7), ETOOMANYREFS): asked again a
    /// moment later, the answer is another one.
    #[error("too many descriptors are in flight")]
    Busy,
}

impl Reply {
    /// The same answer where no descriptor can be sent.
    #[must_use]
    pub fn busy(self) -> Reply {
        let busy = |result: Result<(), Refusal>| result.and(Err(Refusal::Busy));
        match self {
            Reply::TarSplit(result) => Reply::TarSplit(busy(result)),
            Reply::Listed(result) => Reply::Listed(busy(result)),
            Reply::Opened(results) => Reply::Opened(results.into_iter().map(busy).collect()),
            Reply::Seen(results) => Reply::Seen(results.into_iter().map(busy).collect()),
            other => other,
        }
    }
}

/// How a client can break the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    /// A frame that is no message, or not one of the client's.
    #[error("undecodable message")]
    Malformed,
    /// A message that is not allowed now.
    #[error("message out of phase")]
    OutOfPhase,
    /// `Hello` without the magic, or with no or miscounted roots, or one that is no directory.
    #[error("bad Hello")]
    BadHello,
    /// More names or handles than the limits allow.
    #[error("limit exceeded")]
    OverLimit,
    /// A root or a handle that does not exist.
    #[error("unknown root or handle")]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both sides count on them: another limit is another version.
    #[test]
    fn the_limits_of_version_1() {
        assert_eq!((MAX_FRAME, MAX_BATCH, MAX_ROOTS, MAX_HANDLES), (61_440, 64, 16, 512));
        assert_eq!((MAX_XATTR_NAME, MAX_XATTR_VALUE), (255, 57_344));
    }

    #[test]
    fn a_sandbox_without_one_of_its_layers_is_not_complete() {
        let whole = Confinement {
            effective: 1 << 2,
            regainable: 1 << 2,
            no_new_privs: true,
            nobody: true,
            landlock: Enforced::Fully,
            seccomp: true,
            mapped_uids: 65537,
            mapped_gids: 65537,
        };
        let powerless = Confinement { effective: 0, regainable: 0, ..whole };
        assert!(whole.is_complete() && powerless.is_complete());
        assert!(whole.reads_everything() && !powerless.reads_everything());
        // CAP_DAC_OVERRIDE is bit 1, CAP_SYS_ADMIN bit 21.
        assert!(!Confinement { effective: 1 << 1, ..whole }.reads_everything());
        for lacking in [
            Confinement { regainable: 1 << 2 | 1 << 21, ..whole },
            Confinement { regainable: 1 << 1, ..whole },
            Confinement { no_new_privs: false, ..whole },
            Confinement { nobody: false, ..whole },
            Confinement { landlock: Enforced::Partly, ..whole },
            Confinement { landlock: Enforced::Not, ..whole },
            Confinement { seccomp: false, ..whole },
        ] {
            assert!(!lacking.is_complete(), "{lacking:?}");
        }
    }
}
