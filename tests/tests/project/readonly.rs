//! cstor never writes to a store. Everything an inode says but its access time is recorded before and after list,
//! inspect and extract and must be the same, to the byte and the nanosecond of its change time. The helper is entered
//! by the stand-in launcher, because podman itself writes its locks when it starts, and no other test may run podman
//! meanwhile: each of these has its turn.

use cstor_tests::alone::turn;
use cstor_tests::lab::{Fs, Lab, Launcher, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::run;
use cstor_tests::tree::{chars, digest, xattrs};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Path to everything that a write could change. Change times are not settable, so no write can hide.
fn state(top: &Path) -> BTreeMap<String, String> {
    let (mut state, mut pending) = (BTreeMap::new(), vec![top.to_path_buf()]);
    while let Some(path) = pending.pop() {
        let found = fs::symlink_metadata(&path).expect("nothing is removed meanwhile");
        let content = match found.file_type() {
            kind if kind.is_dir() => {
                pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            }
            kind if kind.is_file() => digest(&path).unwrap(),
            kind if kind.is_symlink() => chars(fs::read_link(&path).unwrap().as_os_str().as_bytes()),
            _ => found.rdev().to_string(),
        };
        let inode =
            [found.ino(), found.nlink(), found.mode().into(), found.uid().into(), found.gid().into(), found.size()];
        let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
        let all = format!("{inode:?} {times:?} {content} {:?}", xattrs(&path).unwrap());
        state.insert(chars(path.as_os_str().as_bytes()), all);
    }
    state
}

fn stays_as_it_is(lab: &Lab, who: Who, store: &Path, images: &[&str], to: Fs) {
    let before = state(store);
    let launcher = Launcher::new(lab, "");
    let scratch = lab.scratch(who, to);
    let out = |number: usize| scratch.path().join(number.to_string()).display().to_string();
    let listing = ["image list", "image list --format json"].map(str::to_owned).into_iter();
    let each = images.iter().enumerate().flat_map(|(number, image)| {
        [
            format!("image inspect {image}"),
            format!("image layers {image}"),
            format!("extract {image} {}", out(number)),
            format!("extract --verify --replace {image} {}", out(number)),
        ]
    });
    for arguments in listing.chain(each) {
        let mut command = lab.cstor(who, store);
        let ended = run(launcher.before(command.args(arguments.split(' '))));
        assert_eq!(ended.code(), 0, "{arguments}: {}", ended.stderr);
    }
    let after = state(store);
    let changed: Vec<_> = before.iter().filter(|(path, what)| after.get(*path) != Some(what)).take(10).collect();
    let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).take(10).collect();
    assert!(changed.is_empty() && new.is_empty(), "{who:?} {store:?}: changed {changed:#?}, new {new:#?}");
}

#[test]
fn the_users_stores_stay_as_they_are() {
    let lab = lab_or_skip!();
    let _turn = turn();
    let tour = ["localhost/tour:base", "localhost/tour:v2", "localhost/plain", "chunked"];
    stays_as_it_is(lab, Who::User, &lab.store(Fs::Btrfs, "tour"), &tour, Fs::Btrfs);
    stays_as_it_is(lab, Who::User, &lab.store(Fs::Ext4, "chunked"), &["chunked"], Fs::Ext4);
}

#[test]
fn a_store_of_this_machines_podman_stays_as_it_is() {
    let lab = lab_or_skip!();
    let _turn = turn();
    let images = ["localhost/walk:v2", "localhost/odd", "localhost/deep", "localhost/private"];
    stays_as_it_is(lab, Who::User, &lab.store(Fs::Xfs, "local"), &images, Fs::Xfs);
}

#[test]
fn roots_stores_stay_as_they_are() {
    let lab = lab_or_skip!();
    let _turn = turn();
    stays_as_it_is(lab, Who::Root, &lab.store(Fs::Btrfs, "root-tour"), &["localhost/tour:v2", "chunked"], Fs::Btrfs);
    stays_as_it_is(lab, Who::Root, &lab.store(Fs::Xfs, "root-chunked"), &["chunked"], Fs::Xfs);
}
