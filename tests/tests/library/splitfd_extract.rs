//! The layers of an image as splitfdstreams, extracted: the same tree as of the image itself and, for podman's stores,
//! as podman shows it. Then streams that must leave nothing, and how many files are open. It does not test the
//! format of streams (`splitfd`).

use cstor_client::extract::{Extractor, Reflink, Report};
use cstor_client::interrupt::Interrupt;
use cstor_client::splitfdstream::{Collect, FileSupply, Writer};
use cstor_client::{ErrorKind, Storage};
use cstor_tests::forge::{Store, dir, file, hard_link, opaque, symlink, whiteout};
use cstor_tests::lab::{Fs, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::tree::{self, Sight, assert_same};
use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const THRESHOLDS: [u64; 3] = [0, 4096, u64::MAX];

/// The layers of an image, each as a stream and its files.
fn streams(storage: &Storage, image: &str, threshold: u64) -> Vec<(Vec<u8>, Vec<OwnedFd>)> {
    let layers = storage.image(image).unwrap().layers().unwrap();
    let split = layers.iter().map(|layer| {
        let (mut stream, mut files) = (Vec::new(), Collect::new(10_000));
        layer.splitfdstream(&mut stream, &mut files, threshold).unwrap();
        (stream, files.into_files())
    });
    split.collect()
}

fn extract(layers: &[(Vec<u8>, Vec<OwnedFd>)], to: &Path, extractor: &Extractor) -> Report {
    let layers = layers.iter().map(|(stream, files)| (&stream[..], &files[..]));
    extractor.extract_streams(layers, to).unwrap()
}

/// Every kind of change between layers.
fn store() -> Store {
    let kept = |name: &str| file(name, vec![b'x'; 5000]);
    Store::stack(
        "localhost/app:latest",
        [
            vec![
                dir("d/").mode(0o555),
                kept("d/gone"),
                kept("d/stays"),
                file("d/small", "small"),
                dir("o/"),
                kept("o/hidden"),
                symlink("lib", "d"),
                kept("lib/through"),
                kept("turns"),
                file("first", "contents that two names have"),
                hard_link("second", "first"),
                file("empty", "").xattr("user.a", "b"),
            ],
            vec![
                whiteout("d/gone"),
                opaque("o"),
                kept("o/new"),
                dir("turns/"),
                file("turns/in", vec![b'y'; 70_000]).mode(0o4755),
                file("first", "other contents"),
            ],
        ],
    )
}

#[test]
fn forged_layers_become_the_tree_of_their_image() {
    let place = tempfile::tempdir().unwrap();
    let forged = store().write(&place.path().join("store"), false).unwrap();
    let storage = Storage::open(&forged.root).unwrap();
    let whole = place.path().join("whole");
    let wanted = Extractor::new().extract(&storage.image("localhost/app").unwrap(), &whole).unwrap();
    for threshold in THRESHOLDS {
        let out = place.path().join(format!("out-{threshold}"));
        let layers = streams(&storage, "localhost/app", threshold);
        let report = extract(&layers, &out, &Extractor::new());
        let what = format!("threshold {threshold}");
        assert_same(&tree::list(&whole).unwrap(), &tree::list(&out).unwrap(), Sight::ALL, &what);
        assert_eq!(
            (report.files, report.hard_links, report.verified),
            (wanted.files, wanted.hard_links, false),
            "{what}"
        );
        assert_eq!(
            report.reflinked_bytes + report.copied_bytes,
            wanted.reflinked_bytes + wanted.copied_bytes,
            "{what}"
        );
    }
    // One layer alone: its whiteouts leave nothing.
    let layers = streams(&storage, "localhost/app", 0);
    extract(&layers[1..], &place.path().join("upper"), &Extractor::new());
    let names: Vec<_> = tree::list(&place.path().join("upper")).unwrap().into_keys().collect();
    assert!(names.iter().all(|name| !name.contains(".wh.")), "{names:?}");
}

#[test]
fn streams_of_podman_s_images_become_what_podman_shows() {
    let lab = lab_or_skip!();
    let table =
        [("tour:base", "tour-base"), ("tour:v1", "tour-v1"), ("tour:v2", "tour-v2"), ("plain:latest", "plain-latest")];
    let storage = Storage::open(lab.store(Fs::Btrfs, "root-tour")).unwrap();
    for (image, truth) in table {
        let truth = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/truth-5.4.2/{truth}.jsonl"));
        let truth = tree::parse(&fs::read_to_string(truth).unwrap()).unwrap();
        for threshold in THRESHOLDS {
            let scratch = lab.scratch(Who::Root, Fs::Btrfs);
            let out = scratch.path().join("out");
            let report = extract(&streams(&storage, &format!("localhost/{image}"), threshold), &out, &Extractor::new());
            assert_same(&truth, &tree::list(&out).unwrap(), Sight::ALL, &format!("{image} at {threshold}"));
            assert_eq!(lab.names_in(scratch.path()), ["out"]);
            // What lies beside a stream is cloned, what stands in it is copied.
            assert_eq!(report.copied_bytes == 0, threshold == 0, "{image} at {threshold}: {report:?}");
            assert_eq!(report.reflinked_bytes == 0, threshold == u64::MAX, "{image} at {threshold}: {report:?}");
        }
    }
}

/// Opens files by number, holds one at a time and remembers which were asked for.
struct OneByOne<'a> {
    files: &'a [OwnedFd],
    open: Option<File>,
    asked: &'a Cell<Vec<u32>>,
}

