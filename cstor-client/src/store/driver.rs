//! Which storage driver a root belongs to, by the names at its top: every driver prefixes its directories with its own
//! name (containers/storage store.go, `load`). Only the overlay driver's are read here.

use rustix::fs::{Dir, Mode, OFlags, openat};

use super::{Root, StoreError};

/// What containers/storage and podman make in a root before the first layer or image is there.
const BEGINNINGS: [&str; 7] =
    ["storage.lock", "userns.lock", "overlay", "overlay-containers", "libpod", "db.sql", "defaultNetworkBackend"];
/// How many names an error lists.
const MAX_FOUND: usize = 5;

/// An empty directory is an empty store; one with anything else in it is refused.
pub(super) fn refuse_other_layouts(root: &Root) -> Result<(), StoreError> {
    if root.has("overlay-layers") || root.has("overlay-images") {
        return Ok(());
    }
    let mut names = names(root)?;
    names.sort();
    let driver = names.iter().find_map(|name| name.strip_suffix("-layers").or_else(|| name.strip_suffix("-images")));
    if let Some(driver) = driver {
        return Err(StoreError::Driver { path: root.path().into(), driver: driver.to_owned() });
    }
    if names.is_empty() || names.iter().any(|name| BEGINNINGS.contains(&name.as_str())) {
        return Ok(());
    }
    names.truncate(MAX_FOUND);
    Err(StoreError::UnknownLayout { path: root.path().into(), found: names })
}

/// The names at the top that are text; others are no driver's.
fn names(root: &Root) -> Result<Vec<String>, StoreError> {
    let failed = |errno| StoreError::read(root.path().into(), errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(root.dir(), ".", flags, Mode::empty()).and_then(Dir::new).map_err(failed)?;
    let mut names = Vec::new();
    for entry in dir {
        let entry = entry.map_err(failed)?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            bytes => names.push(bytes.escape_ascii().to_string()),
        }
    }
    Ok(names)
}
