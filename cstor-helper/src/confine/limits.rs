//! Resource limits, and the size of the namespace's id maps.
#![allow(clippy::disallowed_methods, reason = "it reads /proc, before Landlock closes it")]

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory for everything; the helper needs about 2 MiB.
const ADDRESS_SPACE: u64 = 128 << 20;
const STACK: u64 = 1 << 20;
/// Not lower: it also bounds the descriptors that all processes of this user may have in flight at once,
/// and a low value fails other programs' sends with ETOOMANYREFS.
const DESCRIPTORS: u64 = 1024;

/// Lowers the limits: no file can grow, no process start, no core be written.
pub(crate) fn lower() -> Result<(), Errno> {
    for (resource, value) in [
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nproc, 0),
        (Resource::Memlock, 0),
        (Resource::As, ADDRESS_SPACE),
        (Resource::Stack, STACK),
        (Resource::Nofile, DESCRIPTORS),
    ] {
        let hard = getrlimit(resource).maximum.map_or(value, |hard| hard.min(value));
        setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })?;
    }
    Ok(())
}

/// How many ids a map such as /proc/self/uid_map covers: lines of "inside outside count"
/// (user_namespaces(7)), at most 340 of them.
pub(crate) fn mapped_ids(path: &str) -> Result<u32, Errno> {
    let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut map = [0; 16 * 1024];
    let length = read(&fd, &mut map)?;
    let text = map.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or(Errno::ILSEQ)?;
    let counts = text.lines().filter_map(|line| line.split_ascii_whitespace().nth(2)?.parse::<u32>().ok());
    Ok(counts.fold(0, u32::saturating_add))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "a test makes its file by path")]

    use super::*;

    #[test]
    fn the_longest_map_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uid_map");
        // As the kernel prints it (kernel/user_namespace.c, `uid_m_show`).
        let lines: String = (0..340u32).map(|n| format!("{n:10} {:10} {:10}\n", 4_000_000_000 + n, 1)).collect();
        std::fs::write(&path, lines).unwrap();
        assert_eq!(mapped_ids(path.to_str().unwrap()), Ok(340));
    }
}
