//! What a container has changed: its own layer compared with the merged files below.
//!
//! As `podman diff` (containers/storage pkg/archive/changes.go, `changes`): a directory that only has the same
//! metadata again is not a change, and a directory in which something was added or deleted counts as changed. Unlike podman, it
//! does not look at the size of directories, which says nothing of them but how the file system has stored them; and
//! what a new directory in the place of an old one hides is deleted.

use std::collections::{BTreeMap, BTreeSet};

use crate::access::Chain;
use crate::base::account::Charge;
use crate::base::path::{join, split};
use crate::contents::ImageError;
use crate::contents::entries;
use crate::contents::merged;
use crate::tar::{Header, Kind, Member};
use crate::tree::{FinalTree, Inode, Meaning, classify};

/// One path that a container has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// From the root, without a leading slash.
    pub path: Vec<u8>,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was there, and has other contents or metadata.
    Changed,
    /// It was not there.
    Added,
    /// It is gone.
    Deleted,
}

/// The changes that the top layer of a chain makes.
pub(super) fn of(mut chain: Chain) -> Result<Vec<Change>, ImageError> {
    let top = chain.layers().len().saturating_sub(1);
    let mut source = chain.source();
    let below = merged::merge_below(&mut chain, top, &mut source, &|_| false)?;
    let (mut headers, mut charge) = (Vec::new(), chain.account().charge());
    entries::each_member(&mut chain, top, &mut source, &mut |_, Member { mut header, .. }| {
        header.xattrs = Vec::new();
        charge.add(header.size_in_memory())?;
        headers.push(header);
        Ok(())
    })?;
    compare(&below, &headers, &mut charge)
}

/// `headers` are of a layer that was read from its directory: names are clean, and each comes once.
fn compare(below: &FinalTree, headers: &[Header], charge: &mut Charge) -> Result<Vec<Change>, ImageError> {
    let own: BTreeSet<&[u8]> = headers.iter().map(|header| header.path.as_slice()).collect();
    // overlayfs marks the highest one alone; what lies below a new directory is new as well.
    let mut opaque: BTreeSet<&[u8]> = BTreeSet::new();
    let mut changes = BTreeMap::new();
    // Paths of what is not in the layer, which can be long and very many.
    let mut gone_in = |dir: &[u8], changes: &mut BTreeMap<Vec<u8>, ChangeKind>| -> Result<(), ImageError> {
        for path in below.names(dir).map(|name| join(dir, name)).filter(|path| !own.contains(&**path)) {
            charge.add(size_of::<Change>() + path.len())?;
            changes.insert(path, ChangeKind::Deleted);
        }
        Ok(())
    };
    for header in headers {
        let (parent, last) = split(&header.path);
        match classify(std::iter::empty(), last) {
            Ok(Meaning::Whiteout(name)) => {
                let gone = join(parent, name);
                if below.find(&gone).is_some() {
                    changes.insert(gone, ChangeKind::Deleted);
                }
            }
            Ok(Meaning::Opaque) => {
                opaque.insert(parent);
                gone_in(parent, &mut changes)?;
            }
            Ok(Meaning::Member) if last.is_empty() => {}
            Ok(Meaning::Member) => {
                if header.kind == Kind::Dir && opaque.contains(parent) && opaque.insert(&header.path) {
                    gone_in(&header.path, &mut changes)?;
                }
                match below.find(&header.path) {
                    None => drop(changes.insert(header.path.clone(), ChangeKind::Added)),
                    Some(before) if is_same_dir(before, header) => {}
                    Some(_) => drop(changes.insert(header.path.clone(), ChangeKind::Changed)),
                }
            }
            Ok(Meaning::Ignored) | Err(_) => {}
        }
    }
    let moved: Vec<_> =
        changes.iter().filter(|(_, kind)| **kind != ChangeKind::Changed).map(|(path, _)| path).collect();
    let parents: Vec<_> =
        moved.into_iter().map(|path| split(path).0.to_vec()).filter(|path| !path.is_empty()).collect();
    for parent in parents {
        changes.entry(parent).or_insert(ChangeKind::Changed);
    }
    let mut changes: Vec<_> = changes.into_iter().map(|(path, kind)| Change { path, kind }).collect();
    // What is in a directory follows it at once.
    changes.sort_by(|a, b| a.path.split(|&byte| byte == b'/').cmp(b.path.split(|&byte| byte == b'/')));
    Ok(changes)
}

/// Whether a directory was only copied up, so that something in it could change.
fn is_same_dir(before: &Inode, header: &Header) -> bool {
    let meta = before.meta();
    before.is_dir()
        && header.kind == Kind::Dir
        && (meta.mode, meta.uid, meta.gid) == (header.mode, header.uid, header.gid)
        && (before.is_implied() || meta.mtime == header.mtime)
}
