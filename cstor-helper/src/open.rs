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
mod tests {
    #![allow(clippy::disallowed_methods, clippy::type_complexity, reason = "a test makes its trees by path")]

    use super::*;
    use rustix::fs::{FileType, inotify, mkdirat, mknodat, open, symlinkat};
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

    #[test]
    fn directories_are_listed_and_nothing_else() {
        let (dir, fd) = layer();
        let inode = |fd: OwnedFd| fstat(&fd).unwrap().st_ino;
        let etc = std::fs::metadata(dir.path().join("etc")).unwrap().ino();
        symlinkat("/", &fd, "top").unwrap();
        for path in ["etc", "top/etc", "./etc/"] {
            assert_eq!(inode(listing(&fd, path.as_bytes()).unwrap()), etc, "{path}");
            assert_eq!(inode(directory(&fd, path.as_bytes()).unwrap()), etc, "{path}");
        }
        // A directory that is only looked up may be reached through a link; one that is listed is named itself.
        assert_eq!(inode(directory(&fd, b"up").unwrap()), etc);
        assert_eq!(inode(directory(&fd, b"").unwrap()), std::fs::metadata(dir.path()).unwrap().ino());
        let table = [
            ("up", Refusal::NotDirectory),
            ("etc/passwd", Refusal::NotDirectory),
            ("fifo", Refusal::NotDirectory),
            ("loop/x", Refusal::NotDirectory),
            ("missing", Refusal::NotFound),
        ];
        for (name, refusal) in table {
            assert_eq!(listing(&fd, name.as_bytes()).map(drop), Err(refusal), "{name}");
        }
        for (name, refusal) in
            [("etc/passwd", Refusal::NotFound), ("missing", Refusal::NotFound), ("loop", Refusal::NotRegular)]
        {
            assert_eq!(directory(&fd, name.as_bytes()).map(drop), Err(refusal), "{name}");
        }
    }

    #[test]
    fn anything_is_looked_at_without_following_it() {
        let (dir, fd) = layer();
        for name in ["etc", "etc/passwd", "abs", "up", "last", "loop", "fifo", "abs/passwd"] {
            let seen = fstat(sight(&fd, name.as_bytes()).unwrap()).unwrap();
            let place = dir.path().join(name.replace("abs/", "etc/"));
            assert_eq!(seen.st_ino, std::fs::symlink_metadata(place).unwrap().ino(), "{name}");
        }
        assert_eq!(sight(&fd, b"missing").map(drop), Err(Refusal::NotFound));
        assert_eq!(sight(&fd, b"loop/x").map(drop), Err(Refusal::NotRegular));
    }

    #[test]
    fn attributes_are_those_of_files_and_directories() {
        let (dir, fd) = layer();
        for (place, name, value) in [("etc/passwd", "user.a", "file"), ("etc", "user.a", "directory")] {
            let path = dir.path().join(place);
            match rustix::fs::setxattr(path, name, value.as_bytes(), rustix::fs::XattrFlags::empty()) {
                // There may be none in the directory for temporary files.
                Err(Errno::OPNOTSUPP) => return,
                set => set.unwrap(),
            }
        }
        let table: [(&str, &str, Result<&[u8], Refusal>); 7] = [
            ("etc/passwd", "a", Ok(b"file")),
            ("abs/passwd", "a", Ok(b"file")),
            ("etc", "a", Ok(b"directory")),
            ("etc", "b", Err(Refusal::NotFound)),
            ("last", "a", Err(Refusal::NotRegular)),
            ("fifo", "a", Err(Refusal::NotRegular)),
            ("missing", "a", Err(Refusal::NotFound)),
        ];
        for (path, key, value) in table {
            let found = user_xattr(&fd, path.as_bytes(), key.as_bytes());
            assert_eq!(found.as_deref(), value.as_ref().map(|value| *value), "{path} {key}");
        }
    }

    /// A lookup that a rename elsewhere disturbs is tried again, but not for ever (openat2(2), EAGAIN).
    #[test]
    fn what_is_disturbed_is_tried_again_with_an_end() {
        for errno in [Errno::AGAIN, Errno::INTR] {
            let mut tries = 0;
            let ended = retried(|| {
                tries += 1;
                Err(errno)
            });
            assert_eq!((ended.map(drop), tries), (Err(errno), MAX_RETRIES + 1));
            let mut tries = 0;
            let opened = retried(|| {
                tries += 1;
                if tries < 3 { Err(errno) } else { open("/", OFlags::PATH, Mode::empty()) }
            });
            assert_eq!((opened.is_ok(), tries), (true, 3));
        }
        let mut tries = 0;
        let ended = retried(|| {
            tries += 1;
            Err(Errno::NOENT)
        });
        assert_eq!((ended.map(drop), tries), (Err(Errno::NOENT), 1));
    }

    #[test]
    fn every_errno_has_its_refusal() {
        let table = [
            (Errno::NOENT, Refusal::NotFound, Refusal::NotFound),
            (Errno::NOTDIR, Refusal::NotFound, Refusal::NotFound),
            (Errno::ACCESS, Refusal::Denied, Refusal::Denied),
            (Errno::PERM, Refusal::Denied, Refusal::Denied),
            (Errno::LOOP, Refusal::Io(Errno::LOOP.raw_os_error()), Refusal::NotRegular),
            (Errno::NXIO, Refusal::Io(Errno::NXIO.raw_os_error()), Refusal::NotRegular),
            (Errno::MFILE, Refusal::Io(Errno::MFILE.raw_os_error()), Refusal::Io(Errno::MFILE.raw_os_error())),
        ];
        for (errno, plain, of_file) in table {
            assert_eq!((refusal(errno), refusal_of_file(errno)), (plain, of_file), "{errno}");
        }
    }

