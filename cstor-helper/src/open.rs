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

/// Why the kernel said EACCES. Landlock lets the helper read no directory; and CAP_DAC_READ_SEARCH
/// reaches a file only if both its ids are mapped (capabilities(7)).
fn denied(dir: impl AsFd, name: &RelPath) -> Refusal {
    match sight(dir, name.as_bytes()).and_then(|seen| fstat(&seen).map_err(refusal)) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => Refusal::NotRegular,
        Ok(stat) if stat.st_uid == OVERFLOW_ID || stat.st_gid == OVERFLOW_ID => Refusal::Unmapped,
        _ => Refusal::Denied,
    }
}

fn refusal_of_file(errno: Errno) -> Refusal {
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
mod tests {
    use super::*;
    use rustix::fs::{FileType, mkdirat, mknodat, open, symlinkat};
    use std::os::unix::fs::MetadataExt;

    /// A layer in which every trick leads to the same file, `passwd` at its own `/etc`.
    fn layer() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        mkdirat(&fd, "etc", Mode::from(0o755)).unwrap();
        rustix::io::write(
            openat2(&fd, "etc/passwd", OFlags::CREATE | OFlags::WRONLY, Mode::from(0o644), ResolveFlags::empty())
                .unwrap(),
            b"the layer's own",
        )
        .unwrap();
        symlinkat("/etc", &fd, "abs").unwrap();
        symlinkat("../../../../etc", &fd, "up").unwrap();
        symlinkat("/etc/passwd", &fd, "last").unwrap();
        symlinkat("loop", &fd, "loop").unwrap();
        mknodat(&fd, "fifo", FileType::Fifo, Mode::from(0o644), 0).unwrap();
        (dir, fd)
    }

    #[test]
    fn names_stay_inside_and_only_regular_files_open() {
        let (dir, fd) = layer();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let own = rustix::fs::statat(CWD, dir.path().join("etc/passwd"), rustix::fs::AtFlags::empty()).unwrap();
        for name in ["etc/passwd", "abs/passwd", "up/passwd"] {
            let file = std::fs::File::from(regular_file(&fd, &RelPath::clean(name.as_bytes()).unwrap()).unwrap());
            assert_eq!(file.metadata().unwrap().ino(), own.st_ino, "{name}");
        }
        let table = [
            ("last", Refusal::NotRegular),
            ("fifo", Refusal::NotRegular),
            ("socket", Refusal::NotRegular),
            ("etc", Refusal::NotRegular),
            ("missing", Refusal::NotFound),
            ("etc/passwd/x", Refusal::NotFound),
            // The kernel says ELOOP for a link at the end and for a loop on the way alike.
            ("loop/x", Refusal::NotRegular),
        ];
        for (name, refusal) in table {
            let opened = regular_file(&fd, &RelPath::clean(name.as_bytes()).unwrap());
            assert_eq!(opened.map(drop), Err(refusal), "{name}");
        }
    }

    #[test]
    fn layer_directories_are_not_reached_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let id: LayerId = "ab".repeat(32).parse().unwrap();
        mkdirat(&fd, "overlay", Mode::from(0o755)).unwrap();
        symlinkat("/", &fd, format!("overlay/{id}")).unwrap();
        assert!(layer_dir(&fd, id, LayerDir::Diff).is_err());
        rustix::fs::unlinkat(&fd, format!("overlay/{id}"), rustix::fs::AtFlags::empty()).unwrap();
        mkdirat(&fd, format!("overlay/{id}"), Mode::from(0o755)).unwrap();
        symlinkat("/etc", &fd, format!("overlay/{id}/diff")).unwrap();
        assert!(layer_dir(&fd, id, LayerDir::Diff).is_err());
        mkdirat(&fd, format!("overlay/{id}/diff7"), Mode::from(0o755)).unwrap();
        assert!(layer_dir(&fd, id, LayerDir::DiffN(7)).is_ok());
        mkdirat(&fd, format!("sha256:{id}"), Mode::from(0o755)).unwrap();
        symlinkat("/etc", &fd, format!("sha256:{id}/diff")).unwrap();
        assert!(layer_dir(&fd, id, LayerDir::AdditionalDiff).is_err());
        rustix::fs::unlinkat(&fd, format!("sha256:{id}/diff"), rustix::fs::AtFlags::empty()).unwrap();
        mkdirat(&fd, format!("sha256:{id}/diff"), Mode::from(0o755)).unwrap();
        assert!(layer_dir(&fd, id, LayerDir::AdditionalDiff).is_ok());
    }
}
