//! Which storage.conf files count for a user, by the rules of either generation of containers/storage.
//!
//! Up to 1.62: types/options.go. Since 1.63: pkg/configfile/parse.go. Every file that was looked at is noted, and why
//! it counted or not. Which of both results is taken is decided in `discover.rs`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::conf::Table;
use super::discover::Surroundings;
use super::expand::expand;
use super::settings::{Origin, Setting, Settings};

const SYSTEM_CONFS: [&str; 2] = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];

/// All that a rootless user without a file of their own takes from the system's, up to 1.62 (`getRootlessStorageOpts`).
const ROOTLESS_FROM_SYSTEM: [&str; 5] = [
    "driver",
    "driver_priority",
    "rootless_storage_path",
    "options.ignore_chown_errors",
    "options.overlay.ignore_chown_errors",
];

/// A generation of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Of containers/storage up to 1.62: podman 4 and 5.
    Older,
    /// Of containers/storage since 1.63.
    Newer,
}

/// A file or variable that was looked at on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// By which rules.
    pub rules: Rules,
    /// The file, or `$NAME` of the variable.
    pub what: PathBuf,
    /// Whether it had a say.
    pub counted: bool,
    /// Why, or why not.
    pub why: &'static str,
}

/// Whose configuration it is.
pub(super) struct User<'a> {
    around: &'a dyn Surroundings,
    /// The uid outside of the namespace, where this is one that podman made; 0 is rootful.
    uid: u32,
    home: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME/containers` or `~/.config/containers`.
    config: Option<PathBuf>,
    pub(super) steps: RefCell<Vec<Step>>,
}

impl<'a> User<'a> {
    pub(super) fn new(around: &'a dyn Surroundings) -> User<'a> {
        let uid =
            match (around.uid(), around.var("_CONTAINERS_USERNS_CONFIGURED"), around.var("_CONTAINERS_ROOTLESS_UID")) {
                (0, Some(_), Some(outer)) => outer.to_str().and_then(|uid| uid.parse().ok()).unwrap_or(0),
                (uid, _, _) => uid,
            };
        let home = around.var("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let home = home.or_else(|| around.home_of_record());
        let config = match around.var("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()) {
            Some(dir) => Some(PathBuf::from(dir)),
            None => home.as_ref().map(|home| home.join(".config")),
        };
        User { around, uid, home, config: config.map(|dir| dir.join("containers")), steps: RefCell::default() }
    }

    pub(super) fn rootless(&self) -> bool {
        self.uid != 0
    }

    pub(super) fn var(&self, name: &str) -> Option<OsString> {
        self.around.var(name)
    }

    /// One file. A rootless user without one of their own takes little from the system's.
    pub(super) fn by_older_rules(&self) -> Result<Settings, StoreError> {
        let rules = Rules::Older;
        if let Some(path) = self.var("CONTAINERS_STORAGE_CONF") {
            self.note(rules, "$CONTAINERS_STORAGE_CONF", true, "set: names the only file");
            let table = self.conf(rules, Path::new(&path), "named by the variable")?;
            return Settings::of(&table.unwrap_or_default(), self);
        }
        let own_counts = self.rootless() || self.var("XDG_CONFIG_HOME").is_some_and(|dir| !dir.is_empty());
        if let Some(path) = self.config.as_ref().map(|dir| dir.join("storage.conf")) {
            if !own_counts {
                self.note(rules, path, false, "for root only where XDG_CONFIG_HOME is set");
            } else if let Some(table) = self.conf(rules, &path, "the user's own: counts alone")? {
                return Settings::of(&table, self);
            }
        }
        let why = match self.rootless() {
            true => "the system's: rootless users take driver and rootless_storage_path from it, little else",
            false => "the system's",
        };
        let mut table = self.first_of(rules, SYSTEM_CONFS.iter().map(PathBuf::from), why)?;
        if self.rootless() {
            table.keep_only(&ROOTLESS_FROM_SYSTEM);
        }
        Settings::of(&table, self)
    }

    /// The first main file, drop-ins over it, an override over all.
    pub(super) fn by_newer_rules(&self) -> Result<Settings, StoreError> {
        let rules = Rules::Newer;
        let named = |name: &str| self.var(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let must = |path: &Path| -> Result<Table, StoreError> {
            let table = self.conf(rules, path, "named by the variable")?;
            table.ok_or_else(|| StoreError::ConfMissing { path: path.into() })
        };
        let mut table = match named("CONTAINERS_STORAGE_CONF") {
            Some(path) => {
                self.note(rules, "$CONTAINERS_STORAGE_CONF", true, "set: no other main file and no drop-ins");
                must(&path)?
            }
            None => {
                let own = self.config.as_ref().map(|dir| dir.join("storage.conf"));
                let paths = own.into_iter().chain(SYSTEM_CONFS.iter().map(PathBuf::from));
                let mut table = self.first_of(rules, paths, "the first main file that exists")?;
                for path in self.drop_ins()?.into_values() {
                    if let Some(over) = self.conf(rules, &path, "drop-in, laid over the files before it")? {
                        table.overlay(over);
                    }
                }
                table
            }
        };
        if let Some(path) = named("CONTAINERS_STORAGE_CONF_OVERRIDE") {
            self.note(rules, "$CONTAINERS_STORAGE_CONF_OVERRIDE", true, "set: names the last file");
            table.overlay(must(&path)?);
        }
        Settings::of(&table, self)
    }

    /// The drop-ins by file name, in the order in which they apply; of one name the last directory counts.
    fn drop_ins(&self) -> Result<BTreeMap<OsString, PathBuf>, StoreError> {
        let mut dirs = Vec::new();
        for base in ["/usr/share/containers", "/etc/containers"].map(Path::new) {
            dirs.push(base.join("storage.conf.d"));
            if self.rootless() {
                dirs.push(base.join("storage.rootless.conf.d"));
                dirs.push(base.join("storage.rootless.conf.d").join(self.uid.to_string()));
            } else {
                dirs.push(base.join("storage.rootful.conf.d"));
            }
        }
        dirs.extend(self.config.as_ref().map(|dir| dir.join("storage.conf.d")));
        let mut files = BTreeMap::new();
        for dir in dirs {
            let names = self.around.list(&dir).map_err(|source| StoreError::ConfRead { path: dir.clone(), source })?;
            for name in names.into_iter().filter(|name| name.as_encoded_bytes().ends_with(b".conf")) {
                let path = dir.join(&name);
                if let Some(hidden) = files.insert(name, path) {
                    self.note(Rules::Newer, hidden, false, "hidden by a drop-in of the same name");
                }
            }
        }
        Ok(files)
    }

    fn first_of(
        &self,
        rules: Rules,
        paths: impl Iterator<Item = PathBuf>,
        why: &'static str,
    ) -> Result<Table, StoreError> {
        for path in paths {
            if let Some(table) = self.conf(rules, &path, why)? {
                return Ok(table);
            }
        }
        Ok(Table::default())
    }

    fn conf(&self, rules: Rules, path: &Path, why: &'static str) -> Result<Option<Table>, StoreError> {
        let bytes = self.around.read(path).map_err(|source| StoreError::ConfRead { path: path.into(), source })?;
        let Some(bytes) = bytes else {
            self.note(rules, path, false, "does not exist");
            return Ok(None);
        };
        self.note(rules, path, true, why);
        let parsed = Table::parse(&bytes, path);
        Ok(Some(parsed.map_err(|source| StoreError::ConfSyntax { path: path.into(), source })?))
    }

    fn note(&self, rules: Rules, what: impl Into<PathBuf>, counted: bool, why: &'static str) {
        self.steps.borrow_mut().push(Step { rules, what: what.into(), counted, why });
    }

    pub(super) fn expand(&self, path: &str) -> PathBuf {
        expand(path, self.uid, |name| match name {
            "HOME" => self.home.clone().map(PathBuf::into_os_string),
            _ => self.var(name),
        })
    }

    pub(super) fn default_root(&self) -> Result<Setting<PathBuf>, StoreError> {
        let (data, origin) = match self.var("XDG_DATA_HOME").filter(|dir| !dir.is_empty()) {
            Some(dir) => (PathBuf::from(dir), Origin::Environment { name: "XDG_DATA_HOME" }),
            None => {
                let home = self.home.as_ref().ok_or(StoreError::NoHome { uid: self.uid })?;
                (home.join(".local/share"), Origin::Default)
            }
        };
        Ok(Setting { value: data.join("containers/storage"), origin })
    }

    /// `$XDG_RUNTIME_DIR/containers`, else below /run/user or, where that is not the user's, in a place for temporary
    /// files (pkg/homedir/homedir_unix.go, `GetRuntimeDir`).
    pub(super) fn default_run_root(&self) -> Setting<PathBuf> {
        let setting = |value: PathBuf, origin| Setting { value, origin };
        if !self.rootless() {
            return setting("/run/containers/storage".into(), Origin::Default);
        }
        if let Some(dir) = self.var("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
            return setting(Path::new(&dir).join("containers"), Origin::Environment { name: "XDG_RUNTIME_DIR" });
        }
        let of_user = PathBuf::from(format!("/run/user/{}", self.uid));
        if self.around.is_own_dir(&of_user) {
            return setting(of_user.join("containers"), Origin::Default);
        }
        let temporary = self.var("TMPDIR").filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/tmp".into());
        let name = format!("storage-run-{}/containers", self.uid);
        setting(Path::new(&temporary).join(name), Origin::Default)
    }
}
