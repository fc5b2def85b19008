//! An image out of a forged store, extracted on tmpfs: whatever the layers say, nothing outside of the destination
//! changes, the result is complete or absent, and nothing else is left. Where the layers are members of a small
//! vocabulary the result must be the tree that podman's rules make of them, and where they are raw tar-split lines it
//! may be anything.
//!
//! Input: a byte that says which in its lowest bits: members (`layers.rs`), or the program of a tar (`tar.rs`) whose
//! members become lines over a layer of links that tempt to leave, or that is a splitfdstream with all in it.

#![no_main]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cstor_client::extract::Extractor;
use cstor_client::{Storage, splitfdstream};
use cstor_fuzz::layers::{Member, What, decode};
use cstor_fuzz::scratch::{remove, scratch};
use cstor_fuzz::store::{IMAGE, Store};
use cstor_fuzz::tar::{Lines, assemble, crc64, gzip, split};
use cstor_fuzz::untar::{Combined, Refused, Seen, Unpacked, split as split_path};
use libfuzzer_sys::fuzz_target;

const MAX_LAYERS: usize = 4;

struct Lab {
    dir: tempfile::TempDir,
    /// By the number of their layers.
    stores: Vec<Store>,
    canary: BTreeMap<PathBuf, String>,
}

fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let dir = scratch("cstor-fuzz-extract-");
        let path = dir.path();
        // What members are called: whoever leaves the destination by any way upwards finds one of these.
        for place in ["", "above", "above/beside", "etc", "above/etc"] {
            fs::create_dir_all(path.join(place)).expect("a directory");
            for name in ["canary", "a", "x"] {
                fs::write(path.join(place).join(name), "canary").expect("a file");
            }
            fs::create_dir_all(path.join(place).join("d/e")).expect("a directory");
        }
        let stores = (1..=MAX_LAYERS).map(|count| Store::new(&path.join(format!("store{count}")), count)).collect();
        let canary = seal(path);
        Lab { stores, canary, dir }
    })
}

/// All that is outside of the stores and of the destination.
fn seal(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut seal = BTreeMap::new();
    add(dir, &mut seal, true);
    seal
}

fn add(path: &Path, seal: &mut BTreeMap<PathBuf, String>, is_top: bool) {
    for entry in fs::read_dir(path).expect("our own directory") {
        let path = entry.expect("a name").path();
        if is_top && path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"store")) {
            continue;
        }
        let stat = path.symlink_metadata().expect("our own file");
        let content = if stat.is_file() { fs::read(&path).expect("a file") } else { Vec::new() };
        let mode = format!("{:o} {}:{} {} {}", stat.mode(), stat.uid(), stat.gid(), stat.ino(), stat.nlink());
        if stat.is_dir() {
            add(&path, seal, false);
        }
        seal.insert(path, format!("{mode} {}", content.escape_ascii()));
    }
}

/// The result, as far as it can be compared: a plain user cannot keep everything.
fn result(dest: &Path) -> BTreeMap<Vec<u8>, (Seen, Vec<u8>)> {
    fn add(path: &Path, at: Vec<u8>, firsts: &mut HashMap<u64, Vec<u8>>, all: &mut BTreeMap<Vec<u8>, (Seen, Vec<u8>)>) {
        let stat = path.symlink_metadata().expect("a file of the result");
        let (kind, mut content) = (stat.file_type(), Vec::new());
        let mode = if kind.is_symlink() { 0 } else { stat.mode() & 0o777 };
        let what = if kind.is_dir() {
            What::Dir
        } else if kind.is_symlink() {
            What::Symlink(path.read_link().expect("a link").as_os_str().as_bytes().to_vec())
        } else if kind.is_fifo() {
            What::Fifo
        } else {
            assert!(kind.is_file(), "nothing else is made");
            What::File
        };
        if kind.is_file() || kind.is_dir() {
            // So that a plain user can look and clean up.
            let open = fs::Permissions::from(std::os::unix::fs::PermissionsExt::from_mode(mode | 0o700));
            fs::set_permissions(path, open).expect("our own file");
        }
        if kind.is_file() {
            content = fs::read(path).expect("a file of the result");
        }
        let first =
            if kind.is_dir() { at.clone() } else { firsts.entry(stat.ino()).or_insert_with(|| at.clone()).clone() };
        let seen = Seen { what, mode, uid: 0, size: 0, layer: None, first };
        all.insert(at.clone(), (seen, content));
        if kind.is_dir() {
            let mut entries: Vec<_> =
                fs::read_dir(path).expect("a directory").map(|entry| entry.expect("a name")).collect();
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let name = entry.file_name();
                let at =
                    if at.is_empty() { name.as_bytes().to_vec() } else { [&at, &b"/"[..], name.as_bytes()].concat() };
                add(&entry.path(), at, firsts, all);
            }
        }
    }
    let mut all = BTreeMap::new();
    // A mode of a second name was changed by the look at the first one, so the order must be that of the reference.
    add(dest, Vec::new(), &mut HashMap::new(), &mut all);
    all
}

