//! Files are opened as podman resolved them, and nothing outside of the layer is.
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
        openat2(&fd, "etc/passwd", OFlags::CREATE | OFlags::WRONLY, Mode::from(0o644), ResolveFlags::empty()).unwrap(),
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
        std::fs::set_permissions(dir.path().join(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
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
