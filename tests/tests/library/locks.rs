//! The locks of a store: waited for, named, and never held longer than a call.

use crate::again::{PROGRAM, ROLE, again};
use crate::place::{IMAGE, Place, names, two_layers};
use cstor_tests::built::install;
use cstor_tests::lab::{Fs, Launcher, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run, start};
use std::env;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Another process that holds a POSIX lock until it is dropped.
struct Holder(Child);

impl Holder {
    fn of(how: &str, path: &Path) -> Holder {
        let path = path.to_str().expect("UTF-8");
        let mut child = again(&env::current_exe().unwrap(), &[how, path])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this executable");
        let mut said = String::new();
        let out = child.stdout.as_mut().expect("piped");
        while !said.contains("\nheld\n") {
            let mut byte = [0];
            assert_eq!(out.read(&mut byte).expect("a pipe"), 1, "it ended: {said}");
            said.push(byte[0].into());
        }
        Holder(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn cstor(place: &Place) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_embedder")).with_file_name("cstor"));
    command.env_clear().env("PATH", "/nonexistent").env("HOME", place.dir.path()).arg("--root").arg(&place.store.root);
    command
}

#[test]
fn a_writers_lock_is_waited_for_and_named() {
    let place = Place::new(&two_layers());
    let lock = place.store.root.join("overlay-layers/layers.lock");
    // One that does not go away.
    let holder = Holder::of("write", &lock);
    let ended = run(cstor(&place).args(["image", "list"]));
    assert_eq!(ended.code(), 8, "{}", ended.stderr);
    assert!(
        ended.stderr.contains(&format!("{}: locked by process {}:", lock.display(), holder.0.id())),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!((Duration::from_secs(10)..Duration::from_secs(12)).contains(&ended.took), "{:?}", ended.took);

    // One that goes away meanwhile.
    let mut running = start(cstor(&place).args(["image", "list", "-q"]));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(400) {
        assert!(!running.ended(), "it must wait");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(holder);
    let ended = running.wait();
    assert_eq!(
        (ended.code(), &*ended.stdout),
        (0, &*format!("{}\n", &place.store.images[0][..12])),
        "{}",
        ended.stderr
    );
    assert!(ended.took < Duration::from_secs(2), "{:?}", ended.took);
}

#[test]
fn a_readers_lock_does_not_disturb_nor_does_a_missing_one() {
    let place = Place::new(&two_layers());
    let locks = ["overlay-layers/layers.lock", "overlay-images/images.lock"].map(|lock| place.store.root.join(lock));
    let holders = locks.each_ref().map(|lock| Holder::of("read", lock));
    let ended = run(cstor(&place).args(["extract", IMAGE]).arg(place.out()));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(2), "{:?}", ended.took);
    drop(holders);
    for lock in &locks {
        place.store.remove(lock);
    }
    assert_eq!(names(&place.open().list_images().unwrap()), [IMAGE], "as on read-only media");
}

#[test]
fn no_lock_is_held_between_two_calls() {
    let place = Place::new(&two_layers());
    let storage = place.open();
    let image = storage.image(IMAGE).unwrap();
    let layer = image.layers().unwrap().remove(0);
    let _entries = layer.entries().unwrap();
    let _file = layer.open_file_std("etc/passwd").unwrap();
    let _ = (storage.containers().unwrap(), image.rootfs().unwrap());
    must(&mut again(&env::current_exe().unwrap(), &["try", place.store.root.to_str().unwrap()]));
}

#[test]
fn no_lock_is_held_while_the_helper_starts() {
    let lab = lab_or_skip!();
    let store = lab.store(Fs::Xfs, "local");
    let home = lab.scratch(Who::User, Fs::Ext4);
    let copy = home.path().join("again");
    install(env::current_exe().unwrap(), &copy);
    // A podman that needs every lock of the store for itself, as the real one may.
    let script = format!(
        "{ROLE}=\"$(printf 'try\\n%s' {})\" {} {PROGRAM} --exact --nocapture >&2 || exit 125\n\
         exec unshare --map-root-user --map-auto \"$@\"",
        store.display(),
        copy.display()
    );
    let launcher = Launcher::of(lab, &script);
    let extract = |out: &Path, flags: &[&str]| {
        let mut command = lab.cstor(Who::User, &store);
        command.args(["extract", "localhost/private"]).arg(out).args(flags);
        run(launcher.before(&mut command))
    };
    for (number, flags) in [&[][..], &["--helper", "always"]].into_iter().enumerate() {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let ended = extract(&scratch.path().join("out"), flags);
        assert_eq!((ended.code(), launcher.starts()), (0, number + 1), "{flags:?}: {}", ended.stderr);
    }
    // The stand-in does notice a lock.
    let holder = Holder::of("read", &store.join("overlay-images/images.lock"));
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let ended = extract(&scratch.path().join("out"), &[]);
    assert_eq!(ended.code(), 7, "{}", ended.stderr);
    drop(holder);
}
