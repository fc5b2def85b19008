//! Which store the user means: what storage.conf says by the rules of both generations, and which of both counts.
//!
//! It decides on paths and opens no store. containers/storage up to 1.62 (podman 4 and 5) and since 1.63
//! read their configuration by different rules (`rules.rs`); which of them wrote a store cannot be known, so
//! both are asked, and where they differ the one that has a store wins.
#![allow(clippy::disallowed_methods, reason = "configuration files are the only files that are found by path")]

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

pub use super::LockState;
use super::StoreError;
use super::conf::Table;
use super::location::Location;
pub use super::podman_db::Database;
use super::rules::User;
pub use super::rules::{Rules, Step};
pub use super::settings::{Origin, Setting, Settings};
pub use super::territory::Territory;
pub use super::warning::Warning;
use crate::base::small_file::read_small;

/// What the decision depends on.
pub(super) trait Surroundings {
    fn var(&self, name: &str) -> Option<OsString>;
    fn uid(&self) -> u32;
    /// The home directory of the user database, for when `HOME` is not set.
    fn home_of_record(&self) -> Option<PathBuf>;
    /// A file's bytes; `None` if there is no such file.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// The names in a directory that are not directories; `None` if there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// Whether it is a directory of this user that nobody else may write to.
    fn is_own_dir(&self, path: &Path) -> bool;
    /// Whether a store with layers or images is there.
    fn has_store(&self, root: &Path) -> bool;
}

/// Which store is meant, and how that was found out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Discovery {
    /// What counts.
    pub settings: Settings,
    /// By which rules; `None` where the caller named the root.
    pub rules: Option<Rules>,
    /// Why by those.
    pub why: &'static str,
    /// What the other rules lead to, where that is another store.
    pub other: Option<Settings>,
    /// What was looked at, in this order.
    pub steps: Vec<Step>,
}

impl Discovery {
    /// For this process: the store that [`Storage::discover`](crate::Storage::discover) opens.
    pub fn of_this_process() -> Result<Discovery, StoreError> {
        decide(&Process)
    }

    /// For a caller who names the root, and options of the driver as podman's `--storage-opt` takes them.
    pub fn given(root: &Path, options: &[impl AsRef<str>]) -> Discovery {
        let options: Vec<&str> = options.iter().map(AsRef::as_ref).collect();
        let settings = Settings::given(root, &options, &User::new(&Process));
        Discovery { settings, rules: None, why: "named on the command line", other: None, steps: Vec::new() }
    }

    /// What podman's own database says about the root. podman, but not buildah or skopeo, believes it more than
    /// storage.conf, unless it is told the root (libpod/runtime.go, `mergeDBConfig`).
    pub fn database(&self) -> Database {
        let place = if self.settings.transient_store.value { &self.settings.run_root } else { &self.settings.root };
        Database::read(&self.settings.root.value, &place.value)
    }

    /// What may surprise about it, with what podman's database says.
    pub fn warnings(&self, database: &Database) -> Vec<Warning> {
        // podman resolves links before it writes a path down.
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        self.surprises(database, |one, other| real(one) == real(other))
    }
}

const EACH_HAS_ONE: &str = "each generation of rules leads to a store of its own; the older ones count";

/// The settings for opening a store, with a word where the choice was one.
pub(crate) fn locate() -> Result<Settings, StoreError> {
    let Discovery { settings, why, other, .. } = Discovery::of_this_process()?;
    if let Some(other) = other.filter(|_| why == EACH_HAS_ONE) {
        tracing::warn!(
            chosen = %settings.root.value.display(), other = %other.root.value.display(),
            "containers/storage before and since 1.63 would use different stores here; --root chooses"
        );
    }
    Ok(settings)
}

/// Where podman may keep stores for this user, by either generation of rules. Where the configuration cannot be
/// understood it is the default place: what depends on it is not the reading of a store.
pub(super) fn locations() -> Vec<Location> {
    match Discovery::of_this_process() {
        Ok(found) => {
            [Some(&found.settings), found.other.as_ref()].into_iter().flatten().map(Settings::location).collect()
        }
        Err(error) => {
            tracing::debug!(%error, "podman's own store is taken to be at its default place");
            Settings::of(&Table::default(), &User::new(&Process))
                .map(|settings| settings.location())
                .into_iter()
                .collect()
        }
    }
}

fn decide(around: &dyn Surroundings) -> Result<Discovery, StoreError> {
    let user = User::new(around);
    let newer = user.by_newer_rules()?;
    let new_rules_only = around.var("CONTAINERS_STORAGE_CONF_OVERRIDE").is_some_and(|value| !value.is_empty());
    let older = if new_rules_only { None } else { Some(user.by_older_rules()?) };
    let steps = user.steps.take();
    let Some(older) = older else {
        let why = "CONTAINERS_STORAGE_CONF_OVERRIDE is set, which only the newer rules know";
        return Ok(Discovery { settings: newer, rules: Some(Rules::Newer), why, other: None, steps });
    };
    let has_store = |settings: &Settings| around.has_store(&settings.root.value);
    let (rules, why) = if older.root.value == newer.root.value {
        (Rules::Newer, "both generations of rules lead to the same root")
    } else if has_store(&older) && has_store(&newer) {
        (Rules::Older, EACH_HAS_ONE)
    } else if has_store(&newer) {
        (Rules::Newer, "only the root of the newer rules has a store")
    } else if has_store(&older) {
        (Rules::Older, "only the root of the older rules has a store")
    } else {
        (Rules::Older, "neither root has a store; the older rules count")
    };
    let (settings, other) = match rules {
        Rules::Older => (older, newer),
        Rules::Newer => (newer, older),
    };
    let other = Some(other).filter(|other| !other.leads_where(&settings));
    Ok(Discovery { settings, rules: Some(rules), why, other, steps })
}

/// The real surroundings.
struct Process;

impl Surroundings for Process {
    fn var(&self, name: &str) -> Option<OsString> {
        env::var_os(name)
    }

    fn uid(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn home_of_record(&self) -> Option<PathBuf> {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten()?;
        Some(user.dir)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        read_small(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let entries = match std::fs::read_dir(dir) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            // Links count, as they do for podman (pkg/configfile/parse.go, `readDropInsFromPaths`).
            if !entry.file_type()?.is_dir() {
                names.push(entry.file_name());
            }
        }
        Ok(names)
    }

    fn is_own_dir(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path)
            .is_ok_and(|found| found.is_dir() && found.uid() == self.uid() && found.mode() & 0o722 == 0o700)
    }

    fn has_store(&self, root: &Path) -> bool {
        ["overlay-layers", "overlay-images"].iter().any(|dir| root.join(OsStr::new(dir)).is_dir())
    }
}

#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod tests;
