//! Small files that are found by a path from `/`: configuration, and what the kernel says in /proc.

use std::io;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::{Errno, read};

use crate::base::ambient;

/// No file that is read here is larger: of the id files this is 30,000 lines, and of storage.conf a hundred times what
/// distributions have.
const MAX_FILE: usize = 1 << 20;

/// A small file that is no regular one, or not small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unfit {
    #[error("not a regular file")]
    NotRegular,
    #[error("larger than {MAX_FILE} bytes")]
    TooLarge,
}

impl From<Unfit> for io::Error {
    fn from(unfit: Unfit) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, unfit)
    }
}

/// The bytes of a small regular file; `None` if there is no such file. What is found by a path from `/`, such as
/// configuration, is read here and nowhere else: a FIFO must not block, and /dev/zero not fill the memory.
pub(crate) fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match ambient::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        // A socket, or a device without a driver.
        Err(Errno::NXIO | Errno::NODEV) => return Err(Unfit::NotRegular.into()),
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Unfit::NotRegular.into());
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match read(&file, &mut buffer) {
            Ok(0) => return Ok(Some(bytes)),
            Ok(length) => bytes.extend(buffer.get(..length).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if bytes.len() > MAX_FILE {
            return Err(Unfit::TooLarge.into());
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test opens what it has made by path")]
mod tests {
    use super::*;
    use rustix::fs::{CWD, ftruncate, mkdirat, mknodat, open, symlinkat};
    use std::os::unix::net::UnixListener;

    #[test]
    fn small_regular_files_are_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let create = |name: &str| open(at(name), OFlags::CREATE | OFlags::RDWR, Mode::from(0o600)).unwrap();
        rustix::io::write(create("text"), b"text").unwrap();
        create("empty");
        ftruncate(create("full"), MAX_FILE as u64).unwrap();
        ftruncate(create("larger"), MAX_FILE as u64 + 1).unwrap();
        ftruncate(create("huge"), 1 << 40).unwrap();
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
        mkdirat(CWD, at("dir"), Mode::from(0o700)).unwrap();
        symlinkat("/dev/zero", CWD, at("zero")).unwrap();
        symlinkat("loop", CWD, at("loop")).unwrap();
        symlinkat("text", CWD, at("link")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        let read = |name: &str| read_small(&at(name)).map_err(|error| error.to_string());
        let table = [
            ("text", Ok(Some(4))),
            ("link", Ok(Some(4))),
            ("empty", Ok(Some(0))),
            ("full", Ok(Some(MAX_FILE))),
            ("gone", Ok(None)),
            ("text/gone", Ok(None)),
            ("larger", Err("larger than 1048576 bytes")),
            ("huge", Err("larger than 1048576 bytes")),
            ("fifo", Err("not a regular file")),
            ("dir", Err("not a regular file")),
            ("zero", Err("not a regular file")),
            ("socket", Err("not a regular file")),
            ("loop", Err("Too many levels of symbolic links (os error 40)")),
        ];
        for (name, expected) in table {
            let found = read(name).map(|bytes| bytes.map(|bytes| bytes.len()));
            assert_eq!(found, expected.map_err(str::to_owned), "{name}");
        }
        // The kernel's own switches are regular files.
        assert!(read_small(Path::new("/proc/sys/kernel/osrelease")).unwrap().is_some());
    }
}
