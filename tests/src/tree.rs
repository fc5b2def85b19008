//! A tree as data: what a directory holds, one [`Row`] per path, read without following anything, and the
//! difference of two such listings. The rows are the lines of `tests/fixtures/truth-5.4.2`, so that a listing can
//! be held against a file, against another directory, or against podman's own mount of an image listed inside the
//! namespace (`cstor-lab-tree`). It does not judge: which differences count is the caller's [`Sight`].

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// Path (each byte one char, so that names need not be UTF-8) to what is there.
pub type Listing = BTreeMap<String, Row>;

/// One path of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Beneath the top, bytes as chars.
    pub path: String,
    /// `f d l p s c b`
    #[serde(rename = "type")]
    pub kind: char,
    /// Octal with the set-id and sticky bits, as `0o4755`.
    pub mode: String,
    /// Owner as the listing process sees it: container ids when listed inside the namespace.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// Nanoseconds since the epoch.
    pub mtime: i128,
    /// Files only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Files only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Symbolic links only, bytes as chars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Devices only: major, minor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdev: Option<[u32; 2]>,
    /// All names of this inode within the tree, itself included, when there is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardlinks: Option<Vec<String>>,
    /// Name to hexadecimal value; overlay's own bookkeeping is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// What a comparison looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Leave out what a plain user cannot set: owners, set-id bits, device nodes, xattrs other than `user.*`.
    pub unprivileged: bool,
    /// Compare the times of regular files only: podman gives directories and links of a partially pulled image the
    /// time of the pull, so its own mount is no truth for them.
    pub file_times_only: bool,
    /// A directory whose wanted time has a fraction of a second may have another: podman made one that no tar of a layer
    /// has, with the time of that moment. The headers that podman writes have whole seconds.
    pub clock_allowed: bool,
}

impl Sight {
    /// Everything, as root extracts it.
    pub const ALL: Sight = Sight { unprivileged: false, file_times_only: false, clock_allowed: false };
    /// What a plain user can have.
    pub const PLAIN: Sight = Sight { unprivileged: true, file_times_only: false, clock_allowed: false };

    /// The same without the times of directories and links.
    pub const fn file_times(self) -> Sight {
        Sight { file_times_only: true, ..self }
    }

    /// The same for images that podman built.
    pub const fn with_clock(self) -> Sight {
        Sight { clock_allowed: true, ..self }
    }

    fn of(self, row: &Row) -> Row {
        let mut seen = row.clone();
        if self.unprivileged {
            (seen.uid, seen.gid) = (0, 0);
            let kept = if row.kind == 'd' { 0o1777 } else { 0o777 };
            seen.mode = format!("{:#o}", row.permissions() & kept);
            seen.xattrs.retain(|name, _| name.starts_with("user."));
        }
        if row.kind == 'l' {
            seen.mode.clear();
        }
        if self.file_times_only && row.kind != 'f' {
            seen.mtime = 0;
        }
        seen
    }
}

impl Row {
    /// The mode as a number.
    pub fn permissions(&self) -> u32 {
        u32::from_str_radix(self.mode.trim_start_matches("0o"), 8).expect("a mode is octal")
    }
}

/// Lists everything below `top`, which itself is not listed.
pub fn list(top: &Path) -> io::Result<Listing> {
    let mut rows = Listing::new();
    let mut inodes: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    let mut pending = vec![top.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let found = fs::symlink_metadata(&path)?;
            let row = read_row(top, &path, &found)?;
            if found.is_dir() {
                pending.push(path);
            } else if found.nlink() > 1 {
                inodes.entry((found.dev(), found.ino())).or_default().push(row.path.clone());
            }
            rows.insert(row.path.clone(), row);
        }
    }
    for mut names in inodes.into_values().filter(|names| names.len() > 1) {
        names.sort();
        for name in &names {
            rows.get_mut(name).expect("listed above").hardlinks = Some(names.clone());
        }
    }
    Ok(rows)
}

