//! What storage.conf and the environment say about the store, each value with where it is from.
//!
//! It turns merged keys into values. Which files were merged is decided in `rules.rs`; which of two results counts, in
//! `discover.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::conf::{Entry, Table, driver_options, is_image_store};
use super::location::Location;
use super::rules::User;

const ROOTFUL_ROOT: &str = "/var/lib/containers/storage";

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The caller said so.
    Given,
    /// An environment variable.
    Environment {
        /// Its name.
        name: &'static str,
    },
    /// A configuration file.
    File {
        /// The file; of a list that several files made, the last.
        path: PathBuf,
        /// The key, below `[storage]`.
        key: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Given => f.write_str("command line"),
            Origin::Environment { name } => write!(f, "${name}"),
            Origin::File { path, key } => write!(f, "{}: storage.{key}", path.display()),
        }
    }
}

/// A value, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it is from.
    pub origin: Origin,
}

impl<T> Setting<T> {
    fn new(value: T, origin: Origin) -> Setting<T> {
        Setting { value, origin }
    }

    fn from_file(value: T, key: &'static str, entry: &Entry) -> Setting<T> {
        Setting::new(value, Origin::File { path: entry.file.to_path_buf(), key })
    }
}

/// Everything that is configured about a store, whether or not this reader makes use of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// `graphroot`, or `rootless_storage_path`.
    pub root: Setting<PathBuf>,
    /// `runroot`: what does not survive a reboot.
    pub run_root: Setting<PathBuf>,
    /// `imagestore`: where images are kept if not in the root.
    pub image_store: Option<Setting<PathBuf>>,
    /// Whether containers are kept in the run root.
    pub transient_store: Setting<bool>,
    /// The driver; `None` means whichever podman finds in the root.
    pub driver: Option<Setting<String>>,
    /// Drivers to choose from where no driver is set.
    pub driver_priority: Option<Setting<Vec<String>>>,
    /// Additional image stores, for reading only.
    pub additional_image_stores: Setting<Vec<PathBuf>>,
    /// Additional layer stores, each a path and perhaps `:ref`.
    pub additional_layer_stores: Setting<Vec<String>>,
    /// The other options of the overlay driver.
    pub options: BTreeMap<String, Setting<String>>,
}

impl Settings {
    /// What a caller who names a root has.
    pub(super) fn given(root: &Path, options: &[&str], user: &User<'_>) -> Settings {
        let mut settings = Settings::empty(Setting::new(root.into(), Origin::Given), user.default_run_root());
        settings.take_options(options.iter().flat_map(|options| driver_options(options)), &Origin::Given);
        settings
    }

    /// What these keys mean for this user.
    pub(super) fn of(table: &Table, user: &User<'_>) -> Result<Settings, StoreError> {
        let path =
            |key: &str| table.text(key).map(|(key, text, entry)| Setting::from_file(user.expand(text), key, entry));
        let configured = path("graphroot").or_else(|| path("rootless_storage_path").filter(|_| user.rootless()));
        let root = match configured {
            Some(root) => root,
            None if user.rootless() => user.default_root()?,
            None => Setting::new(ROOTFUL_ROOT.into(), Origin::Default),
        };
        if !root.value.is_absolute() {
            return Err(StoreError::RelativeRoot { path: root.value, origin: root.origin });
        }
        let mut settings = Settings::empty(root, path("runroot").unwrap_or_else(|| user.default_run_root()));
        // Taken as it is: only the three roots are expanded (types/options.go).
        settings.image_store =
            table.text("imagestore").map(|(key, text, entry)| Setting::from_file(text.into(), key, entry));
        if let Some((key, flag, entry)) = table.flag("transient_store") {
            settings.transient_store = Setting::from_file(flag, key, entry);
        }
        settings.driver = match user.var("STORAGE_DRIVER").and_then(|name| name.into_string().ok()) {
            Some(name) if !name.is_empty() => Some(Setting::new(name, Origin::Environment { name: "STORAGE_DRIVER" })),
            _ => table.text("driver").map(|(key, text, entry)| Setting::from_file(text.to_owned(), key, entry)),
        };
        if let Some(driver) = settings.driver.as_mut().filter(|driver| driver.value == "overlay2") {
            driver.value = "overlay".to_owned();
        }
        settings.driver_priority =
            table.list("driver_priority").map(|(key, list, entry)| Setting::from_file(list.to_vec(), key, entry));
        // Set but empty counts: it replaces the whole list of options, those of the other tables included.
        match user.var("STORAGE_OPTS") {
            Some(options) => {
                let origin = Origin::Environment { name: "STORAGE_OPTS" };
                settings.additional_image_stores.origin = origin.clone();
                settings.additional_layer_stores.origin = origin.clone();
                settings.take_options(driver_options(options.to_str().unwrap_or_default()), &origin);
            }
            None => settings.take_table(table),
        }
        Ok(settings)
    }

    /// Where the parts of the store are.
    pub(crate) fn location(&self) -> Location {
        let mut location =
            Location::new(&self.root.value).additional(self.additional_image_stores.value.iter().cloned());
        if let Some(store) = &self.image_store {
            location = location.image_store(&store.value);
        }
        if self.transient_store.value {
            location = location.transient(&self.run_root.value);
        }
        location.unread.push(self.run_root.value.clone());
        location.layer_stores(self.additional_layer_stores.value.iter().cloned())
    }

    fn empty(root: Setting<PathBuf>, run_root: Setting<PathBuf>) -> Settings {
        Settings {
            root,
            run_root,
            image_store: None,
            transient_store: Setting::new(false, Origin::Default),
            driver: None,
            driver_priority: None,
            additional_image_stores: Setting::new(Vec::new(), Origin::Default),
            additional_layer_stores: Setting::new(Vec::new(), Origin::Default),
            options: BTreeMap::new(),
        }
    }

    fn take_table(&mut self, table: &Table) {
        if let Some((key, list, entry)) = table.list("options.additionalimagestores") {
            self.additional_image_stores = Setting::from_file(list.iter().map(PathBuf::from).collect(), key, entry);
        }
        if let Some((key, list, entry)) = table.list("options.additionallayerstores") {
            self.additional_layer_stores = Setting::from_file(list.to_vec(), key, entry);
        }
        for (name, key, text, entry) in table.overlay_options() {
            self.options.insert(name.to_owned(), Setting::from_file(text.to_owned(), key, entry));
        }
    }

    fn take_options<'a>(&mut self, options: impl Iterator<Item = (&'a str, &'a str)>, origin: &Origin) {
        for (key, value) in options.filter(|(_, value)| !value.is_empty()) {
            if is_image_store(key) {
                self.additional_image_stores.value.push(value.into());
                self.additional_image_stores.origin = origin.clone();
            } else if key == "additionallayerstore" {
                self.additional_layer_stores.value.push(value.to_owned());
                self.additional_layer_stores.origin = origin.clone();
            } else {
                self.options.insert(key.to_owned(), Setting::new(value.to_owned(), origin.clone()));
            }
        }
    }

    /// Whether both lead to the same stores.
    pub(super) fn leads_where(&self, other: &Settings) -> bool {
        let image_store = |settings: &Settings| settings.image_store.as_ref().map(|store| store.value.clone());
        self.root.value == other.root.value
            && self.run_root.value == other.run_root.value
            && image_store(self) == image_store(other)
            && self.transient_store.value == other.transient_store.value
            && self.additional_image_stores.value == other.additional_image_stores.value
            && self.additional_layer_stores.value == other.additional_layer_stores.value
    }
}
