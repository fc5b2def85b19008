//! Scarcity and interruption: few descriptors, very many files, a full or read-only target, a signal at any moment.
//! Each ends in the whole tree or in the right exit code and nothing. It measures no time.

use cstor_tests::built::program;
use cstor_tests::lab::{Fs, Lab, Launcher, Who, assert_refused};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run, start};
use cstor_tests::tree::{self, Sight, assert_same};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

#[test]
fn sixty_four_descriptors_are_enough() {
    let lab = lab_or_skip!();
    for image in ["localhost/deep", "localhost/many", "localhost/private", "localhost/debian", "localhost/odd"] {
        let shown = lab.podman_shows(image);
        for (who, store, sight) in [(Who::User, "local", Sight::PLAIN), (Who::Root, "root-local", Sight::ALL)] {
            let scratch = lab.scratch(who, Fs::Xfs);
            let out = scratch.path().join("out");
            let ended =
                run(lab.cstor_with_descriptors(64, who, &lab.store(Fs::Xfs, store)).args(["extract", image]).arg(&out));
            assert_eq!(ended.code(), 0, "{who:?} {image}: {}", ended.stderr);
            assert_same(&shown, &tree::list(&out).unwrap(), sight, image);
        }
    }
}

#[test]
fn a_hundred_thousand_files_in_one_layer() {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let out = scratch.path().join("out");
    let image = "localhost/crowd";
    let ended =
        run(lab.cstor_with_descriptors(64, Who::User, &lab.store(Fs::Xfs, "local")).args(["extract", image]).arg(&out));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let shown = lab.podman_shows(image);
    assert_eq!(shown.values().filter(|row| row.kind == 'f').count(), 100_000);
    assert_same(&shown, &tree::list(&out).unwrap(), Sight::PLAIN, image);
}

/// A store with a million layers, of which an image needs two: within 1 GB, and within seconds.
#[test]
fn a_million_layers_in_one_list() {
    let place = TempDir::new().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo-store.tar.gz");
    must(Command::new("tar").args(["--no-same-owner", "-xzf"]).arg(fixture).arg("-C").arg(place.path()));
    let list = place.path().join("overlay-layers/layers.json");
    let own = fs::read_to_string(&list).unwrap();
    let mut out = BufWriter::new(File::create(&list).unwrap());
    out.write_all(b"[").unwrap();
    for number in 0..1_000_000 {
        let digest = format!("{number:064x}");
        write!(
            out,
            r#"{{"id":"{digest}","parent":"{:064x}","created":"2026-11-24T16:27:49.283603164Z","compressed-diff-digest":"sha256:{digest}","compressed-size":15872,"diff-digest":"sha256:{digest}","diff-size":15872,"compression":2,"uidset":[0],"gidset":[0]}},"#,
            number + 1
        )
        .unwrap();
    }
    out.write_all(own.trim_start_matches('[').as_bytes()).unwrap();
    drop(out);
    assert!(fs::metadata(&list).unwrap().len() > 400_000_000);
    let cstor = program("cstor");
    // More than 1 GB of address space is an allocation that fails.
    let mut command = Command::new("prlimit");
    command.args(["--as=1000000000", "--"]).arg(cstor).arg("--root").arg(place.path());
    let began = Instant::now();
    let ended = run(command.args(["image", "layers", "localhost/demo", "-q"]));
    assert_eq!((ended.code(), ended.stdout.lines().count()), (0, 2), "{}", ended.stderr);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Moments spread over a run without a pattern that could hide a gap: the fractional parts of multiples of the golden
/// ratio.
fn moments(count: u32, of: Duration) -> impl Iterator<Item = Duration> {
    (1..=count).map(move |n| of.mul_f64((f64::from(n) * 0.618_033_988_749_895).fract()))
}

/// Interrupts an extraction at many moments; how many were early enough to count.
fn interrupted(lab: &Lab, image: &str, wrap: &str, count: u32, whole_group: bool) -> usize {
    let extraction = |launcher: &Launcher, out: &Path| {
        let mut command = lab.cstor(Who::User, &lab.store(Fs::Xfs, "local"));
        launcher.before(command.args(["extract", image]).arg(out));
        command
    };
    let launcher = Launcher::new(lab, wrap);
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let ended = run(&mut extraction(&launcher, &scratch.path().join("out")));
    assert_eq!(ended.code(), 0, "{image}, undisturbed: {}", ended.stderr);
    let mut early = 0;
    for moment in moments(count, ended.took) {
        let what = format!("{image}, SIGINT after {moment:?} of {:?}, group: {whole_group}", ended.took);
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let running = start(&mut extraction(&launcher, &scratch.path().join("out")));
        sleep(moment);
        if whole_group {
            running.signal_group(Signal::INT)
        } else {
            running.signal(Signal::INT)
        }
        let ended = running.wait();
        if ended.code() == 0 {
            // The signal came after the rename.
            assert_eq!(lab.names_in(scratch.path()), ["out"], "{what}");
            assert_eq!(ended.leftovers(), [""; 0], "{what}");
        } else {
            assert_refused(lab, &ended, 130, scratch.path(), &what);
            early += 1;
        }
    }
    early
}

#[test]
fn an_interrupt_leaves_nothing() {
    let lab = lab_or_skip!();
    // Placing many files; and a helper slowed down, so that most of the time is spent waiting for it.
    let slow = "strace -f -qq -o /dev/null -e trace=sendmsg -e inject=sendmsg:delay_enter=60000";
    let (placing, waiting) = ("localhost/debian", "localhost/private");
    for whole_group in [false, true] {
        let early = interrupted(lab, placing, "", 10, whole_group);
        // How many come in time depends on what else the machine does.
        assert!(early >= 2, "only {early} of 10 interrupts came in time");
        let early = interrupted(lab, waiting, slow, 10, whole_group);
        assert!(early >= 2, "only {early} of 10 interrupts came in time");
    }
    // Much to remove again.
    assert_ne!(interrupted(lab, "localhost/crowd", "", 3, false), 0);
}

#[test]
fn a_full_file_system_gets_nothing() {
    let lab = lab_or_skip!();
    let small = lab.fs(Fs::Small);
    let filler = small.join("out/filler");
    // About 13 MB in 150 files, from another file system, so all of it is copied.
    let store = lab.store(Fs::Xfs, "local");
    // KiB left free, exit code
    for (left, code) in [(0, 10), (64, 10), (1024, 10), (4096, 10), (8192, 10), (65_536, 0)] {
        let _ = fs::remove_file(&filler);
        let scratch = lab.scratch(Who::User, Fs::Small);
        // To the last block, then back by as much as is to be free.
        let mut fill = Command::new("dd");
        run(fill.args(["if=/dev/zero", "bs=64K", "status=none"]).arg(format!("of={}", filler.display())));
        let size = fs::metadata(&filler).unwrap().len();
        fs::File::options().write(true).open(&filler).unwrap().set_len(size - left * 1024).unwrap();
        must(Command::new("sync").arg("-f").arg(&small));
        let ended =
            run(lab.cstor(Who::User, &store).args(["extract", "localhost/walk:v2"]).arg(scratch.path().join("out")));
        if code == 0 {
            assert_eq!(ended.code(), 0, "{left} KiB free: {}", ended.stderr);
        } else {
            assert_refused(lab, &ended, code, scratch.path(), &format!("{left} KiB free"));
        }
    }
    fs::remove_file(&filler).unwrap();
}

#[test]
fn a_read_only_file_system_gets_nothing() {
    let lab = lab_or_skip!();
    for (who, store) in [(Who::User, "local"), (Who::Root, "root-local")] {
        let store = lab.store(Fs::Xfs, store);
        let ended = run(lab.cstor(who, &store).args(["extract", "localhost/tool"]).arg(lab.read_only().join("out")));
        assert_refused(lab, &ended, 10, &lab.read_only(), "read-only");
    }
}

#[test]
fn a_directory_of_someone_else_gets_nothing() {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(Who::Root, Fs::Xfs);
    let store = lab.store(Fs::Xfs, "local");
    let ended = run(lab.cstor(Who::User, &store).args(["extract", "localhost/tool"]).arg(scratch.path().join("out")));
    assert_refused(lab, &ended, 10, scratch.path(), "a directory of root, 0700");
}

#[test]
fn closed_standard_streams_confuse_nothing() {
    let lab = lab_or_skip!();
    let store = lab.store(Fs::Xfs, "local");
    let shown = lab.podman_shows("localhost/private");
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let script = format!("exec \"$@\" {closed}");
        let mut command = lab.command(Who::User, "sh");
        command.args(["-c", &script, "sh"]).arg(lab.executable("cstor")).arg("--root").arg(&store);
        let ended =
            run(command.args(["--helper", "always", "extract", "localhost/private"]).arg(scratch.path().join("out")));
        assert_eq!(ended.code(), 0, "{closed}: {}", ended.stderr);
        assert_eq!(ended.leftovers(), [""; 0], "{closed}");
        assert_same(&shown, &tree::list(&scratch.path().join("out")).unwrap(), Sight::PLAIN, closed);
    }
}

