//! Reading while podman loads, tags, removes and prunes in the same store: every command ends with 0, with 3 (the image is
//! not there) or with 9 (it was removed meanwhile), and whatever ends with 0 has the right files and digests.
//! `CSTOR_BESIDE=SECONDS` lets it go on for longer than the half minute of every day.

use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{Ended, must, run};
use cstor_tests::tree::{self, Listing, Sight, assert_same};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const IMAGE: &str = "localhost/walk:v2";
const EVERY_DAY: u64 = 30;

fn podman(lab: &Lab, store: &Path) -> Command {
    let mut command = lab.command(Who::User, "podman");
    command.arg("--root").arg(store).arg("--runroot").arg(store.with_extension("run"));
    command
}

/// Changes the store until told to stop; how many rounds there were.
fn disturb(lab: &Lab, store: &Path, archive: &Path, stop: &AtomicBool) -> usize {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        must(podman(lab, store).args(["load", "-q", "-i"]).arg(archive));
        must(podman(lab, store).args(["tag", IMAGE, "localhost/other:1"]));
        must(podman(lab, store).args(["rmi", "-f", "localhost/other:1"]));
        must(podman(lab, store).args(["image", "prune", "-f"]));
        must(podman(lab, store).args(["rmi", "-a", "-f"]));
        rounds += 1;
    }
    rounds
}

struct Reader<'a> {
    lab: &'a Lab,
    store: &'a Path,
    scratch: &'a Path,
    /// The right files, and the right digest of the top layer.
    shown: &'a Listing,
    digest: &'a str,
}

impl Reader<'_> {
    fn cstor(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.cstor(Who::User, self.store);
        command.args(arguments);
        command
    }

    /// One command of a kind, checked.
    fn read(&self, kind: &str) -> i32 {
        let ended: Ended = match kind {
            "list" => run(&mut self.cstor(&["image", "list", "-a"])),
            "extract" => {
                let out = self.scratch.join("out");
                let ended = run(self.cstor(&["extract", IMAGE]).arg(&out));
                if ended.code() == 0 {
                    assert_same(self.shown, &tree::list(&out).unwrap(), Sight::PLAIN, "beside podman");
                    fs::remove_dir_all(&out).unwrap();
                }
                assert_eq!(self.lab.names_in(self.scratch), [""; 0], "{}", ended.stderr);
                ended
            }
            "export" => {
                let script = "set -o pipefail; \"$1\" --root \"$2\" layer export \"$3\" | sha256sum";
                let mut shell = self.lab.command(Who::User, "bash");
                shell.args(["-c", script, "bash"]).arg(self.lab.executable("cstor")).arg(self.store).arg(self.digest);
                let ended = run(&mut shell);
                if ended.code() == 0 {
                    let sum = ended.stdout.split_whitespace().next().unwrap_or_default();
                    assert_eq!(format!("sha256:{sum}"), self.digest);
                }
                ended
            }
            _ => run(&mut self.cstor(&["verify", IMAGE])),
        };
        let code = ended.code();
        assert!([0, 3, 9].contains(&code), "{kind}: {code} {}", ended.stderr);
        code
    }
}

#[test]
fn what_is_read_while_podman_writes_is_right_or_not_there() {
    let lab = lab_or_skip!();
    let seconds = std::env::var("CSTOR_BESIDE").ok().and_then(|text| text.parse().ok()).unwrap_or(EVERY_DAY);
    let shown = lab.podman_shows(IMAGE);
    let place = lab.scratch(Who::User, Fs::Xfs);
    let (store, archive) = (place.path().join("store"), place.path().join("walk.tar"));
    must(lab.command(Who::User, "podman").args(["save", "-q", "-o"]).arg(&archive).arg(IMAGE));
    let local = lab.store(Fs::Xfs, "local");
    let layers = must(lab.cstor(Who::User, &local).args(["image", "layers", IMAGE, "--format", "json"]));
    let layers: serde_json::Value = serde_json::from_str(&layers).unwrap();
    let digest = layers["layers"].as_array().unwrap().last().unwrap()["diff_id"].as_str().unwrap().to_owned();
    must(podman(lab, &store).args(["load", "-q", "-i"]).arg(&archive));
    let stop = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut counts: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    let rounds = std::thread::scope(|scope| {
        let writer = scope.spawn(|| disturb(lab, &store, &archive, &stop));
        let read = |kinds: &'static [&'static str]| {
            let (store, shown, digest) = (&store, &shown, &digest);
            move || {
                let scratch = lab.scratch(Who::User, Fs::Xfs);
                let reader = Reader { lab, store, scratch: scratch.path(), shown, digest };
                let mut codes = Vec::new();
                while Instant::now() < deadline {
                    codes.extend(kinds.iter().map(|kind| (*kind, reader.read(kind))));
                }
                codes
            }
        };
        let readers = [scope.spawn(read(&["extract", "list"])), scope.spawn(read(&["export", "verify"]))];
        let codes: Vec<_> = readers.map(|reader| reader.join()).into_iter().collect();
        // Before a failure of a reader is passed on, or the writer would be waited for without end.
        stop.store(true, Ordering::Relaxed);
        for codes in codes {
            for code in codes.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                *counts.entry(code).or_default() += 1;
            }
        }
        writer.join().unwrap()
    });
    println!("{rounds} rounds of podman, {counts:?}");
    assert!(rounds > 2, "only {rounds} rounds");
    for kind in ["list", "extract", "export", "verify"] {
        assert!(counts.get(&(kind, 0)).is_some_and(|count| *count > 2), "{kind}: {counts:?}");
    }
    must(lab.command(Who::User, "podman").args(["unshare", "rm", "-rf"]).arg(&store).arg(store.with_extension("run")));
}
