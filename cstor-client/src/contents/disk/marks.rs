//! How overlayfs and fuse-overlayfs say on disk that something of a lower layer is gone, or lies elsewhere.
//!
//! overlayfs: a character device 0:0 is a whiteout, and so is an empty file with the attribute `whiteout`; the
//! attribute `opaque` with the value `y` hides what is below a directory (Documentation/filesystems/overlayfs.rst;
//! fs/overlayfs/util.c). The attributes are `trusted.overlay.*`, and `user.overlay.*` where podman mounts with
//! `userxattr`: in a user namespace. Only those of the store's own kind count, since anybody in a container can set the
//! other ones. fuse-overlayfs without rights to make devices uses files with the names of AUFS.

use crate::access::helper::seen::in_a_namespace;
use crate::base::host_xattrs::{TRUSTED_OVERLAY, USER_OVERLAY};

/// The kind of marks of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    prefix: &'static [u8],
    /// Whether fuse-overlayfs is what mounts its layers.
    pub(super) fuse: bool,
}

/// fuse-overlayfs main.c, `XATTR_OPAQUE` and `OPAQUE_XATTR`.
const FUSE_OPAQUE: &[u8] = b"user.fuseoverlayfs.opaque";

impl Marks {
    /// Those of a store that this process reads.
    pub(super) fn of_store(fuse: bool) -> Marks {
        let root_of_host = rustix::process::geteuid().is_root() && !in_a_namespace();
        Marks { prefix: if root_of_host { TRUSTED_OVERLAY } else { USER_OVERLAY }, fuse }
    }

    fn own<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        name.strip_prefix(self.prefix)
    }

    /// Whether one of these attributes of an empty file makes it a whiteout.
    pub(super) fn is_whiteout(&self, names: &[Vec<u8>]) -> bool {
        names.iter().any(|name| self.own(name) == Some(b"whiteout"))
    }

    /// Whether an attribute, with the value `y`, makes its directory opaque.
    pub(super) fn may_be_opaque(&self, name: &[u8]) -> bool {
        self.own(name) == Some(b"opaque") || self.fuse && name == FUSE_OPAQUE
    }

    /// Whether a directory's files lie under another name.
    pub(super) fn is_redirected(&self, names: &[Vec<u8>]) -> bool {
        names.iter().any(|name| self.own(name) == Some(b"redirect"))
    }

    /// Whether a file's contents lie in a lower layer.
    pub(super) fn is_metacopy(&self, names: &[Vec<u8>]) -> bool {
        names.iter().any(|name| self.own(name) == Some(b"metacopy"))
    }
}