fn read_row(top: &Path, path: &Path, found: &Metadata) -> io::Result<Row> {
    let kind = found.file_type();
    let letter = [
        (kind.is_file(), 'f'),
        (kind.is_dir(), 'd'),
        (kind.is_symlink(), 'l'),
        (kind.is_fifo(), 'p'),
        (kind.is_socket(), 's'),
        (kind.is_char_device(), 'c'),
        (kind.is_block_device(), 'b'),
    ];
    let device = kind.is_char_device() || kind.is_block_device();
    Ok(Row {
        path: chars(path.strip_prefix(top).expect("below top").as_os_str().as_bytes()),
        kind: letter.into_iter().find_map(|(is, letter)| is.then_some(letter)).expect("seven types there are"),
        mode: format!("{:#o}", found.mode() & 0o7777),
        uid: found.uid(),
        gid: found.gid(),
        mtime: i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()),
        size: kind.is_file().then_some(found.len()),
        sha256: if kind.is_file() { Some(digest(path)?) } else { None },
        target: if kind.is_symlink() { Some(chars(fs::read_link(path)?.as_os_str().as_bytes())) } else { None },
        rdev: device.then(|| [rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev())]),
        hardlinks: None,
        xattrs: xattrs(path)?.into_iter().filter(|(name, _)| !name.contains(".overlay.")).collect(),
    })
}

/// SHA-256 of a file's bytes, in hexadecimal.
pub fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 17]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// All extended attributes of a path (of the link itself for a link): name to hexadecimal value.
pub fn xattrs(path: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut buffer = vec![0; 1 << 16];
    let names = match rustix::fs::llistxattr(path, &mut buffer[..]) {
        Ok(length) => buffer[..length].to_vec(),
        Err(Errno::NOTSUP) => Vec::new(),
        Err(e) => return Err(e.into()),
    };
    names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let length = rustix::fs::lgetxattr(path, name, &mut buffer[..])?;
            Ok((chars(name), hex(&buffer[..length])))
        })
        .collect()
}

/// Bytes one to one as chars, the way the truth files write names.
pub fn chars(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads lines of JSON, one row each.
pub fn parse(lines: &str) -> serde_json::Result<Listing> {
    lines.lines().map(|line| serde_json::from_str::<Row>(line).map(|row| (row.path.clone(), row))).collect()
}

/// Writes lines of JSON, one row each.
pub fn print(rows: &Listing) -> serde_json::Result<String> {
    rows.values().map(|row| serde_json::to_string(row).map(|line| line + "\n")).collect()
}

/// Every path where `have` is not what `want` says, with what differs. Empty: the trees are the same.
pub fn differences(want: &Listing, have: &Listing, sight: Sight) -> Vec<String> {
    let paths: std::collections::BTreeSet<&String> = want.keys().chain(have.keys()).collect();
    paths
        .into_iter()
        .filter_map(|path| {
            let what = match (want.get(path), have.get(path)) {
                (Some(w), None) if sight.unprivileged && "cb".contains(w.kind) => return None,
                (Some(_), None) => "missing".to_owned(),
                (None, _) => "not in the truth".to_owned(),
                (Some(w), Some(h)) => {
                    let (w, mut h) = (sight.of(w), sight.of(h));
                    if sight.clock_allowed && w.kind == 'd' && w.mtime % 1_000_000_000 != 0 {
                        h.mtime = w.mtime;
                    }
                    let (w, h) = (fields(&w), fields(&h));
                    let differing: Vec<String> = w
                        .iter()
                        .map(|(name, value)| (name, value, &h[name]))
                        .filter(|(_, want, have)| want != have)
                        .map(|(name, want, have)| format!("{name}: want {want}, have {have}"))
                        .collect();
                    if differing.is_empty() {
                        return None;
                    }
                    differing.join(", ")
                }
            };
            Some(format!("{path:?}: {what}"))
        })
        .collect()
}

fn fields(row: &Row) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("type", row.kind.to_string()),
        ("mode", row.mode.clone()),
        ("uid", row.uid.to_string()),
        ("gid", row.gid.to_string()),
        ("mtime", row.mtime.to_string()),
        ("size", format!("{:?}", row.size)),
        ("sha256", format!("{:?}", row.sha256)),
        ("target", format!("{:?}", row.target)),
        ("rdev", format!("{:?}", row.rdev)),
        ("hardlinks", format!("{:?}", row.hardlinks)),
        ("xattrs", format!("{:?}", row.xattrs)),
    ])
}

