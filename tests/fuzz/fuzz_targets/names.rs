//! Names of a layer against the kernel: a name cleaned and opened by us must be the very file that the kernel finds
//! when it resolves the cleaned name as in a chroot, in one call or component by component; and nothing else.
//!
//! Input: a byte that says whether the rest is a name as it is, or one made of the tree's own names.

#![no_main]

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::sync::OnceLock;

use cstor_fuzz::scratch::scratch;
use cstor_fuzz::untar::{clean, dot, split};
use cstor_helper::open::{Care, directory, file_in, listing, regular_file, sight};
use cstor_proto::{InvalidPath, Refusal, RelPath};
use libfuzzer_sys::fuzz_target;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mknodat, openat2, readlinkat, statat};
use rustix::io::Errno;

const WORDS: [&str; 16] =
    ["..", ".", "", "a", "d", "e", "up", "abs", "dots", "loop", "f", "s", "none", "long", "fifo", "x"];
/// linux/namei.h, `MAXSYMLINKS`.
const MAX_LINKS: usize = 40;

struct Lab {
    root: File,
    _dir: tempfile::TempDir,
}

fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let dir = scratch("cstor-fuzz-names-");
        let root = dir.path().join("layer");
        fs::create_dir_all(root.join("d/e")).expect("a directory");
        for file in ["outside", "a", "x"] {
            fs::write(dir.path().join(file), "outside").expect("a file");
        }
        for file in ["a", "d/a", "d/e/a", "d/e/f"] {
            fs::write(root.join(file), file).expect("a file");
        }
        let long = "d/../".repeat(40);
        let links = [
            ("up", "../../.."),
            ("abs", "/d"),
            ("dots", "d/./..//d/e/.."),
            ("loop", "loop"),
            ("f", "d/a"),
            ("s", "."),
            ("none", "nothing/there"),
            ("long", &long),
            ("d/x", "../up/d/e"),
            ("d/up", "/../d/e/../../a"),
            ("d/e/s", "../../s/s/abs"),
        ];
        for (name, target) in links {
            symlink(target, root.join(name)).expect("a link");
        }
        let root = File::open(&root).expect("a directory");
        mknodat(&root, "fifo", FileType::Fifo, Mode::from(0o644), 0).expect("a FIFO");
        Lab { root, _dir: dir }
    })
}

fn inode(fd: impl AsFd) -> (u64, u64) {
    let stat = fstat(fd).expect("a descriptor");
    (stat.st_dev, stat.st_ino)
}

/// What the kernel finds in one call.
fn kernel(path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(&lab().root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// What a walk finds that opens one component at a time; none where the kernel must fail.
fn walk(path: &[u8]) -> Option<(u64, u64)> {
    let mut stack = vec![lab().root.as_fd().try_clone_to_owned().expect("a descriptor")];
    let mut pending: Vec<Vec<u8>> = path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec).collect();
    let mut links = 0;
    while let Some(name) = pending.pop() {
        let here = stack.last().expect("the root");
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            name if name.len() > 255 => return None,
            _ => {}
        }
        let stat = statat(here, &name[..], AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if pending.is_empty() {
            return Some((stat.st_dev, stat.st_ino));
        }
        match kind {
            FileType::Directory => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
                stack.push(rustix::fs::openat(here, &name[..], flags, Mode::empty()).ok()?);
            }
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                let target = readlinkat(here, &name[..], Vec::new()).ok()?.into_bytes();
                if target.starts_with(b"/") {
                    stack.truncate(1);
                }
                pending.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
            }
            _ => return None,
        }
    }
    Some(inode(stack.last().expect("the root")))
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, rest)) = data.split_first() else { return };
    let name = match mode & 1 {
        0 => rest.iter().map(|byte| WORDS[usize::from(byte & 15)]).collect::<Vec<_>>().join("/").into_bytes(),
        _ => rest.to_vec(),
    };
    let cleaned = RelPath::clean(&name);
    let wanted = clean(&name);
    let path = match &cleaned {
        Ok(path) => path,
        Err(InvalidPath::Nul) => return assert!(name.contains(&0)),
        Err(InvalidPath::Root) => return assert!(wanted.is_empty()),
        Err(InvalidPath::TooLong(length)) => return assert!(*length == wanted.len() && *length > 4095),
        Err(InvalidPath::NotClean) => panic!("cleaning makes clean"),
    };
    assert_eq!(path.as_bytes(), wanted, "as Go cleans it");
    assert_eq!(RelPath::clean(path.as_bytes()).as_ref(), Ok(path), "clean stays clean");
    assert_eq!(RelPath::from_clean(wanted.clone()).as_ref(), Ok(path));
    let root = &lab().root;
    let kernel = kernel(path.as_bytes());
    let found = kernel.as_ref().ok().map(inode);
    assert_eq!(found, walk(path.as_bytes()), "{path}");
    let kind = kernel.as_ref().ok().map(|fd| FileType::from_raw_mode(fstat(fd).expect("a descriptor").st_mode));

    let seen = sight(root, path.as_bytes());
    assert_eq!(seen.as_ref().ok().map(inode), found, "{path}");
    let file = regular_file(root, path);
    let parted = |care| directory(root, path.split().0).and_then(|dir| file_in(dir, path.split().1, care));
    let (at_once, looked) = (parted(Care::OpenAtOnce), parted(Care::LookFirst));
    match kind {
        Some(FileType::RegularFile) => {
            assert_eq!(file.as_ref().map(inode), Ok(found.expect("found")), "{path}");
            for (file, size) in [at_once.expect("the same"), looked.expect("the same")] {
                assert!(Some(inode(&file)) == found && size == fstat(&file).expect("a file").st_size as u64);
            }
        }
        Some(_) => {
            let refused = [file.err(), at_once.err(), looked.err()];
            assert_eq!(refused, [Some(Refusal::NotRegular); 3], "{path}");
        }
        None => {
            assert!(file.is_err() && at_once.is_err() && looked.is_err(), "{path}");
            assert_eq!(file.err(), at_once.err(), "{path}: one way to say why");
        }
    }
    let listed = listing(root, path.as_bytes());
    assert_eq!(listed.is_ok(), kind == Some(FileType::Directory), "{path}");
    assert!(listed.is_err() || listed.ok().map(inode) == found);
    let (parent, _) = split(path.as_bytes());
    let above = openat2(root, dot(parent), OFlags::PATH | OFlags::DIRECTORY, Mode::empty(), ResolveFlags::IN_ROOT);
    assert_eq!(directory(root, parent).ok().map(inode), above.ok().map(inode), "{path}");
});
