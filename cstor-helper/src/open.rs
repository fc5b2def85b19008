//! This file is the whole privilege: how a name becomes a descriptor.
//!
//! Every open starts at a directory descriptor and goes through openat2. The client's direct source uses
//! the same functions with its own rights.

use cstor_proto::{LayerDir, LayerId, MAX_XATTR_VALUE, Refusal, RelPath};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fgetxattr, fstat, openat2};
use rustix::io::Errno;

/// openat2 answers EAGAIN when a rename anywhere on the host crosses a lookup that contains `..` or a
/// symlink (openat2(2)); a bound keeps a busy host from stalling the helper.
const MAX_RETRIES: usize = 32;

/// What an unmapped id looks like from inside a namespace (/proc/sys/kernel/overflowuid).
const OVERFLOW_ID: u32 = 65534;

/// Opens a contents directory of a layer for lookups only.
///
/// No symlink may lie on the way: `overlay/<id>` or `diff` could point anywhere. Mount points may,
/// because rootful podman mounts `overlay` on itself.
pub fn layer_dir(root: impl AsFd, id: LayerId, dir: LayerDir) -> Result<OwnedFd, Refusal> {
    let path = match dir {
        LayerDir::Diff => format!("overlay/{id}/diff"),
        LayerDir::DiffN(number) => format!("overlay/{id}/diff{number}"),
        LayerDir::AdditionalDiff => format!("sha256:{id}/diff"),
    };
    retried(|| openat2(&root, path.as_str(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), STRICT))
        .map_err(refusal)
}

/// Opens the directory of a root that holds the layers, for the rules of Landlock; `None` where the root has none.
///
/// A rule for the root is not enough: podman mounts `overlay` on itself while it runs, and unmounts it when it ends
/// (`mount.MakePrivate` and `Cleanup` in containers/storage drivers/overlay/overlay.go). What was opened through that
/// mount then has no way up to the root, and Landlock, which looks for a rule on the way up, would refuse it.
pub fn layers_dir(root: impl AsFd) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retried(|| openat2(&root, "overlay", flags, Mode::empty(), STRICT)).ok()
}

/// Opens the tar-split file of a layer.
pub fn tar_split(root: impl AsFd, id: LayerId) -> Result<OwnedFd, Refusal> {
    let path = format!("overlay-layers/{id}.tar-split.gz");
    Ok(regular(retried(|| openat2(&root, path.as_str(), READ, Mode::empty(), STRICT)).map_err(refusal_of_file)?)?.0)
}

/// Opens a regular file of a layer for reading, resolved as podman's untar resolved it when it wrote the
/// file: as in a chroot, where `lib -> /usr/lib` makes `lib/x` mean `usr/lib/x` of the same layer.
/// The last component is never followed.
pub fn regular_file(dir: impl AsFd, name: &RelPath) -> Result<OwnedFd, Refusal> {
    match retried(|| openat2(&dir, name.as_bytes(), READ, Mode::empty(), AS_IN_A_CHROOT)) {
        Ok(fd) => Ok(regular(fd)?.0),
        Err(Errno::ACCESS) => Err(denied(dir, name)),
        Err(errno) => Err(refusal_of_file(errno)),
    }
}

/// Opens a directory of a layer for lookups, resolved like the directory part of [`regular_file`]; the
/// empty path is the layer's root.
pub fn directory(dir: impl AsFd, path: &[u8]) -> Result<OwnedFd, Refusal> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retried(|| openat2(&dir, path, flags, Mode::empty(), AS_IN_A_CHROOT)).map_err(refusal_of_file)
}

/// Opens a directory of a layer for reading its names, resolved like [`regular_file`].
pub fn listing(dir: impl AsFd, path: &[u8]) -> Result<OwnedFd, Refusal> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match retried(|| openat2(&dir, path, flags, Mode::empty(), AS_IN_A_CHROOT)) {
        Ok(fd) => Ok(fd),
        Err(Errno::NOTDIR | Errno::LOOP) => Err(Refusal::NotDirectory),
        Err(errno) => Err(refusal(errno)),
    }
}