impl FileSupply for OneByOne<'_> {
    fn count(&self) -> u32 {
        self.files.len() as u32
    }

    fn file(&mut self, number: u32) -> std::io::Result<BorrowedFd<'_>> {
        let mut asked = self.asked.take();
        asked.push(number);
        self.asked.set(asked);
        let file = File::from(self.files[number as usize].try_clone()?);
        let file: &File = self.open.insert(file);
        Ok(file.as_fd())
    }
}

#[test]
fn files_are_asked_for_once_in_order_and_only_if_they_survive() {
    let place = tempfile::tempdir().unwrap();
    let forged = store().write(&place.path().join("store"), false).unwrap();
    let layers = streams(&Storage::open(&forged.root).unwrap(), "localhost/app", 0);
    let asked: [Cell<Vec<u32>>; 2] = Default::default();
    let supplies =
        layers.iter().zip(&asked).map(|((stream, files), asked)| (&stream[..], OneByOne { files, open: None, asked }));
    Extractor::new().extract_streams(supplies, place.path().join("out")).unwrap();
    // d/gone, o/hidden, turns of the base are not to be seen; `first` is, as `second`.
    let [base, upper] = asked.map(Cell::into_inner);
    assert_eq!(base, [1, 2, 4, 6]);
    assert_eq!(upper, [0, 1, 2]);
}

#[test]
fn the_caller_is_asked_before_anything_is_placed() {
    let place = tempfile::tempdir().unwrap();
    let forged = store().write(&place.path().join("store"), false).unwrap();
    let layers = streams(&Storage::open(&forged.root).unwrap(), "localhost/app", 0);
    let extraction = |extractor: &Extractor| {
        let layers = layers.iter().map(|(stream, files)| (&stream[..], &files[..]));
        extractor.extract_streams(layers, place.path().join("out"))
    };
    let refusing = Extractor::new().before_placing(|_| Err(io::Error::other("not like this")));
    assert_eq!(extraction(&refusing).unwrap_err().kind(), ErrorKind::Failure);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "something was left");
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let counting = Extractor::new().before_placing(move |reach| {
        assert!(reach.reads.is_empty());
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    extraction(&counting).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

/// A member of so many bytes.
fn header(size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("f").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A stream that begins so and goes on with zeros, slowly.
struct Endless {
    pending: Vec<u8>,
    given: usize,
}

impl Read for Endless {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        // Whoever does not stop gets another error after two seconds.
        if self.given > 200 * 2048 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.pending.is_empty() {
            std::thread::sleep(Duration::from_millis(10));
            let mut chunk = Writer::new(Vec::new());
            chunk.inline(&[0; 2048]).unwrap();
            self.pending = chunk.finish().unwrap();
        }
        let length = space.len().min(self.pending.len());
        space[..length].copy_from_slice(&self.pending[..length]);
        self.pending.drain(..length);
        self.given += length;
        Ok(length)
    }
}

#[test]
fn an_interrupt_ends_a_stream_without_end() {
    let stop = Interrupt::new();
    let extractor = Extractor::new().interrupt(stop.clone());
    let place = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(Vec::new());
    writer.inline(&header(1 << 40)).unwrap();
    let stream = Endless { pending: writer.finish().unwrap(), given: 0 };
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stop.raise();
    });
    let none: &[OwnedFd] = &[];
    let ended = extractor.extract_streams([(stream, none)], place.path().join("out"));
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "something was left");
}

