//! Layers of members from a small vocabulary, merged: the tree must be the one that podman's untar makes in real
//! directories and overlayfs shows of them (`untar.rs`), and what one refuses the other must refuse.

#![no_main]

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use cstor_client::fuzzing;
use cstor_client::tree::{FinalTree, InodeKind, MergeProblem};
use cstor_fuzz::layers::{What, decode};
use cstor_fuzz::scratch::scratch;
use cstor_fuzz::untar::{Combined, Refused, Seen, Unpacked};
use libfuzzer_sys::fuzz_target;

fn seen(tree: &FinalTree) -> BTreeMap<Vec<u8>, Seen> {
    let mut firsts: HashMap<u32, Vec<u8>> = HashMap::new();
    let entries = tree.entries().map(|entry| {
        let what = match entry.inode.kind() {
            InodeKind::File { .. } => What::File,
            InodeKind::Symlink(target) => What::Symlink(target.to_vec()),
            InodeKind::Fifo => What::Fifo,
            InodeKind::CharDevice { .. } => What::CharDevice,
            InodeKind::BlockDevice { .. } => What::BlockDevice,
            // The names in a directory are private.
            _ => What::Dir,
        };
        let size = if let InodeKind::File { size, .. } = entry.inode.kind() { *size } else { 0 };
        let layer = (what != What::Dir).then(|| entry.inode.layer());
        let first = firsts.entry(entry.inode_number).or_insert_with(|| entry.path.clone()).clone();
        let meta = entry.inode.meta();
        (entry.path, Seen { what, mode: meta.mode, uid: meta.uid, size, layer, first })
    });
    entries.collect()
}

fuzz_target!(|data: &[u8]| {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| scratch("cstor-fuzz-merge-")).path();
    let layers = decode(data);
    let parsed: Vec<_> = layers.iter().map(|layer| layer.iter().map(|member| member.parsed()).collect()).collect();
    let merged = fuzzing::merge(&parsed);
    let mut combined = Combined::default();
    for (number, members) in layers.iter().enumerate() {
        match Unpacked::new(&dir.join(number.to_string()), members, false) {
            Ok(layer) => combined.lay(number, &layer),
            Err((layer, refused)) => {
                // See `through_link`.
                let excused = refused == Refused::Twice && layer.through_link;
                assert!(merged.is_err() || excused, "{refused:?} of {layers:?}");
                return;
            }
        }
    }
    match merged {
        Ok(tree) => {
            let (ours, theirs) = (seen(&tree), combined.seen());
            for (path, seen) in &theirs {
                assert_eq!(ours.get(path), Some(seen), "{} of {layers:?}", path.escape_ascii());
            }
            for path in ours.keys() {
                assert!(theirs.contains_key(path), "{} of {layers:?}", path.escape_ascii());
            }
        }
        // The kernel has no such limit of its own.
        Err(MergeProblem::TooDeep(_)) => {}
        Err(problem) => panic!("{problem:?} of {layers:?}"),
    }
});
