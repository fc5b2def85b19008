//! A system call that fails, inside the sandbox: for every call that a command makes after its `main` has begun, for
//! several errors, at several of its occurrences. No run ends by a signal, in a panic or without a documented code; each
//! says one error, leaves its destination absent or whole, nothing beside it, and the store as it was.
//!
//! strace(1) answers the call in the kernel's place. A bounded part runs always; `CSTOR_FAULTS=all` runs everything,
//! `CSTOR_FAULTS=1000` about so many, and both print what they counted.
//!
//! Left out are calls whose failure no program in safe Rust survives: those for memory, since an allocation that fails
//! aborts, and those by which the C library and Rust's start threads, which abort or are not looked at. Left out are also
//! calls that the kernel does not let fail (getuid(2) and the like), and of some others the errors that it does not give.

use cstor_tests::forge::trial::{Verdict, seal};
use cstor_tests::forge::{Store, Subject, Trial, dir, fifo, file, hard_link, symlink};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const IMAGE: &str = "localhost/faulty:1";
const STRACE: &str = "/usr/bin/strace";
/// What runs always, of all faults of all commands: spread evenly over calls, errors and occurrences.
const ALWAYS: usize = 150;
/// More of one call are like those before.
const OCCURRENCES: usize = 4;

/// In the first line of `main`; what is before it is the loader's and the runtime's.
const MAIN: &str = "rt_sigaction(SIGXFSZ,";

/// Not made to fail, and why is said above.
const SPARED: &[&str] = &[
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "mremap",
    "madvise", // memory
    "set_robust_list",
    "rseq",
    "sigaltstack",
    "rt_sigprocmask",
    "rt_sigreturn",
    "restart_syscall", // threads
    "exit",
    "exit_group",
    "execve",
    "sched_yield",
    "gettid",
    "getpid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    // What wakes another thread would not, and that one would wait for ever.
    "futex",
    // Limits of this process are read, which cannot fail; that raising one can is no error (`main.rs`).
    "prlimit64",
    // A descriptor is closed whatever close(2) says (its "Dealing with error returns"), and nobody looks.
    "close",
];
/// Can only be interrupted.
const INTERRUPTED: &str = "getrandom";
const ERRORS: [&str; 8] = ["EIO", "ENOSPC", "EACCES", "ENOENT", "EMFILE", "EINTR", "EAGAIN", "EINVAL"];

/// A command that writes, with its result at `OUT`.
struct Subjected {
    what: &'static str,
    words: &'static [&'static str],
    /// Whether something is at the destination before, which is to be replaced.
    occupied: bool,
}

const COMMANDS: [Subjected; 6] = [
    Subjected { what: "extract", words: &["extract", IMAGE, "OUT"], occupied: false },
    Subjected { what: "extract --replace", words: &["extract", "--replace", IMAGE, "OUT"], occupied: true },
    Subjected { what: "image export", words: &["image", "export", IMAGE, "-o", "OUT"], occupied: false },
    Subjected { what: "layer export", words: &["layer", "export", "LAYER", "-o", "OUT"], occupied: false },
    Subjected {
        what: "image copy oci",
        words: &["image", "copy", IMAGE, "oci:OUT", "--compress", "gzip"],
        occupied: false,
    },
    Subjected {
        what: "image copy oci-archive",
        words: &["image", "copy", IMAGE, "oci-archive:OUT", "--compress", "gzip"],
        occupied: false,
    },
];

fn store() -> Store {
    let large: Vec<u8> = (0..100_000u32).map(|number| (number % 251) as u8).collect();
    Store::stack(
        IMAGE,
        [
            vec![
                dir("etc"),
                file("etc/app.conf", "debug = 1\n").mode(0o600).xattr("user.note", "kept"),
                symlink("etc/link", "app.conf"),
                file("large", large),
            ],
            vec![dir("opt"), file("opt/second", "second"), hard_link("opt/other", "opt/second"), fifo("opt/pipe")],
        ],
    )
}

/// A trial, and what was there before.
fn prepared(command: &Subjected) -> Trial {
    let trial = Trial::new(Subject::Caller, &store());
    if command.occupied {
        fs::create_dir(&trial.dest).unwrap();
        fs::write(trial.dest.join("old"), "old").unwrap();
    }
    trial
}

