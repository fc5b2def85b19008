//! The lab that `tests/lab.sh up` prepared, as the tests see it: who the throw-away user is, where the stores and file
//! systems are, how to run a program as that user or as root, and the stand-in for `podman` that enters a namespace
//! without touching any store. It prepares nothing itself; without a lab a test says so and passes, except under
//! `CSTOR_REQUIRE_ALL=1`.

use crate::built;
use crate::run::{self, Ended};
use crate::tree::{self, Listing};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// Where every program of the system is, podman included.
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// What `lab.sh env` says.
#[derive(Debug)]
pub struct Lab {
    values: BTreeMap<String, String>,
    executables: PathBuf,
}

/// On whose behalf a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The throw-away user, who has subordinate ids and no privilege.
    User,
    /// Root of the machine.
    Root,
}

/// The file systems of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fs {
    /// With reflinks; a symlink's target has at most 1024 bytes.
    Xfs,
    /// With reflinks.
    Btrfs,
    /// Without reflinks.
    Ext4,
    /// An XFS of the smallest size, empty, for filling up.
    Small,
}

/// Gives the lab to a test or ends it with `skipped: <why>`.
#[macro_export]
macro_rules! lab_or_skip {
    () => {
        match $crate::lab::Lab::get() {
            Ok(lab) => lab,
            Err(why) => return $crate::lab::skip(why),
        }
    };
}

/// Says why a test does nothing, past the capture of the test harness, and in the file that `CSTOR_SKIPPED` names, by
/// which `make test` counts. Fails where nothing may be skipped.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CSTOR_REQUIRE_ALL").is_none_or(|v| v != "1"), "must not be skipped: {why}");
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {why}");
    if let Some(list) = std::env::var_os("CSTOR_SKIPPED") {
        let mut list = fs::File::options().append(true).create(true).open(list).expect("the list of what was skipped");
        // One write, so that lines of two tests do not mix.
        list.write_all(format!("{name}\t{why}\n").as_bytes()).expect("a line in it");
    }
}

impl Lab {
    /// The lab, or why there is none.
    pub fn get() -> Result<&'static Lab, &'static str> {
        static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
        LAB.get_or_init(Lab::find).as_ref().map_err(String::as_str)
    }

    fn find() -> Result<Lab, String> {
        if let Ok(why) = std::env::var("CSTOR_LAB_WHY_NOT") {
            return Err(why);
        }
        if !rustix::process::geteuid().is_root() {
            return Err("the lab needs root (throw-away user, loop mounts)".to_owned());
        }
        let place = std::env::var("CSTOR_LAB").unwrap_or_else(|_| "/var/tmp/cstor-lab".to_owned());
        let lines = fs::read_to_string(Path::new(&place).join("env"))
            .map_err(|_| format!("no lab in {place}: run `make test`, or `tests/lab.sh up` once"))?;
        let values = lines
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let mut lab = Lab { values, executables: PathBuf::new() };
        lab.executables = lab.install().map_err(|e| format!("the executables: {e}"))?;
        Ok(lab)
    }

    /// Copies what cargo built to where the user can reach it (a target directory below /root is closed to others).
    /// Each file is replaced by a rename, because another test executable may be running the old one.
    fn install(&self) -> std::io::Result<PathBuf> {
        let place = self.place("CSTOR_LAB").join("bin");
        fs::create_dir_all(&place)?;
        for name in ["cstor", "cstor-helper", "cstor-lab-rpc", "cstor-lab-sandbox", "cstor-lab-tree"] {
            let (from, to) = (built::program(name), place.join(name));
            let fresh = fs::metadata(&from).map_err(|e| std::io::Error::new(e.kind(), format!("{name}: {e}")))?;
            let same = |old: fs::Metadata| old.len() == fresh.len() && old.modified().ok() == fresh.modified().ok();
            if fs::metadata(&to).is_ok_and(same) {
                continue;
            }
            let copy = place.join(format!(".{name}.{}", std::process::id()));
            fs::copy(&from, &copy)?;
            fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
            fs::File::open(&copy)?.set_modified(fresh.modified()?)?;
            fs::rename(&copy, &to)?;
        }
        Ok(place)
    }

