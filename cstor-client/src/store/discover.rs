//! Which store the user means: environment, storage.conf of both generations, defaults.
//!
//! It decides on paths and opens no store. containers/storage up to 1.62 (podman 4 and 5) and since 1.63
//! read their configuration by different rules (types/options.go; pkg/configfile/parse.go); which of
//! them wrote a store cannot be known, so both are asked, and where they differ the one that has a store wins.
#![allow(clippy::disallowed_methods, reason = "configuration files are the only files that are found by path")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::conf::{StorageTable, image_stores_in_options};
use super::location::Location;

const ROOTFUL_ROOT: &str = "/var/lib/containers/storage";

/// Where a store is, and by which configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) location: Location,
    /// The configuration files that were there and read.
    pub(crate) read: Vec<PathBuf>,
}

/// What the decision depends on.
pub(crate) trait Surroundings {
    fn var(&self, name: &str) -> Option<OsString>;
    fn uid(&self) -> u32;
    /// The home directory of the user database, for when `HOME` is not set.
    fn home_of_record(&self) -> Option<PathBuf>;
    /// A file's bytes; none if there is no such file.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// The regular files of a directory; none if there is no such directory.
    fn list(&self, dir: &Path) -> Vec<OsString>;
    /// Whether a store with layers or images is there.
    fn has_store(&self, root: &Path) -> bool;
}

/// Decides for this process.
pub(crate) fn locate() -> Result<Located, StoreError> {
    decide(&Process)
}

fn decide(around: &dyn Surroundings) -> Result<Located, StoreError> {
    let user = User::new(around)?;
    let new_rules_only = around.var("CONTAINERS_STORAGE_CONF_OVERRIDE").is_some_and(|value| !value.is_empty());
    let newer = user.by_new_rules()?;
    if new_rules_only {
        return Ok(newer);
    }
    let older = user.by_old_rules()?;
    if older.location.root == newer.location.root
        || !around.has_store(&older.location.root) && around.has_store(&newer.location.root)
    {
        return Ok(newer);
    }
    if around.has_store(&newer.location.root) {
        tracing::warn!(
            chosen = %older.location.root.display(), other = %newer.location.root.display(),
            "containers/storage before and since 1.63 would use different stores here; --root chooses"
        );
    }
    Ok(older)
}

