//! `Rootfs`: the files of an image, looked up and read as a process in a container would.

use crate::place::{IMAGE, Place, at_once, is_root, tree, two_layers};
use cstor_client::error::{ImageError, LookupProblem, ReadProblem};
use cstor_client::extract::Extractor;
use cstor_client::interrupt::Interrupt;
use cstor_client::oci::{Copier, Destination};
use cstor_client::progress::Progress;
use cstor_client::tree::InodeKind;
use cstor_client::{ErrorKind, Layer, ProxiedStorage, Rootfs, Storage, Target, Verify};
use cstor_tests::forge::{Store, file, trial::listing};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn rootfs(place: &Place) -> Rootfs {
    place.open().image(IMAGE).unwrap().rootfs().unwrap()
}

fn read(rootfs: &Rootfs, path: &str) -> io::Result<String> {
    let mut text = String::new();
    rootfs.open(path).map_err(io::Error::other)?.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn files_are_found_and_read_as_in_a_container() {
    let place = Place::new(&two_layers());
    let rootfs = rootfs(&place);
    for (path, text) in [
        ("etc/passwd", "root:x:0:0"),
        ("/etc/passwd", "root:x:0:0"),
        ("/bin/sh", "program"),
        ("lib/so", "library"),
        ("/lib/../lib/so", "library"),
        ("bin/also-su", "program"),
    ] {
        assert_eq!(read(&rootfs, path).unwrap(), text, "{path}");
    }
    let names = |path: &str| -> Vec<String> {
        let entries = rootfs.read_dir(path).unwrap();
        entries.map(|entry| String::from_utf8(entry.path).unwrap()).collect()
    };
    assert_eq!(names("etc"), ["etc/passwd"], "what a whiteout hides is gone, and so is the whiteout");
    assert_eq!(names("/lib"), ["usr/lib/so"], "through a link, under the path itself");
    assert_eq!(rootfs.read_link("bin/sh").unwrap(), b"su");
    assert_eq!(rootfs.walk("usr").unwrap().count(), 3);
    assert_eq!(rootfs.walk("").unwrap().count(), rootfs.tree().entries().count());
    let so = rootfs.get("/lib/so").unwrap();
    assert!(matches!(so.inode.kind(), InodeKind::File { size: 7, .. }));
    assert_eq!(so.inode.meta().xattrs[0].value, b"kept");

    let file = rootfs.open("etc/passwd").unwrap();
    assert_eq!(file.size(), 10);
    let mut itself = String::new();
    File::from(file.as_fd().try_clone_to_owned().unwrap()).read_to_string(&mut itself).unwrap();
    assert_eq!(itself, "root:x:0:0", "the descriptor is the file");

    for (path, problem) in [
        ("etc/old", LookupProblem::NotFound),
        ("etc/passwd/x", LookupProblem::NotADirectory),
        ("etc", LookupProblem::NotAFile),
    ] {
        let error = rootfs.open(path).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
        assert!(matches!(&error, ImageError::Lookup(found) if found.problem == problem), "{path}: {error}");
    }
    assert_eq!(rootfs.open("etc/old").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn the_last_read_of_a_damaged_file_fails() {
    let place = Place::new(&two_layers());
    fs::write(place.store.diff(0, "etc/passwd"), "root:x:0:1").unwrap();
    let rootfs = rootfs(&place);
    let error = read(&rootfs, "etc/passwd").unwrap_err();
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<ImageError>());
    assert!(
        matches!(cause, Some(ImageError::Read(error)) if matches!(error.problem, ReadProblem::Content(_))),
        "{error}"
    );
    fs::write(place.store.diff(0, "etc/passwd"), "short").unwrap();
    assert_eq!(rootfs.open("etc/passwd").unwrap_err().kind(), ErrorKind::Corrupt, "another size is seen at once");
    assert_eq!(read(&rootfs, "usr/lib/so").unwrap(), "library", "the others are as they were");
}

#[test]
fn an_empty_file_is_a_file() {
    let place = Place::new(&Store::stack(IMAGE, [vec![file("empty", "")]]));
    assert_eq!(read(&rootfs(&place), "empty").unwrap(), "");
}

/// Its layers are open: that is what a long-lived program wants of it.
#[test]
fn what_podman_removes_meanwhile_stays_readable() {
    let place = Place::new(&two_layers());
    let rootfs = rootfs(&place);
    let layers = place.store.root.join("overlay");
    fs::rename(&layers, layers.with_extension("gone")).unwrap();
    assert_eq!(read(&rootfs, "etc/passwd").unwrap(), "root:x:0:0");
}

#[test]
fn it_is_extracted_as_its_image_is() {
    let place = Place::new(&two_layers());
    let report = rootfs(&place).extract(place.out(), &Extractor::new()).unwrap();
    assert_eq!(report.files, 3);
    assert_eq!(listing(&place.out()), tree(is_root()));
    let again = Extractor::new().replace(true).extract(&place.open().image(IMAGE).unwrap(), place.out()).unwrap();
    assert_eq!(again, report);
    let layer = place.open().layer(&place.store.layers[1].id).unwrap();
    let own = Target::from(&layer).rootfs().unwrap();
    assert!(own.get("etc/old").is_err() && own.get("bin/su").is_ok() && own.get("usr").is_err());
}

#[test]
fn what_programs_share_between_threads_may_be_shared() {
    fn may_be_shared<T: Send + Sync>() {}
    may_be_shared::<Storage>();
    may_be_shared::<cstor_client::Image>();
    may_be_shared::<cstor_client::Container>();
    may_be_shared::<Layer>();
    may_be_shared::<Rootfs>();
    may_be_shared::<Extractor>();
    may_be_shared::<cstor_client::Error>();
    assert!(at_once(ProxiedStorage::open_with_proxy("/nonexistent")).is_err());
}

/// Everything that takes time tells how it comes along, and ends with the interrupt of the store that it was found in.
#[test]
fn every_operation_tells_its_progress_and_ends_with_its_interrupt() {
    #[derive(Default)]
    struct Sums {
        layers: AtomicU64,
        files: AtomicU64,
        bytes: AtomicU64,
    }
    impl Progress for Sums {
        fn layer_read(&self, _: usize, _: usize, _: u64) {
            self.layers.fetch_add(1, Ordering::Relaxed);
        }
        fn advanced(&self, files: u64, bytes: u64) {
            self.files.fetch_add(files, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
    type Operation = fn(&Place, &Storage) -> Result<(), cstor_client::Error>;
    // How many layers each merges, and how many bytes of contents it reads.
    let operations: [(&str, Operation, u64, u64); 6] = [
        ("export of an image", |_, storage| Ok(storage.image(IMAGE)?.rootfs()?.export(io::sink()).map(drop)?), 2, 24),
        ("table of contents", |_, storage| Ok(storage.image(IMAGE)?.rootfs()?.toc(true).map(drop)?), 2, 24),
        (
            "export of a layer",
            |place, storage| {
                Ok(storage.layer(&place.store.layers[0].id)?.export(io::sink(), Verify::Digest).map(drop)?)
            },
            0,
            20,
        ),
        (
            "verification",
            |place, storage| Ok(storage.layer(&place.store.layers[0].id)?.verify(Verify::Crc).map(drop)?),
            0,
            20,
        ),
        (
            "copy",
            |place, storage| {
                let to = Destination::parse(format!("oci:{}:v1", place.dir.path().join("layout").display())).unwrap();
                Ok(Copier::new().copy(&storage.image(IMAGE)?, &to).map(drop)?)
            },
            0,
            27,
        ),
        (
            "extraction",
            |place, storage| Ok(Extractor::new().extract(&storage.image(IMAGE)?, place.out()).map(drop)?),
            2,
            24,
        ),
    ];
    for (what, operation, layers, bytes) in operations {
        let place = Place::new(&two_layers());
        let sums = Arc::new(Sums::default());
        operation(&place, &place.open().with_progress(Arc::clone(&sums)))
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let told = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        assert_eq!((told(&sums.layers), told(&sums.bytes)), (layers, bytes), "{what}");
        assert!(told(&sums.files) >= 3, "{what}");

        let place = Place::new(&two_layers());
        let interrupt = Interrupt::new();
        let storage = place.open().with_interrupt(interrupt.clone());
        interrupt.raise();
        let ended = operation(&place, &storage).unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::Interrupted, "{what}: {ended}");
        assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 1, "{what} left something");
        assert!(!place.open().interrupt().is_raised(), "of another one nothing is heard");
    }
}