#[test]
fn a_launcher_that_prints_without_end_is_heard_but_not_kept() {
    let lab = lab_or_skip!();
    let noise = "yes | head -c 10000000";
    let works = format!("{noise}; {noise} >&2; exec unshare --map-root-user --map-auto \"$@\"");
    let fails = format!("{noise} >&2; echo 'the last words' >&2; exit 9");
    for (commands, code) in [(works, 0), (fails, 7)] {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let launcher = Launcher::of(lab, &commands);
        let mut command = lab.cstor(Who::User, &lab.store(Fs::Xfs, "local"));
        command.args(["--launcher", "podman", "extract", "localhost/private"]).arg(scratch.path().join("out"));
        let ended = run(launcher.before(&mut command));
        assert_eq!(ended.code(), code, "{}", ended.stderr.chars().take(500).collect::<String>());
        assert!(ended.stderr.len() < 10_000, "{} bytes of errors", ended.stderr.len());
        assert!(code == 0 || ended.stderr.contains("the last words"), "{}", ended.stderr);
    }
}

#[test]
fn a_closed_terminal_leaves_nothing_unless_it_is_ignored() {
    let lab = lab_or_skip!();
    let store = lab.store(Fs::Xfs, "local");
    for (prefix, code, left) in [(&[][..], 129, &[][..]), (&["nohup"], 0, &["out"])] {
        let scratch = lab.scratch(Who::User, Fs::Xfs);
        let mut command = lab.command(Who::User, prefix.first().copied().unwrap_or("env"));
        command.arg(lab.executable("cstor")).arg("--root").arg(&store);
        let running = start(command.args(["extract", "localhost/crowd"]).arg(scratch.path().join("out")));
        while lab.names_in(scratch.path()).is_empty() {
            sleep(Duration::from_millis(1));
        }
        running.signal(Signal::HUP);
        let ended = running.wait();
        assert_eq!(ended.code(), code, "{prefix:?}: {}", ended.stderr);
        assert_eq!(lab.names_in(scratch.path()), left, "{prefix:?}");
    }
}
