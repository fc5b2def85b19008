//! `cstor extract --via`: images that skopeo's proxy gives, of several transports, are the same trees as those that cstor
//! reads from the store itself. Then proxies with faults, and images with faults, one by one: what the error is, and
//! that nothing stays behind. It does not look at how trees are merged (`merge`, `extract`).

use cstor_client::extract::Extractor;
use cstor_client::jsonrpc::{ProxyOptions, ProxyV1Client, ProxyV1Error};
use cstor_client::{Digest, ErrorKind};
use cstor_tests::forge::{Layer, Member, char_device, dir, file, hard_link, opaque, other, store::digest, whiteout};
use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{Ended, must, run, start};
use cstor_tests::tree::{self, Listing, Sight, assert_same};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An executable that cargo built together with this one.
fn built(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_embedder")).with_file_name(name)
}

/// The image of a fake proxy, in a directory of its own.
struct Image {
    place: TempDir,
    manifest: Value,
    config: Value,
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tar(members: Vec<Member>) -> Vec<u8> {
    Layer::new(members).tar()
}

impl Image {
    /// Of layers, each with what it is as a blob and as a tar.
    fn of(layers: &[(Vec<u8>, Vec<u8>)]) -> Image {
        let place = TempDir::new().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(place.path().join("image")).unwrap();
        let (mut named, mut diff_ids) = (Vec::new(), Vec::new());
        for (blob, tar) in layers {
            let name = digest(blob);
            fs::write(place.path().join("image").join(name.strip_prefix("sha256:").unwrap_or(&name)), blob).unwrap();
            named.push(json!({"mediaType": GZIP, "digest": with_algorithm(&name), "size": blob.len()}));
            diff_ids.push(with_algorithm(&digest(tar)));
        }
        let config = json!({"digest": with_algorithm(&digest(b"{}")), "size": 2, "mediaType": "x"});
        let image = Image {
            place,
            manifest: json!({"schemaVersion": 2, "config": config, "layers": named}),
            config: json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}}),
        };
        image.write();
        image
    }

    fn write(&self) {
        fs::write(self.file("manifest"), self.manifest.to_string()).unwrap();
        fs::write(self.file("config"), self.config.to_string()).unwrap();
        let layers = self.manifest["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let infos = layers
            .iter()
            .map(|layer| json!({"digest": layer["digest"], "size": layer["size"], "media_type": layer["mediaType"]}));
        fs::write(self.file("layers"), Value::from_iter(infos).to_string()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.path().join("image").join(name)
    }

    fn blob(&self, layer: usize) -> PathBuf {
        self.file(self.manifest["layers"][layer]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap())
    }

    /// The words of a proxy with a fault.
    fn proxy(&self, fault: &str) -> Vec<String> {
        let words = [built("cstor-lab-proxy"), self.place.path().join("image")];
        let words = words.iter().map(|word| word.to_str().unwrap().to_owned());
        words.chain(fault.split_whitespace().map(str::to_owned)).collect()
    }

    /// `cstor extract --via` of it.
    fn extract(&self, fault: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(built("cstor"));
        command.args(["extract", "--via", &self.proxy(fault).join(" "), "some:image"]);
        command.arg(self.out().join("result")).args(flags);
        command
    }

    fn out(&self) -> PathBuf {
        let out = self.place.path().join("out");
        fs::create_dir_all(&out).unwrap();
        out
    }
}

/// The digests of the forge may come without it.
fn with_algorithm(digest: &str) -> String {
    if digest.starts_with("sha256:") { digest.to_owned() } else { format!("sha256:{digest}") }
}

/// Two layers: one compressed, one not.
fn small() -> Image {
    let base = tar(vec![
        dir("d"),
        file("d/gone", "gone"),
        file("d/stays", vec![7; 300_000]),
        dir("o"),
        file("o/hidden", "hidden"),
        file("first", "one file"),
        hard_link("second", "first"),
    ]);
    let upper = tar(vec![whiteout("d/gone"), opaque("o"), file("o/new", "new").mode(0o600), file("empty", "")]);
    Image::of(&[(gzip(&base), base), (upper.clone(), upper)])
}

fn listed(place: &Path) -> Listing {
    tree::list(&place.join("result")).unwrap()
}

#[track_caller]
fn assert_refused(image: &Image, ended: &Ended, code: i32, what: &str) {
    assert_eq!(ended.code(), code, "{what}: {}", ended.stderr);
    let errors: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("cstor: error: ")).collect();
    assert_eq!(errors.len(), 1, "{what}: {}", ended.stderr);
    assert!(!errors[0].contains('\u{1b}'), "{what}: {}", ended.stderr);
    assert_eq!(fs::read_dir(image.out()).unwrap().count(), 0, "{what}: something was left behind");
    assert_eq!(ended.leftovers(), [""; 0], "{what}: still running");
}

