//! A private directory in memory, where there is one, and its removal.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A directory of this process alone, on tmpfs if `/dev/shm` is one.
pub fn scratch(name: &str) -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix(name);
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).expect("a directory")
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
