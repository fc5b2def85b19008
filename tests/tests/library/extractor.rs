//! Every option of `Extractor`, its report, its progress and its hook. What the tree of an image must be is tested in
//! `extract`.

use crate::place::{IMAGE, Place, is_root, tree, two_layers};
use cstor_client::ErrorKind;
use cstor_client::error::ExtractError;
use cstor_client::extract::{Devices, Extractor, Losses, Reach, Reflink, Report};
use cstor_client::progress::{Progress, Silent};
use cstor_tests::forge::trial::{listing, seal};
use cstor_tests::forge::{Store, char_device, dir, file};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn a_report_says_what_was_done() {
    let place = Place::new(&two_layers());
    let image = place.open().image(IMAGE).unwrap();
    for (verify, reflink) in [(false, Reflink::Auto), (true, Reflink::Auto), (false, Reflink::Never)] {
        let out = place.out().with_extension(format!("{verify}{reflink:?}"));
        let extractor = Extractor::default().verify(verify).reflink(reflink);
        let report: Report = extractor.extract(&image, &out).unwrap();
        assert_eq!((report.files, report.directories, report.symlinks, report.hard_links), (3, 5, 2, 1));
        assert_eq!(report.reflinked_bytes + report.copied_bytes, 24, "the bytes of three files, not of four names");
        if reflink == Reflink::Never {
            assert_eq!(report.reflinked_bytes, 0);
        }
        assert_eq!(report.through_helper, 0);
        assert_eq!(report.verified, verify || report.reflinked_bytes == 0);
        assert_eq!(report.losses.set_id, if is_root() { 0 } else { 1 }, "{}", report.losses);
        assert_eq!(listing(&out), tree(is_root()));
    }
    // Always: all or nothing.
    let out = place.out().with_extension("always");
    match Extractor::new().reflink(Reflink::Always).extract(&image, &out) {
        Ok(report) => assert_eq!(report.copied_bytes, 0),
        Err(error) => {
            assert!(matches!(error, ExtractError::NoReflink { .. }), "{error}");
            assert_eq!((error.kind(), out.exists()), (ErrorKind::Destination, false));
        }
    }
}

#[test]
fn owners_and_set_id_bits_are_an_option() {
    let place = Place::new(&Store::stack(
        IMAGE,
        [vec![dir("d").mode(0o2755).owner(5, 6), file("d/su", "x").mode(0o6755).owner(7, 8)]],
    ));
    let image = place.open().image(IMAGE).unwrap();
    let root = is_root();
    let table = [
        ("as it comes", Extractor::new(), root, root),
        ("set-id kept", Extractor::new().preserve_set_id(true), true, root),
        ("set-id dropped", Extractor::new().preserve_set_id(false), false, root),
        ("no owners", Extractor::new().same_owner(false), root, false),
        ("no owners, set-id kept", Extractor::new().same_owner(false).preserve_set_id(true), true, false),
        ("owners", Extractor::new().same_owner(true), root, root),
    ];
    let me = fs::metadata(place.dir.path()).unwrap();
    for (number, (what, extractor, set_id, owners)) in table.into_iter().enumerate() {
        let out = place.out().with_extension(number.to_string());
        let report = extractor.extract(&image, &out).unwrap();
        for (path, mode, set, owner) in [("d", 0o755, 0o2000, (5, 6)), ("d/su", 0o755, 0o6000, (7, 8))] {
            let found = fs::metadata(out.join(path)).unwrap();
            assert_eq!(found.mode() & 0o7777, if set_id { mode | set } else { mode }, "{what}: {path}");
            let wanted = if owners { owner } else { (me.uid(), me.gid()) };
            assert_eq!((found.uid(), found.gid()), wanted, "{what}: {path}");
        }
        assert_eq!(
            report.losses.set_id,
            if set_id { 0 } else { 2 },
            "{what}: files and directories are counted, not bits"
        );
    }
}

