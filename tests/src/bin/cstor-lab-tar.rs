//! `cstor-lab-tar walk|odd|many|private …`: writes, as a tar on stdout, the files from which the lab's images are
//! made (`tests/images.sh`). A tar and not a directory, because names, owners, devices and times that the machine at
//! hand cannot hold must get into an image all the same. The bytes are the same on every run. It makes no image.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// An ordinary day, so that nothing in an image depends on when the lab was built.
const DAY: u64 = 1_600_000_000;

/// What an entry is besides its name; the default is an empty file of root, 0644.
struct Attributes<'a> {
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    nanoseconds: u32,
    xattrs: &'a [(&'a str, &'a [u8])],
}

const PLAIN: Attributes<'_> = Attributes { mode: 0o644, owner: (0, 0), mtime: DAY, nanoseconds: 0, xattrs: &[] };

impl<'a> Attributes<'a> {
    const fn mode(mode: u32) -> Self {
        Attributes { mode, ..PLAIN }
    }

    const fn of(self, uid: u64, gid: u64) -> Self {
        Attributes { owner: (uid, gid), ..self }
    }
}

/// The archive being written.
struct Archive<W: Write> {
    tar: Builder<W>,
}

impl<W: Write> Archive<W> {
    /// One entry. Times with nanoseconds and xattrs need PAX records; a name or target that does not fit the header
    /// becomes a GNU long name (the `tar` crate's choice), so both extensions occur.
    fn entry(
        &mut self,
        kind: EntryType,
        name: &[u8],
        target: Option<&[u8]>,
        content: &[u8],
        a: &Attributes<'_>,
    ) -> io::Result<()> {
        let mtime = format!("{}.{:09}", a.mtime, a.nanoseconds);
        let names: Vec<String> = a.xattrs.iter().map(|(name, _)| format!("SCHILY.xattr.{name}")).collect();
        let mut records: Vec<(&str, &[u8])> =
            names.iter().zip(a.xattrs).map(|(name, (_, value))| (name.as_str(), *value)).collect();
        if a.nanoseconds != 0 {
            records.push(("mtime", mtime.as_bytes()));
        }
        if !records.is_empty() {
            self.tar.append_pax_extensions(records)?;
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(a.mode);
        header.set_uid(a.owner.0);
        header.set_gid(a.owner.1);
        header.set_mtime(a.mtime);
        header.set_size(content.len() as u64);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1)?;
            header.set_device_minor(3)?;
        }
        let name = Path::new(OsStr::from_bytes(name));
        match target {
            Some(target) => self.tar.append_link(&mut header, name, OsStr::from_bytes(target)),
            None => self.tar.append_data(&mut header, name, content),
        }
    }

    fn file(&mut self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>, a: &Attributes<'_>) -> io::Result<()> {
        self.entry(EntryType::Regular, name.as_ref(), None, content.as_ref(), a)
    }

    fn plain(&mut self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> io::Result<()> {
        self.file(name, content, &PLAIN)
    }

    fn directory(&mut self, name: impl AsRef<[u8]>, a: &Attributes<'_>) -> io::Result<()> {
        let name = [name.as_ref(), b"/"].concat();
        self.entry(EntryType::Directory, &name, None, b"", a)
    }

    /// All directories above a name that is about to be written, as a tar of a real tree would have them.
    fn directories(&mut self, names: &[&str]) -> io::Result<()> {
        names.iter().try_for_each(|name| self.directory(name, &Attributes::mode(0o755)))
    }

    fn symlink(&mut self, name: &str, target: impl AsRef<[u8]>) -> io::Result<()> {
        self.entry(EntryType::Symlink, name.as_bytes(), Some(target.as_ref()), b"", &Attributes::mode(0o777))
    }

    /// A later name of a file. Its header repeats the file's attributes, as every tar writer has it: readers set them
    /// on the inode once more.
    fn link(&mut self, name: &str, first: &str, mode: u32) -> io::Result<()> {
        self.entry(EntryType::Link, name.as_bytes(), Some(first.as_bytes()), b"", &Attributes::mode(mode))
    }

    fn node(&mut self, kind: EntryType, name: &str, mode: u32) -> io::Result<()> {
        self.entry(kind, name.as_bytes(), None, b"", &Attributes::mode(mode))
    }

    /// A shell and its tools in one static file.
    fn busybox(&mut self, executable: &[u8]) -> io::Result<()> {
        self.directory("bin", &Attributes::mode(0o755))?;
        self.file("bin/busybox", executable, &Attributes::mode(0o755))?;
        for tool in ["cat", "chmod", "chown", "cp", "ln", "mkdir", "mkfifo", "mv", "rm", "sh", "touch"] {
            self.symlink(&format!("bin/{tool}"), "busybox")?;
        }
        Ok(())
    }

    /// The first layer of the image that the later ones change: one place for each kind of change.
    fn walk(&mut self, busybox: &[u8]) -> io::Result<()> {
        self.busybox(busybox)?;
        self.directories(&[
            "etc",
            "home",
            "opt",
            "opt/size",
            "opt/name",
            "opt/turn",
            "opt/turn/dir-file",
            "srv",
            "var",
        ])?;
        self.plain("etc/passwd", "root:x:0:0::/:/bin/sh\ndaemon:x:77:77::/var/daemon:/bin/sh\n")?;
        self.file("etc/shadow", "root:!:1::::::\n", &Attributes::mode(0))?;
        self.file("etc/note", "n", &Attributes { xattrs: &[("user.origin", b"first layer")], ..PLAIN })?;
        // Around the tar block, the page, and the pipe's capacity.
        for size in [0, 1, 511, 512, 513, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1_500_001] {
            self.plain(format!("opt/size/{size:07}"), noise(size as u64, size))?;
        }
        let mut sparse = vec![0; 6 << 20];
        sparse[..4096].fill(b'a');
        sparse[3 << 20..(3 << 20) + 4096].fill(b'b');
        self.plain("opt/size/holes", sparse)?;
        for length in [99, 100, 101, 255] {
            self.plain(format!("opt/name/{}", "n".repeat(length)), length.to_string())?;
        }
        self.plain(b"opt/name/\xffnot-utf8\xe4", "bytes")?;
        self.plain("opt/name/a\ttab \"and\" a\nline", "control")?;
        self.symlink("opt/name/root", "/")?;
        self.symlink("opt/name/above", "../../../../etc/passwd")?;
        self.symlink("opt/name/longest", "t".repeat(1000))?;
        self.plain("opt/turn/file-dir", "f")?;
        self.plain("opt/turn/dir-file/in", "d")?;
        self.directories(&["opt/turn/dir-link", "opt/hidden", "opt/hidden/deep", "opt/linked"])?;
        self.plain("opt/turn/dir-link/in", "d")?;
        self.plain("opt/hidden/one", "1")?;
        self.plain("opt/hidden/deep/two", "2")?;
        self.plain("opt/linked/a", "first")?;
        self.link("opt/linked/b", "opt/linked/a", 0o644)?;
        self.link("srv/c", "opt/linked/a", 0o644)?;
        self.directory("opt/doc", &Attributes::mode(0o755))?;
        (0..120).try_for_each(|i| self.plain(format!("opt/doc/{i:03}"), format!("page {i}\n").repeat(i)))
    }

    /// Names, types, modes and attributes that a file system seldom sees.
    fn odd(&mut self, busybox: &[u8]) -> io::Result<()> {
        self.busybox(busybox)?;
        self.directories(&["o", "o/t", "o/m"])?;
        for (name, content) in
            [(&b"o/\xe9\xff"[..], "latin"), (b"o/back\\slash", "b"), (b"o/ ", "blank"), (b"o/-rf", "d")]
        {
            self.plain(name, content)?;
        }
        self.plain("o/\u{1b}[31mred", "escape")?;
        self.plain(format!("o/{}", "\u{4e2d}".repeat(85)), "255 bytes")?;
        let mut deep = "o".to_owned();
        for _ in 0..12 {
            deep = format!("{deep}/{}", "d".repeat(90));
            self.directory(&deep, &Attributes::mode(0o755))?;
        }
        self.plain(format!("{deep}/leaf"), "deep")?;
        for (name, mtime, nanoseconds) in [("epoch", 0, 0), ("nano", DAY, 987_654_321), ("late", 4_000_000_000, 1)] {
            self.file(format!("o/t/{name}"), name, &Attributes { mtime, nanoseconds, ..PLAIN })?;
        }
        for mode in [0, 0o111, 0o222, 0o444, 0o600, 0o777, 0o1644, 0o2755, 0o4755, 0o6755] {
            self.file(format!("o/m/{mode:04o}"), noise(mode.into(), 700), &Attributes::mode(mode))?;
        }
        self.file("o/m/owned", "o", &Attributes::mode(0o640).of(60_000, 50_000))?;
        self.file("o/m/set-id-owned", "o", &Attributes::mode(0o4711).of(33, 0))?;
        self.directory("o/m/sticky", &Attributes::mode(0o1777))?;
        self.directory("o/m/set-gid", &Attributes::mode(0o2775).of(0, 50))?;
        self.directory("o/m/closed", &Attributes::mode(0).of(7, 7))?;
        self.file("o/m/closed/in", "closed", &Attributes::mode(0).of(7, 7))?;
        self.directory("o/m/no-write", &Attributes { mode: 0o555, mtime: 1, ..PLAIN })?;
        self.plain("o/m/no-write/in", "in")?;
        self.node(EntryType::Fifo, "o/fifo", 0o620)?;
        self.node(EntryType::Char, "o/null", 0o666)?;
        self.node(EntryType::Block, "o/disk", 0o660)?;
        self.symlink("o/dangling", "nowhere")?;
        self.symlink("o/self", "self")?;
        self.link("o/hard-link-of-a-link", "o/dangling", 0o777)?;
        self.link("o/hard-set-id", "o/m/4755", 0o4755)?;
        self.link("o/hard-fifo", "o/fifo", 0o620)?;
        self.file(
            "o/attributes",
            "a",
            &Attributes {
                xattrs: &[("user.empty", b""), ("user.bytes", b"\x00\xff\n="), ("user.long", &[b'x'; 2000])],
                ..PLAIN
            },
        )?;
        self.directory(
            "o/attributed",
            &Attributes { xattrs: &[("user.on", b"directory")], ..Attributes::mode(0o755) },
        )?;
        // cap_net_raw+ep as a version 2 capability: only root can set it again.
        let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
        self.file(
            "o/capable",
            "c",
            &Attributes { xattrs: &[("security.capability", capability)], ..Attributes::mode(0o755) },
        )
    }

    /// Many small files, some 50 a directory.
    fn many(&mut self, count: usize) -> io::Result<()> {
        self.directory("many", &Attributes::mode(0o755))?;
        let pool = noise(1, 1 << 16);
        for i in 0..count {
            if i % 50 == 0 {
                self.directory(format!("many/{:05}", i / 50), &Attributes::mode(0o755))?;
            }
            let (from, size) = (i * 37 % 60_000, i * 31 % 2000);
            let a = Attributes { mtime: DAY + i as u64, ..PLAIN };
            self.file(format!("many/{:05}/{i:06}", i / 50), &pool[from..from + size], &a)?;
        }
        Ok(())
    }

    /// Files that only their owners may read, below directories that only their owners may enter.
    fn private(&mut self, count: usize) -> io::Result<()> {
        self.directory("var", &Attributes::mode(0o755))?;
        for (number, uid) in [33, 999, 1000, 65_534].into_iter().enumerate() {
            self.directory(format!("var/{uid}"), &Attributes::mode(0o700).of(uid, uid))?;
            for i in (number..count).step_by(4) {
                let a = Attributes { nanoseconds: i as u32, ..Attributes::mode(0o600).of(uid, uid) };
                self.file(format!("var/{uid}/{i:05}"), noise(i as u64, 100 + i * 7), &a)?;
            }
        }
        self.plain("open", "everyone may read this")
    }
}

/// Bytes that do not compress and do not repeat (xorshift64*).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let words = std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    });
    words.flatten().take(length).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut archive = Archive { tar: Builder::new(io::BufWriter::new(io::stdout().lock())) };
    match arguments[..] {
        ["walk", busybox] => archive.walk(&std::fs::read(busybox)?)?,
        ["odd", busybox] => archive.odd(&std::fs::read(busybox)?)?,
        ["many", count] => archive.many(count.parse()?)?,
        ["private", count] => archive.private(count.parse()?)?,
        _ => return Err("usage: cstor-lab-tar walk BUSYBOX | odd BUSYBOX | many COUNT | private COUNT".into()),
    }
    archive.tar.into_inner()?.flush()?;
    Ok(())
}
