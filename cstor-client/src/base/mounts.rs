//! The mount table of this process: where in its file system a directory lies, whatever path or bind mount leads to it.
//!
//! A file system is named by the device of the table, not by `st_dev`: btrfs has another one for each subvolume. What
//! the table does not list has no place here: mounts that are detached, or out of reach of a chroot.
//!
//! Source: proc_pid_mountinfo(5), proc_pid_fdinfo(5).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::base::ambient;
use crate::base::path::join;

/// The largest table that is read: 100,000 mounts, the kernel's own limit (`fs.mount-max`), of 640 bytes each.
const MAX_TABLE: u64 = 64 << 20;
/// What /proc says of one descriptor is shorter.
const MAX_FDINFO: usize = 4096;
/// How often the parent of a directory is tried whose path is longer than PATH_MAX.
const MAX_DEPTH: usize = 1 << 16;

/// The number of a file system, as the table has it.
type Device = (u32, u32);

/// All mounts that this process sees, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Mounts(BTreeMap<u64, Mount>);

#[derive(Debug)]
struct Mount {
    /// The number of the mount on which it is mounted.
    parent: u64,
    device: Device,
    /// Which directory of the file system is mounted.
    root: Vec<u8>,
    /// Where, from the root of this process.
    point: Vec<u8>,
    kind: Vec<u8>,
}

/// A directory or file, by its path in its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    device: Device,
    path: Vec<u8>,
}

impl Place {
    /// Whether it is the other one, or lies below it.
    pub(crate) fn lies_in(&self, other: &Place) -> bool {
        self.device == other.device && below(&self.path, &other.path).is_some()
    }

    /// What has this name in it.
    pub(crate) fn join(&self, name: &[u8]) -> Place {
        Place { device: self.device, path: child(&self.path, name) }
    }
}

impl Mounts {
    /// The table of now; empty where there is no /proc, with a warning.
    pub(crate) fn read() -> io::Result<Mounts> {
        let table = match ambient::open("/proc/thread-self/mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        {
            Ok(table) => table,
            Err(Errno::NOENT) => {
                tracing::warn!("without /proc, a store or a mount point behind a bind mount is not recognized");
                return Ok(Mounts::default());
            }
            Err(errno) => return Err(errno.into()),
        };
        let mut bytes = Vec::new();
        File::from(table).take(MAX_TABLE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_TABLE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Mounts::parse(&bytes))
    }

    /// Lines that are not understood are left out.
    fn parse(table: &[u8]) -> Mounts {
        Mounts(table.split(|&byte| byte == b'\n').filter_map(Mount::parse).collect())
    }

    /// Where an open file or directory lies; nothing if its mount is not listed.
    pub(crate) fn place_of(&self, fd: BorrowedFd<'_>) -> io::Result<Option<Place>> {
        let mut above: Option<OwnedFd> = None;
        for _ in 0..MAX_DEPTH {
            let fd = above.as_ref().map_or(fd, AsFd::as_fd);
            match ambient::read_link(format!("/proc/thread-self/fd/{}", fd.as_raw_fd())) {
                Ok(path) => {
                    let mount = self.of(fd)?;
                    return Ok(mount.and_then(|mount| mount.place(path.as_bytes())));
                }
                // The kernel shows no longer path. A directory above lies in whatever it lies in itself.
                Err(Errno::NAMETOOLONG) => {
                    let up = openat(fd, "..", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
                    above = Some(up);
                }
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(None)
    }

    /// The type of the file system in which an open directory lies.
    pub(crate) fn kind_of(&self, fd: BorrowedFd<'_>) -> io::Result<Option<&[u8]>> {
        Ok(self.of(fd)?.map(|mount| mount.kind.as_slice()))
    }

    /// The mount points at this place and below it, in whichever mount of its file system they are seen. The kernel
    /// does not remove or rename any of them, through any other mount either.
    pub(crate) fn points_in<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = Vec<u8>> + 'a {
        let points = self.0.values().filter_map(|mount| self.place_of_point(mount));
        points.filter_map(|point| {
            Some(below(&point.path, &place.path)?.to_vec()).filter(|_| point.device == place.device)
        })
    }

    /// These places, and all that is mounted in them, with the number of the place that it belongs to.
    pub(crate) fn with_what_is_mounted_in(&self, places: Vec<(usize, Place)>) -> Vec<(usize, Place)> {
        let mut all = places;
        let mut rest: Vec<&Mount> = self.0.values().collect();
        loop {
            let before = rest.len();
            rest.retain(|mount| {
                let Some(point) = self.place_of_point(mount) else { return false };
                let Some(number) = all.iter().find(|(_, place)| point.lies_in(place)).map(|(number, _)| *number) else {
                    return true;
                };
                all.push((number, Place { device: mount.device, path: mount.root.clone() }));
                false
            });
            if rest.len() == before {
                return all;
            }
        }
    }

    /// The directory on which something is mounted.
    fn place_of_point(&self, mount: &Mount) -> Option<Place> {
        self.0.get(&mount.parent)?.place(&mount.point)
    }

    fn of(&self, fd: BorrowedFd<'_>) -> io::Result<Option<&Mount>> {
        let path = format!("/proc/thread-self/fdinfo/{}", fd.as_raw_fd());
        let info = match ambient::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            info => info?,
        };
        let mut bytes = [0; MAX_FDINFO];
        let length = rustix::io::read(&info, &mut bytes)?;
        let lines = bytes.get(..length).unwrap_or_default().split(|&byte| byte == b'\n');
        let id = lines.filter_map(|line| line.strip_prefix(b"mnt_id:")).find_map(|id| number(id.trim_ascii()));
        Ok(id.and_then(|id| self.0.get(&id)))
    }
}

impl Mount {
    /// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`: the optional fields end with a dash.
    fn parse(line: &[u8]) -> Option<(u64, Mount)> {
        let mut fields = line.split(|&byte| byte == b' ');
        let (id, parent) = (number(fields.next()?)?, number(fields.next()?)?);
        let mut device = fields.next()?.splitn(2, |&byte| byte == b':').map(|half| number(half)?.try_into().ok());
        let device = (device.next()??, device.next()??);
        let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
        let kind = unescaped(fields.skip_while(|field| *field != b"-").nth(1)?);
        Some((id, Mount { parent, device, root, point, kind }))
    }

