//! Metadata that a store with `force_mask` keeps in an attribute, because every file there has the same mode and owner.
//!
//! The attribute is `uid:gid:mode[:type]`, with container ids, an octal mode and, from newer writers, what the file
//! stands for (containers/storage pkg/idtools/idtools.go, `Stat`). fuse-overlayfs puts the bits of the file type into the
//! mode.

/// The attributes that can hold it: of fuse-overlayfs, and of containers/storage. The first one that the top of a layer
/// has is the one that counts for all of it (fuse-overlayfs main.c, `read_dirs`).
pub(super) const NAMES: [&[u8]; 3] =
    [b"security.fuseoverlayfs.override_stat", b"user.fuseoverlayfs.override_stat", b"user.containers.override_stat"];

/// The file type in a mode, and two of its values (inode(7)).
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// What a file really is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overridden {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    /// `None` where it is what it looks like.
    pub(super) kind: Option<StoodFor>,
}

/// What an empty file can stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoodFor {
    Fifo,
    Socket,
    Block(u32, u32),
    Char(u32, u32),
}

impl Overridden {
    /// Parses a value; `is_dir` is what the file itself is.
    pub(super) fn parse(value: &[u8], is_dir: bool) -> Option<Overridden> {
        let mut fields = std::str::from_utf8(value).ok()?.trim_end_matches('\0').splitn(4, ':');
        let mut number = |radix| u32::from_str_radix(fields.next()?, radix).ok();
        let (uid, gid, mode) = (number(10)?, number(10)?, number(8)?);
        let expected = if is_dir { DIRECTORY } else { REGULAR };
        if mode & !(TYPE | 0o7777) != 0 || ![0, expected].contains(&(mode & TYPE)) {
            return None;
        }
        let kind = match (fields.next(), is_dir) {
            (None, _) | (Some("file"), false) | (Some("dir"), true) => None,
            (Some("pipe"), false) => Some(StoodFor::Fifo),
            (Some("socket"), false) => Some(StoodFor::Socket),
            (Some(device), false) => {
                let mut parts = device.split('-');
                let (kind, major, minor) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
                match (kind, parts.next()) {
                    ("block", None) => Some(StoodFor::Block(major, minor)),
                    ("char", None) => Some(StoodFor::Char(major, minor)),
                    _ => return None,
                }
            }
            (Some(_), true) => return None,
        };
        Some(Overridden { uid, gid, mode: mode & !TYPE, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_all_writers_are_understood() {
        let of = |mode, kind| Some(Overridden { uid: 33, gid: 5, mode, kind });
        let table: &[(&str, bool, Option<Overridden>)] = &[
            ("33:5:0750", false, of(0o750, None)),
            ("33:5:4750:file", false, of(0o4750, None)),
            ("33:5:1777:dir", true, of(0o1777, None)),
            ("33:5:0600:pipe", false, of(0o600, Some(StoodFor::Fifo))),
            ("33:5:0600:socket", false, of(0o600, Some(StoodFor::Socket))),
            ("33:5:0660:block-8-1", false, of(0o660, Some(StoodFor::Block(8, 1)))),
            ("33:5:0666:char-1-3", false, of(0o666, Some(StoodFor::Char(1, 3)))),
            ("33:5:0666:char-1-3", true, None),
            ("33:5:0755:file", true, None),
            ("33:5:0755:dir", false, None),
            ("33:5:0777:symlink", false, None),
            ("33:5:0666:char-1", false, None),
            ("33:5:0666:char-1-3-4", false, None),
            ("33:5:100644", false, of(0o644, None)),
            ("33:5:41777", true, of(0o1777, None)),
            ("33:5:40755", false, None),
            ("33:5:100644", true, None),
            ("33:5:120777", false, None),
            ("33:5:1000000", false, None),
            ("33:5:0889", false, None),
            ("33:-5:0644", false, None),
            ("33:5", false, None),
            ("", false, None),
        ];
        for (value, is_dir, expected) in table {
            assert_eq!(Overridden::parse(value.as_bytes(), *is_dir), *expected, "{value}");
        }
    }
}
