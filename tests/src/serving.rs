//! `cstor serve` while a test talks to it: started with any user and descriptor limit, found at a socket of its own, and
//! ended by the signal that a service manager would send.

use crate::lab::{Fs, Lab, Who};
use crate::run::{Ended, Running, start};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server that is not there by then will not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
#[derive(Debug)]
pub struct Serving {
    running: Option<Running>,
    directory: TempDir,
}

impl Serving {
    /// Serves a store, with at most so many descriptors, and waits until it can be connected to.
    #[track_caller]
    pub fn start(lab: &Lab, who: Who, store: &Path, descriptors: u32, flags: &[&str]) -> Serving {
        let directory = lab.scratch(who, Fs::Ext4);
        let socket = directory.path().join("socket");
        let mut command = lab.cstor_with_descriptors(descriptors, who, store);
        let mut running = start(command.args(flags).arg("serve").arg("--socket").arg(&socket));
        let began = Instant::now();
        while !socket.exists() {
            assert!(!running.ended() && began.elapsed() < PATIENCE, "{}", running.wait().stderr);
            sleep(Duration::from_millis(5));
        }
        Serving { running: Some(running), directory }
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("not ended").pid().as_raw_nonzero().get().unsigned_abs()
    }

    /// Ends it, and holds that it ended well and left no socket.
    #[track_caller]
    pub fn end(mut self) {
        let ended = self.stop();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        assert_eq!(ended.leftovers(), [""; 0]);
        assert!(!self.socket().exists(), "the socket stayed");
    }

    fn stop(&mut self) -> Ended {
        let running = self.running.take().expect("not ended");
        running.signal(Signal::TERM);
        running.wait()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            // A test that failed must not leave it behind.
            running.signal(Signal::TERM);
        }
    }
}