fn run(trial: &Trial, command: &Subjected, strace: &[&str]) -> Verdict<cstor_tests::forge::Outcome> {
    let out = trial.dest.to_str().unwrap();
    let words: Vec<String> =
        command.words.iter().map(|word| word.replace("OUT", out).replace("LAYER", &trial.store.layers[0].id)).collect();
    let log = trial.dir().join("trace");
    let options = [&[STRACE, "-f", "-qq", "-o", log.to_str().unwrap()], strace].concat();
    trial.run_through(&options, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn trace(trial: &Trial) -> String {
    String::from_utf8(fs::read(trial.dir().join("trace")).unwrap_or_default()).unwrap_or_default()
}

/// What a whole result is, whoever made it when: bytes, modes and links, but no inode's own times.
fn result(path: &Path) -> BTreeMap<String, String> {
    let mut seal = seal(path);
    for facts in seal.values_mut() {
        // The fourth is the time, which is not the image's where the command makes something of its own.
        let lasting = facts.split(' ').enumerate().filter(|(field, _)| *field != 3).map(|(_, fact)| fact);
        *facts = lasting.collect::<Vec<_>>().join(" ");
    }
    seal
}

/// One fault: the call, the error, and which occurrences, as strace takes them.
#[derive(Clone, Debug)]
struct Fault {
    command: usize,
    call: String,
    error: &'static str,
    when: String,
}

impl Fault {
    /// Whether `--replace` cannot look at what it has just made, exchanged or removed: always tried at every occurrence,
    /// since a step that was taken and cannot be seen is the one that is easily left half done.
    fn is_of_a_look(&self) -> bool {
        COMMANDS[self.command].occupied && self.error == "EIO" && matches!(&*self.call, "fstat" | "newfstatat")
    }
}

/// The calls of a run without a fault: how many were made before `main`, and how many in all.
fn calls(trace: &str) -> BTreeMap<String, (usize, usize)> {
    let mut calls: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let main = trace.lines().next().and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    let mut begun = false;
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(char::is_whitespace) else { continue };
        begun |= call.contains(MAIN);
        let name = call.trim_start().split('(').next().unwrap_or_default();
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            continue;
        }
        let (before, all) = calls.entry(name.to_owned()).or_default();
        // strace counts for each thread.
        if thread == main {
            *all += 1;
            *before += usize::from(!begun);
        } else {
            *all = (*all).max(*before + 1);
        }
    }
    calls.retain(|name, (before, all)| all > before && !SPARED.contains(&name.as_str()));
    calls
}

