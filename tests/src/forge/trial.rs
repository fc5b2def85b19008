//! One run of the real `cstor` on a forged store, and what must be true after every run: the store and the tree
//! beside the destination unchanged, no half result, no panic, no hang. It measures nothing but time and memory.

use std::{
    collections::BTreeMap,
    fs::{File, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Signal, kill_process_group};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{
    store::{Forged, Store},
    unpack,
};
use crate::built;

/// No run may take longer, whatever its input.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// No run may hold more memory, in KiB.
const MEMORY_LIMIT: u64 = 300 << 10;

/// Files above this are sealed by their length alone.
const HASHED: u64 = 64 << 20;

/// Who a plain user is when root runs the tests: an id without an account, a subuid range or a podman.
pub const PLAIN: u32 = 64_321;

/// Who runs `cstor` and owns the store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject {
    /// Whoever runs the tests.
    Caller,
    /// A plain user; only root can become one.
    Plain,
}

impl Subject {
    /// Root tests as root and as a plain user, everyone else as what he is.
    pub fn all() -> &'static [Subject] {
        if rustix::process::geteuid().is_root() { &[Subject::Caller, Subject::Plain] } else { &[Subject::Caller] }
    }

    /// Whether `cstor` runs as root.
    pub fn is_root(self) -> bool {
        self == Subject::Caller && rustix::process::geteuid().is_root()
    }
}

/// A directory with a store, a place for the result, and a canary beside it.
#[derive(Debug)]
pub struct Trial {
    /// The store, to be damaged before the first run.
    pub store: Forged,
    /// Where the result goes; it does not exist yet.
    pub dest: PathBuf,
    subject: Subject,
    dir: TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; minus the signal if there was one.
    pub code: i32,
    /// Everything printed there.
    pub stdout: String,
    /// Everything printed there.
    pub stderr: String,
    /// From start to exit.
    pub took: Duration,
    /// Highest resident set that was seen, in KiB.
    pub peak: u64,
}

/// What a check says when it fails.
pub type Verdict<T = ()> = Result<T, String>;

impl Trial {
    /// Writes the store for `subject`.
    pub fn new(subject: Subject, store: &Store) -> Trial {
        Trial::within(&std::env::temp_dir(), subject, store)
    }

    /// The same on another file system.
    pub fn within(place: &Path, subject: Subject, store: &Store) -> Trial {
        let dir = tempfile::Builder::new().prefix("cstor-forge-").tempdir_in(place).expect("a directory for the trial");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("our own directory");
        let store = store.write(&dir.path().join("store"), subject.is_root()).expect("the store");
        for path in ["out", "out/canary", "empty-path"] {
            std::fs::create_dir(dir.path().join(path)).expect(path);
        }
        for (path, text) in [("out/canary/kept", "canary"), ("out/passwd", "root"), ("out/dest.kept", "sibling")] {
            std::fs::write(dir.path().join(path), text).expect(path);
        }
        Trial { store, dest: dir.path().join("out/dest"), subject, dir }
    }

    /// Who runs it.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// The directory that holds the store, the destination's parent and nothing else of importance.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Hands everything to the subject; to be called when all damage is done.
    pub fn settle(&self) {
        if self.subject == Subject::Plain {
            unpack::give(self.dir.path(), PLAIN).expect("the trial's own files");
        }
    }

    /// Makes the store, and only the store, another user's.
    pub fn give_store_away(&self) {
        unpack::give(&self.store.root, PLAIN).expect("the trial's own files");
    }

    /// Starts `cstor --root STORE ARGUMENTS`. There is no podman on its PATH, so no helper can come to its aid.
    pub fn start(&self, arguments: &[&str]) -> Run {
        self.start_through(&[], arguments)
    }

    /// The same through another program: `WRAPPER cstor --root STORE ARGUMENTS`.
    pub fn start_through(&self, wrapper: &[&str], arguments: &[&str]) -> Run {
        self.spawn(self.command_through(wrapper, arguments))
    }

    /// The command of [`Trial::start_through`], whose outputs are still to be said.
    pub fn command_through(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let mut command = self.command(wrapper);
        if self.subject == Subject::Plain {
            command.uid(PLAIN).gid(PLAIN);
        }
        command.arg("--root").arg(&self.store.root).args(arguments);
        command
    }

