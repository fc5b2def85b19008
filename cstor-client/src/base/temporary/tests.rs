use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use tempfile::TempDir;

use super::incomplete::{Appeared, Incomplete};
use super::{leads_to, make_private, remove_dead};
use crate::base::interrupt::Interrupt;

fn opened(path: &Path) -> OwnedFd {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn names(place: &TempDir) -> Vec<String> {
    let names = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

type Make = fn(OwnedFd, &OsStr) -> Result<Incomplete<OwnedFd>, Errno>;
/// As most file systems can, and as those that have no files without a name.
const WAYS: [(Make, bool); 2] = [(Incomplete::create, false), (Incomplete::create_named, true)];

#[test]
fn a_file_has_its_name_when_it_is_complete() {
    for (create, is_named) in WAYS {
        let place = tempfile::tempdir().unwrap();
        let name = OsStr::new("out");
        let dropped = create(opened(place.path()), name).unwrap();
        assert_eq!(names(&place).len(), usize::from(is_named));
        drop(dropped);
        assert_eq!(names(&place), [""; 0]);
        for (text, appeared) in [("one", Appeared::New), ("two", Appeared::Replaced)] {
            let directory = opened(place.path());
            let file = create(opened(place.path()), name).unwrap();
            file.file().write_all(text.as_bytes()).unwrap();
            assert_eq!(file.publish_in(directory.as_fd(), name), Ok(appeared));
            assert_eq!(names(&place), ["out"]);
            assert_eq!(fs::read_to_string(place.path().join("out")).unwrap(), text);
        }
        // A directory is not replaced, and nothing stays.
        fs::create_dir(place.path().join("there")).unwrap();
        let file = create(opened(place.path()), name).unwrap();
        assert_eq!(file.publish(OsStr::new("there")), Err(Errno::ISDIR));
        assert_eq!(names(&place), ["out", "there"]);
    }
}

#[test]
fn a_name_that_is_given_for_now_can_be_taken_back() {
    for (create, _) in WAYS {
        for before in [None, Some("before")] {
            for keep in [false, true] {
                let place = tempfile::tempdir().unwrap();
                let path = place.path().join("out");
                if let Some(text) = before {
                    fs::write(&path, text).unwrap();
                }
                let file = create(opened(place.path()), OsStr::new("out")).unwrap();
                file.file().write_all(b"after").unwrap();
                let published = file.publish_for_now(OsStr::new("out")).unwrap();
                assert_eq!(fs::read(&path).unwrap(), b"after");
                // Another run that begins now leaves what may have to come back.
                remove_dead(opened(place.path()).as_fd(), place.path(), OsStr::new("out"), &Interrupt::new());
                if keep {
                    published.keep();
                } else {
                    drop(published);
                }
                let left = fs::read_to_string(&path).ok();
                assert_eq!(left.as_deref(), if keep { Some("after") } else { before });
                assert_eq!(names(&place).len(), usize::from(left.is_some()));
            }
        }
    }
}

/// Between mkdir(2) and flock(2) a directory looks like the remains of a killed run.
#[test]
fn a_maker_never_loses_its_directory_to_one_that_searches() {
    let place = tempfile::tempdir().unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    remove_dead(opened(place.path()).as_fd(), place.path(), OsStr::new("out"), &Interrupt::new());
                }
            });
        }
        let parent = opened(place.path());
        for _ in 0..500 {
            let (name, made) = make_private(parent.as_fd(), OsStr::new("out")).unwrap();
            fs::write(place.path().join(&name).join("file"), "kept").unwrap();
            thread::yield_now();
            assert!(leads_to(parent.as_fd(), &name, made.as_fd()).unwrap());
            assert!(place.path().join(&name).join("file").exists());
            let file = Incomplete::create_named(parent.as_fd(), OsStr::new("out")).unwrap();
            thread::yield_now();
            file.publish(OsStr::new("out")).unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    // Each of them was given up by closing it.
    remove_dead(opened(place.path()).as_fd(), place.path(), OsStr::new("out"), &Interrupt::new());
    assert_eq!(names(&place), ["out"]);
}

#[test]
fn nobody_removes_what_is_locked() {
    let place = tempfile::tempdir().unwrap();
    let parent = opened(place.path());
    let (_, made) = make_private(parent.as_fd(), OsStr::new("out")).unwrap();
    let file = Incomplete::create_named(parent.as_fd(), OsStr::new("out")).unwrap();
    for locked in [made.as_fd(), file.file().as_fd()] {
        let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&locked));
        let again = File::open(again).unwrap();
        assert_eq!(flock(&again, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    }
    remove_dead(parent.as_fd(), place.path(), OsStr::new("out"), &Interrupt::new());
    assert_eq!(names(&place).len(), 2);
    drop((made, file));
    remove_dead(parent.as_fd(), place.path(), OsStr::new("out"), &Interrupt::new());
    assert_eq!(names(&place), [""; 0]);
}

#[test]
fn an_interrupt_leaves_the_rest_to_another_run() {
    let place = tempfile::tempdir().unwrap();
    let parent = opened(place.path());
    for _ in 0..2 {
        let (name, made) = make_private(parent.as_fd(), OsStr::new("out")).unwrap();
        fs::write(place.path().join(name).join("file"), "").unwrap();
        drop(made);
    }
    let interrupt = Interrupt::new();
    interrupt.raise();
    remove_dead(parent.as_fd(), place.path(), OsStr::new("out"), &interrupt);
    assert_eq!((names(&place).len(), interrupt.looks()), (2, 1));
    interrupt.lower();
    remove_dead(parent.as_fd(), place.path(), OsStr::new("out"), &interrupt);
    assert_eq!(names(&place), [""; 0]);
}
