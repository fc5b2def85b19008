//! Who is at the other end: the user, and how many descriptors the process may have.

use std::os::fd::AsFd;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, read};
use rustix::process::geteuid;

use crate::base::ambient;

/// The process that connected, as the kernel noted it then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    uid: u32,
    /// 0 for one that this process cannot see, in another pid namespace.
    pid: i32,
}

impl Peer {
    pub(super) fn of(socket: impl AsFd) -> Result<Peer, Errno> {
        let found = getsockopt(&socket, PeerCredentials).map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
        Ok(Peer { uid: found.uid(), pid: found.pid() })
    }

    pub(super) fn uid(self) -> u32 {
        self.uid
    }

    /// Whether it is the user of this process. Root is another one: a descriptor is a right, which root can take and
    /// need not be given.
    pub(super) fn is_same_user(self) -> bool {
        self.uid == geteuid().as_raw()
    }

    /// Its soft limit of descriptors (proc_pid_limits(5)), if it can be seen. Another process may read the answer; it
    /// then loses descriptors, and notices.
    pub(super) fn descriptor_limit(self) -> Option<usize> {
        let path = format!("/proc/{}/limits", self.pid);
        let file = ambient::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = [0; 4096];
        let length = read(&file, &mut text).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_other_end_of_a_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert!(peer.is_same_user());
        assert_eq!(peer.descriptor_limit(), Some(crate::base::descriptors::descriptor_limit()));
    }

    #[test]
    fn every_other_user_is_another_one_and_root_too() {
        let own = geteuid().as_raw();
        for uid in [0, 1, own.wrapping_add(1), own ^ 0x1_0000, u32::MAX] {
            assert_eq!(Peer { uid, pid: 0 }.is_same_user(), uid == own, "{uid}");
        }
    }
}
