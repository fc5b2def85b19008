//! `cstor-lab-sandbox free|confined READS GROWS BESIDE`: what a process can do, without and in the sandbox of `cstor`.
//!
//! Each attempt is a line: its name, and `ok` or the number of the error. Calls that do harm, or that no safe function
//! makes, are asked of the filter itself, in the tests of `cstor`.

#[path = "../../../cstor-client/src/bin/cstor/sandbox/mod.rs"]
mod sandbox;
use sandbox::Files;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::ptrace;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::{Pid, chroot};
use rustix::fs::{AtFlags, Mode, OFlags, linkat, mkdirat, mknodat, open, openat, renameat, symlinkat, unlinkat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, socketpair};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open};
use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, how, reads, writes, beside] = &arguments[..] else { panic!("free|confined READS GROWS BESIDE") };
    let directory = |path: &str| open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("a directory");
    let (reads, writes, parent) = (directory(reads), directory(writes), directory(beside));
    let root = [reads.as_fd()];
    let files = Files { reads: &root, grows: writes.as_fd(), beside: parent.as_fd(), goes: None, devices: false };
    let mut victim = Command::new("sleep").arg("60").spawn().expect("sleep");
    let pid = Pid::from_raw(i32::try_from(victim.id()).expect("a pid"));
    let namespace = File::open(format!("/proc/{pid}/ns/user")).expect("a namespace");
    let pidfd = pidfd_open(rustix::process::Pid::from_child(&victim), PidfdFlags::empty()).expect("a pidfd");
    if how == "confined" {
        let beside = std::thread::spawn(std::thread::park);
        let refused = sandbox::enter(&files);
        report("enter beside a thread", refused.map(drop).map_err(|error| io::Error::other(error.to_string())));
        beside.thread().unpark();
        beside.join().expect("no panic");
        // The kernel takes a moment to forget a thread that has been joined.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let held = sandbox::enter(&files).expect("the sandbox");
        println!("{:?} {}", held.landlock, held.seccomp);
    }

    // Allowed.
    report("read a root", openat(&reads, "file", OFlags::RDONLY, Mode::empty()).map_err(Into::into).and_then(length));
    report("list a root", fs::read_dir(format!("/proc/self/fd/{}", number(&reads))).map(drop));
    report("make directories", ["a", "b"].iter().try_for_each(|name| mkdirat(&writes, *name, Mode::from(0o700))));
    report("make a file", openat(&writes, "a/file", OFlags::CREATE | OFlags::RDWR, Mode::from(0o600)));
    report("truncate a file", openat(&writes, "a/file", OFlags::TRUNC | OFlags::RDWR, Mode::empty()));
    report("link", linkat(&writes, "a/file", &writes, "b/link", AtFlags::empty()));
    report("rename", renameat(&writes, "b/link", &writes, "renamed"));
    report("make a link", symlinkat("renamed", &writes, "symlink"));
    report("make a fifo", mknodat(&writes, "fifo", rustix::fs::FileType::Fifo, Mode::from(0o600), 0));
    report("remove", unlinkat(&writes, "a/file", AtFlags::empty()));
    report("make a directory beside", mkdirat(&parent, "new", Mode::from(0o700)));
    report("rename beside", renameat(&parent, "new", &parent, "renamed"));
    report("remove beside", unlinkat(&parent, "renamed", AtFlags::REMOVEDIR));
    report("remove a directory", unlinkat(&writes, "a", AtFlags::REMOVEDIR));
    let read = || openat(&reads, "file", OFlags::RDONLY, Mode::empty());
    report("read in a thread", std::thread::scope(|scope| scope.spawn(read).join().expect("no panic")));

    // Refused.
    report("read elsewhere", File::open("/etc/passwd"));
    report("read elsewhere in a thread", std::thread::spawn(|| File::open("/etc/passwd")).join().expect("no panic"));
    report("list elsewhere", fs::read_dir("/etc"));
    report("read /proc", File::open("/proc/self/status"));
    report("make a file beside", openat(&parent, "new", OFlags::CREATE | OFlags::WRONLY, Mode::from(0o600)));
    report("write a file beside", openat(&parent, "file", OFlags::WRONLY, Mode::empty()));
    report("read a file beside", openat(&parent, "file", OFlags::RDONLY, Mode::empty()));
    report("remove a file beside", unlinkat(&parent, "file", AtFlags::empty()));
    report("write a root", openat(&reads, "new", OFlags::CREATE | OFlags::WRONLY, Mode::from(0o600)));
    // The one device that anybody may make.
    report("make a device", mknodat(&writes, "device", rustix::fs::FileType::CharacterDevice, Mode::from(0o600), 0));
    report("write elsewhere", tempfile::tempfile_in("/var/tmp"));
    report("execute", Command::new("/bin/true").status());
    report("socket", socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None));
    report("socketpair", socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None));
    report("take a descriptor", pidfd_getfd(&pidfd, 1, PidfdGetfdFlags::empty()));
    // The address is none; before the kernel sees that, it asks whether it may look.
    let remote = [RemoteIoVec { base: 0, len: 1 }];
    let mut byte = [0];
    report("read memory", process_vm_readv(pid, &mut [IoSliceMut::new(&mut byte)], &remote).map_err(io::Error::from));
    report("trace", ptrace::attach(pid).map_err(io::Error::from));
    report("enter a namespace", setns(&namespace, CloneFlags::CLONE_NEWUSER).map_err(io::Error::from));
    report("chroot", chroot("/var").map_err(io::Error::from));
    // The last, since without the sandbox it changes who this process is.
    report("make a namespace", unshare(CloneFlags::CLONE_NEWUSER).map_err(io::Error::from));

    // Allowed again: the launcher of the helper must be ended.
    report("kill", kill_process(rustix::process::Pid::from_child(&victim), Signal::KILL));
    report("wait", victim.wait());
}

fn length(fd: OwnedFd) -> io::Result<usize> {
    File::from(fd).read_to_end(&mut Vec::new())
}

fn number(fd: &OwnedFd) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(fd)
}

fn report<T, E: Into<io::Error>>(what: &str, result: Result<T, E>) {
    match result.map_err(Into::into) {
        Ok(_) => println!("{what}: ok"),
        Err(error) => println!("{what}: {}", error.raw_os_error().map_or_else(|| error.to_string(), |n| n.to_string())),
    }
}
