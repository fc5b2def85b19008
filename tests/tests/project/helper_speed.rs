//! What the sandbox costs: a hundred thousand different files through the helper, and through the same opener without
//! any layer of its sandbox, in turn, so that the machine's speed does not matter.

use cstor_proto::{LayerDir, LayerHandle, LayerId, MAX_BATCH, RelPath, Request, StoreIndex, encode};
use cstor_tests::alone::turn;
use cstor_tests::built::program;
use cstor_tests::lab::{Fs, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::peer::RawHelper;
use cstor_tests::run::must;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use std::process::Command;
use std::time::{Duration, Instant};

/// What the sandboxed one may take, in times of the other.
const MOST: f64 = 1.8;
const ROUNDS: usize = 5;

/// Opens all of it, two questions ahead of the answers as the client does.
fn open_all(command: &mut Command, root: &OwnedFd, id: LayerId, batches: &[Vec<u8>]) -> Duration {
    let mut helper = RawHelper::start(command);
    helper.send(b"\x00CSTR\x01\x01\x01", &[root.as_fd()]).unwrap();
    assert_eq!(helper.receive().0[..2], [0, 1]);
    helper.send(&encode(&Request::OpenLayer { root: StoreIndex(0), id, dir: LayerDir::Diff }).unwrap(), &[]).unwrap();
    assert_eq!(helper.receive().0, [2, 0, 0]);
    let (began, mut opened, mut asked) = (Instant::now(), 0, batches.iter());
    for batch in asked.by_ref().take(2) {
        helper.send(batch, &[]).unwrap();
    }
    for _ in batches {
        let (_, fds) = helper.receive();
        if let Some(batch) = asked.next() {
            helper.send(batch, &[]).unwrap();
        }
        opened += fds.len();
    }
    let took = began.elapsed();
    assert_eq!(opened, 100_000);
    helper.hang_up();
    assert_eq!(helper.end(), 0);
    took
}

#[test]
fn the_sandbox_costs_less_than_the_opening() {
    let lab = lab_or_skip!();
    let _turn = turn();
    let store = lab.store(Fs::Xfs, "root-local");
    let layers = must(lab.cstor(Who::Root, &store).args(["image", "layers", "-q", "--no-trunc", "localhost/crowd"]));
    let id: LayerId = layers.trim().parse().unwrap();
    let diff = store.join(format!("overlay/{id}/diff"));
    let listed = must(Command::new("find").arg(&diff).args(["-type", "f", "-printf", "%P\\n"]));
    let names: Vec<RelPath> = listed.lines().map(|name| RelPath::clean(name.as_bytes()).unwrap()).collect();
    assert_eq!(names.len(), 100_000);
    let batch = |names: &[RelPath]| encode(&Request::Open { layer: LayerHandle(0), names: names.to_vec() }).unwrap();
    let batches: Vec<_> = names.chunks(MAX_BATCH).map(batch).collect();
    let root = open(&store, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let run = |name: &str, without: &[&str]| {
        open_all(Command::new(program(name)).args(without), &root, id, &batches).as_secs_f64()
    };
    let plain = || run("cstor-lab-helper", &["privileges", "landlock", "seccomp"]);
    plain();
    // The fastest of each: whatever else the machine does only ever adds.
    let (mut confined, mut open) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        confined = confined.min(run("cstor-helper", &[]));
        open = open.min(plain());
    }
    println!("{confined:.3} s in the sandbox, {open:.3} s without");
    assert!(confined <= MOST * open, "{confined:.3} s in the sandbox, {open:.3} s without; at most {MOST} times that");
}