// ---- a good proxy ---------------------------------------------------------------------------------------------------

#[test]
fn layers_are_merged_placed_and_checked() {
    let image = small();
    for fault in ["", "noise", "version 0.2.3", "version 0.2.4", "version 0.2.7", "version 0.2.99"] {
        let ended = run(&mut image.extract(fault, &["--replace"]));
        assert_eq!(ended.code(), 0, "{fault}: {}", ended.stderr);
        assert!(ended.stderr.contains("; all contents checked"), "{}", ended.stderr);
        assert_eq!(ended.leftovers(), [""; 0], "{fault}");
        let rows = listed(&image.out());
        let names: Vec<_> = rows.keys().map(String::as_str).collect();
        assert_eq!(names, ["d", "d/stays", "empty", "first", "o", "o/new", "second"], "{fault}");
        assert_eq!(fs::read(image.out().join("result/d/stays")).unwrap(), [7; 300_000]);
        assert_eq!(fs::read_dir(image.out()).unwrap().count(), 1, "{fault}");
    }
}

/// As skopeo does for a store, which has no compressed layers, whatever its manifests say.
#[test]
fn a_newer_proxy_tells_which_blobs_there_are() {
    let layer = tar(vec![file("f", "contents")]);
    let image = Image::of(&[(gzip(&layer), layer.clone())]);
    fs::remove_file(image.blob(0)).unwrap();
    let name = with_algorithm(&digest(&layer));
    fs::write(image.file(name.strip_prefix("sha256:").unwrap()), &layer).unwrap();
    let info = json!([{"digest": name, "size": layer.len(), "media_type": GZIP.strip_suffix("+gzip")}]);
    fs::write(image.file("layers"), info.to_string()).unwrap();
    assert_refused(&image, &run(&mut image.extract("version 0.2.6", &[])), 1, "0.2.6");
    let ended = run(&mut image.extract("version 0.2.7", &[]));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(listed(&image.out()).keys().collect::<Vec<_>>(), ["f"]);
}

#[test]
fn what_an_extraction_may_be_told_holds() {
    let layer = tar(vec![dir("d").mode(0o755), char_device("null", 1, 3), file("su", "x").mode(0o4755)]);
    let image = Image::of(&[(layer.clone(), layer)]);
    for flags in [&["--devices", "fail"][..], &["--strict"]] {
        assert_refused(&image, &run(&mut image.extract("", flags)), 5, flags[0]);
    }
    let ended = run(&mut image.extract("", &["--preserve-setid", "--verify", "--no-sandbox", "--progress", "plain"]));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("cstor: layer 1 of 1: 3 entries\ncstor: placing 1 files"), "{}", ended.stderr);
    assert_eq!(listed(&image.out())["su"].mode, "0o4755");
    assert_eq!(run(&mut image.extract("", &[])).code(), 10, "a directory that is not empty");
}

#[test]
fn what_is_about_a_store_goes_with_no_proxy() {
    let image = small();
    for flags in [&["--root", "/x"][..], &["--helper", "never"], &["--launcher", "none"], &["--require-sandbox"]] {
        assert_refused(&image, &run(&mut image.extract("", flags)), 2, flags[0]);
        let mut before = Command::new(built("cstor"));
        before.args(flags).args(["extract", "--via", "true", "some:image"]).arg(image.out().join("result"));
        assert_refused(&image, &run(&mut before), 2, flags[0]);
    }
    for flags in [&["--reflink", "always"][..], &["--no-reflinks"], &["--imagestore", "/x"]] {
        assert_refused(&image, &run(&mut image.extract("", flags)), 2, flags[0]);
    }
    let mut empty = Command::new(built("cstor"));
    empty.args(["extract", "--via", " ", "some:image"]).arg(image.out().join("result"));
    assert_refused(&image, &run(&mut empty), 2, "no word");
}

