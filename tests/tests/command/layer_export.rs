//! `cstor layer export` at the command line: every layer of every store comes out of a pipe as the bytes that podman
//! took in, whatever their number or size the memory stays the same, and a reader that has seen enough is no error.
//! What the library writes is tested in `layer`, what damage does in `damage`.

use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// In KiB. A buffer for each of the file, the output and the gzip, and a window of paths; not the layer.
const MEMORY: u64 = 48 << 10;
const GIB: u64 = 1 << 30;

/// Each layer that has a digest, and the digest.
fn layers(lab: &Lab, who: Who, store: &Path) -> BTreeMap<String, String> {
    let said = must(lab.cstor(who, store).args(["layer", "list", "--format", "json"]));
    let listed: Value = serde_json::from_str(&said).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let layers = listed["layers"].as_array().unwrap().iter();
    layers.filter_map(|layer| text(&layer["id"]).zip(text(&layer["diff_id"]))).collect()
}

/// `cstor layer export ID | sha256sum` for all of them.
fn sums(lab: &Lab, who: Who, store: &Path, ids: &[&str]) -> BTreeMap<String, String> {
    let script = r#"set -o pipefail; cstor=$1 root=$2; shift 2
                    for id; do sum=$("$cstor" --root "$root" layer export "$id" | sha256sum) || exit
                    echo "$id sha256:${sum%% *}"; done"#;
    let mut command = lab.command(who, "bash");
    let said = must(command.args(["-c", script, "bash"]).arg(lab.executable("cstor")).arg(store).args(ids));
    said.lines().map(|line| line.split_once(' ').unwrap()).map(|(id, sum)| (id.to_owned(), sum.to_owned())).collect()
}

/// The fixture that is not among the lab's stores; all of it has one owner.
fn demo(place: &Path) -> PathBuf {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo-store.tar.gz");
    must(Command::new("tar").args(["--no-same-owner", "-xzf"]).arg(fixture).arg("-C").arg(place));
    must(Command::new("chown").arg("-R").arg(format!("--reference={}", place.display())).arg(place));
    place.to_owned()
}