/// Fails the test with the first differing paths.
#[track_caller]
pub fn assert_same(want: &Listing, have: &Listing, sight: Sight, what: &str) {
    let found = differences(want, have, sight);
    assert!(
        found.is_empty(),
        "{what}: {} of {} paths differ:\n{}",
        found.len(),
        want.len(),
        found.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n")
    );
}

/// What [`small`] makes, in the order in which it is archived.
pub const SMALL: [&str; 8] = ["t", "t/file", "t/empty", "t/block", "t/link", "t/symlink", "t/dir", "t/dir/set-id"];

/// Makes a tree in `top` that every tar format holds.
pub fn small(top: &Path) {
    let at = |name: &str| top.join(name);
    fs::create_dir_all(at("t/dir")).unwrap();
    fs::write(at("t/file"), "some contents\n".repeat(100)).unwrap();
    fs::write(at("t/empty"), "").unwrap();
    fs::write(at("t/block"), [b'b'; 512]).unwrap();
    fs::hard_link(at("t/file"), at("t/link")).unwrap();
    symlink("file", at("t/symlink")).unwrap();
    fs::write(at("t/dir/set-id"), "x").unwrap();
    fs::set_permissions(at("t/dir/set-id"), fs::Permissions::from_mode(0o6755)).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_listing_survives_its_lines() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("d")).unwrap();
        fs::write(top.path().join("d/f"), b"abc").unwrap();
        fs::hard_link(top.path().join("d/f"), top.path().join("g")).unwrap();
        symlink("d/f", top.path().join("l")).unwrap();
        let rows = list(top.path()).unwrap();
        assert_eq!(rows.keys().collect::<Vec<_>>(), ["d", "d/f", "g", "l"]);
        assert_eq!(rows["g"].hardlinks, Some(vec!["d/f".into(), "g".into()]));
        assert_eq!(rows["l"].target.as_deref(), Some("d/f"));
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(rows["d/f"].sha256.as_deref(), Some(sum));
        assert_eq!(parse(&print(&rows).unwrap()).unwrap(), rows);
    }

    #[test]
    fn only_a_fraction_of_a_second_is_a_clock() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("d")).unwrap();
        let have = list(top.path()).unwrap();
        for (wanted, differs) in [(1, false), (3_000_000_000, true)] {
            let mut want = have.clone();
            want.get_mut("d").unwrap().mtime = wanted;
            assert_eq!(differences(&want, &have, Sight::ALL.with_clock()).is_empty(), !differs, "{wanted}");
            assert!(!differences(&want, &have, Sight::ALL).is_empty(), "{wanted}");
        }
    }

    #[test]
    fn a_sight_decides_what_counts() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("f"), b"").unwrap();
        fs::create_dir(top.path().join("d")).unwrap();
        let want = list(top.path()).unwrap();
        let change = |row: &str, change: fn(&mut Row)| {
            let mut have = want.clone();
            change(have.get_mut(row).unwrap());
            [Sight::ALL, Sight::PLAIN, Sight::PLAIN.file_times()].map(|s| differences(&want, &have, s).len())
        };
        type Edit = fn(&mut Row);
        let table: [(&str, Edit, [usize; 3]); 7] = [
            ("f", |r| r.uid += 1, [1, 0, 0]),
            ("f", |r| r.mode = format!("{:#o}", r.permissions() | 0o4000), [1, 0, 0]),
            ("f", |r| r.size = Some(1), [1, 1, 1]),
            ("f", |r| r.mtime += 1, [1, 1, 1]),
            ("d", |r| r.mtime += 1, [1, 1, 0]),
            ("f", |r| drop(r.xattrs.insert("user.a".into(), "00".into())), [1, 1, 1]),
            ("f", |r| drop(r.xattrs.insert("security.capability".into(), "00".into())), [1, 0, 0]),
        ];
        for (number, (row, edit, found)) in table.into_iter().enumerate() {
            assert_eq!(change(row, edit), found, "row {number}");
        }
    }
}