    /// Starts `cstor ARGUMENTS`, and where there is a script of mounts, in a mount namespace of its own that root has
    /// prepared with it.
    pub fn start_in(&self, mounts: &str, arguments: &[&str]) -> Run {
        let script = format!("set -e; was=$PATH; PATH=/usr/sbin:/usr/bin:/sbin:/bin; {mounts}\nPATH=$was exec \"$@\"");
        let user = PLAIN.to_string();
        let unshared = ["/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", &script, "sh"];
        let become_plain = ["/usr/bin/setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
        let mut command = match (mounts, self.subject) {
            ("", _) => self.command(&[]),
            (_, Subject::Caller) => self.command(&unshared),
            (_, Subject::Plain) => self.command(&[&unshared[..], &become_plain].concat()),
        };
        if mounts.is_empty() && self.subject == Subject::Plain {
            command.uid(PLAIN).gid(PLAIN);
        }
        command.args(arguments);
        self.spawn(command)
    }

    /// `WRAPPER cstor`, with an environment of its own.
    fn command(&self, wrapper: &[&str]) -> Command {
        let binary = built::program("cstor");
        // The plain user may not be able to reach the build directory: the program comes as standard input.
        let (program, stdin) = match self.subject {
            Subject::Caller => (binary.clone(), Stdio::null()),
            Subject::Plain => ("/proc/self/fd/0".into(), File::open(&binary).expect("cstor").into()),
        };
        let mut words = wrapper.iter().map(PathBuf::from).chain([program]);
        let mut command = Command::new(words.next().expect("at least the program"));
        command
            .args(words)
            .stdin(stdin)
            .env_clear()
            .env("PATH", self.dir.path().join("empty-path"))
            .env("HOME", self.dir.path().join("empty-path"))
            .env("LC_ALL", "C")
            .current_dir(self.dir.path());
        command
    }

    fn spawn(&self, mut command: Command) -> Run {
        let log = |name: &str| File::create(self.dir.path().join(name)).expect(name);
        // A group of its own, so that a wrapper is not ended without what it has started.
        command.stdout(log("stdout")).stderr(log("stderr")).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Run { child, started: Instant::now(), logs: self.dir.path().to_owned(), peak: 0 }
    }

    /// `cstor --root STORE ARGUMENTS` to its end.
    pub fn run(&self, arguments: &[&str]) -> Verdict<Outcome> {
        self.run_through(&[], arguments)
    }

    /// The same through another program.
    pub fn run_through(&self, wrapper: &[&str], arguments: &[&str]) -> Verdict<Outcome> {
        let before = seal(&self.store.root);
        let outcome = self.start_through(wrapper, arguments).finish()?;
        changes("store", &before, &seal(&self.store.root))?;
        if outcome.stderr.contains("panicked at") {
            return Err(format!("panic: {}", outcome.stderr));
        }
        Ok(outcome)
    }

    /// `cstor extract IMAGE DEST OPTIONS`, which must fail so: one of these codes, one error line that names one of
    /// `objects` (`<layer>` and `<image>` stand for any id of theirs), and nothing at all left behind.
    pub fn refuse(&self, image: &str, options: &[&str], codes: &[i32], objects: &[&str]) -> Verdict<Outcome> {
        // The parent's own times tell of the sibling directory that came and went.
        let beside = || {
            let mut seal = seal(&self.dir.path().join("out"));
            seal.remove("");
            seal
        };
        let before = beside();
        let outcome = self.extract(image, options)?;
        // An id may be shortened, but not below what podman shows.
        let layers = self.store.layers.iter().map(|layer| &layer.id[..12]).filter(|_| objects.contains(&"<layer>"));
        let images = self.store.images.iter().map(|id| &id[..12]).filter(|_| objects.contains(&"<image>"));
        outcome.is_refusal(codes, &objects.iter().copied().chain(layers).chain(images).collect::<Vec<_>>())?;
        changes("destination's parent", &before, &beside())?;
        Ok(outcome)
    }

    /// `cstor extract IMAGE DEST OPTIONS`, which must succeed and give this tree (see [`listing`]).
    pub fn accept(&self, image: &str, options: &[&str], tree: &str) -> Verdict<Outcome> {
        let beside = || {
            let mut seal = seal(&self.dir.path().join("out"));
            seal.retain(|path, _| !path.is_empty() && path != "dest" && !path.starts_with("dest/"));
            seal
        };
        let before = beside();
        let outcome = self.extract(image, options)?;
        outcome.is_success()?;
        changes("destination's neighbours", &before, &beside())?;
        let expected = tree.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        let got = listing(&self.dest).join("\n");
        if got != expected {
            return Err(format!("tree:\n{got}\nexpected:\n{expected}"));
        }
        Ok(outcome)
    }

    /// Removes a result, for a second run.
    pub fn discard(&self) {
        open_up(&self.dest).and_then(|()| std::fs::remove_dir_all(&self.dest)).unwrap_or_default();
    }

    /// `cstor extract IMAGE DEST OPTIONS`.
    pub fn extract(&self, image: &str, options: &[&str]) -> Verdict<Outcome> {
        let dest = self.dest.to_str().expect("a UTF-8 temporary directory");
        self.run(&[&["extract", image, dest], options].concat())
    }
}

impl Drop for Trial {
    /// Directories of mode 0555 or 0 would stay behind.
    fn drop(&mut self) {
        // Whatever cannot be opened is reported by the removal, if by anything.
        open_up(self.dir.path()).unwrap_or_default();
    }
}

/// Makes a tree removable by its owner.
pub(super) fn open_up(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
        for entry in path.read_dir()? {
            open_up(&entry?.path())?;
        }
    }
    Ok(())
}