    /// Nothing is denied to root, so this says something only when tests/plain.sh runs it.
    #[test]
    fn what_is_denied_says_what_it_is() {
        if rustix::process::geteuid().is_root() {
            return;
        }
        let (dir, fd) = layer();
        let close = |name: &str, mode: u32| {
            std::fs::set_permissions(dir.path().join(name), std::os::unix::fs::PermissionsExt::from_mode(mode))
                .unwrap();
        };
        let opened = |name: &str| regular_file(&fd, &RelPath::clean(name.as_bytes()).unwrap()).map(drop);
        close("etc/passwd", 0);
        close("fifo", 0);
        assert_eq!(opened("etc/passwd"), Err(Refusal::Denied));
        assert_eq!(opened("fifo"), Err(Refusal::NotRegular));
        close("etc", 0);
        assert_eq!(opened("etc/passwd"), Err(Refusal::Denied));
        close("etc", 0o700);
    }

    #[test]
    fn what_is_opened_is_read_only_and_inherited_by_nobody() {
        let (dir, layer) = layer();
        let id: LayerId = "ab".repeat(32).parse().unwrap();
        let root = dir.path().join("etc");
        for path in [format!("overlay/{id}/diff"), "overlay-layers".to_owned()] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        std::fs::write(root.join(format!("overlay-layers/{id}.tar-split.gz")), "").unwrap();
        let root = open(root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let opened = [
            (layer_dir(&root, id, LayerDir::Diff), OFlags::PATH),
            (tar_split(&root, id), OFlags::RDONLY),
            (regular_file(&layer, &RelPath::clean(b"etc/passwd").unwrap()), OFlags::RDONLY),
            (directory(&layer, b"etc"), OFlags::PATH),
            (listing(&layer, b"etc"), OFlags::RDONLY),
            (sight(&layer, b"last"), OFlags::PATH),
        ];
        for (number, (fd, way)) in opened.into_iter().enumerate() {
            let fd = fd.unwrap();
            let flags = rustix::fs::fcntl_getfl(&fd).unwrap();
            assert_eq!(flags & (OFlags::PATH | OFlags::ACCMODE), way, "{number}");
            assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC), "{number}");
        }
    }

    /// To open a device acts on it, and a FIFO tells its writer. inotify(7) tells of every open but those with `O_PATH`.
    fn opens_of(path: &std::path::Path) -> OwnedFd {
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watch, path, inotify::WatchFlags::OPEN).unwrap();
        watch
    }

    fn was_opened(watch: &OwnedFd) -> bool {
        match rustix::io::read(watch, &mut [0; 4096]) {
            Ok(_) => true,
            Err(Errno::AGAIN) => false,
            Err(errno) => panic!("{errno}"),
        }
    }

    #[test]
    fn what_is_looked_at_first_is_opened_only_if_it_is_a_file() {
        let (dir, fd) = layer();
        let etc = directory(&fd, b"etc").unwrap();
        for (care, opened) in [(Care::OpenAtOnce, true), (Care::LookFirst, false)] {
            let watch = opens_of(&dir.path().join("fifo"));
            assert_eq!(file_in(&fd, b"fifo", care).map(drop), Err(Refusal::NotRegular), "{care:?}");
            assert_eq!(was_opened(&watch), opened, "{care:?}");
            let table = [
                ("last", Refusal::NotRegular),
                ("etc", Refusal::NotRegular),
                ("missing", Refusal::NotFound),
                ("abs/passwd", Refusal::NotRegular),
                ("../x", Refusal::Io(Errno::XDEV.raw_os_error())),
            ];
            for (name, refusal) in table {
                assert_eq!(file_in(&fd, name.as_bytes(), care).map(drop), Err(refusal), "{name}, {care:?}");
            }
            let (file, size) = file_in(&etc, b"passwd", care).unwrap();
            let mut contents = [0; 64];
            let length = rustix::io::read(&file, &mut contents).unwrap();
            assert_eq!((&contents[..length], size), (&b"the layer's own"[..], 15), "{care:?}");
            let flags = rustix::fs::fcntl_getfl(&file).unwrap();
            assert!(flags & OFlags::ACCMODE == OFlags::RDONLY && !flags.contains(OFlags::PATH), "{care:?}: {flags:?}");
            assert!(rustix::io::fcntl_getfd(&file).unwrap().contains(rustix::io::FdFlags::CLOEXEC), "{care:?}");
        }
    }

    /// A container can exchange the file between the look and the open.
    #[test]
    fn the_file_that_was_looked_at_is_the_one_that_is_opened() {
        const TRIES: usize = 20_000;
        let (dir, fd) = layer();
        let etc = directory(&fd, b"etc").unwrap();
        rustix::fs::renameat(&fd, "fifo", &etc, "fifo").unwrap();
        let watch = opens_of(&dir.path().join("etc/fifo"));
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let exchange = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(&etc, "passwd", &etc, "fifo", exchange).unwrap();
                }
            });
            let opened = (0..TRIES).filter(|_| file_in(&etc, b"passwd", Care::LookFirst).is_ok()).count();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(opened > 0, "always the FIFO");
        });
        assert!(!was_opened(&watch));
    }
}