#[test]
fn a_hole_of_a_tebibyte_takes_no_time() {
    const SIZE: u64 = 1 << 40;
    let file = tempfile::tempfile().unwrap();
    file.set_len(SIZE).unwrap();
    let mut writer = Writer::new(Vec::new());
    writer.inline(&header(SIZE)).unwrap();
    writer.external(0).unwrap();
    writer.inline(&[0; 1024]).unwrap();
    let layer = (writer.finish().unwrap(), vec![OwnedFd::from(file)]);
    let place = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let report = extract(&[layer], &place.path().join("out"), &Extractor::new().reflink(Reflink::Never));
    assert_eq!(report.copied_bytes, SIZE);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Writes a part of a stream.
type Part<'a> = &'a dyn Fn(&mut Writer<Vec<u8>>);

#[test]
fn what_is_wrong_leaves_nothing() {
    let member = |name: &str, size: u64, kind: u8| {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let stream = |parts: &[Part<'_>]| {
        let mut writer = Writer::new(Vec::new());
        parts.iter().for_each(|part| part(&mut writer));
        writer.finish().unwrap()
    };
    let regular = |bytes: usize| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; bytes]).unwrap();
        OwnedFd::from(file)
    };
    let pipe = || OwnedFd::from(std::io::pipe().unwrap().0);
    let header = member("f", 5000, b'0');
    let whole =
        stream(&[&|w| w.inline(&header).unwrap(), &|w| w.external(0).unwrap(), &|w| w.inline(&[0; 120]).unwrap()]);
    let end = [0; 1024];
    let twice = member("f", 0, b'0');
    let below = member("f/x", 0, b'0');
    let device = member("c", 0, b'3');
    let table: Vec<(&str, Vec<u8>, OwnedFd, ErrorKind)> = vec![
        ("too short", whole.clone(), regular(4999), ErrorKind::Corrupt),
        ("too long", whole.clone(), regular(5001), ErrorKind::Corrupt),
        ("a pipe", whole.clone(), pipe(), ErrorKind::Failure),
        ("cut in a chunk", whole[..whole.len() - 1].to_vec(), regular(5000), ErrorKind::Corrupt),
        ("cut in contents", whole[..520].to_vec(), regular(5000), ErrorKind::Corrupt),
        (
            "no such file",
            stream(&[&|w| w.inline(&header).unwrap(), &|w| w.external(1).unwrap()]),
            regular(5000),
            ErrorKind::Corrupt,
        ),
        (
            "twice one name",
            stream(&[&|w| w.inline(&twice).unwrap(), &|w| w.inline(&twice).unwrap(), &|w| w.inline(&end).unwrap()]),
            regular(0),
            ErrorKind::Corrupt,
        ),
        (
            "below a file",
            stream(&[&|w| w.inline(&twice).unwrap(), &|w| w.inline(&below).unwrap()]),
            regular(0),
            ErrorKind::Corrupt,
        ),
        (
            "a file after the end",
            stream(&[&|w| w.inline(&end).unwrap(), &|w| w.external(0).unwrap()]),
            regular(0),
            ErrorKind::Corrupt,
        ),
        ("no header", stream(&[&|w| w.inline(&[b'x'; 512]).unwrap()]), regular(0), ErrorKind::Corrupt),
        (
            "an unknown type",
            stream(&[&|w| w.inline(&member("v", 0, b'V')).unwrap()]),
            regular(0),
            ErrorKind::Unsupported,
        ),
    ];
    let place = tempfile::tempdir().unwrap();
    for (what, stream, file, kind) in table {
        let ended = Extractor::new().extract_streams([(&stream[..], &[file][..])], place.path().join("out"));
        assert_eq!(ended.unwrap_err().kind(), kind, "{what}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "{what}: left something");
    }
    let strict = Extractor::new()
        .strict(true)
        .extract_streams([(&stream(&[&|w| w.inline(&device).unwrap()])[..], &[pipe()][..])], place.path().join("out"));
    assert_eq!(strict.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn what_must_be_cloned_but_cannot_be_is_an_error() {
    let lab = lab_or_skip!();
    let storage = Storage::open(lab.store(Fs::Btrfs, "root-tour")).unwrap();
    let layers = streams(&storage, "localhost/tour:v1", 4096);
    let always = Extractor::new().reflink(Reflink::Always);
    for (fs, works) in [(Fs::Btrfs, true), (Fs::Ext4, false)] {
        let scratch = lab.scratch(Who::Root, fs);
        let layers = layers.iter().map(|(stream, files)| (&stream[..], &files[..]));
        let ended = always.extract_streams(layers, scratch.path().join("out"));
        assert_eq!(ended.is_ok(), works, "{fs:?}: {ended:?}");
        assert_eq!(lab.names_in(scratch.path()).len(), usize::from(works), "{fs:?}");
    }
}
