//! One member of a layer's tar, described by its builder and written as raw blocks, so that a test can also say
//! what no archiver would write (a wrong checksum, a record without its newline). It does not read archives.

/// What a member is; the bytes of a regular file are kept here.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Typeflag `0`.
    File(Vec<u8>),
    /// Typeflag `5`; the name is written with a slash at its end.
    Directory,
    /// Typeflag `2` and its target.
    Symlink(Vec<u8>),
    /// Typeflag `1` and the member it names.
    HardLink(Vec<u8>),
    /// Typeflag `6`.
    Fifo,
    /// Typeflag `3`, major and minor.
    CharDevice(u32, u32),
    /// Typeflag `4`, major and minor.
    BlockDevice(u32, u32),
    /// Any other typeflag with the bytes that follow its header.
    Other(u8, Vec<u8>),
}

/// How a name that does not fit the header's 100 bytes is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum LongName {
    Pax,
    Gnu,
}

/// A member under construction; every method hands it on.
#[derive(Clone, Debug)]
pub struct Member {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: i64,
    pub(super) records: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) on_disk: bool,
    before: Vec<u8>,
    patches: Vec<(usize, Vec<u8>)>,
    long: LongName,
    checksum_off_by: u64,
}

/// The time of every member that does not set its own: 2001-09-09T01:46:40Z.
pub const MTIME: i64 = 1_000_000_000;

fn member(name: impl AsRef<[u8]>, kind: Kind, mode: u32) -> Member {
    Member {
        name: name.as_ref().to_vec(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: MTIME,
        records: Vec::new(),
        on_disk: true,
        before: Vec::new(),
        patches: Vec::new(),
        long: LongName::Pax,
        checksum_off_by: 0,
    }
}

/// A regular file of mode 0644.
pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Member {
    member(name, Kind::File(content.as_ref().to_vec()), 0o644)
}

/// A directory of mode 0755.
pub fn dir(name: impl AsRef<[u8]>) -> Member {
    member(name, Kind::Directory, 0o755)
}

/// A symbolic link.
pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    member(name, Kind::Symlink(target.as_ref().to_vec()), 0o777)
}

/// A hard link to another member.
pub fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    member(name, Kind::HardLink(target.as_ref().to_vec()), 0o644)
}

/// A FIFO.
pub fn fifo(name: impl AsRef<[u8]>) -> Member {
    member(name, Kind::Fifo, 0o644)
}

/// A character device; it is made on disk for root only.
pub fn char_device(name: impl AsRef<[u8]>, major: u32, minor: u32) -> Member {
    member(name, Kind::CharDevice(major, minor), 0o644)
}

/// A block device; it is never made on disk.
pub fn block_device(name: impl AsRef<[u8]>, major: u32, minor: u32) -> Member {
    member(name, Kind::BlockDevice(major, minor), 0o644).absent()
}

/// The AUFS marker that hides `path` of the lower layers.
pub fn whiteout(path: &str) -> Member {
    let (parent, base) = path.rsplit_once('/').map_or(("", path), |(parent, base)| (parent, base));
    let slash = if parent.is_empty() { "" } else { "/" };
    file(format!("{parent}{slash}.wh.{base}"), "")
}

/// The AUFS marker that hides everything the lower layers have in `dir`.
pub fn opaque(dir: &str) -> Member {
    file(format!("{dir}/.wh..wh..opq"), "")
}

/// A member of any typeflag, with the bytes that follow its header.
pub fn other(flag: u8, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Member {
    member(name, Kind::Other(flag, content.as_ref().to_vec()), 0o644).absent()
}

/// A PAX global header; tar-split records it as a file of its own.
pub fn global_header(records: &[(&str, &str)]) -> Member {
    let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key.as_bytes(), value.as_bytes())).collect();
    other(b'g', "pax_global_header", body)
}

impl Member {
    /// Permission bits, set-id and sticky among them.
    pub fn mode(mut self, mode: u32) -> Member {
        self.mode = mode;
        self
    }

