//! The splitfdstream of every layer at several thresholds: with its files it is the layer's tar again, and nothing but
//! a window of files is open at a time. What single bad chunks do is tested beside the code.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use cstor_client::error::SplitFdError;
use cstor_client::splitdirfdstream;
use cstor_client::splitfdstream::{Collect, ExternalFile, FileSupply, reconstruct};
use cstor_client::{Layer, Storage};
use cstor_tests::built::program;
use cstor_tests::forge::{Member, Store, dir, file, hard_link, opaque, symlink, whiteout};
use cstor_tests::lab::{Fs, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::run;
use sha2::{Digest, Sha256};

const THRESHOLDS: [u64; 4] = [0, 1, 4096, u64::MAX];
const MANY: usize = 3000;

/// Two layers with everything that a stream must carry.
fn store() -> Store {
    let sizes = [0, 1, 511, 512, 513, 4095, 4096, 4097, 300_000];
    let mut base = vec![dir("d/"), dir("usr/"), dir("usr/lib/"), symlink("lib", "usr/lib")];
    base.extend(sizes.map(|size| file(format!("d/{size}"), vec![b'x'; size])));
    base.push(hard_link("d/link", "d/4097"));
    base.push(file("lib/through", vec![b'y'; 5000]));
    base.push(
        file("l".repeat(90) + "/" + &"o".repeat(90) + "/" + &"n".repeat(90), vec![b'z'; 9000]).xattr("user.a", "b"),
    );
    base.push(file(b"latin-\xe9", vec![b'w'; 6000]));
    Store::stack("localhost/app:latest", [base, vec![dir("d/"), opaque("d"), whiteout("lib"), file("d/new", "new")]])
}

fn many() -> Store {
    let members: Vec<Member> =
        (0..MANY).map(|number| file(format!("f{number}"), format!("contents of {number}"))).collect();
    Store::stack("localhost/many:latest", [members])
}

/// Writes both streams of a layer and puts them together again.
fn there_and_back(layer: &Layer, diff: &Path, threshold: u64) {
    let what = format!("{} at {threshold}", layer.id());
    let (mut stream, mut files) = (Vec::new(), Collect::new(5000));
    let split = layer.splitfdstream(&mut stream, &mut files, threshold).unwrap_or_else(|e| panic!("{what}: {e}"));
    let files = files.into_files();
    assert_eq!(files.len(), split.external_files as usize, "{what}");
    let mut tar = Vec::new();
    let size = reconstruct(&stream[..], &files[..], &mut tar).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(Some(size), layer.diff_size(), "{what}");
    assert_eq!(size, split.inline_bytes + split.external_bytes, "{what}");
    assert_eq!(layer.diff_id(), Some(cstor_client::Digest::of(&tar)), "{what}");

    let mut stream = Vec::new();
    layer.splitdirfdstream(&mut stream, threshold).unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut again = Vec::new();
    splitdirfdstream::reconstruct(&stream[..], &[File::open(diff).unwrap()], &mut again)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(again == tar, "{what}: splitdirfdstream");
}

#[test]
fn forged_layers_come_back() {
    let place = tempfile::tempdir().unwrap();
    let forged = store().write(&place.path().join("store"), false).unwrap();
    let storage = Storage::open(&forged.root).unwrap();
    for (number, layer) in forged.layers.iter().enumerate() {
        let opened = storage.layer(&layer.id).unwrap();
        THRESHOLDS
            .iter()
            .for_each(|&threshold| there_and_back(&opened, &forged.overlay(number).join("diff"), threshold));
    }
}

#[test]
fn a_file_of_another_size_is_an_error() {
    for length in [0, 4096, 4098] {
        let place = tempfile::tempdir().unwrap();
        let forged = store().write(&place.path().join("store"), false).unwrap();
        File::options().write(true).open(forged.diff(0, "d/4097")).unwrap().set_len(length).unwrap();
        let layer = Storage::open(&forged.root).unwrap().layer(&forged.layers[0].id).unwrap();
        for threshold in THRESHOLDS {
            let ended = layer.splitfdstream(std::io::sink(), &mut Collect::new(100), threshold);
            assert!(ended.unwrap_err().to_string().contains("d/4097"), "{length} at {threshold}");
        }
    }
}

#[test]
fn damage_of_a_small_file_is_seen() {
    let place = tempfile::tempdir().unwrap();
    let forged = store().write(&place.path().join("store"), false).unwrap();
    forged.bytes(&forged.diff(0, "d/4095"), |bytes| bytes[7] ^= 1);
    let layer = Storage::open(&forged.root).unwrap().layer(&forged.layers[0].id).unwrap();
    let ended = layer.splitfdstream(std::io::sink(), &mut Collect::new(100), 4096);
    assert!(ended.unwrap_err().to_string().contains("CRC-64"));
    // Nobody reads it: the digest of the tar will tell.
    layer.splitfdstream(std::io::sink(), &mut Collect::new(100), 0).unwrap();
}

/// Opens the files of a list one at a time.
struct OneByOne<'a>(&'a Path, Vec<String>, Option<File>);