/// Opens anything in a layer, a symlink itself included, to be looked at: `O_PATH` gives neither contents nor names.
pub fn sight(dir: impl AsFd, path: &[u8]) -> Result<OwnedFd, Refusal> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retried(|| openat2(&dir, path, flags, Mode::empty(), AS_IN_A_CHROOT)).map_err(refusal_of_file)
}

/// Reads the attribute `user.<key>` of a regular file or a directory; others have none (xattr(7)).
pub fn user_xattr(dir: impl AsFd, path: &[u8], key: &[u8]) -> Result<Vec<u8>, Refusal> {
    let file = retried(|| openat2(&dir, path, READ, Mode::empty(), AS_IN_A_CHROOT));
    let file = file.map_err(refusal_of_file)?;
    if !matches!(
        FileType::from_raw_mode(fstat(&file).map_err(refusal)?.st_mode),
        FileType::RegularFile | FileType::Directory
    ) {
        return Err(Refusal::NotRegular);
    }
    let mut value = vec![0; MAX_XATTR_VALUE];
    let length = fgetxattr(&file, [b"user.", key].concat(), &mut value[..]).map_err(|errno| match errno {
        Errno::NODATA => Refusal::NotFound,
        other => refusal(other),
    })?;
    value.truncate(length);
    Ok(value)
}

/// Whether to look at a file before it is opened for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// Open at once; devices are out of reach.
    OpenAtOnce,
    /// Look first: as root, to open a device may act on it (CVE-2020-35517).
    LookFirst,
}

/// Opens a regular file by its last component, in a directory from [`directory`]; gives its size too.
pub fn file_in(directory: impl AsFd, name: &[u8], care: Care) -> Result<(OwnedFd, u64), Refusal> {
    let open = |flags| retried(|| openat2(&directory, name, flags, Mode::empty(), STRICT | ResolveFlags::NO_XDEV));
    if care == Care::OpenAtOnce {
        return regular(open(READ).map_err(refusal_of_file)?);
    }
    let seen = open(OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC).map_err(refusal_of_file)?;
    if FileType::from_raw_mode(fstat(&seen).map_err(refusal)?.st_mode) != FileType::RegularFile {
        return Err(Refusal::NotRegular);
    }
    // The very file that was looked at: a container can put a device under its name meanwhile.
    let file = format!("/proc/self/fd/{}", seen.as_raw_fd());
    let flags = READ.difference(OFlags::NOFOLLOW);
    regular(
        retried(|| openat2(CWD, file.as_str(), flags, Mode::empty(), ResolveFlags::empty()))
            .map_err(refusal_of_file)?,
    )
}

/// A FIFO must not block the open, and a terminal must not become the controlling one.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const STRICT: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const AS_IN_A_CHROOT: ResolveFlags =
    ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_XDEV);

fn retried(mut open: impl FnMut() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    for _ in 0..MAX_RETRIES {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    open()
}

fn regular(fd: OwnedFd) -> Result<(OwnedFd, u64), Refusal> {
    let stat = fstat(&fd).map_err(refusal)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((fd, stat.st_size.unsigned_abs())),
        _ => Err(Refusal::NotRegular),
    }
}

/// Why the kernel said EACCES. It checks permissions whatever the type of the file, and CAP_DAC_READ_SEARCH reaches a
/// file only if both its ids are mapped (capabilities(7)).
fn denied(dir: impl AsFd, name: &RelPath) -> Refusal {
    match sight(dir, name.as_bytes()).and_then(|seen| fstat(&seen).map_err(refusal)) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => Refusal::NotRegular,
        Ok(stat) if stat.st_uid == OVERFLOW_ID || stat.st_gid == OVERFLOW_ID => Refusal::Unmapped,
        _ => Refusal::Denied,
    }
}

/// What the error number of an `openat2` of a file means.
pub fn refusal_of_file(errno: Errno) -> Refusal {
    match errno {
        // A symlink at the end, a loop on the way; a socket, or a FIFO without a writer.
        Errno::LOOP | Errno::NXIO => Refusal::NotRegular,
        other => refusal(other),
    }
}

fn refusal(errno: Errno) -> Refusal {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Refusal::NotFound,
        Errno::ACCESS | Errno::PERM => Refusal::Denied,
        other => Refusal::Io(other.raw_os_error()),
    }
}

#[cfg(test)]
#[path = "open/tests.rs"]
mod tests;
