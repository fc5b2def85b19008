//! Any answer of a helper, with any descriptors: what the client takes must be what the protocol says it checks. The
//! checks are made again here, in another way.
//!
//! Input: how many files were asked for; how many descriptors come, and for each which; the rest is the frame.

#![no_main]

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use cstor_client::fuzzing;
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};

struct Pool {
    fds: Vec<OwnedFd>,
    /// The file system of the layer.
    device: u64,
    _dir: tempfile::TempDir,
}

/// Good descriptors, and one of each bad kind.
fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, "contents").expect("a file");
        let device = fs::metadata(&path).expect("a file").dev();
        let with = |flags| open(&path, flags, Mode::empty()).expect("a file");
        let fds = vec![
            with(OFlags::RDONLY),
            with(OFlags::RDONLY | OFlags::NONBLOCK),
            with(OFlags::RDWR),
            with(OFlags::WRONLY),
            with(OFlags::PATH),
            open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("a directory"),
            memfd_create("memory", MemfdFlags::empty()).expect("memory"),
            File::open("/proc/self/status").expect("a file of /proc").into(),
            File::open("/dev/null").expect("a device").into(),
            std::io::pipe().expect("a pipe").0.into(),
            std::os::unix::net::UnixStream::pair().expect("sockets").0.into(),
        ];
        Pool { fds, device, _dir: dir }
    })
}

fuzz_target!(|data: &[u8]| {
    let [asked, count, rest @ ..] = data else { return };
    let (asked, count) = (usize::from(asked % 65), usize::from(count % 65).min(rest.len()));
    let (choice, frame) = rest.split_at(count);
    let pool = pool();
    let pick = |byte: &u8| pool.fds[usize::from(*byte) % pool.fds.len()].try_clone().expect("a descriptor");
    let fds: Vec<OwnedFd> = choice.iter().map(pick).collect();
    let Some(files) = fuzzing::take_answer(frame, fds, asked, pool.device) else { return };
    assert_eq!(files.len(), asked, "an answer for each question");
    let opened: Vec<_> = files.into_iter().flatten().collect();
    assert_eq!(opened.len(), count, "every descriptor was announced");
    for (fd, size) in opened {
        let stat = File::from(fd.as_fd().try_clone_to_owned().expect("a descriptor")).metadata().expect("a file");
        assert!(stat.is_file() && stat.dev() == pool.device && stat.size() == size);
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).expect("fdinfo");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
        let flags = u32::from_str_radix(flags, 8).expect("octal");
        // O_ACCMODE and O_PATH (fcntl.h).
        assert_eq!(flags & 0o10000003, 0, "open for reading alone");
    }
});
