//! The test executable, run again as another process: with an environment of its own, or holding a lock.

use crate::place::{names, policy};
use cstor_client::Storage;
use cstor_client::helper::{HelperOptions, HelperPolicy};
use rustix::fs::{FlockOperation, fcntl_lock};
use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

/// Says to this test executable, when it is run again, what it is to do.
pub(crate) const ROLE: &str = "CSTOR_API_ROLE";
/// The test that does it.
pub(crate) const PROGRAM: &str = "again::as_another_process";

/// No test of its own: what this executable does when another test runs it again.
#[test]
fn as_another_process() {
    let Ok(role) = env::var(ROLE) else { return };
    let arguments: Vec<&str> = role.split('\n').collect();
    match arguments[..] {
        ["discover"] => {
            let say = |storage: &Storage| {
                let images = storage.list_images().unwrap();
                format!("{} {}", storage.root().display(), names(&images).join(","))
            };
            let text =
                Storage::discover().map(|storage| say(&storage)).unwrap_or_else(|error| format!("{:?}", error.kind()));
            println!("\nfound {text}");
            // With a helper it is the same store.
            let proxied = Storage::discover().map(|storage| storage.with_helper(policy(HelperPolicy::Never)));
            assert_eq!(
                proxied.map(|proxied| say(&proxied)).unwrap_or_else(|error| format!("{:?}", error.kind())),
                text
            );
        }
        [how @ ("read" | "write"), path] => {
            let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
            let operation = if how == "read" { FlockOperation::LockShared } else { FlockOperation::LockExclusive };
            fcntl_lock(&file, operation).unwrap();
            println!("\nheld");
            // Until whoever started this closes its end.
            let _ = std::io::stdin().read(&mut [0]);
        }
        ["thread", root] => {
            let storage = Storage::open(root).unwrap().with_helper(HelperOptions::new().policy(HelperPolicy::Always));
            let read = || storage.layers().unwrap()[0].open_file_std("etc/passwd").map(drop);
            std::thread::scope(|scope| scope.spawn(read).join()).unwrap().unwrap();
            // The thread is gone for the program before it is for the kernel.
            std::thread::sleep(Duration::from_millis(200));
            read().unwrap();
        }
        ["try", root] => {
            let mut tried = 0;
            for directory in ["", "overlay-layers", "overlay-images", "overlay-containers"] {
                for entry in fs::read_dir(Path::new(root).join(directory)).unwrap().flatten() {
                    if entry.path().extension().is_some_and(|extension| extension == "lock") {
                        let file = OpenOptions::new().read(true).write(true).open(entry.path()).unwrap();
                        // Other tests read the same store, each time for milliseconds.
                        let began = std::time::Instant::now();
                        let locked = loop {
                            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                                Err(_) if began.elapsed() < Duration::from_secs(1) => std::thread::yield_now(),
                                locked => break locked,
                            }
                        };
                        locked.unwrap_or_else(|error| panic!("held: {}: {error}", entry.path().display()));
                        tried += 1;
                    }
                }
            }
            assert!(tried >= 3, "{tried} lock files");
        }
        _ => panic!("{role}"),
    }
}

/// This executable with this task, and with nothing else in its environment.
pub(crate) fn again(executable: &Path, role: &[&str]) -> Command {
    let mut command = Command::new(executable);
    command.args([PROGRAM, "--exact", "--nocapture", "--test-threads=1"]).env_clear();
    command.env(ROLE, role.join("\n")).current_dir("/");
    command
}