impl FileSupply for OneByOne<'_> {
    fn count(&self) -> u32 {
        self.1.len() as u32
    }

    fn file(&mut self, number: u32) -> std::io::Result<std::os::fd::BorrowedFd<'_>> {
        let file = File::open(self.0.join(&self.1[number as usize]))?;
        let file: &File = self.2.insert(file);
        Ok(file.as_fd())
    }
}

#[test]
fn one_file_at_a_time_is_enough() {
    let place = tempfile::tempdir().unwrap();
    let forged = many().write(&place.path().join("store"), false).unwrap();
    // The real program with 64 descriptors, and a list of files in place of the files.
    let out = place.path().join("out");
    fs::create_dir(&out).unwrap();
    let mut command = Command::new("prlimit");
    command.arg("--nofile=64:64").arg(program("cstor")).arg("--root").arg(&forged.root);
    let ended =
        run(command.args(["layer", "splitfd", &forged.layers[0].id, "--inline-threshold", "0", "-o"]).arg(&out));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let list = fs::read_to_string(out.join("files")).unwrap();
    let names: Vec<String> = list.lines().map(|line| line.rsplit('\t').next().unwrap().to_owned()).collect();
    assert_eq!(names.len(), MANY);
    assert_eq!(list.lines().nth(10), Some("10\t14\tf10"));
    let diff = forged.overlay(0).join("diff");
    let mut tar = Vec::new();
    reconstruct(File::open(out.join("stream")).unwrap(), OneByOne(&diff, names, None), &mut tar).unwrap();
    assert!(tar == forged.layers[0].tar);

    // A consumer that keeps them all has a limit.
    let layer = Storage::open(&forged.root).unwrap().layer(&forged.layers[0].id).unwrap();
    let ended = layer.splitfdstream(std::io::sink(), &mut Collect::new(100), 0).unwrap_err();
    assert_eq!(ended.to_string(), "the stream: needs more than 100 open files at once");
    // And one that refuses ends the stream.
    let mut taken = 0;
    let refuse = |_: ExternalFile<'_>| {
        taken += 1;
        Err(SplitFdError::TooManyFiles { limit: 0 })
    };
    layer.splitfdstream(std::io::sink(), refuse, 0).unwrap_err();
    assert_eq!(taken, 1);
}

#[test]
fn layers_that_podman_made_come_back() {
    let lab = lab_or_skip!();
    for (fs, name) in [(Fs::Btrfs, "root-tour"), (Fs::Btrfs, "root-chunked"), (Fs::Xfs, "root-local")] {
        let store = lab.store(fs, name);
        let records: serde_json::Value =
            serde_json::from_slice(&fs::read(store.join("overlay-layers/layers.json")).unwrap()).unwrap();
        for record in records.as_array().unwrap() {
            let (id, Some(digest)) = (record["id"].as_str().unwrap(), record["diff-digest"].as_str()) else { continue };
            let scratch = lab.scratch(Who::Root, Fs::Xfs);
            let mut command = lab.cstor_with_descriptors(64, Who::Root, &store);
            let ended = run(command.args(["layer", "splitfd", id, "-o"]).arg(scratch.path()));
            // A sparse layer has no tar.
            if ended.code() == 5 {
                continue;
            }
            assert_eq!(ended.code(), 0, "{name} {id}: {}", ended.stderr);
            let list = fs::read_to_string(scratch.path().join("files")).unwrap();
            if list.contains('\\') {
                continue;
            }
            let names = list.lines().map(|line| line.rsplit('\t').next().unwrap().to_owned()).collect();
            let diff = store.join("overlay").join(id).join("diff");
            let mut hash = Hash(Sha256::new());
            reconstruct(File::open(scratch.path().join("stream")).unwrap(), OneByOne(&diff, names, None), &mut hash)
                .unwrap_or_else(|e| panic!("{name} {id}: {e}"));
            let found: String = hash.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(format!("sha256:{found}"), digest, "{name} {id}");
        }
    }
}

struct Hash(Sha256);

impl std::io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