/// What decompresses and parses is confined; the order of what is said shows when.
#[test]
fn nothing_of_an_image_is_read_outside_the_sandbox() {
    let image = small();
    let ended = run(&mut image.extract("", &["-v"]));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let said: Vec<_> = ended.stderr.lines().filter_map(|line| line.strip_prefix("cstor: ")).collect();
    let place = |what: &str| said.iter().position(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{said:?}"));
    assert!(place("starting the image proxy") < place("in the sandbox"), "{said:?}");
    assert!(place("in the sandbox") < place("manifest: "), "{said:?}");
    assert!(said.iter().any(|line| line.contains("landlock=Enforced, seccomp=true")), "{said:?}");
}

#[test]
fn holes_of_sparse_members_stay_holes() {
    let place = TempDir::new().unwrap();
    let sparse = place.path().join("sparse");
    let mut holes = fs::File::create(&sparse).unwrap();
    holes.write_all(b"begin").unwrap();
    holes.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"middle", 5 << 20).unwrap();
    for format in ["pax", "gnu"] {
        let archive = place.path().join(format);
        let mut make = Command::new("tar");
        make.arg("-C").arg(place.path()).args(["--sparse", "--format", format, "-cf"]).arg(&archive).arg("sparse");
        must(&mut make);
        let tar = fs::read(&archive).unwrap();
        let image = Image::of(&[(gzip(&tar), tar)]);
        let ended = run(&mut image.extract("", &[]));
        assert_eq!(ended.code(), 0, "{format}: {}", ended.stderr);
        let result = image.out().join("result/sparse");
        assert_eq!(tree::digest(&result).unwrap(), tree::digest(&sparse).unwrap(), "{format}");
        let blocks = fs::metadata(&result).unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "{format}: {blocks} blocks");
    }
}

#[test]
fn the_parts_of_the_protocol_are_there_alone() {
    let image = small();
    let mut proxy = ProxyV1Client::start(&image.proxy(""), ProxyOptions::new()).unwrap();
    let open = proxy.open_image("some:image").unwrap();
    let manifest = proxy.manifest(&open).unwrap();
    assert_eq!(manifest.bytes, image.manifest.to_string().as_bytes());
    assert_eq!(manifest.digest.hex(), "0".repeat(64));
    assert_eq!(proxy.config(&open).unwrap(), image.config.to_string().as_bytes());
    let layer = &image.manifest["layers"][1];
    let (digest, size): (Digest, _) =
        (layer["digest"].as_str().unwrap().parse().unwrap(), layer["size"].as_u64().unwrap());
    // One that is given up does not put the conversation out of step.
    for _ in 0..3 {
        let mut part = [0; 10];
        proxy.blob(&open, digest, size).unwrap().read_exact(&mut part).unwrap();
    }
    let mut blob = Vec::new();
    proxy.blob(&open, digest, size).unwrap().read_to_end(&mut blob).unwrap();
    assert_eq!(blob, fs::read(image.blob(1)).unwrap());
    let error = proxy.blob(&open, digest, size - 1).unwrap().read_to_end(&mut blob).unwrap_err();
    assert!(matches!(error.downcast(), Ok(ProxyV1Error::BlobSize { .. })));
    proxy.close_image(open).unwrap();
    proxy.shutdown();
    assert_eq!(children(), "");
}

// ---- proxies with faults --------------------------------------------------------------------------------------------

