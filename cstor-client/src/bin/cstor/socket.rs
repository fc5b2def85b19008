//! Where `cstor serve` listens: a socket of its own in the file system, or one that it was started with.
//!
//! A socket is made under another name, with its final mode, listening, and is renamed then: nobody finds one that is
//! not ready or open to others. Two servers that are started at once are kept apart by a lock of the directory, which
//! also tells that what still has such a name is left from a server that was killed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use cstor_client::temporary::{remove_dead_sockets, temporary_name};
use nix::unistd;
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, flock, openat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, bind,
    connect, listen, recvmsg, socket_with, sockopt,
};
use rustix::process::{getpid, umask};
use sendfd::SendWithFd;

use crate::exit::Failure;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// The first descriptor that systemd passes (sd_listen_fds(3)).
const FIRST_PASSED: u32 = 3;
/// The lock of a directory is held while one name in it is looked at: others hold it for other reasons.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A socket in the file system; dropping it removes it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    listener: OwnedFd,
    directory: OwnedFd,
    name: OsString,
    made: Stat,
}

impl SocketFile {
    /// Makes it, in place of one that nobody listens at.
    pub(crate) fn create(path: &Path) -> Result<SocketFile, Failure> {
        let failed = |errno: Errno| unusable(path, errno.into());
        let name = path.file_name().ok_or_else(|| unusable(path, io::ErrorKind::IsADirectory.into()))?;
        // Clients could not name a longer one.
        SocketAddrUnix::new(path).map_err(failed)?;
        let above = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = openat(CWD, above, flags, Mode::empty()).map_err(failed)?;
        let listener =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
        // As long as a socket has a temporary name, its maker holds the lock.
        lock(&directory).map_err(failed)?;
        remove_dead_sockets(directory.as_fd());
        // Without its own name, for which an address has no room.
        let temporary = temporary_name(OsStr::new(""));
        let placed = bind_privately(&listener, &directory, &temporary).map_err(failed).and_then(|()| {
            listen(&listener, BACKLOG)
                .and_then(|()| statat(&directory, &temporary, AtFlags::SYMLINK_NOFOLLOW))
                .map_err(failed)
                .and_then(|made| place(path, directory.as_fd(), &temporary, name).map(|()| made))
                .inspect_err(|_| {
                    let _ = unlinkat(&directory, &temporary, AtFlags::empty());
                })
        });
        flock(&directory, FlockOperation::Unlock).map_err(failed)?;
        Ok(SocketFile { made: placed?, listener, directory, name: name.to_owned() })
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        // Somebody else's by now is left alone.
        if now.is_ok_and(|now| (now.st_dev, now.st_ino) == (self.made.st_dev, self.made.st_ino)) {
            let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// A socket has the mode that the mask leaves when it is bound; there is one thread, and the mask comes back.
fn bind_privately(listener: &OwnedFd, directory: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let address = SocketAddrUnix::new(path)?;
    let before = umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let bound = bind(listener, &address);
    umask(before);
    bound
}

/// Gives it its name.
fn place(path: &Path, directory: BorrowedFd<'_>, temporary: &OsStr, name: &OsStr) -> Result<(), Failure> {
    let failed = |errno: Errno| unusable(path, errno.into());
    match renameat_with(directory, temporary, directory, name, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => {}
        renamed => return renamed.map_err(failed),
    }
    let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(unusable(path, io::ErrorKind::AlreadyExists.into()));
    }
    // Of another type than the socket, so that whoever listens there has no client by it: the kernel says whether
    // anybody does before it looks at the type (net/unix/af_unix.c, `unix_find_other`).
    let probe = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
    match SocketAddrUnix::new(path).and_then(|address| connect(&probe, &address)) {
        Err(Errno::CONNREFUSED) => {}
        Err(Errno::PROTOTYPE) | Ok(()) => return Err(failed(Errno::ADDRINUSE)),
        Err(errno) => return Err(failed(errno)),
    }
    renameat_with(directory, temporary, directory, name, RenameFlags::empty()).map_err(failed)
}

/// Keeps other servers from looking at a name in a directory at the same time.
fn lock(directory: &OwnedFd) -> Result<(), Errno> {
    for _ in 0..LOCK_ATTEMPTS {
        match flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => sleep(LOCK_PAUSE),
            locked => return locked,
        }
    }
    Err(Errno::WOULDBLOCK)
}

fn unusable(path: &Path, source: io::Error) -> Failure {
    Failure::Socket { path: path.into(), source }
}

/// A socket that this process was started with.
pub(crate) enum Inherited {
    Listening(OwnedFd),
    Connected(OwnedFd),
}

/// The socket of this number, or the one that systemd passed.
pub(crate) fn inherited(number: Option<u32>) -> Result<Inherited, Failure> {
    let (number, path) = match number {
        Some(number) => (number, PathBuf::from(format!("--fd {number}"))),
        None => (passed()?, PathBuf::from("LISTEN_FDS")),
    };
    let failed = |errno: Errno| unusable(&path, errno.into());
    let socket = take(number).map_err(|source| unusable(&path, source))?;
    let (domain, kind) = (sockopt::socket_domain(&socket), sockopt::socket_type(&socket));
    if domain.map_err(failed)? != AddressFamily::UNIX || kind.map_err(failed)? != SocketType::STREAM {
        return Err(failed(Errno::PROTOTYPE));
    }
    Ok(if sockopt::socket_acceptconn(&socket).map_err(failed)? {
        Inherited::Listening(socket)
    } else {
        Inherited::Connected(socket)
    })
}

fn passed() -> Result<u32, Failure> {
    let number = |name| env::var(name).ok().and_then(|value| value.parse::<i32>().ok());
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(1)) if pid == getpid().as_raw_nonzero().get() => Ok(FIRST_PASSED),
        (Some(pid), Some(_)) if pid == getpid().as_raw_nonzero().get() => {
            Err(Failure::Usage("systemd must pass one socket (LISTEN_FDS)"))
        }
        _ => Err(Failure::Usage("one of --socket, --fd and a socket from systemd is needed")),
    }
}

/// Takes a descriptor over by its number. Safe Rust has no way from a number to something owned, but the kernel has: it
/// is sent to ourselves. What was inherited is closed, so that no program which this one starts has it.
fn take(number: u32) -> io::Result<OwnedFd> {
    let number = i32::try_from(number).map_err(|_| Errno::BADF)?;
    // What is opened below could get this very number.
    match statat(CWD, format!("/proc/self/fd/{number}"), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Err(Errno::BADF.into()),
        found => drop(found?),
    }
    let (to, from) = UnixDatagram::pair()?;
    to.send_with_fd(b" ", &[number])?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&from, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let taken = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    // Standard streams have owners of their own.
    if number > 2 {
        unistd::close(number)?;
    }
    taken.ok_or_else(|| Errno::BADF.into())
}