fn wanted(combined: &Combined, members: &[Vec<Member>]) -> BTreeMap<Vec<u8>, (Seen, Vec<u8>)> {
    let content: HashMap<u64, Vec<u8>> =
        members.iter().flatten().map(|member| (member.number, member.content())).collect();
    let kept =
        combined.seen().into_iter().filter(|(_, seen)| !matches!(seen.what, What::CharDevice | What::BlockDevice));
    kept.map(|(path, seen)| {
        let bytes = if seen.what == What::File { content[&seen.size].clone() } else { Vec::new() };
        let mode = if matches!(seen.what, What::Symlink(_)) { 0 } else { seen.mode & 0o777 };
        (path, (Seen { mode, uid: 0, size: 0, layer: None, ..seen }, bytes))
    })
    .collect()
}

/// A layer that leads everywhere but to itself.
fn tempt(diff: &Path, lab: &Lab) {
    fs::create_dir(diff).expect("a directory");
    for name in ["a", "b", "x", "canary"] {
        fs::write(diff.join(name), name).expect("a file");
    }
    fs::create_dir(diff.join("d")).expect("a directory");
    fs::write(diff.join("d/a"), "a").expect("a file");
    symlink("../../../..", diff.join("s")).expect("a link");
    symlink(lab.dir.path(), diff.join("l")).expect("a link");
    symlink(lab.dir.path().join("canary"), diff.join("f")).expect("a link");
}

/// The lines that podman would write of a tar, as far as it can be read.
fn lines(tar: &[u8]) -> Vec<u8> {
    let (mut lines, mut archive) = (Lines::default(), cstor_client::tar::Archive::new(tar));
    while let Ok(Some(placed)) = archive.next_entry() {
        lines.segment(&placed.entry.raw);
        if let Some(member) = placed.entry.member {
            let size = member.content.map_or(0, |content| content.size);
            // Each file of the layer contains its own name.
            lines.file(&member.header.path, size, (size > 0).then(|| crc64(split_path(&member.header.path).1)));
        }
    }
    lines.text
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, rest)) = data.split_first() else { return };
    let lab = lab();
    let dest = lab.dir.path().join("above/beside/dest");
    let mut members = Vec::new();
    let mut refused = None;
    let mut combined = Combined::default();
    let mut unpacked = Vec::new();
    let store = if mode & 1 == 0 {
        members = decode(rest);
        let store = &lab.stores[members.len() - 1];
        for (number, layer) in members.iter().enumerate() {
            store.describe(number, &gzip(&split(layer)));
            match Unpacked::new(&store.diff(number), layer, true) {
                Ok(layer) => {
                    combined.lay(number, &layer);
                    unpacked.push(layer);
                }
                Err((layer, why)) => {
                    refused = refused.or(Some((why, layer.through_link)));
                    unpacked.push(layer);
                }
            }
        }
        store
    } else {
        let store = &lab.stores[0];
        tempt(&store.diff(0), lab);
        store.describe(0, &gzip(&lines(&assemble(rest))));
        store
    };
    let before = seal(&store.root);
    let storage = Storage::open(&store.root).expect("a store");
    let image = storage.image(IMAGE).expect("the image");
    let extracted = if mode & 3 == 3 {
        let mut writer = splitfdstream::Writer::new(Vec::new());
        writer.inline(&assemble(rest)).expect("a vector");
        let files: [fs::File; 0] = [];
        Extractor::new().extract_streams([(&writer.finish().expect("a vector")[..], &files[..])], &dest)
    } else {
        Extractor::new().extract(&image, &dest)
    };
    assert_eq!(seal(&store.root), before, "the store is not written");
    match &extracted {
        Ok(report) => {
            let found = result(&dest);
            assert_eq!(report.directories, found.values().filter(|(seen, _)| seen.what == What::Dir).count() as u64);
            if mode & 1 == 0 {
                match refused {
                    Some(why) => assert_eq!(why, (Refused::Twice, true), "{members:?}"),
                    None => assert_eq!(found, wanted(&combined, &members), "{members:?}"),
                }
            }
            remove(&dest);
        }
        Err(error) => {
            assert!(!dest.exists(), "all or nothing");
            let excused = matches!(error.to_string(), text if text.contains("deep"));
            assert!(mode & 1 == 1 || refused.is_some() || excused, "{error}: {members:?}");
        }
    }
    assert_eq!(seal(lab.dir.path()), lab.canary, "nothing outside of the destination changes");
    drop(unpacked);
    if mode & 1 == 1 {
        remove(&store.diff(0));
    }
});