    /// Owner and group; what an octal field cannot hold is written in base 256.
    pub fn owner(mut self, uid: u64, gid: u64) -> Member {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// Seconds since 1970, before it if negative.
    pub fn mtime(mut self, seconds: i64) -> Member {
        self.mtime = seconds;
        self
    }

    /// Adds a PAX record.
    pub fn pax(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Member {
        self.records.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Adds an extended attribute, as `SCHILY.xattr`.
    pub fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Member {
        self.pax(format!("SCHILY.xattr.{name}"), value)
    }

    /// Puts an extended header with exactly these bytes before the member.
    pub fn raw_pax(mut self, body: impl AsRef<[u8]>) -> Member {
        extension(b'x', b"PaxHeaders/raw", body.as_ref(), &mut self.before);
        self
    }

    /// Puts a GNU long name before the member, whatever the length of its own.
    pub fn gnu_name(mut self, name: impl AsRef<[u8]>) -> Member {
        extension(b'L', b"././@LongLink", &terminated(name.as_ref()), &mut self.before);
        self
    }

    /// Puts a GNU long link target before the member.
    pub fn gnu_link(mut self, target: impl AsRef<[u8]>) -> Member {
        extension(b'K', b"././@LongLink", &terminated(target.as_ref()), &mut self.before);
        self
    }

    /// Writes a name or target of over 100 bytes the way GNU tar does, not as PAX.
    pub fn gnu(mut self) -> Member {
        self.long = LongName::Gnu;
        self
    }

    /// Overwrites bytes of the header before its checksum is computed.
    pub fn field(mut self, offset: usize, bytes: impl AsRef<[u8]>) -> Member {
        self.patches.push((offset, bytes.as_ref().to_vec()));
        self
    }

    /// Makes the header's checksum wrong.
    pub fn wrong_checksum(mut self) -> Member {
        self.checksum_off_by = 1;
        self
    }

    /// Leaves the member out of `diff`: it is in the archive alone.
    pub fn absent(mut self) -> Member {
        self.on_disk = false;
        self
    }

    /// Appends the member's blocks.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut name = self.name.clone();
        if matches!(self.kind, Kind::Directory) && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let (flag, target, content): (u8, &[u8], &[u8]) = match &self.kind {
            Kind::File(content) => (b'0', b"", content),
            Kind::Directory => (b'5', b"", b""),
            Kind::Symlink(target) => (b'2', target, b""),
            Kind::HardLink(target) => (b'1', target, b""),
            Kind::Fifo => (b'6', b"", b""),
            Kind::CharDevice(..) => (b'3', b"", b""),
            Kind::BlockDevice(..) => (b'4', b"", b""),
            Kind::Other(flag, content) => (*flag, b"", content),
        };
        out.extend_from_slice(&self.before);
        let mut records = self.records.clone();
        for (bytes, key, flag) in [(&name[..], &b"path"[..], b'L'), (target, b"linkpath", b'K')] {
            if bytes.len() <= 100 {
                continue;
            }
            match self.long {
                LongName::Pax => records.push((key.to_vec(), bytes.to_vec())),
                LongName::Gnu => extension(flag, b"././@LongLink", &terminated(bytes), out),
            }
        }
        if !records.is_empty() {
            let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
            extension(b'x', b"PaxHeaders/member", &body, out);
        }

        let mut header = header(flag, &name, target, content.len() as u64, self.long == LongName::Gnu);
        number(&mut header[100..108], i128::from(self.mode));
        number(&mut header[108..116], i128::from(self.uid));
        number(&mut header[116..124], i128::from(self.gid));
        number(&mut header[136..148], i128::from(self.mtime));
        if let Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) = self.kind {
            number(&mut header[329..337], i128::from(major));
            number(&mut header[337..345], i128::from(minor));
        }
        for (offset, bytes) in &self.patches {
            header[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        seal(&mut header, self.checksum_off_by);
        out.extend_from_slice(&header);
        padded(content, out);
    }
}

/// A header without times and owners, its checksum still to be filled in.
fn header(flag: u8, name: &[u8], target: &[u8], size: u64, gnu: bool) -> [u8; 512] {
    let mut header = [0; 512];
    let copy = |field: &mut [u8], bytes: &[u8]| {
        let length = bytes.len().min(field.len());
        field[..length].copy_from_slice(&bytes[..length]);
    };
    copy(&mut header[..100], name);
    copy(&mut header[157..257], target);
    for field in [100..108, 108..116, 116..124, 136..148] {
        number(&mut header[field], 0);
    }
    number(&mut header[124..136], i128::from(size));
    header[156] = flag;
    copy(&mut header[257..265], if gnu { b"ustar  \0" } else { b"ustar\x0000" });
    header
}

/// Octal where it fits with its NUL, else base 256 in two's complement with the top bit of the field set.
fn number(field: &mut [u8], value: i128) {
    let digits = field.len() - 1;
    let octal = format!("{value:0digits$o}");
    if value >= 0 && octal.len() == digits {
        field[..digits].copy_from_slice(octal.as_bytes());
        field[digits] = 0;
        return;
    }
    let bytes = value.to_be_bytes();
    field.copy_from_slice(&bytes[bytes.len() - field.len()..]);
    field[0] |= 0x80;
}

fn seal(header: &mut [u8; 512], off_by: u64) {
    header[148..156].fill(b' ');
    let sum = header.iter().map(|&byte| u64::from(byte)).sum::<u64>() + off_by;
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A header of an extension (`x`, `g`, `L`, `K`) and its body.
fn extension(flag: u8, name: &[u8], body: &[u8], out: &mut Vec<u8>) {
    let mut header = header(flag, name, b"", body.len() as u64, matches!(flag, b'L' | b'K'));
    seal(&mut header, 0);
    out.extend_from_slice(&header);
    padded(body, out);
}

fn padded(content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}

fn terminated(bytes: &[u8]) -> Vec<u8> {
    [bytes, b"\0"].concat()
}

/// One PAX record; its length counts its own digits.
pub fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}
