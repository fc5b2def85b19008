//! Unpacks the members of a layer into its `diff` as podman does inside its chroot: names cleaned lexically, parents
//! made 0755 and reached through symlinks of the same layer, whiteouts turned into overlay's own form. What podman
//! refuses is an error here too. Owners are applied by root alone; SELinux labels and other namespaces than `user.`
//! are not set.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::fs::{AtFlags, CWD, Dev, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};

use super::member::{Kind, MTIME, Member};

/// The mode of every layer's root in a store, whatever the archive says of `./`.
const ROOT_MODE: Mode = Mode::from_raw_mode(0o555);

/// Unpacks `members` into `diff`. `ids_kept` is a rootful store's way: owners, devices and `trusted.` markers.
pub(super) fn unpack(diff: BorrowedFd<'_>, members: &[Member], ids_kept: bool) -> io::Result<()> {
    // Modes and times of directories wait until everything below them is in place.
    let mut directories: BTreeMap<Vec<u8>, &Member> = BTreeMap::new();
    for member in members.iter().filter(|member| member.on_disk) {
        let path = clean(&member.name);
        let (parent, base) = split(&path);
        if base.is_empty() {
            continue;
        }
        let at = parents(diff, parent)?;
        match base.strip_prefix(b".wh.") {
            Some(b".wh..opq") => {
                let (name, value) = (if ids_kept { "trusted" } else { "user" }, b"y");
                set_xattr(at.as_fd(), b".", &format!("{name}.overlay.opaque"), value)?;
            }
            Some(hidden) => {
                // Mode 0, as a user namespace makes it: the one device an unprivileged user may create.
                rustix::fs::mknodat(&at, hidden, FileType::CharacterDevice, Mode::empty(), 0)?;
            }
            None => {
                create(diff, at.as_fd(), base, member, ids_kept)?;
                directories.remove(&path);
                if matches!(member.kind, Kind::Directory) {
                    directories.insert(path, member);
                }
            }
        }
    }
    // Deepest first: a directory of mode 0 would bar the way to its children.
    for (path, member) in directories.iter().rev() {
        let directory = open(diff, path, OFlags::DIRECTORY | OFlags::RDONLY)?;
        rustix::fs::futimens(&directory, &times(member.mtime))?;
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(member.mode & 0o7777))?;
    }
    rustix::fs::fchmod(open(diff, b".", OFlags::DIRECTORY | OFlags::RDONLY)?, ROOT_MODE)?;
    Ok(())
}

/// Go's `filepath.Clean` of a name seen from the root: no empty, `.` or `..` component is left.
pub(super) fn clean(name: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            _ => kept.push(component),
        }
    }
    kept.join(&b'/')
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b".", path),
    }
}

fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// The directory `path`, made where it is missing. A dangling symlink on the way is an error, as in podman.
fn parents(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    match open(root, path, OFlags::DIRECTORY | OFlags::RDONLY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (parent, base) = split(path);
            let parent = parents(root, parent)?;
            rustix::fs::mkdirat(&parent, base, Mode::from_raw_mode(0o755))?;
            Ok(rustix::fs::openat(
                &parent,
                base,
                OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?)
        }
        other => other,
    }
}