/// A started `cstor`.
#[derive(Debug)]
pub struct Run {
    child: Child,
    started: Instant,
    logs: PathBuf,
    peak: u64,
}

impl Run {
    /// Its process.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    /// Waits for its end, and ends it itself when the time is over.
    pub fn finish(mut self) -> Verdict<Outcome> {
        let status = loop {
            self.peak = self.peak.max(resident_peak(self.child.id()));
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break status;
            }
            if self.started.elapsed() > TIME_LIMIT {
                kill_process_group(self.pid(), Signal::KILL).expect("our own group");
                self.child.wait().expect("our own child");
                return Err(format!("still running after {TIME_LIMIT:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let took = self.started.elapsed();
        let text = |name| {
            String::from_utf8(std::fs::read(self.logs.join(name)).expect("a log"))
                .map_err(|_| format!("{name}: not UTF-8"))
        };
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or_default());
        let outcome = Outcome { code, stdout: text("stdout")?, stderr: text("stderr")?, took, peak: self.peak };
        if outcome.peak > MEMORY_LIMIT {
            return Err(format!("{} KiB of memory", outcome.peak));
        }
        Ok(outcome)
    }
}

impl Outcome {
    /// Exit code 0.
    pub fn is_success(&self) -> Verdict {
        if self.code == 0 {
            Ok(())
        } else {
            Err(format!("exit code {}, expected 0: {}", self.code, self.stderr.trim_end()))
        }
    }

    /// One of these codes, and exactly one error line, printable, of the agreed shape, that names one of `objects`.
    pub fn is_refusal(&self, codes: &[i32], objects: &[&str]) -> Verdict {
        let said = self.stderr.trim_end();
        if !codes.contains(&self.code) {
            return Err(format!("exit code {}, expected {codes:?}: {said}", self.code));
        }
        let errors: Vec<&str> = self.stderr.split('\n').filter(|line| line.starts_with("cstor: error: ")).collect();
        let [error] = errors[..] else {
            return Err(format!("{} error lines: {said}", errors.len()));
        };
        let hidden =
            |char: char| char.is_control() || matches!(char, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
        if self.stderr.chars().any(|char| char != '\n' && hidden(char)) {
            return Err(format!("unescaped characters: {said:?}"));
        }
        // <object>: <what is wrong>: <what to do>
        if error["cstor: error: ".len()..].split(": ").count() < 3 {
            return Err(format!("not of three parts: {error}"));
        }
        if !objects.is_empty() && !objects.iter().any(|object| error.contains(object)) {
            return Err(format!("names none of {objects:?}: {error}"));
        }
        // A path of 4,096 bytes may be shown; what is longer is none.
        if error.len() > 4096 + 512 {
            return Err(format!("an error line of {} bytes", error.len()));
        }
        Ok(())
    }
}

/// Runs a table: every row for every subject, all failures reported together.
pub fn table<R>(rows: &[R], name: impl Fn(&R) -> &str, check: impl Fn(&R, Subject) -> Verdict) {
    let mut failures = Vec::new();
    for row in rows {
        for &subject in Subject::all() {
            if let Err(reason) = check(row, subject) {
                failures.push(format!("{} ({subject:?}): {reason}", name(row)));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} rows failed:\n{}", failures.len(), rows.len(), failures.join("\n"));
}

/// Peak resident set by the kernel's own count; 0 when the process is already a zombie.
fn resident_peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or_default()
}

/// Everything about a tree but its access times: path to facts.
pub fn seal(root: &Path) -> BTreeMap<String, String> {
    let mut seal = BTreeMap::new();
    add(root, "", &mut seal);
    return seal;

    fn add(path: &Path, relative: &str, seal: &mut BTreeMap<String, String>) {
        let Ok(metadata) = path.symlink_metadata() else { return };
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            path.read_link().map(|target| target.display().to_string()).unwrap_or_default()
        } else if kind.is_file() && metadata.len() <= HASHED {
            std::fs::read(path).map(|bytes| format!("{:x?}", Sha256::digest(bytes).as_slice())).unwrap_or_default()
        } else {
            String::new()
        };
        let facts = format!(
            "{:o} {}:{} {} {}.{:09} {} {} {content}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.nlink(),
            metadata.rdev(),
        );
        seal.insert(relative.to_owned(), facts);
        if kind.is_dir() {
            for entry in path.read_dir().into_iter().flatten().flatten() {
                let name = entry.file_name().as_bytes().escape_ascii().to_string();
                let slash = if relative.is_empty() { "" } else { "/" };
                add(&entry.path(), &format!("{relative}{slash}{name}"), seal);
            }
        }
    }
}

/// What two seals do not agree on.
fn changes(what: &str, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Verdict {
    let gone = before.iter().filter(|(path, facts)| after.get(*path) != Some(facts)).map(|(path, _)| path);
    let new = after.keys().filter(|path| !before.contains_key(*path));
    let paths: Vec<&String> = gone.chain(new).collect();
    if paths.is_empty() { Ok(()) } else { Err(format!("the {what} has changed: {paths:?}")) }
}

/// A tree as lines, sorted by path, without its root: `d 755 path`, `f 644 path = content`, `h 644 path == first name`,
/// `l path -> target`, `p 644 path`, `c 644 path`. Long content is cut, bytes beyond printable ASCII are escaped.
pub fn listing(root: &Path) -> Vec<String> {
    let (mut lines, mut inodes) = (Vec::new(), BTreeMap::new());
    add(root, Vec::new(), &mut lines, &mut inodes);
    return lines;

    fn add(path: &Path, relative: Vec<u8>, lines: &mut Vec<String>, inodes: &mut BTreeMap<u64, (String, u32)>) {
        let metadata = path.symlink_metadata().expect("a path of the listing");
        let (kind, mode) = (metadata.file_type(), metadata.mode() & 0o7777);
        let name = relative.escape_ascii().to_string();
        // An owner may look into what the mode hides; the tree is thrown away afterwards.
        let hidden = (kind.is_dir() && mode & 0o500 != 0o500) || (kind.is_file() && mode & 0o400 == 0);
        if hidden && !rustix::process::geteuid().is_root() {
            std::fs::set_permissions(path, Permissions::from_mode(mode | 0o700)).unwrap_or_default();
        }
        if kind.is_dir() {
            if !relative.is_empty() {
                lines.push(format!("d {mode:o} {name}"));
            }
            let mut children: Vec<_> =
                path.read_dir().expect("a directory").map(|entry| entry.expect("an entry")).collect();
            children.sort_by_key(std::fs::DirEntry::file_name);
            for child in children {
                let slash: &[u8] = if relative.is_empty() { b"" } else { b"/" };
                add(&child.path(), [&relative, slash, child.file_name().as_bytes()].concat(), lines, inodes);
            }
            return;
        }
        // The mode as first seen: looking into the file may have changed it since.
        if let Some((first, mode)) = inodes.get(&metadata.ino()) {
            lines.push(format!("h {mode:o} {name} == {first}"));
            return;
        }
        inodes.insert(metadata.ino(), (name.clone(), mode));
        lines.push(if kind.is_symlink() {
            let target = path.read_link().expect("a link");
            format!("l {name} -> {}", target.as_os_str().as_bytes().escape_ascii())
        } else if kind.is_file() {
            let content = std::fs::read(path).expect("a file of the result");
            let shown = &content[..content.len().min(40)];
            format!("f {mode:o} {name} = {}", shown.escape_ascii()).trim_end().to_owned()
        } else {
            let letter = if kind.is_fifo() { 'p' } else { 'c' };
            format!("{letter} {mode:o} {name}")
        });
    }
}