    fn value(&self, key: &str) -> &str {
        self.values.get(key).unwrap_or_else(|| panic!("lab.sh env does not say {key}"))
    }

    fn place(&self, key: &str) -> PathBuf {
        PathBuf::from(self.value(key))
    }

    /// The user's id on the host.
    pub fn uid(&self) -> u32 {
        self.value("CSTOR_LAB_UID").parse().expect("a number")
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        self.value("CSTOR_LAB_USER")
    }

    fn gid(&self) -> u32 {
        self.value("CSTOR_LAB_GID").parse().expect("a number")
    }

    /// The top of a file system.
    pub fn fs(&self, fs: Fs) -> PathBuf {
        self.place(match fs {
            Fs::Xfs => "CSTOR_LAB_XFS",
            Fs::Btrfs => "CSTOR_LAB_BTRFS",
            Fs::Ext4 => "CSTOR_LAB_EXT4",
            Fs::Small => "CSTOR_LAB_SMALL",
        })
    }

    /// A directory of the user on a file system mounted read-only.
    pub fn read_only(&self) -> PathBuf {
        self.place("CSTOR_LAB_READONLY")
    }

    /// The store `name` on a file system: `tour`, `chunked` (unpacked in the namespace), `root-tour`, `root-chunked`
    /// (unpacked by root), on XFS also `local` (made by this machine's podman; the user's default store) and
    /// `root-local` (its copy by root).
    pub fn store(&self, fs: Fs, name: &str) -> PathBuf {
        self.fs(fs).join("stores").join(name)
    }

    /// A program in a clean environment, as the user would start it after logging in.
    pub fn command(&self, who: Who, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", SYSTEM_PATH).env("LC_ALL", "C.UTF-8").current_dir("/");
        match who {
            Who::Root => command.env("HOME", "/root"),
            Who::User => command
                .env("HOME", self.value("CSTOR_LAB_HOME"))
                .env("USER", self.user())
                .env("XDG_RUNTIME_DIR", self.value("CSTOR_LAB_RUNTIME"))
                // Sets the supplementary groups to none as well.
                .uid(self.uid())
                .gid(self.gid()),
        };
        command
    }

    /// Where `cstor`, `cstor-helper`, `cstor-lab-rpc`, `cstor-lab-sandbox` and `cstor-lab-tree` are.
    pub fn executable(&self, name: &str) -> PathBuf {
        self.executables.join(name)
    }

    /// `cstor --root STORE`.
    pub fn cstor(&self, who: Who, store: &Path) -> Command {
        let mut command = self.command(who, self.executable("cstor"));
        command.arg("--root").arg(store);
        command
    }

    /// `cstor --root STORE` with at most `n` open descriptors, soft and hard.
    pub fn cstor_with_descriptors(&self, n: u32, who: Who, store: &Path) -> Command {
        let mut command = self.command(who, "prlimit");
        command.arg(format!("--nofile={n}:{n}")).arg(self.executable("cstor")).arg("--root").arg(store);
        command
    }

    /// An empty directory on a file system that is removed with all it holds.
    pub fn scratch(&self, who: Who, fs: Fs) -> TempDir {
        let directory = TempDir::new_in(self.fs(fs).join("out")).expect("a scratch directory");
        if who == Who::User {
            chown(directory.path(), Some(self.uid()), Some(self.gid())).expect("root may chown");
        }
        directory
    }

    /// An archive of a store, unpacked in an empty directory: by root, or in the user's namespace.
    pub fn unpack(&self, who: Who, fs: Fs, archive: &Path) -> TempDir {
        let scratch = self.scratch(who, fs);
        // The user may not search the directory of the sources.
        let file = scratch.path().join("archive.tar.zst");
        fs::copy(archive, &file).expect("an archive");
        let mut command = match who {
            Who::Root => Command::new("tar"),
            Who::User => self.command(who, "podman"),
        };
        if who == Who::User {
            command.args(["unshare", "tar"]);
        }
        command.args(["--warning=no-timestamp", "--zstd", "--xattrs", "--xattrs-include=*", "--numeric-owner"]);
        run::must(command.arg("-C").arg(scratch.path()).arg("-xf").arg(&file));
        fs::remove_file(file).expect("our own copy");
        scratch
    }