#[test]
fn devices_are_skipped_created_or_refused() {
    let place = Place::new(&Store::stack(IMAGE, [vec![file("f", "x"), char_device("null", 1, 3)]]));
    let image = place.open().image(IMAGE).unwrap();
    let report = Extractor::new().extract(&image, place.out()).unwrap();
    assert_eq!((report.losses.devices, place.out().join("null").exists()), (1, false));
    assert!(!report.losses.is_empty() && report.losses.to_string() == "1 device node", "{}", report.losses);

    let out = place.out().with_extension("fail");
    let error = Extractor::new().devices(Devices::Fail).extract(&image, &out).unwrap_err();
    assert!(matches!(&error, ExtractError::Device { path } if path == b"null"), "{error}");
    assert_eq!((error.kind(), out.exists()), (ErrorKind::Unsupported, false));

    let out = place.out().with_extension("create");
    match Extractor::new().devices(Devices::Create).strict(true).extract(&image, &out) {
        Ok(report) => {
            assert!(is_root() && report.losses.is_empty());
            assert_eq!(fs::metadata(out.join("null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
        }
        Err(error) => {
            assert!(!is_root() && matches!(error, ExtractError::DevicesNeedRoot), "{error}");
            assert_eq!(error.kind(), ErrorKind::Permission);
        }
    }
    assert_eq!(Devices::default(), Devices::Skip);
}

#[test]
fn strict_writes_nothing_that_lacks_something() {
    let place = Place::new(&Store::stack(IMAGE, [vec![file("f", "x"), char_device("null", 1, 3)]]));
    let image = place.open().image(IMAGE).unwrap();
    let error = Extractor::new().strict(true).extract(&image, place.out()).unwrap_err();
    let ExtractError::Lossy(losses) = &error else { panic!("{error}") };
    assert_eq!((losses.devices, error.kind()), (1, ErrorKind::Unsupported));
    assert!(error.to_string().contains("1 device node"), "{error}");
    assert!(!place.out().exists());

    let place = Place::new(&Store::stack(IMAGE, [vec![file("f", "x")]]));
    let image = place.open().image(IMAGE).unwrap();
    let report = Extractor::new().strict(true).extract(&image, place.out()).unwrap();
    assert_eq!((report.losses, report.losses.to_string()), (Losses::default(), "nothing".to_owned()));
    assert!(report.losses.is_empty());
}

#[test]
fn a_destination_is_replaced_when_the_new_one_is_complete() {
    let place = Place::new(&two_layers());
    let image = place.open().image(IMAGE).unwrap();
    let out = place.out();
    fs::create_dir_all(out.join("old/tree")).unwrap();
    fs::write(out.join("old/file"), "old").unwrap();
    let before = seal(&out);
    assert!(matches!(Extractor::new().extract(&image, &out), Err(ExtractError::Occupied { .. })));
    assert_eq!(seal(&out), before);

    // One that fails late: the last file is damaged.
    let damaged = Place::new(&two_layers());
    damaged.store.bytes(&damaged.store.diff(1, "bin/su"), |bytes| bytes[0] ^= 1);
    let bad = damaged.open().image(IMAGE).unwrap();
    let error = Extractor::new().replace(true).verify(true).extract(&bad, &out).unwrap_err();
    assert_eq!((error.kind(), seal(&out) == before), (ErrorKind::Corrupt, true), "{error}");
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 2, "the store and the destination alone");

    Extractor::new().replace(true).extract(&image, &out).unwrap();
    assert_eq!(listing(&out), tree(is_root()));
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 2);
}

#[test]
fn progress_is_told() {
    #[derive(Default)]
    struct Told {
        layers: AtomicU64,
        entries: AtomicU64,
        planned: AtomicU64,
        planned_bytes: AtomicU64,
        placed: AtomicU64,
        placed_bytes: AtomicU64,
    }
    impl Progress for Told {
        fn layer_read(&self, layer: usize, layers: usize, entries: u64) {
            assert_eq!((layer as u64, layers), (self.layers.fetch_add(1, Ordering::Relaxed) + 1, 2));
            self.entries.fetch_add(entries, Ordering::Relaxed);
        }
        fn planned(&self, files: u64, bytes: u64) {
            self.planned.fetch_add(files, Ordering::Relaxed);
            self.planned_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        fn advanced(&self, files: u64, bytes: u64) {
            self.placed.fetch_add(files, Ordering::Relaxed);
            self.placed_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
    let place = Place::new(&two_layers());
    let image = place.open().image(IMAGE).unwrap();
    let told = Arc::new(Told::default());
    let report = Extractor::new().progress(Arc::clone(&told)).extract(&image, place.out()).unwrap();
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!((of(&told.layers), of(&told.entries)), (2, 12));
    assert_eq!((of(&told.planned), of(&told.placed)), (report.files, report.files));
    assert_eq!((of(&told.planned_bytes), of(&told.placed_bytes)), (24, 24));
    // Nobody need listen.
    let out = place.out().with_extension("silent");
    assert_eq!(Extractor::new().progress(Silent).extract(&image, &out).unwrap().files, report.files);
}

#[test]
fn a_hook_runs_between_planning_and_placing() {
    let place = Place::new(&two_layers());
    let storage = place.open();
    let image = storage.image(IMAGE).unwrap();
    let (root, above) = (place.store.root.clone(), place.dir.path().to_path_buf());
    let (calls, counted) = (Arc::new(AtomicU64::new(0)), fs::read_dir(&above).unwrap().count());
    let hook = {
        let calls = Arc::clone(&calls);
        move |reach: &Reach<'_>| {
            calls.fetch_add(1, Ordering::Relaxed);
            let is = |fd, path: &Path| {
                let found = rustix::fs::fstat(fd).unwrap();
                assert_eq!(found.st_ino, fs::metadata(path).unwrap().ino());
            };
            let [read, layers] = reach.reads[..] else { panic!("one root: {reach:?}") };
            is(read, &root);
            is(layers, &root.join("overlay"));
            is(reach.beside, &above);
            let siblings: Vec<_> = fs::read_dir(&above).unwrap().map(|entry| entry.unwrap()).collect();
            assert_eq!(siblings.len(), counted + 1, "the directory in which the result grows");
            let sibling = siblings.iter().find(|entry| entry.file_name().as_encoded_bytes().starts_with(b".out"));
            assert_eq!(fs::read_dir(sibling.unwrap().path()).unwrap().count(), 0, "nothing is placed");
            Ok(())
        }
    };
    let extractor = Extractor::new().before_placing(hook);
    extractor.extract(&image, place.out()).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    let error = extractor.extract(&image, place.out()).unwrap_err();
    assert!(matches!(error, ExtractError::Occupied { .. }), "{error}");
    assert_eq!(calls.load(Ordering::Relaxed), 1, "nothing would have been placed");

    let failing = Extractor::new().before_placing(|_| Err(std::io::Error::other("not today")));
    let out = place.out().with_extension("failed");
    let layer = storage.layer(&place.store.layers[1].id).unwrap();
    for error in [failing.extract(&image, &out).unwrap_err(), failing.extract(&layer, &out).unwrap_err()] {
        assert!(matches!(&error, ExtractError::Hook(_)) && error.to_string().contains("not today"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Failure);
    }
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), counted + 1, "out alone");
}

#[test]
fn one_layer_is_extracted_alone() {
    let place = Place::new(&two_layers());
    let layer = place.open().layer(&place.store.layers[1].id).unwrap();
    let report = Extractor::new().preserve_set_id(false).extract(&layer, place.out()).unwrap();
    assert_eq!((report.files, report.hard_links, report.symlinks), (1, 1, 1));
    let lines = listing(&place.out());
    assert!(lines.contains(&"f 755 bin/also-su = program".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains(".wh.") || line.contains("passwd")), "{lines:?}");
}