#[test]
fn a_proxy_with_a_fault_leaves_an_error_and_nothing_else() {
    let absent = "version 0.2.4";
    // fault, exit code, what the error says
    let table = [
        ("exit", 1, r#"ended unexpectedly (exit status: 3), saying "no \u{1b}[31msuch thing""#),
        ("version 0.3.0", 5, r#"speaks version "0.3.0""#),
        ("version 1.2.3", 5, r#"speaks version "1.2.3""#),
        ("version 0.2.2", 5, r#"speaks version "0.2.2""#),
        ("version zero", 5, r#"speaks version "zero""#),
        ("null Initialize", 1, "its answer to Initialize has no version"),
        ("garbage Initialize", 1, "its answer to Initialize is not to be understood"),
        ("list OpenImage", 1, "its answer to OpenImage is not to be understood"),
        ("garbage FinishPipe", 1, "its answer to FinishPipe is not to be understood"),
        ("long OpenImage", 1, "its answer to OpenImage has more than 32768 bytes"),
        ("surplus Initialize", 1, "its answer to Initialize came with 3 descriptors, not 0"),
        ("crowd OpenImage", 1, "its answer to OpenImage came with 252 descriptors, not 0"),
        ("surplus GetManifest", 1, "its answer to GetManifest came with 4 descriptors, not 1"),
        ("crowd GetBlob", 1, "its answer to GetBlob came with 253 descriptors, not 1"),
        ("surplus FinishPipe", 1, "its answer to FinishPipe came with 3 descriptors, not 0"),
        ("bare GetManifest", 1, "its answer to GetManifest came with 0 descriptors, not 1"),
        ("bare GetBlob", 1, "its answer to GetBlob came with 0 descriptors, not 1"),
        ("file GetManifest", 1, "its answer to GetManifest has no pipe"),
        ("file GetBlob", 1, "its answer to GetBlob has no pipe"),
        ("unnumbered", 1, "its answer to GetManifest has no pipe"),
        ("null OpenImage", 1, "its answer to OpenImage has no number of an image"),
        ("null GetBlob", 1, "its answer to GetBlob came with 0 descriptors, not 1"),
        ("refuse Initialize", 1, r#"Initialize failed: "out of \u{1b}[31mstock""#),
        ("refuse OpenImage", 1, "OpenImage failed: "),
        ("refuse GetManifest", 1, "GetManifest failed: "),
        ("refuse GetFullConfig", 1, "GetFullConfig failed: "),
        ("refuse GetBlob", 1, "GetBlob failed: "),
        ("refuse FinishPipe", 1, "FinishPipe failed: "),
        ("refuse CloseImage", 1, "CloseImage failed: "),
        ("gone OpenImage", 1, "ended unexpectedly (exit status: 9)"),
        ("gone GetBlob", 1, "ended unexpectedly (exit status: 9)"),
        ("gone FinishPipe", 1, "ended unexpectedly (exit status: 9)"),
        ("half GetManifest", 1, "ended unexpectedly (exit status: 9)"),
        ("half GetBlob", 1, "ended unexpectedly (exit status: 9)"),
        ("short GetManifest", 4, "the manifest is not to be understood"),
        ("short GetBlob", 4, "bytes, not "),
        ("endless GetManifest", 11, "the manifest has more than 4194304 bytes"),
        ("endless GetFullConfig", 11, "the configuration has more than 4194304 bytes"),
        ("endless GetBlob", 4, "its blob has at least "),
        (absent, 3, "some:image: no such image"),
    ];
    for (fault, code, says) in table {
        let image = small();
        if fault == absent {
            fs::write(image.file("absent"), "").unwrap();
        }
        let ended = run(&mut image.extract(fault, &[]));
        assert_refused(&image, &ended, code, fault);
        assert!(ended.stderr.contains(says), "{fault}: {}", ended.stderr);
        assert!(ended.took < Duration::from_secs(10), "{fault}: {:?}", ended.took);
    }
}

#[test]
fn what_is_no_proxy_is_no_proxy() {
    let image = small();
    // command, what the error says
    let table = [
        ("no-such-program x", "no-such-program: not found: install it"),
        ("/etc/passwd", "/etc/passwd: cannot be started: Permission denied"),
        ("true", "true: ended unexpectedly (exit status: 0)"),
        ("sh -c exit", "sh: ended unexpectedly"),
    ];
    for (command, says) in table {
        let mut extract = Command::new(built("cstor"));
        extract.args(["extract", "--via", command, "some:image"]).arg(image.out().join("result"));
        let ended = run(&mut extract);
        assert_refused(&image, &ended, 1, command);
        assert!(ended.stderr.contains(says), "{command}: {}", ended.stderr);
    }
}

/// What this thread started and did not wait for.
fn children() -> String {
    fs::read_to_string("/proc/thread-self/children").unwrap()
}

#[test]
fn a_proxy_that_does_not_answer_is_ended() {
    let faults = [
        "silent Initialize",
        "silent OpenImage",
        "silent GetManifest",
        "silent GetBlob",
        "silent FinishPipe",
        "stall GetManifest",
        "stall GetBlob",
        // Each byte comes in time, but the whole does not.
        "drip GetManifest",
    ];
    for fault in faults {
        let image = small();
        let began = Instant::now();
        let options = ProxyOptions::new().patience(Duration::from_millis(400));
        let out = image.out().join("result");
        let ended =
            ProxyV1Client::start(&image.proxy(fault), options).map_err(|error| error.kind()).and_then(|proxy| {
                proxy.extract("some:image", &out, &Extractor::new()).map_err(|error| {
                    assert!(error.to_string().contains("no answer to "), "{fault}: {error}");
                    error.kind()
                })
            });
        assert_eq!(ended.unwrap_err(), ErrorKind::Failure, "{fault}");
        assert!(began.elapsed() < Duration::from_secs(4), "{fault}: {:?}", began.elapsed());
        assert_eq!(fs::read_dir(image.out()).unwrap().count(), 0, "{fault}");
        assert_eq!(children(), "", "{fault}");
    }
}

#[test]
fn a_signal_ends_a_wait_for_a_proxy() {
    for fault in ["silent Initialize", "silent GetBlob", "stall GetBlob"] {
        let image = small();
        let running = start(&mut image.extract(fault, &[]));
        sleep(Duration::from_millis(300));
        running.signal(Signal::INT);
        let ended = running.wait();
        assert_refused(&image, &ended, 130, fault);
        assert!(ended.took < Duration::from_secs(5), "{fault}: {:?}", ended.took);
    }
}

// ---- images with faults ---------------------------------------------------------------------------------------------

#[test]
fn an_image_that_is_not_what_it_says_is_refused() {
    type Change = fn(&mut Image);
    fn overwrite(image: &Image, layer: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let mut blob = fs::read(image.blob(layer)).unwrap();
        change(&mut blob);
        fs::write(image.blob(layer), blob).unwrap();
    }
    /// One layer of these bytes, under their digest, whatever they are.
    fn only(image: &mut Image, blob: &[u8], tar: &[u8]) {
        *image = Image::of(&[(blob.to_vec(), tar.to_vec())]);
    }
    // what is changed, the change, exit code, what the error says
    let table: [(&str, Change, i32, &str); 21] = [
        ("one bit of a gzip", |i| overwrite(i, 0, |blob| blob[100] ^= 1), 4, "its blob has the digest"),
        ("one bit of a tar's contents", |i| overwrite(i, 1, |blob| blob[1024 + 3] ^= 1), 4, "its blob has the digest"),
        ("one bit of a tar's header", |i| overwrite(i, 1, |blob| blob[3] ^= 1), 4, "its blob has the digest"),
        ("a byte more", |i| overwrite(i, 1, |blob| blob.push(0)), 4, "its blob has at least"),
        ("a byte less", |i| overwrite(i, 1, |blob| blob.truncate(blob.len() - 1)), 4, "bytes, not"),
        (
            "a diff id",
            |i| i.config["rootfs"]["diff_ids"][1] = json!(with_algorithm(&digest(b"x"))),
            4,
            "has the diff id",
        ),
        (
            "a diff id too many",
            |i| i.config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(with_algorithm(&digest(b"x")))),
            4,
            "",
        ),
        ("no diff ids", |i| i.config = json!({}), 4, "the configuration is not to be understood"),
        ("no layers", |i| i.manifest = json!({"manifests": []}), 4, "the manifest is not to be understood"),
        (
            "a layer less",
            |i| drop(i.manifest["layers"].as_array_mut().unwrap().pop()),
            4,
            "has 1 layers, its configuration 2",
        ),
        ("no size", |i| i.manifest["layers"][0]["size"] = json!(-1), 4, "the manifest is not to be understood"),
        (
            "no digest",
            |i| i.manifest["layers"][0]["digest"] = json!("sha256:../x"),
            4,
            "the manifest is not to be understood",
        ),
        ("a type", |i| i.manifest["layers"][0]["mediaType"] = json!(format!("{GZIP}+encrypted")), 5, "is of the type"),
        (
            "a gzip cut short",
            |i| {
                let tar = tar(vec![file("f", vec![1; 9000])]);
                let gz = gzip(&tar);
                only(i, &gz[..gz.len() - 9], &tar)
            },
            4,
            "cannot be decompressed",
        ),
        (
            "a gzip with a wrong CRC",
            |i| {
                let tar = tar(vec![file("f", "x")]);
                let mut gz = gzip(&tar);
                let end = gz.len() - 6;
                gz[end] ^= 1;
                only(i, &gz, &tar)
            },
            4,
            "cannot be decompressed",
        ),
        (
            "garbage behind a gzip",
            |i| {
                let tar = tar(vec![file("f", "x")]);
                only(i, &[gzip(&tar), b"garbage".to_vec()].concat(), &tar)
            },
            4,
            "cannot be decompressed",
        ),
        (
            "a tar cut short",
            |i| {
                let tar = tar(vec![file("f", vec![1; 9000])]);
                only(i, &tar[..5000], &tar[..5000])
            },
            4,
            r#"after "f": the tar ends within a member"#,
        ),
        ("xz", |i| only(i, b"\xfd7zXZ\0 and so on", b""), 5, "is compressed with xz"),
        (
            "a hard link to nothing",
            |i| {
                let tar = tar(vec![hard_link("a", "b")]);
                only(i, &tar, &tar)
            },
            4,
            r#""a": a hard link to something"#,
        ),
        (
            "a member of an unknown type",
            |i| {
                let tar = tar(vec![other(b'V', "label", "")]);
                only(i, &tar, &tar)
            },
            5,
            "the tar a member cannot be understood",
        ),
        (
            "501 layers",
            |i| {
                let tar = tar(vec![file("f", "x")]);
                *i = Image::of(&vec![(tar.clone(), tar); 501])
            },
            11,
            "has 501 layers",
        ),
    ];
    for (what, change, code, says) in table {
        let mut image = small();
        change(&mut image);
        image.write();
        let ended = run(&mut image.extract("", &[]));
        assert_refused(&image, &ended, code, what);
        assert!(ended.stderr.contains(says), "{what}: {}", ended.stderr);
    }
}

// ---- skopeo itself --------------------------------------------------------------------------------------------------

const SKOPEO: &str = "skopeo experimental-image-proxy";

/// `cstor extract` into a new directory that holds it as `result`.
fn extracted(lab: &Lab, who: Who, fs: Fs, command: &mut Command, image: &str) -> TempDir {
    let scratch = lab.scratch(who, fs);
    let ended = run(command.args(["extract", image]).arg(scratch.path().join("result")));
    assert_eq!(ended.code(), 0, "{who:?} {image}: {}", ended.stderr);
    assert_eq!(ended.leftovers(), [""; 0], "{who:?} {image}");
    assert!(ended.stderr.contains(" checked"), "{}", ended.stderr);
    scratch
}

#[test]
fn skopeo_gives_what_the_store_has() {
    let lab = lab_or_skip!();
    let images = [
        (Fs::Xfs, "local", "localhost/walk:v2"),
        (Fs::Xfs, "local", "localhost/odd"),
        (Fs::Xfs, "local", "localhost/private"),
        (Fs::Xfs, "local", "localhost/deep"),
        (Fs::Btrfs, "tour", "localhost/tour:v1"),
    ];
    for (fs, name, image) in images {
        let copies = lab.scratch(Who::User, fs);
        let at = copies.path().to_str().unwrap();
        let stored = format!("containers-storage:[overlay@{}+{at}/run]{image}", lab.store(fs, name).display());
        // transport and what stands behind it, flags of the copy
        let transports: [(String, &[&str]); 6] = [
            (format!("oci:{at}/oci:x"), &[]),
            (format!("oci:{at}/zstd:x"), &["--dest-compress-format", "zstd"]),
            (format!("oci-archive:{at}/oci.tar:x"), &[]),
            (format!("docker-archive:{at}/docker.tar:x:latest"), &[]),
            (format!("dir:{at}/dir"), &[]),
            (format!("dir:{at}/schema2"), &["--format", "v2s2"]),
        ];
        for (transport, flags) in &transports {
            let mut copy = lab.command(Who::User, "podman");
            must(copy.args(["unshare", "skopeo", "copy", "-q"]).args(*flags).args([&stored, transport]));
        }
        for who in [Who::User, Who::Root] {
            let store = lab.store(fs, &if who == Who::User { name.to_owned() } else { format!("root-{name}") });
            let truth = extracted(lab, who, fs, &mut lab.cstor(who, &store), image);
            let truth = listed(truth.path());
            let sight = if who == Who::Root { Sight::ALL } else { Sight::PLAIN };
            let compare = |via: &str, reference: &str| {
                let mut command = lab.command(who, lab.executable("cstor"));
                command.args(["extract", "--via", via]);
                let scratch = lab.scratch(who, fs);
                let ended = run(command.arg(reference).arg(scratch.path().join("result")));
                assert_eq!(ended.code(), 0, "{who:?} {reference}: {}", ended.stderr);
                assert_eq!(ended.leftovers(), [""; 0], "{who:?} {reference}");
                assert!(ended.stderr.contains("; all contents checked"), "{}", ended.stderr);
                assert_same(&truth, &listed(scratch.path()), sight, &format!("{who:?} {reference}"));
            };
            for (transport, _) in &transports {
                compare(SKOPEO, transport);
            }
            if who == Who::User {
                compare(&format!("podman unshare {SKOPEO}"), &stored);
            } else {
                // In a mount namespace of its own, where the mount that the driver leaves behind is gone with it.
                // A store has no compressed layers, and the released proxy does not say so.
                let uncompressed = &transports[3].0;
                let fresh = format!("containers-storage:[overlay@{at}/root+{at}/root-run]x");
                let mut copy = lab.command(Who::Root, "unshare");
                must(copy.args(["-m", "skopeo", "copy", "-q", uncompressed, &fresh]));
                compare(&format!("unshare -m {SKOPEO}"), &fresh);
            }
        }
        // What belongs to other ids of the user namespace is removed inside it.
        must(lab.command(Who::User, "podman").args(["unshare", "rm", "-rf"]).arg(copies.path().join("run")));
    }
}

#[test]
fn skopeo_s_own_errors_are_shown() {
    let lab = lab_or_skip!();
    let copies = lab.scratch(Who::User, Fs::Xfs);
    let at = copies.path().to_str().unwrap();
    let stored =
        format!("containers-storage:[overlay@{}+{at}/run]localhost/tool", lab.store(Fs::Xfs, "local").display());
    let mut copy = lab.command(Who::User, "podman");
    must(copy.args(["unshare", "skopeo", "copy", "-q", &stored, &format!("oci:{at}/oci:x")]));
    let blobs = copies.path().join("oci/blobs/sha256");
    let layer = fs::read_dir(&blobs)
        .unwrap()
        .map(|blob| blob.unwrap().path())
        .max_by_key(|blob| blob.metadata().unwrap().len());
    let layer = layer.unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&layer, bytes).unwrap();
    let table = [
        (format!("oci:{at}/oci:x"), 4, "its blob has the digest sha256:"),
        (format!("oci:{at}/oci:y"), 1, "OpenImage failed: "),
        (format!("docker-archive:{at}/nothing"), 1, "no such file or directory"),
        ("transport:unknown".to_owned(), 1, "unknown transport"),
        (stored, 1, "OpenImage failed: "),
    ];
    for (reference, code, says) in table {
        let out = lab.scratch(Who::User, Fs::Xfs);
        let mut command = lab.command(Who::User, lab.executable("cstor"));
        let ended = run(command.args(["extract", "--via", SKOPEO, &reference]).arg(out.path().join("result")));
        cstor_tests::lab::assert_refused(lab, &ended, code, out.path(), &reference);
        assert!(ended.stderr.contains(says), "{reference}: {}", ended.stderr);
    }
    must(lab.command(Who::User, "podman").args(["unshare", "rm", "-rf"]).arg(copies.path().join("run")));
}