    /// What podman itself shows of an image of the user's default store: its own mount, listed inside the namespace,
    /// so with container ids.
    pub fn podman_shows(&self, image: &str) -> Listing {
        let script = r#"mounted=$(podman image mount "$1") && "$2" "$mounted"; s=$?
                        podman image unmount "$1" >/dev/null && exit $s"#;
        let mut command = self.command(Who::User, "podman");
        command.args(["unshare", "sh", "-c", script, "sh", image]).arg(self.executable("cstor-lab-tree"));
        tree::parse(&run::must(&mut command)).expect("lines of JSON")
    }

    /// Every path of a directory that is there without having been asked for: after a failed `extract`, the target or
    /// its sibling.
    pub fn names_in(&self, directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let mut names: Vec<String> =
            entries.map(|e| tree::chars(e.expect("an entry").file_name().as_encoded_bytes())).collect();
        names.sort();
        names
    }
}

/// A stand-in for `podman` that knows `unshare` only: it notes each start, enters a user namespace with all the user's
/// ids mapped, and never opens a store (podman itself writes its locks).
#[derive(Debug)]
pub struct Launcher {
    directory: TempDir,
}

impl Launcher {
    /// With `wrap` between the namespace and the helper: a tracer, a delay, or nothing.
    pub fn new(lab: &Lab, wrap: &str) -> Launcher {
        Launcher::of(lab, &format!("exec unshare --map-root-user --map-auto {wrap} \"$@\""))
    }

    /// With other last words: the shell commands to run, `$@` being the helper and its arguments.
    pub fn of(lab: &Lab, commands: &str) -> Launcher {
        let directory = TempDir::new_in(lab.place("CSTOR_LAB").join("tmp")).expect("a directory for the launcher");
        let launcher = Launcher { directory };
        let script = format!(
            "#!/bin/sh\necho \"$$ $*\" >>{}\n[ \"$1\" = unshare ] || exit 125\nshift\n[ \"$1\" != -- ] || shift\n{commands}\n",
            launcher.log().display()
        );
        for (path, content, mode) in [(launcher.log(), "", 0o666), (launcher.path().join("podman"), &*script, 0o755)] {
            fs::write(&path, content).expect("the launcher's files");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("root may chmod");
        }
        // The tracer of `wrap` writes here as the user.
        fs::set_permissions(launcher.path(), Permissions::from_mode(0o777)).expect("root may chmod");
        launcher
    }

    /// The directory that holds the stand-in.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn log(&self) -> PathBuf {
        self.path().join("starts")
    }

    /// Puts the stand-in before the real podman.
    pub fn before<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("PATH", format!("{}:{SYSTEM_PATH}", self.path().display()))
    }

    /// How often it has been started.
    pub fn starts(&self) -> usize {
        fs::read_to_string(self.log()).expect("the launcher's log").lines().count()
    }
}

/// Whether two paths are on one device, so that a reflink is possible at all.
pub fn same_device(a: &Path, b: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).expect("a path of the lab");
    device(a) == device(b)
}

/// The assertion every failing extraction ends with: this code, one line on stderr that says so, nothing in the
/// directory it was to write in, no process left.
#[track_caller]
pub fn assert_refused(lab: &Lab, ended: &Ended, code: i32, directory: &Path, what: &str) {
    assert_eq!(ended.code(), code, "{what}: {}", ended.stderr);
    assert_eq!(lab.names_in(directory), [""; 0], "{what}: left behind: {}", ended.stderr);
    assert_eq!(ended.leftovers(), [""; 0], "{what}: still running");
    if code != 130 {
        let errors = ended.stderr.lines().filter(|line| line.starts_with("cstor: error: ")).count();
        assert_eq!(errors, 1, "{what}: one error line: {}", ended.stderr);
    }
}
