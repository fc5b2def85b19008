//! What a test has for itself. The tests of one executable run beside each other, and most do not notice; one that counts
//! what a process or the machine has, or compares times, does.

use crate::run::run;
use std::io::Write;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Says to a test executable that it was started for one test.
const MARK: &str = "CSTOR_TEST_OWN_PROCESS";

/// The turn of a test that measures. Until it is dropped, no other test that takes a turn runs.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // The test that failed before has nothing to do with the next.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the calling test is the only one of its process, so that descriptors and limits are its own. Where it is not,
/// this runs it so, fails if it fails, and the caller has nothing left to do.
#[track_caller]
pub fn own_process() -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let thread = std::thread::current();
    let name = thread.name().expect("the name of the test");
    let executable = std::env::current_exe().expect("a test has a file");
    let ended = run(Command::new(executable).args([name, "--exact", "--nocapture"]).env(MARK, "1"));
    // What it skipped, or why it failed.
    let _ = std::io::stderr().write_all(ended.stderr.as_bytes());
    let one = ended.stdout.contains("test result: ok. 1 passed");
    assert!(ended.code() == 0 && one, "{name}, in a process of its own: {}", ended.stdout);
    false
}
