//! Configuration that is no small regular file: one error that names it, exit 1, at once. What the values mean is the
//! matter of `info`.

use cstor_tests::built;
use cstor_tests::run::run;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Far more than reading a file of a mebibyte takes, and far less than one of 100 MB or without an end.
const AT_ONCE: Duration = Duration::from_secs(3);

type Make = fn(&Path);

/// What can stand where a file belongs, and what is said of it.
const KINDS: [(&str, Make, &str); 7] = [
    ("a device without an end", |path| symlink("/dev/zero", path).unwrap(), "not a regular file"),
    ("a terminal", |path| symlink("/dev/tty", path).unwrap(), ""),
    ("a FIFO", |path| mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0).unwrap(), "not a regular file"),
    ("a directory", |path| fs::create_dir(path).unwrap(), "not a regular file"),
    ("a socket", |path| drop(UnixListener::bind(path).unwrap()), "not a regular file"),
    (
        "100 MB of text",
        |path| {
            let mut file = File::create(path).unwrap();
            for _ in 0..100 {
                file.write_all("# comment\n".repeat(100_000).as_bytes()).unwrap();
            }
        },
        "larger than 1048576 bytes",
    ),
    ("a file of a tebibyte", |path| File::create(path).unwrap().set_len(1 << 40).unwrap(), "larger than 1048576 bytes"),
];

/// Where configuration is looked for beneath a home directory, or which variable names it.
const PLACES: [(&str, &str, Option<&str>); 5] = [
    ("named", "named.conf", Some("CONTAINERS_STORAGE_CONF")),
    ("override", "override.conf", Some("CONTAINERS_STORAGE_CONF_OVERRIDE")),
    ("the user's own", ".config/containers/storage.conf", None),
    ("a drop-in", ".config/containers/storage.conf.d/10-one.conf", None),
    ("below XDG_CONFIG_HOME", "xdg/containers/storage.conf", Some("XDG_CONFIG_HOME=xdg")),
];

/// `cstor image list` at home in a directory, without anything else of the caller's.
fn cstor(home: &Path, variable: Option<&str>, path: &Path) -> Command {
    let mut command = Command::new(built::program("cstor"));
    command.env_clear().env("HOME", home).env("LC_ALL", "C").current_dir(home).args(["image", "list"]);
    match variable.map(|variable| variable.split_once('=').unwrap_or((variable, ""))) {
        Some((name, "")) => command.env(name, path),
        Some((name, below)) => command.env(name, home.join(below)),
        None => &mut command,
    };
    command
}

fn place(home: &TempDir, below: &str) -> PathBuf {
    let path = home.path().join(below);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

#[test]
fn configuration_that_is_no_small_file_is_one_error_at_once() {
    for (what, below, variable) in PLACES {
        for (kind, make, why) in KINDS {
            if (what, kind) == ("a drop-in", "a directory") {
                // Not one: neither podman nor cstor descends.
                continue;
            }
            let home = TempDir::new().unwrap();
            let path = place(&home, below);
            make(&path);
            let ended = run(&mut cstor(home.path(), variable, &path));
            // By the older rules root has no file of its own; by the newer ones it does.
            let said = format!("{what}, {kind}: {}: {}", ended.code(), ended.stderr);
            assert_eq!(ended.code(), 1, "{said}");
            assert_eq!(ended.stderr.lines().count(), 1, "{said}");
            assert!(ended.stderr.starts_with(&format!("cstor: error: {}: cannot be read: ", path.display())), "{said}");
            assert!(ended.stderr.contains(why), "{said}");
            assert!(ended.stderr.contains("or name the store with --root"), "{said}");
            assert!(ended.took < AT_ONCE, "{said}: took {:?}", ended.took);
        }
    }
}

/// The files of the system, in a mount namespace of its own.
#[test]
fn configuration_of_the_system_is_read_as_carefully() {
    if !rustix::process::geteuid().is_root() {
        return cstor_tests::lab::skip("mounts need root");
    }
    let system = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];
    for path in system.into_iter().filter(|path| Path::new(path).is_file()) {
        let home = TempDir::new().unwrap();
        let command = cstor(home.path(), None, Path::new(path));
        for (what, device) in [("a device", "/dev/zero"), ("a FIFO", "fifo")] {
            let script = format!("mkfifo -m 600 fifo 2>/dev/null; mount --bind {device} {path} && exec \"$@\"");
            let mut wrapped = Command::new("unshare");
            wrapped.args(["--mount", "sh", "-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
            wrapped.current_dir(home.path()).env("HOME", home.path());
            let ended = run(&mut wrapped);
            assert_eq!(ended.code(), 1, "{path} is {what}: {}", ended.stderr);
            let expected = format!("cstor: error: {path}: cannot be read: not a regular file: ");
            assert!(ended.stderr.starts_with(&expected), "{path} is {what}: {}", ended.stderr);
            assert!(ended.took < AT_ONCE, "{path} is {what}: took {:?}", ended.took);
        }
    }
}

/// What is small and regular is read, and a missing file is none.
#[test]
fn configuration_that_is_a_file_is_read() {
    let home = TempDir::new().unwrap();
    let path = place(&home, ".config/containers/storage.conf.d/10-one.conf");
    let list = |home: &TempDir| run(&mut cstor(home.path(), None, Path::new("")));
    assert_ne!(list(&home).code(), 1, "no file");
    fs::write(&path, "[storage\n").unwrap();
    let ended = list(&home);
    assert!(ended.code() == 1 && ended.stderr.contains("not a valid storage.conf"), "{}", ended.stderr);
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(&path, Permissions::from_mode(0o0)).unwrap();
        let ended = list(&home);
        assert!(ended.code() == 6 && ended.stderr.contains("10-one.conf"), "{}", ended.stderr);
    }
}
