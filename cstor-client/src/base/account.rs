//! What one operation may keep in memory of what an image or a container chooses: names, paths, link targets,
//! attributes, headers. All of it is charged to one account, since an image of kilobytes can ask for gigabytes piece by
//! piece.
//!
//! What has a fixed size, an inode, has a limit of its number instead (`tree/`), and so have the store's own JSON files
//! (`store/file.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getrlimit};

use crate::base::ambient;

/// What an account holds unless the caller says otherwise: an image of a million files with ordinary names and link
/// targets needs a tenth of it.
const DEFAULT: u64 = 256 << 20;
/// Below this there is no point in beginning: tables of contents, headers and buffers of an ordinary image take as much.
const LEAST: u64 = 64 << 20;
/// Longer than any control group's path.
const MAX_PATH: usize = 4096;
/// Control groups within each other that are looked at.
const MAX_GROUPS: usize = 64;

/// An account. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Account(Arc<Sums>);

#[derive(Debug)]
struct Sums {
    limit: u64,
    used: AtomicU64,
}

/// More memory is wanted than the account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("names, paths, link targets, attributes and headers need more than {} MiB of memory", limit >> 20)]
pub struct OverMemoryLimit {
    /// What the account has in all, in bytes.
    pub limit: u64,
}

/// The process has too little memory to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the memory: {} MiB for reading an image are too little, {} are needed ({reason})", room >> 20, LEAST >> 20)]
pub struct NoMemory {
    /// What there would be, in bytes.
    pub room: u64,
    /// What limits it.
    pub reason: &'static str,
}

impl Account {
    /// Opens an account of as many bytes as asked for, but of no more than half of what the process may have.
    pub(crate) fn open(wanted: Option<u64>) -> Result<Account, NoMemory> {
        let mut room = wanted.unwrap_or(DEFAULT);
        let mut reason = "that is the limit that was asked for";
        let limits = [
            (getrlimit(Resource::As).current, "half of the address space, ulimit -v"),
            (control_group_limit(), "half of the control group's limit"),
        ];
        for (limit, what) in limits {
            if let Some(half) = limit.map(|limit| limit / 2).filter(|&half| half < room) {
                (room, reason) = (half, what);
            }
        }
        if room < LEAST { Err(NoMemory { room, reason }) } else { Ok(Account::of(room)) }
    }

    pub(crate) fn of(limit: u64) -> Account {
        Account(Arc::new(Sums { limit, used: AtomicU64::new(0) }))
    }

    /// For tests that are not about memory.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn ample() -> Account {
        Account::of(DEFAULT)
    }

    /// Nothing charged yet.
    pub(crate) fn charge(&self) -> Charge {
        Charge { account: self.clone(), bytes: 0 }
    }

    /// How many inodes a tree may have beside the account: they take memory that is not charged. At most `most`, and a
    /// quarter of what the process may have, at `each` bytes.
    pub(crate) fn inodes(&self, most: usize, each: u64) -> usize {
        // The account has at most a half.
        match self.0.limit {
            DEFAULT.. => most,
            limit => most.min(usize::try_from(limit / 2 / each).unwrap_or(most)),
        }
    }
}

/// What somebody keeps; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Account,
    bytes: u64,
}

impl Charge {
    /// Charges more.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), OverMemoryLimit> {
        let (bytes, Sums { limit, used }) = (bytes as u64, &*self.account.0);
        let before = used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > *limit {
            used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(OverMemoryLimit { limit: *limit });
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives some of it back.
    pub(crate) fn sub(&mut self, bytes: usize) {
        let bytes = (bytes as u64).min(self.bytes);
        self.account.0.used.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
    }

    /// The account that it is charged to.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// In bytes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The lowest memory limit of this process's control group and those above it (cgroups(7)); `None` where there is no limit, or
/// where it cannot be read.
fn control_group_limit() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let of = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        match controllers {
            "" => lowest("/sys/fs/cgroup", path, "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                lowest("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
            }
            _ => None,
        }
    };
    groups.lines().filter_map(of).min()
}

/// The lowest value of a file in a group and in those above it. A group without the file, or with `max`, has no limit.
fn lowest(mount: &str, group: &str, file: &str) -> Option<u64> {
    let mut group = group.trim_end_matches('/');
    let mut lowest = None;
    for _ in 0..MAX_GROUPS {
        let limit = read(&format!("{mount}{group}/{file}")).and_then(|text| text.trim().parse::<u64>().ok());
        lowest = match (lowest, limit) {
            (Some(a), Some(b)) => Some(u64::min(a, b)),
            (a, b) => a.or(b),
        };
        match group.rsplit_once('/') {
            Some((above, _)) => group = above,
            None => break,
        }
    }
    lowest
}

fn read(path: &str) -> Option<String> {
    let file = ambient::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).ok()?;
    let mut text = vec![0; MAX_PATH];
    let length = rustix::io::read(&file, &mut text).ok()?;
    text.truncate(length);
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_have_one_sum_and_go_when_they_are_dropped() {
        let account = Account::of(100);
        let (mut first, mut second) = (account.charge(), account.clone().charge());
        first.add(60).unwrap();
        second.add(40).unwrap();
        assert_eq!(second.add(1), Err(OverMemoryLimit { limit: 100 }));
        assert_eq!(first.add(usize::MAX), Err(OverMemoryLimit { limit: 100 }));
        first.sub(10);
        second.add(10).unwrap();
        assert_eq!((first.bytes(), second.bytes()), (50, 50));
        drop(first);
        second.add(50).unwrap();
        second.sub(1000);
        assert_eq!(second.bytes(), 0);
    }

    #[test]
    fn too_little_is_refused_at_once() {
        assert!(matches!(Account::open(Some(LEAST - 1)), Err(NoMemory { .. })));
        assert!(Account::open(Some(LEAST)).is_ok());
        assert_eq!(Account::ample().inodes(2_000_000, 300), 2_000_000);
        assert_eq!(Account::of(LEAST).inodes(2_000_000, 300), (32 << 20) / 300);
    }
}
