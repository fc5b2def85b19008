//! One program run from start to end: started in a process group of its own, its output kept in files (a pipe would be
//! held open by whatever the program leaves behind), ended by force when it hangs, and its descendants found
//! afterwards by a mark in their environment. It knows nothing of cstor or podman.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Nothing in the lab takes this long; what does is stuck.
const HANGS: Duration = Duration::from_secs(240);
/// How long a process may need to be gone after the one that owned it has ended.
const GRACE: Duration = Duration::from_secs(3);
/// Every descendant inherits it.
const MARK: &str = "CSTOR_LAB_RUN";

/// A program that has been started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: File,
    err: File,
    mark: String,
    began: Instant,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
    mark: String,
}

/// Starts a program without input.
#[track_caller]
pub fn start(command: &mut Command) -> Running {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let mark = format!("{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let [out, err] = [(); 2].map(|()| tempfile::tempfile().expect("a file for output"));
    let [to_out, to_err] = [&out, &err].map(|file| file.try_clone().expect("a second descriptor"));
    let began = Instant::now();
    let child = command
        .env(MARK, &mark)
        .stdin(Stdio::null())
        .stdout(to_out)
        .stderr(to_err)
        .process_group(0)
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    Running { child, out, err, mark, began }
}

/// Runs a program to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ended {
    start(command).wait()
}

/// Runs a program that must succeed and gives what it printed.
#[track_caller]
pub fn must(command: &mut Command) -> String {
    let ended = run(command);
    assert_eq!(ended.code(), 0, "{command:?}: {}", ended.stderr);
    ended.stdout
}

impl Running {
    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: Signal) {
        // It may have ended already; that is for the caller to see in the exit code.
        let _ = kill_process(self.pid(), signal);
    }

    /// Sends a signal to the program and all it started, as a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        let _ = kill_process_group(self.pid(), signal);
    }

    /// The program's process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        // Not since it began: a server may have served for long before it is told to end.
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if asked.elapsed() > HANGS {
                self.signal_group(Signal::KILL);
                let _ = self.child.wait();
                panic!("still running after {HANGS:?}; stderr so far: {}", text(&mut self.err));
            }
            sleep(Duration::from_millis(1));
        };
        Ended {
            status,
            took: self.began.elapsed(),
            stdout: text(&mut self.out),
            stderr: text(&mut self.err),
            mark: self.mark,
        }
    }
}

impl Ended {
    /// The exit code as a shell gives it: 128 + n for an end by signal n.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// What the program started and did not end: `pid command` of each such process.
    pub fn leftovers(&self) -> Vec<String> {
        let began = Instant::now();
        loop {
            let found = marked(&self.mark);
            if found.is_empty() || began.elapsed() > GRACE {
                return found;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// Processes that carry the mark. One that ends while it is looked at is gone, hence the lenience. podman's own pause
/// process outlives every podman on purpose and is no leftover.
fn marked(mark: &str) -> Vec<String> {
    let wanted = format!("{MARK}={mark}");
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter(|entry| {
            fs::read(entry.path().join("environ"))
                .is_ok_and(|environment| environment.split(|&byte| byte == 0).any(|pair| pair == wanted.as_bytes()))
        })
        .filter_map(|entry| {
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            let pause = ["catatonit", "podman pause"].contains(&name.trim());
            (!pause).then(|| format!("{} {}", entry.file_name().display(), name.trim()))
        })
        .collect()
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("output was written to a file");
    bytes.utf8_chunks().map(|chunk| chunk.valid()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_output_and_leftovers() {
        let shell = |script: &str| run(Command::new("sh").args(["-c", script]));
        let ended = shell("echo out; echo err >&2; exit 7");
        assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (7, "out\n", "err\n"));
        assert_eq!(shell("kill -KILL $$").code(), 137);
        let ended = shell("sleep 20 & echo $!");
        let left = ended.leftovers();
        assert_eq!(left, [format!("{} sleep", ended.stdout.trim())]);
        let pid = Pid::from_raw(ended.stdout.trim().parse().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        assert_eq!(ended.leftovers(), [""; 0]);
    }
}