struct User<'a> {
    around: &'a dyn Surroundings,
    /// The uid outside of the namespace, where this is one that podman made; 0 is rootful.
    uid: u32,
    home: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME/containers` or `~/.config/containers`.
    config: Option<PathBuf>,
    /// The configuration files that were found.
    read: RefCell<Vec<PathBuf>>,
}

impl<'a> User<'a> {
    fn new(around: &'a dyn Surroundings) -> Result<User<'a>, StoreError> {
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
        Ok(User { around, uid, home, config: config.map(|dir| dir.join("containers")), read: RefCell::default() })
    }

    fn rootless(&self) -> bool {
        self.uid != 0
    }

    /// Up to 1.62: one file. A rootless user without one of their own takes from the system's file
    /// nothing but `rootless_storage_path`.
    fn by_old_rules(&self) -> Result<Located, StoreError> {
        if let Some(path) = self.around.var("CONTAINERS_STORAGE_CONF") {
            return self.location(self.conf(Path::new(&path))?.unwrap_or_default());
        }
        let own = self.config.as_ref().map(|dir| dir.join("storage.conf"));
        let own_counts = self.rootless() || self.around.var("XDG_CONFIG_HOME").is_some_and(|dir| !dir.is_empty());
        if let Some(table) = own.filter(|_| own_counts).map(|path| self.conf(&path)).transpose()?.flatten() {
            return self.location(table);
        }
        let mut table = self.first_of(SYSTEM_CONFS.iter().map(PathBuf::from))?;
        if self.rootless() {
            (table.graphroot, table.imagestore, table.runroot) = (None, None, None);
            table.transient_store = None;
        }
        self.location(table)
    }

    /// Since 1.63: the first main file, drop-ins over it, an override over all.
    fn by_new_rules(&self) -> Result<Located, StoreError> {
        if let Some(path) = self.around.var("CONTAINERS_STORAGE_CONF").filter(|path| !path.is_empty()) {
            let table = self.conf(Path::new(&path))?.ok_or_else(|| StoreError::ConfMissing { path: path.into() })?;
            return self.location(table);
        }
        let own = self.config.as_ref().map(|dir| dir.join("storage.conf"));
        let mut table = self.first_of(own.into_iter().chain(SYSTEM_CONFS.iter().map(PathBuf::from)))?;
        for path in self.drop_ins().into_values() {
            if let Some(over) = self.conf(&path)? {
                table.overlay(over);
            }
        }
        if let Some(path) = self.around.var("CONTAINERS_STORAGE_CONF_OVERRIDE").filter(|path| !path.is_empty()) {
            let over = self.conf(Path::new(&path))?.ok_or_else(|| StoreError::ConfMissing { path: path.into() })?;
            table.overlay(over);
        }
        self.location(table)
    }

    /// The drop-ins by file name, in the order in which they apply; of one name the last directory counts.
    fn drop_ins(&self) -> BTreeMap<OsString, PathBuf> {
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
            let names = self.around.list(&dir).into_iter();
            files.extend(names.filter(|name| name.as_encoded_bytes().ends_with(b".conf")).map(|name| {
                let path = dir.join(&name);
                (name, path)
            }));
        }
        files
    }

    fn first_of(&self, paths: impl Iterator<Item = PathBuf>) -> Result<StorageTable, StoreError> {
        for path in paths {
            if let Some(table) = self.conf(&path)? {
                return Ok(table);
            }
        }
        Ok(StorageTable::default())
    }

    fn conf(&self, path: &Path) -> Result<Option<StorageTable>, StoreError> {
        let bytes = self.around.read(path).map_err(|source| StoreError::ConfRead { path: path.into(), source })?;
        if bytes.is_some() {
            self.read.borrow_mut().push(path.into());
        }
        let parse = |bytes: Vec<u8>| StorageTable::parse(&bytes);
        bytes.map(parse).transpose().map_err(|source| StoreError::ConfSyntax { path: path.into(), source })
    }

    fn location(&self, table: StorageTable) -> Result<Located, StoreError> {
        let configured = match (table.graphroot.as_deref(), table.rootless_storage_path.as_deref()) {
            (Some(root), _) if !root.is_empty() => Some(root),
            (_, Some(root)) if self.rootless() && !root.is_empty() => Some(root),
            _ => None,
        };
        let root = match configured {
            Some(root) => self.expand(root),
            None if !self.rootless() => PathBuf::from(ROOTFUL_ROOT),
            None => self.rootless_default()?,
        };
        let additional = match self.around.var("STORAGE_OPTS") {
            Some(options) => image_stores_in_options(options.to_str().unwrap_or_default()),
            None => table.additional_image_stores().into_iter().map(|path| self.expand(&path)).collect(),
        };
        let mut location = Location::new(root).additional(additional);
        // Taken as it is: only the three roots are expanded (types/options.go).
        location.image_store = table.imagestore.filter(|path| !path.is_empty()).map(PathBuf::from);
        if table.transient_store == Some(true) {
            location.transient = Some(match table.runroot.filter(|path| !path.is_empty()) {
                Some(path) => self.expand(&path),
                None => self.default_run_root(),
            });
        }
        Ok(Located { location, read: self.read.take() })
    }

    fn default_run_root(&self) -> PathBuf {
        match self.around.var("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
            _ if !self.rootless() => "/run/containers/storage".into(),
            Some(dir) => Path::new(&dir).join("containers"),
            None => format!("/run/user/{}/containers", self.uid).into(),
        }
    }

    fn rootless_default(&self) -> Result<PathBuf, StoreError> {
        let data = match self.around.var("XDG_DATA_HOME").filter(|dir| !dir.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => self.home.as_ref().ok_or(StoreError::NoHome { uid: self.uid })?.join(".local/share"),
        };
        Ok(data.join("containers/storage"))
    }

    /// `$UID`, then `$NAME` and `${NAME}` of the environment, unset ones as nothing (os.ExpandEnv).
    fn expand(&self, path: &str) -> PathBuf {
        let mut expanded = OsString::new();
        let mut rest = path;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push(before);
            let (name, tail) = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
                Some(split) => split,
                None => {
                    after.split_at(after.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(after.len()))
                }
            };
            match name {
                "UID" => expanded.push(self.uid.to_string()),
                "HOME" => expanded.push(self.home.as_deref().unwrap_or(Path::new(""))),
                _ => expanded.push(self.around.var(name).unwrap_or_default()),
            }
            rest = tail;
        }
        expanded.push(rest);
        PathBuf::from(expanded)
    }
}

const SYSTEM_CONFS: [&str; 2] = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];

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
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> Vec<OsString> {
        let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
        let regular = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
        entries.filter_map(Result::ok).filter(regular).map(|entry| entry.file_name()).collect()
    }

    fn has_store(&self, root: &Path) -> bool {
        ["overlay-layers", "overlay-images"].iter().any(|dir| root.join(OsStr::new(dir)).is_dir())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Fake {
        uid: u32,
        vars: Vec<(&'static str, &'static str)>,
        files: Vec<(&'static str, &'static str)>,
        stores: Vec<&'static str>,
    }

    impl Surroundings for Fake {
        fn var(&self, name: &str) -> Option<OsString> {
            self.vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        }
        fn uid(&self) -> u32 {
            self.uid
        }
        fn home_of_record(&self) -> Option<PathBuf> {
            Some("/home/rec".into())
        }
        fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
            Ok(self.files.iter().find(|(file, _)| Path::new(file) == path).map(|(_, text)| text.as_bytes().to_vec()))
        }
        fn list(&self, dir: &Path) -> Vec<OsString> {
            let below = self.files.iter().map(|(file, _)| Path::new(file)).filter(|file| file.parent() == Some(dir));
            below.filter_map(|file| file.file_name()).map(OsString::from).collect()
        }
        fn has_store(&self, root: &Path) -> bool {
            self.stores.iter().any(|store| Path::new(store) == root)
        }
    }

    /// Expected roots follow containers/storage types/options.go at 1.57 and 1.63.
    #[test]
    fn the_root_is_the_one_that_podman_uses() {
        let home = ("HOME", "/home/u");
        const ETC: &str = "/etc/containers/storage.conf";
        const OWN: &str = "/home/u/.config/containers/storage.conf";
        let table: Vec<(&str, Fake, &str)> = vec![
            ("rootful default", Fake::default(), ROOTFUL_ROOT),
            (
                "rootless default",
                Fake { uid: 1000, vars: vec![home], ..Fake::default() },
                "/home/u/.local/share/containers/storage",
            ),
            (
                "rootless without HOME",
                Fake { uid: 1000, ..Fake::default() },
                "/home/rec/.local/share/containers/storage",
            ),
            (
                "XDG_DATA_HOME",
                Fake { uid: 1000, vars: vec![home, ("XDG_DATA_HOME", "/data")], ..Fake::default() },
                "/data/containers/storage",
            ),
            ("system file", Fake { files: vec![(ETC, "[storage]\ngraphroot='/srv'")], ..Fake::default() }, "/srv"),
            (
                "inside podman's namespace",
                Fake {
                    vars: vec![home, ("_CONTAINERS_USERNS_CONFIGURED", "done"), ("_CONTAINERS_ROOTLESS_UID", "1000")],
                    ..Fake::default()
                },
                "/home/u/.local/share/containers/storage",
            ),
            (
                "rootless path of the system, expanded",
                Fake {
                    uid: 1000,
                    vars: vec![home],
                    files: vec![(ETC, "[storage]\nrootless_storage_path='$HOME/s/${UID}/$UID-x'")],
                    ..Fake::default()
                },
                "/home/u/s/1000/1000-x",
            ),
            (
                "a rootless user's own file counts alone",
                Fake {
                    uid: 1000,
                    vars: vec![home],
                    files: vec![(ETC, "[storage]\nrootless_storage_path='/sys'"), (OWN, "[storage]\ndriver='overlay'")],
                    ..Fake::default()
                },
                "/home/u/.local/share/containers/storage",
            ),
            (
                "CONTAINERS_STORAGE_CONF counts alone",
                Fake {
                    uid: 1000,
                    vars: vec![home, ("CONTAINERS_STORAGE_CONF", "/c.conf")],
                    files: vec![("/c.conf", "[storage]\ngraphroot='/c'"), (OWN, "[storage]\ngraphroot='/own'")],
                    ..Fake::default()
                },
                "/c",
            ),
            (
                "a system graphroot for a rootless user: old rules without a store there",
                Fake {
                    uid: 1000,
                    vars: vec![home],
                    files: vec![(ETC, "[storage]\ngraphroot='/srv'")],
                    ..Fake::default()
                },
                "/home/u/.local/share/containers/storage",
            ),
            (
                "… new rules where the store is",
                Fake {
                    uid: 1000,
                    vars: vec![home],
                    files: vec![(ETC, "[storage]\ngraphroot='/srv'")],
                    stores: vec!["/srv"],
                },
                "/srv",
            ),
            (
                "drop-ins by file name, later directory first",
                Fake {
                    uid: 1000,
                    vars: vec![home],
                    files: vec![
                        ("/usr/share/containers/storage.conf.d/10.conf", "[storage]\ngraphroot='/ten'"),
                        ("/etc/containers/storage.rootless.conf.d/1000/20.conf", "[storage]\ngraphroot='/twenty'"),
                        ("/usr/share/containers/storage.conf.d/20.conf", "[storage]\ngraphroot='/hidden'"),
                        ("/etc/containers/storage.rootful.conf.d/30.conf", "[storage]\ngraphroot='/not-ours'"),
                    ],
                    stores: vec!["/twenty"],
                },
                "/twenty",
            ),
            (
                "the override is the last word",
                Fake {
                    vars: vec![("CONTAINERS_STORAGE_CONF_OVERRIDE", "/o.conf")],
                    files: vec![(ETC, "[storage]\ngraphroot='/srv'"), ("/o.conf", "[storage]\ngraphroot='/over'")],
                    ..Fake::default()
                },
                "/over",
            ),
        ];
        for (what, around, root) in table {
            assert_eq!(decide(&around).unwrap().location.root, Path::new(root), "{what}");
        }
    }

    #[test]
    fn storage_opts_replace_the_configured_image_stores() {
        let conf = ("/etc/containers/storage.conf", "[storage.options]\nadditionalimagestores=['/a']");
        let around = Fake { files: vec![conf], ..Fake::default() };
        assert_eq!(decide(&around).unwrap().location.additional, [PathBuf::from("/a")]);
        let around = Fake { files: vec![conf], vars: vec![("STORAGE_OPTS", "")], ..Fake::default() };
        assert!(decide(&around).unwrap().location.additional.is_empty());
        let around = Fake { files: vec![conf], vars: vec![("STORAGE_OPTS", "imagestore=/b")], ..Fake::default() };
        assert_eq!(decide(&around).unwrap().location.additional, [PathBuf::from("/b")]);
    }

    #[test]
    fn a_named_file_that_is_missing_or_damaged_is_an_error() {
        let around = Fake { vars: vec![("CONTAINERS_STORAGE_CONF", "/gone")], ..Fake::default() };
        assert!(matches!(decide(&around), Err(StoreError::ConfMissing { .. })));
        let around = Fake {
            vars: vec![("CONTAINERS_STORAGE_CONF", "/bad")],
            files: vec![("/bad", "[storage")],
            ..Fake::default()
        };
        assert!(matches!(decide(&around), Err(StoreError::ConfSyntax { .. })));
    }
}
