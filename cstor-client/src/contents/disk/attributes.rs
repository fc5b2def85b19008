//! Extended attributes of a file that is open with `O_PATH`.
//!
//! Such a descriptor takes no fgetxattr(2), but its link in /proc/self/fd leads to the very file, be it a symlink.

use std::os::fd::{AsRawFd, OwnedFd};

use cstor_proto::Refusal;
use rustix::fs::{getxattr, listxattr};
use rustix::io::Errno;

/// What the kernel gives at most (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`, linux/limits.h).
const MAX: usize = 64 * 1024;

/// Reads attributes; the buffer is kept from one file to the next.
pub(super) struct Attributes {
    buffer: Vec<u8>,
}

impl Attributes {
    pub(super) fn new() -> Attributes {
        Attributes { buffer: vec![0; MAX] }
    }

    /// The names of all that this process is shown; those of `trusted.` are shown to root alone.
    pub(super) fn names(&mut self, seen: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
        let length = match listxattr(link(seen), &mut self.buffer[..]) {
            // A file system without any.
            Err(Errno::OPNOTSUPP) => 0,
            length => length?,
        };
        let names = self.buffer.get(..length).unwrap_or_default().split(|&byte| byte == 0);
        Ok(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// The value of one.
    pub(super) fn value(&mut self, seen: &OwnedFd, name: &[u8]) -> Result<Vec<u8>, Refusal> {
        match getxattr(link(seen), name, &mut self.buffer[..]) {
            Ok(length) => Ok(self.buffer.get(..length).unwrap_or_default().to_vec()),
            Err(Errno::ACCESS | Errno::PERM) => Err(Refusal::Denied),
            Err(Errno::NODATA) => Err(Refusal::NotFound),
            Err(errno) => Err(Refusal::Io(errno.raw_os_error())),
        }
    }
}

fn link(seen: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", seen.as_raw_fd())
}

/// A file capability as a tar has it: of version 2, which does not name the namespace. On disk in a rootless store it
/// is of version 3 and names its root (linux/capability.h, `vfs_ns_cap_data`); `None` if that is another's.
pub(super) fn portable_capability(value: &[u8], is_root: impl Fn(u32) -> bool) -> Option<Vec<u8>> {
    const REVISION: u32 = 0xff00_0000;
    const VERSION_2: u32 = 0x0200_0000;
    const VERSION_3: u32 = 0x0300_0000;
    let word = |place: usize| value.get(place..place + 4)?.try_into().ok().map(u32::from_le_bytes);
    let magic = word(0)?;
    if magic & REVISION != VERSION_3 {
        return Some(value.to_vec());
    }
    let sets = value.get(4..20)?;
    let flags = magic & !REVISION | VERSION_2;
    is_root(word(20)?).then(|| [&flags.to_le_bytes(), sets].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_lose_their_namespace() {
        // What setcap cap_net_raw+ep leaves, on the host and in a namespace whose root is 1001.
        let of_host = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let of_namespace = [1, 0, 0, 3, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe9, 3, 0, 0];
        assert_eq!(portable_capability(&of_host, |_| false).as_deref(), Some(&of_host[..]));
        assert_eq!(portable_capability(&of_namespace, |id| id == 1001).as_deref(), Some(&of_host[..]));
        assert_eq!(portable_capability(&of_namespace, |_| false), None);
        assert_eq!(portable_capability(&of_namespace[..22], |_| true), None);
        assert_eq!(portable_capability(&[], |_| true), None);
    }
}
