//! A private directory, and its removal.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A directory of this process alone. A target never returns from its last input: `run.sh` sets TMPDIR and removes
/// what is left in it.
pub fn scratch(name: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(name).tempdir().expect("a directory")
}

/// Removes a tree, whatever modes its directories have.
pub fn remove(path: &Path) {
    let Ok(found) = path.symlink_metadata() else { return };
    if !found.is_dir() {
        return fs::remove_file(path).expect("our own file");
    }
    if found.permissions().mode() & 0o700 != 0o700 {
        fs::set_permissions(path, Permissions::from_mode(0o700)).expect("our own directory");
    }
    for entry in fs::read_dir(path).expect("our own directory") {
        remove(&entry.expect("a name").path());
    }
    fs::remove_dir(path).expect("our own directory");
}