fn create(root: BorrowedFd<'_>, at: BorrowedFd<'_>, base: &[u8], member: &Member, ids_kept: bool) -> io::Result<()> {
    let directory = matches!(member.kind, Kind::Directory);
    match rustix::fs::statat(at, base, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            if !directory {
                remove_tree(at, base)?;
            }
        }
        Ok(_) => rustix::fs::unlinkat(at, base, AtFlags::empty())?,
        Err(_) => {}
    }
    let mode = Mode::from_raw_mode(member.mode & 0o7777);
    match &member.kind {
        Kind::File(content) => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let mut file = std::fs::File::from(rustix::fs::openat(at, base, flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all(content)?;
        }
        Kind::Directory => match rustix::fs::mkdirat(at, base, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        },
        Kind::Symlink(target) => rustix::fs::symlinkat(&target[..], at, base)?,
        Kind::HardLink(target) => {
            let target = clean(target);
            let (parent, name) = split(&target);
            let from = open(root, parent, OFlags::DIRECTORY | OFlags::RDONLY)?;
            rustix::fs::linkat(from, name, at, base, AtFlags::empty())?;
        }
        Kind::Fifo => rustix::fs::mknodat(at, base, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?,
        // Rootless podman leaves devices out.
        Kind::CharDevice(..) if !ids_kept => return Ok(()),
        Kind::CharDevice(major, minor) => {
            let device: Dev = rustix::fs::makedev(*major, *minor);
            rustix::fs::mknodat(at, base, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, device)?;
        }
        Kind::BlockDevice(..) | Kind::Other(..) => return Ok(()),
    }
    if ids_kept {
        // Go keeps an id in an int and the kernel's call takes 32 bits of it.
        let (uid, gid) = (Uid::from_raw(member.uid as u32), Gid::from_raw(member.gid as u32));
        rustix::fs::chownat(at, base, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    // A hard link to a symlink is one too, and a mode set by name would land on whatever file of this machine it
    // points to: so the type is read, and the mode set, through a descriptor that cannot have followed it.
    let made = rustix::fs::openat(at, base, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&made)?.st_mode) == FileType::Symlink {
        rustix::fs::utimensat(at, base, &times(member.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
        return Ok(());
    }
    for (key, value) in &member.records {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.").filter(|name| name.starts_with(b"user.")) {
            set_xattr(at, base, &String::from_utf8(name.to_vec()).map_err(io::Error::other)?, value)?;
        }
    }
    if !directory {
        rustix::fs::chmodat(CWD, format!("/proc/self/fd/{}", made.as_raw_fd()), mode, AtFlags::empty())?;
        rustix::fs::utimensat(at, base, &times(member.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// Through the process's own descriptor table, since there is no `setxattrat` before Linux 6.13.
fn set_xattr(at: BorrowedFd<'_>, base: &[u8], name: &str, value: &[u8]) -> io::Result<()> {
    let file = rustix::fs::openat(at, base, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW, Mode::empty())?;
    Ok(rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?)
}

fn remove_tree(at: BorrowedFd<'_>, base: &[u8]) -> io::Result<()> {
    let directory = rustix::fs::openat(at, base, OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name if entry.file_type() == FileType::Directory => remove_tree(directory.as_fd(), name)?,
            name => rustix::fs::unlinkat(&directory, name, AtFlags::empty())?,
        }
    }
    Ok(rustix::fs::unlinkat(at, base, AtFlags::REMOVEDIR)?)
}

/// podman sets times before 1970 to 1970.
fn times(seconds: i64) -> Timestamps {
    let stamp = Timespec { tv_sec: seconds.max(0), tv_nsec: 0 };
    Timestamps { last_access: stamp, last_modification: stamp }
}

/// Gives a tree to another user, as if that user had made it; set-id bits are lost on the way.
pub(super) fn give(path: &std::path::Path, uid: u32) -> io::Result<()> {
    let (owner, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    rustix::fs::chownat(CWD, path, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    if path.symlink_metadata()?.is_dir() {
        for entry in path.read_dir()? {
            give(&entry?.path(), uid)?;
        }
    }
    Ok(())
}

/// The time that members have unless they say otherwise, for what the forge makes beside them.
pub(super) fn default_times() -> Timestamps {
    times(MTIME)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::{Layer, Store, hard_link, symlink};

    /// The forge runs as root on machines that are still needed.
    #[test]
    fn a_link_to_a_link_changes_nothing_outside() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = dir.path().join("outside");
        std::fs::write(&outside, "").expect("a file");
        let mode = || outside.metadata().expect("a file").permissions().mode();
        let before = mode();
        let link = symlink("link", outside.to_str().expect("UTF-8"));
        let store =
            Store { layers: vec![Layer::new(vec![link, hard_link("again", "link").mode(0)])], images: Vec::new() };
        store.write(&dir.path().join("store"), false).expect("a store");
        assert_eq!(mode(), before);
    }
}