fn every_layer_is_what_its_digest_says(who: Who, stores: &[(Fs, &str)]) {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(who, Fs::Xfs);
    let mut count = 0;
    for store in stores.iter().map(|&(fs, name)| lab.store(fs, name)).chain([demo(scratch.path())]) {
        let wanted = layers(lab, who, &store);
        let found = sums(lab, who, &store, &wanted.keys().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(found, wanted, "{who:?}, {}", store.display());
        assert!(!wanted.is_empty(), "{who:?}, {}", store.display());
        count += wanted.len();
    }
    assert!(count > 80, "{count} layers: there are 60 in one image");
}

#[test]
fn every_layer_is_what_its_digest_says_for_the_user() {
    every_layer_is_what_its_digest_says(Who::User, &[(Fs::Btrfs, "tour"), (Fs::Ext4, "chunked"), (Fs::Xfs, "local")]);
}

#[test]
fn every_layer_is_what_its_digest_says_for_root() {
    let stores = [(Fs::Btrfs, "root-tour"), (Fs::Ext4, "root-chunked"), (Fs::Xfs, "root-local")];
    every_layer_is_what_its_digest_says(Who::Root, &stores);
}

/// The base layer of an image.
fn base_of(lab: &Lab, store: &Path, image: &str) -> String {
    must(lab.cstor(Who::User, store).args(["image", "layers", "-q", "--no-trunc", image]))
        .lines()
        .next()
        .unwrap()
        .into()
}

/// Runs a command of `cstor`, its output into a pipe or nowhere; the most memory that it held, in KiB, and what is
/// counted at the end of the pipe. The kernel counts for the parent of a process, so it gets one of its own.
fn memory(lab: &Lab, store: &Path, arguments: &[&str]) -> (u64, u64) {
    let python = "import resource, subprocess, sys\n\
                  code = subprocess.call(sys.argv[1:])\n\
                  print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\n\
                  sys.exit(code)";
    let script = "set -o pipefail; \"$@\" | wc -c";
    let mut command = lab.command(Who::User, "bash");
    command.args(["-c", script, "bash", "python3", "-c", python]).arg(lab.executable("cstor"));
    let ended = run(command.arg("--root").arg(store).args(arguments));
    assert_eq!(ended.code(), 0, "{arguments:?}: {}", ended.stderr);
    (ended.stderr.trim().parse().unwrap(), ended.stdout.trim().parse().unwrap())
}

fn is_flat(lab: &Lab, store: &Path, image: &str, out: &Path) -> u64 {
    let layer = &base_of(lab, store, image);
    let inspected = must(lab.cstor(Who::User, store).args(["layer", "inspect", layer, "--format", "json"]));
    let size = serde_json::from_str::<Value>(&inspected).unwrap()["size"].as_u64().unwrap();
    for verify in ["none", "crc", "digest"] {
        let (peak, written) = memory(lab, store, &["layer", "export", layer, "--verify", verify]);
        assert_eq!(written, size, "{layer}: {verify}");
        assert!(peak < MEMORY, "{layer}, {verify}, to a pipe: {peak} KiB");
        if verify == "crc" {
            continue; // No other way of writing.
        }
        let file = out.join("layer.tar");
        let arguments = ["layer", "export", layer, "--verify", verify, "-o", file.to_str().unwrap()];
        let (peak, _) = memory(lab, store, &arguments);
        assert_eq!(fs::metadata(&file).unwrap().len(), size, "{layer}: {verify}");
        assert!(peak < MEMORY, "{layer}, {verify}, to a file: {peak} KiB");
        fs::remove_file(&file).unwrap();
    }
    size
}

#[test]
fn memory_does_not_grow_with_the_number_of_files() {
    let lab = lab_or_skip!();
    let (store, scratch) = (lab.store(Fs::Xfs, "local"), lab.scratch(Who::User, Fs::Xfs));
    is_flat(lab, &store, "localhost/crowd", scratch.path());
}

#[test]
fn memory_does_not_grow_with_the_size_of_a_file() {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let [root, run_root] = ["store", "r"].map(|name| scratch.path().join(name));
    // 2 GiB of zeros in one file, without a disk full of them.
    let script = r#"truncate -s 2G big && tar -cf - big | podman --root "$1" --runroot "$2" import -q - localhost/big"#;
    let mut command = lab.command(Who::User, "bash");
    command.current_dir(scratch.path()).env("TMPDIR", scratch.path());
    must(command.args(["-c", script, "bash"]).arg(&root).arg(&run_root));
    assert!(is_flat(lab, &root, "localhost/big", scratch.path()) > 2 * GIB);
    must(lab.command(Who::User, "podman").args(["unshare", "rm", "-rf"]).arg(&root).arg(&run_root));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let lab = lab_or_skip!();
    let store = lab.store(Fs::Xfs, "local");
    let image = "localhost/crowd";
    let layer = base_of(lab, &store, image);
    let table: [&[&str]; 9] = [
        &["layer", "export", &layer],
        &["layer", "export", &layer, "--verify", "crc"],
        &["layer", "export", &layer, "--verify", "none"],
        &["image", "export", image],
        &["image", "copy", image, "oci-archive:-"],
        &["image", "copy", image, "docker-archive:-"],
        &["layer", "toc", &layer],
        &["image", "toc", image],
        &["image", "toc", image, "--pretty"],
    ];
    for arguments in table {
        let script = "\"$@\" | head -c 1000 | wc -c; echo ${PIPESTATUS[0]}";
        let mut command = lab.command(Who::User, "bash");
        command.args(["-c", script, "bash"]).arg(lab.executable("cstor")).arg("--root").arg(&store);
        let ended = run(command.args(arguments));
        assert_eq!((&*ended.stdout, &*ended.stderr), ("1000\n0\n", ""), "{arguments:?}");
    }
}
