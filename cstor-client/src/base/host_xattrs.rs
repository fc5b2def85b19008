//! Extended attributes that mean something to the machine which holds a file, and nothing to the programs of an image:
//! the one list for all that reads, extracts or writes trees.
//!
//! An image can have any of them. Where a result is used they would act: a layer below an overlay mount would gain
//! whiteouts, and a file another owner, mode or set-id bit than its header says and than the extraction gave it.

/// Marks of overlayfs (fs/overlayfs/overlayfs.h, `OVL_XATTR_TRUSTED_PREFIX` and `OVL_XATTR_USER_PREFIX`).
pub(crate) const TRUSTED_OVERLAY: &[u8] = b"trusted.overlay.";
/// The same in a user namespace.
pub(crate) const USER_OVERLAY: &[u8] = b"user.overlay.";

/// What other programs that mount layers keep there: fuse-overlayfs its marks, and owners and modes (main.c,
/// `XATTR_PREFIX`, `XATTR_PRIVILEGED_OVERRIDE_STAT`); containers/storage owners and modes with `force_mask`
/// (pkg/idtools/idtools.go, `ContainersOverrideXattr`), which libkrun's virtiofs reads too.
const OF_MOUNT_PROGRAMS: [&[u8]; 3] =
    [b"user.fuseoverlayfs.", b"security.fuseoverlayfs.", b"user.containers.override_"];

/// Owners, modes and devices for those who use a tree as the root of something else: QEMU's 9p server with
/// `security_model=mapped-xattr` (hw/9pfs/9p-local.c), and PRoot and umoci (rootlesscontaine.rs, `Keyname`), of which
/// umoci makes the owner in a new layer.
const OF_OTHER_ROOTS: [&[u8]; 2] = [b"user.virtfs.", b"user.rootlesscontainers"];

/// Labels and signatures that hold for the machine that made them (LSMs of the kernel, evm(7)).
const LABELS: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// Whether a result must not carry it.
pub(crate) fn belongs_to_host(name: &[u8]) -> bool {
    belongs_to_driver(name) || LABELS.iter().chain(&OF_OTHER_ROOTS).any(|prefix| name.starts_with(prefix))
}

/// Whether what mounts layers has put it on a file of one, and not the container that the file belongs to.
pub(crate) fn belongs_to_driver(name: &[u8]) -> bool {
    is_of_overlayfs(name) || OF_MOUNT_PROGRAMS.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a tar of merged files leaves it out. A tar is not used where it lies, so it keeps what acts nowhere but in
/// another's result; what podman's mount of the image hides, and labels, it does not have.
pub(crate) fn is_left_out_of_tars(name: &[u8]) -> bool {
    is_of_overlayfs(name) || LABELS.iter().any(|prefix| name.starts_with(prefix))
}

fn is_of_overlayfs(name: &[u8]) -> bool {
    name.starts_with(TRUSTED_OVERLAY) || name.starts_with(USER_OVERLAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attribute_belongs_to_somebody() {
        // Whether a result, the reading of a container's layer, and a tar are without it.
        let table = [
            ("trusted.overlay.opaque", [true, true, true]),
            ("user.overlay.whiteout", [true, true, true]),
            ("user.fuseoverlayfs.opaque", [true, true, false]),
            ("user.fuseoverlayfs.override_stat", [true, true, false]),
            ("security.fuseoverlayfs.override_stat", [true, true, false]),
            ("user.containers.override_stat", [true, true, false]),
            ("user.virtfs.mode", [true, false, false]),
            ("user.rootlesscontainers", [true, false, false]),
            ("security.selinux", [true, false, true]),
            ("security.ima", [true, false, true]),
            ("security.evm", [true, false, true]),
            ("user.overlay", [false, false, false]),
            ("user.overlays.x", [false, false, false]),
            ("user.containers.note", [false, false, false]),
            ("user.note", [false, false, false]),
            ("security.capability", [false, false, false]),
            ("trusted.foo", [false, false, false]),
        ];
        for (name, expected) in table {
            let name = name.as_bytes();
            let found = [belongs_to_host(name), belongs_to_driver(name), is_left_out_of_tars(name)];
            assert_eq!(found, expected, "{}", name.escape_ascii());
        }
    }
}
