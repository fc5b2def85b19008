//! The programs under test, where cargo puts what it builds beside this very test: `target/PROFILE/NAME`, whatever
//! `CARGO_TARGET_DIR` says. A program that is older than its sources is no program under test: cargo builds those of
//! other packages only when it is told to.

use crate::run::must;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Where cargo has put `name`, or `CSTOR_BIN_DIR` says it is. Panics where it is missing or older than its sources.
pub fn program(name: &str) -> PathBuf {
    if let Some(named) = std::env::var_os("CSTOR_BIN_DIR") {
        // Somebody else's build, whose sources are not here to be compared.
        let program = PathBuf::from(named).join(name);
        assert!(program.is_file(), "{}: missing, though CSTOR_BIN_DIR says so", program.display());
        return program;
    }
    let test = std::env::current_exe().expect("a test has a file");
    let program = test.ancestors().nth(2).expect("target/PROFILE/deps/NAME").join(name);
    // Once for each: who edits a source while a test runs does not want it to fail half-way.
    static CHECKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut checked = CHECKED.lock().unwrap_or_else(PoisonError::into_inner);
    if checked.contains(&program) {
        return program;
    }
    match newer_source(&program) {
        Ok(None) => {
            checked.insert(program.clone());
            program
        }
        Ok(Some(source)) => panic!("{}: older than {}: {ADVICE}", program.display(), source.display()),
        Err(error) => panic!("{}: {error}: {ADVICE}", program.display()),
    }
}

/// Copies a program to where others can reach it. Another process does it: a descriptor for writing, which a child of
/// another thread inherits, would keep the copy from being started (ETXTBSY).
#[track_caller]
pub fn install(program: impl AsRef<OsStr>, to: &Path) {
    must(Command::new("install").args(["-m", "755"]).arg(program).arg(to));
}

const ADVICE: &str = "build the workspace's programs first (cargo build --workspace --bins)";

/// A source that has changed since the program was built. Cargo lists them beside it, `PROGRAM: SOURCE SOURCE …`, with a
/// backslash before each space in a path (the dep-info files of the Cargo book, "Build Cache").
fn newer_source(program: &Path) -> std::io::Result<Option<PathBuf>> {
    let changed = |path: &Path| -> std::io::Result<SystemTime> { path.metadata()?.modified() };
    let built = changed(program)?;
    let rule = std::fs::read_to_string(program.with_extension("d"))?;
    let sources = rule.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, sources)| sources);
    let sources = sources.replace("\\ ", "\0");
    let sources = sources.split_ascii_whitespace().map(|source| PathBuf::from(source.replace('\0', " ")));
    // A source that is gone has been renamed, and what names it now is newer.
    Ok(sources.into_iter().find(|source| changed(source).is_ok_and(|changed| changed > built)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::time::Duration;

    #[test]
    fn a_program_older_than_a_source_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let [program, source, other] = ["cstor", "a source.rs", "other.rs"].map(|name| dir.path().join(name));
        let shown = |path: &Path| path.to_str().unwrap().replace(' ', "\\ ");
        for path in [&program, &source, &other] {
            fs::write(path, "").unwrap();
        }
        assert!(newer_source(&program).is_err(), "nobody knows its sources");
        let rule = format!("{}: {} {} /gone.rs\n", shown(&program), shown(&other), shown(&source));
        fs::write(dir.path().join("cstor.d"), rule).unwrap();
        let built = fs::metadata(&program).unwrap().modified().unwrap();
        for path in [&source, &other] {
            File::open(path).unwrap().set_modified(built - Duration::from_secs(1)).unwrap();
        }
        assert_eq!(newer_source(&program).unwrap(), None);
        File::open(&source).unwrap().set_modified(built + Duration::from_secs(1)).unwrap();
        assert_eq!(newer_source(&program).unwrap(), Some(source));
    }
}