fn faults(command: usize, calls: &BTreeMap<String, (usize, usize)>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (call, &(before, all)) in calls {
        // The first ones, the last one, and all of them.
        let made = all - before;
        let places: BTreeSet<usize> = (1..=made.min(OCCURRENCES - 1)).chain([made.div_ceil(2), made]).collect();
        let places = places.into_iter().map(|place| (before + place).to_string());
        for when in places.chain([format!("{}+", before + 1)]) {
            for error in ERRORS {
                // What is to be tried again would be tried for ever. So says EACCES of a lock (fcntl(2)).
                let again = ["EINTR", "EAGAIN"].contains(&error) || call == "fcntl" && error == "EACCES";
                if !(again && when.ends_with('+') || call == INTERRUPTED && error != "EINTR") {
                    faults.push(Fault { command, call: call.clone(), error, when: when.clone() });
                }
            }
        }
    }
    faults
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Became {
    /// The occurrence did not come.
    Missed,
    /// The fault made no difference.
    Whole,
    /// An error after the result was in place.
    WholeAndError,
    /// An error, and nothing.
    Refused,
}

fn suffer(fault: &Fault, expected: &BTreeMap<String, String>) -> Verdict<(Became, i32)> {
    let command = &COMMANDS[fault.command];
    let trial = prepared(command);
    let out = trial.dir().join("out");
    let names = || -> BTreeSet<String> {
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let (before, old) = (names(), result(&trial.dest));
    let inject = format!("inject={}:error={}:when={}", fault.call, fault.error, fault.when);
    let ended = run(&trial, command, &["-e", &format!("trace={}", fault.call), "-e", &inject])?;
    let (trace, said) = (trace(&trial), ended.stderr.trim_end());
    if !trace.contains("(INJECTED)") {
        return Ok((Became::Missed, ended.code));
    }
    let documented = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
    if !documented.contains(&ended.code) {
        return Err(format!("ended with {}: {said}", ended.code));
    }
    // What cannot be said is not said: the fault may lie in the saying.
    let speechless = trace.lines().any(|line| line.contains("write(2,") && line.contains("(INJECTED)"));
    let errors = said.lines().filter(|line| line.starts_with("cstor: error: ")).count();
    if !speechless && errors != usize::from(ended.code != 0) {
        return Err(format!("exit code {}, {errors} error lines: {said}", ended.code));
    }
    let mut after = names();
    // Where a call that removes fails, what it was to remove stays, and is named; a result that is complete stays one.
    let removes = command.occupied || fault.when.ends_with('+') || ended.code == 0;
    after.retain(|name| !(removes && name.contains(".cstor-") && said.contains(name.as_str())));
    let found = result(&trial.dest);
    let whole = found == *expected;
    after.remove("dest");
    if after != before.iter().filter(|name| *name != "dest").cloned().collect() {
        return Err(format!("exit code {}, left: {after:?}: {said}", ended.code));
    }
    match ended.code {
        0 if whole => Ok((Became::Whole, 0)),
        0 => Err(format!("exit code 0 and another result: {said}")),
        code if whole => Ok((Became::WholeAndError, code)),
        code if found == old => Ok((Became::Refused, code)),
        code => Err(format!(
            "exit code {code} and a partial result: {said}: {:?}",
            found.keys().take(9).collect::<Vec<_>>()
        )),
    }
}

#[test]
fn no_failing_call_leaves_half_a_result() {
    if !Path::new(STRACE).is_file() {
        return cstor_tests::lab::skip("strace is not installed");
    }
    let (mut all, mut expected) = (Vec::new(), Vec::new());
    for (number, command) in COMMANDS.iter().enumerate() {
        let trial = prepared(command);
        let ended = run(&trial, command, &[]).unwrap_or_else(|reason| panic!("{}: {reason}", command.what));
        assert_eq!(ended.code, 0, "{}: {}", command.what, ended.stderr);
        let calls = calls(&trace(&trial));
        assert!(calls.contains_key("openat2") && calls.contains_key("write"), "{}: {calls:?}", command.what);
        all.extend(faults(number, &calls));
        expected.push(result(&trial.dest));
    }
    let (total, asked) = (all.len(), std::env::var("CSTOR_FAULTS").ok());
    let loud = asked.is_some();
    let wanted = match asked.as_deref() {
        None => ALWAYS,
        Some("all") => total,
        Some(number) => number.parse().expect("CSTOR_FAULTS is `all` or a number"),
    };
    // A stride without a common factor with the number of errors, so that all of them come.
    let stride = (total / wanted.max(1)).max(1) | 1;
    let chosen: Vec<Fault> = all
        .into_iter()
        .enumerate()
        .filter(|(n, fault)| n % stride == 0 || fault.is_of_a_look())
        .map(|(_, f)| f)
        .collect();
    let (next, failures, counts) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(fault) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let what = COMMANDS[fault.command].what;
            match suffer(fault, &expected[fault.command]) {
                Ok(became) => *counts.lock().unwrap().entry((what, became)).or_insert(0usize) += 1,
                Err(reason) => {
                    let Fault { call, error, when, .. } = fault;
                    let line = format!("{what}: {call} {error} when={when}: {reason}");
                    if loud {
                        eprintln!("{line}");
                    }
                    failures.lock().unwrap().push(line);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
    let (failures, counts) = (failures.into_inner().unwrap(), counts.into_inner().unwrap());
    if loud {
        for ((what, became), count) in &counts {
            eprintln!("{what}: {became:?}: {count}");
        }
        eprintln!("{} of {total} faults, {} failures", chosen.len(), failures.len());
    }
    assert!(failures.is_empty(), "{} of {} runs:\n{}", failures.len(), chosen.len(), failures.join("\n"));
}