    /// Where in the file system a path lies that leads through this mount.
    fn place(&self, path: &[u8]) -> Option<Place> {
        let rest = below(path, &self.point)?;
        Some(Place {
            device: self.device,
            path: if rest.is_empty() { self.root.clone() } else { child(&self.root, rest) },
        })
    }
}

/// What a path has below another one; nothing if it does not lie there.
fn below<'a>(path: &'a [u8], top: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(top.strip_suffix(b"/").unwrap_or(top))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

fn child(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path == b"/" { [b"/", name].concat() } else { join(path, name) }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(value.unwrap_or(first));
        rest = if value.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    bytes
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test opens what it has made by path")]
mod tests {
    use super::*;
    use rustix::fs::open;

    const TABLE: &[u8] = b"\
        21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        22 21 0:30 / /home rw - btrfs /dev/sdb rw,subvol=/\n\
        23 21 0:30 /home/a/st/overlay/id/diff /else\\040where rw master:1 propagate_from:2 - btrfs /dev/sdb rw\n\
        24 22 8:2 /vol /home/a/st/volumes rw - ext4 /dev/sdc rw\n\
        25 24 0:40 / /home/a/st/volumes/x/m rw - tmpfs tmpfs rw\n\
        26 99 0:41 / /out/of/reach rw - tmpfs tmpfs rw\n\
        not a line\n";

    fn place(device: Device, path: &str) -> Place {
        Place { device, path: path.into() }
    }

    #[test]
    fn a_path_through_a_bind_mount_is_a_place_in_the_file_system() {
        let mounts = Mounts::parse(TABLE);
        let rows: &[(u64, &str, Option<Place>)] = &[
            (21, "/", Some(place((8, 1), "/"))),
            (21, "/etc", Some(place((8, 1), "/etc"))),
            (22, "/home/a", Some(place((0, 30), "/a"))),
            (22, "/homes", None),
            (23, "/else where", Some(place((0, 30), "/home/a/st/overlay/id/diff"))),
            (23, "/else where/x/y", Some(place((0, 30), "/home/a/st/overlay/id/diff/x/y"))),
            (24, "/home/a/st/volumes/x", Some(place((8, 2), "/vol/x"))),
        ];
        for (id, path, expected) in rows {
            let found = mounts.0.get(id).and_then(|mount| mount.place(path.as_bytes()));
            assert_eq!(found, *expected, "{id} {path}");
        }
        assert_eq!(mounts.0.len(), 6);
    }

    #[test]
    fn what_is_mounted_in_a_place_belongs_to_it() {
        let mounts = Mounts::parse(TABLE);
        let all = mounts.with_what_is_mounted_in(vec![(7, place((0, 30), "/a/st"))]);
        assert_eq!(all, [(7, place((0, 30), "/a/st")), (7, place((8, 2), "/vol")), (7, place((0, 40), "/"))]);
        let none = mounts.with_what_is_mounted_in(vec![(0, place((0, 30), "/a/st/vol"))]);
        assert_eq!(none.len(), 1);
        let at = |path| mounts.points_in(&place((0, 30), path)).collect::<Vec<_>>();
        assert_eq!(at("/a"), [b"st/volumes"]);
        assert_eq!(at("/a/st/volumes"), [b""]);
        assert!(at("/a/st/volumes/x").is_empty());
    }

    #[test]
    fn places_end_at_a_slash() {
        let rows =
            [("/a/b", "/a", true), ("/a", "/a", true), ("/ab", "/a", false), ("/a", "/", true), ("/a", "/a/b", false)];
        for (path, top, expected) in rows {
            assert_eq!(place((1, 1), path).lies_in(&place((1, 1), top)), expected, "{path} {top}");
            assert!(!place((1, 1), path).lies_in(&place((1, 2), top)));
        }
        assert_eq!(place((1, 1), "/").join(b"a").join(b"b"), place((1, 1), "/a/b"));
        assert_eq!(unescaped(br"a\040\134\011\9\04"), b"a \\\t\\9\\04");
    }

    #[test]
    fn this_process_has_a_place() {
        let mounts = Mounts::read().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let open = |path| open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let (above, below) = (open(dir.path().parent().unwrap()), open(dir.path()));
        let place = |fd: &OwnedFd| mounts.place_of(fd.as_fd()).unwrap().expect("a temporary directory has a place");
        assert!(place(&below).lies_in(&place(&above)) && !place(&above).lies_in(&place(&below)));
    }
}
