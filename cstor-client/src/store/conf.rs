//! One storage.conf: from TOML to the keys that say where a store is and how it is kept, each with its file.
//!
//! Which files are read, and which wins, is decided in `rules.rs`; what the values mean, in `settings.rs`. Keys:
//! containers-storage.conf(5) and, for their types, containers/storage types/options.go and pkg/config/config.go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::Error as _;
use toml::Value as Toml;

/// What a key holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    List,
    /// A number of file mode bits, which the general table has where the driver's has text.
    Mode,
}

/// The keys that are understood, below `[storage]`. All others are read over, as containers/storage does.
const KEYS: [(&str, Kind); 25] = [
    ("driver", Kind::Text),
    ("driver_priority", Kind::List),
    ("runroot", Kind::Text),
    ("graphroot", Kind::Text),
    ("imagestore", Kind::Text),
    ("rootless_storage_path", Kind::Text),
    ("transient_store", Kind::Flag),
    ("options.additionalimagestores", Kind::List),
    ("options.additionallayerstores", Kind::List),
    ("options.force_mask", Kind::Mode),
    ("options.ignore_chown_errors", Kind::Text),
    ("options.mount_program", Kind::Text),
    ("options.mountopt", Kind::Text),
    ("options.size", Kind::Text),
    ("options.skip_mount_home", Kind::Text),
    ("options.disable-volatile", Kind::Flag),
    ("options.overlay.force_mask", Kind::Text),
    ("options.overlay.ignore_chown_errors", Kind::Text),
    ("options.overlay.inodes", Kind::Text),
    ("options.overlay.mount_program", Kind::Text),
    ("options.overlay.mountopt", Kind::Text),
    ("options.overlay.size", Kind::Text),
    ("options.overlay.skip_mount_home", Kind::Text),
    ("options.overlay.sync", Kind::Text),
    ("options.overlay.use_composefs", Kind::Text),
];

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Flag(bool),
    List(Vec<String>),
}

/// A value, and the last file that had a say in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) file: Arc<Path>,
    /// Whether a list is put behind those of earlier files: since containers/storage 1.63, if its last element is
    /// `{append = true}` (pkg/configfile, `Slice`).
    append: bool,
}

/// The `[storage]` table of one file, or of several laid over each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    entries: BTreeMap<&'static str, Entry>,
}

impl Table {
    /// Parses the bytes of a file.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Table, toml::de::Error> {
        let file: Arc<Path> = path.into();
        let document: toml::Table = toml::from_slice(bytes)?;
        let mut table = Table::default();
        for (key, kind) in KEYS {
            let Some(found) = find(&document, key)? else { continue };
            let (value, append) = read(found, kind).ok_or_else(|| unfit(key, kind))?;
            table.entries.insert(key, Entry { value, file: Arc::clone(&file), append });
        }
        Ok(table)
    }

    /// Lays a file of higher priority over this one, key by key.
    pub(crate) fn overlay(&mut self, over: Table) {
        for (key, mut entry) in over.entries {
            if let (true, Value::List(more)) = (entry.append, &entry.value)
                && let Some(Entry { value: Value::List(first), .. }) = self.entries.get(key)
            {
                entry.value = Value::List(first.iter().chain(more).cloned().collect());
            }
            self.entries.insert(key, entry);
        }
    }

    /// Drops all keys but these.
    pub(crate) fn keep_only(&mut self, keys: &[&str]) {
        self.entries.retain(|key, _| keys.contains(key));
    }

    /// A text; an empty one counts as missing, as for containers/storage.
    pub(crate) fn text(&self, key: &str) -> Option<(&'static str, &str, &Entry)> {
        let (key, entry) = self.entries.get_key_value(key)?;
        match &entry.value {
            Value::Text(text) if !text.is_empty() => Some((key, text, entry)),
            _ => None,
        }
    }

    /// A list.
    pub(crate) fn list(&self, key: &str) -> Option<(&'static str, &[String], &Entry)> {
        let (key, entry) = self.entries.get_key_value(key)?;
        match &entry.value {
            Value::List(list) => Some((key, list, entry)),
            _ => None,
        }
    }

    /// A flag.
    pub(crate) fn flag(&self, key: &str) -> Option<(&'static str, bool, &Entry)> {
        let (key, entry) = self.entries.get_key_value(key)?;
        match entry.value {
            Value::Flag(flag) => Some((key, flag, entry)),
            _ => None,
        }
    }

    /// The options of the overlay driver by name; those of the driver's table win.
    pub(crate) fn overlay_options(&self) -> impl Iterator<Item = (&'static str, &'static str, &str, &Entry)> {
        let options = self.entries.iter().filter_map(|(&key, entry)| {
            let general = key.strip_prefix("options.")?;
            let name = general.strip_prefix("overlay.").unwrap_or(general);
            match &entry.value {
                Value::Text(text) if !text.is_empty() => Some((name, key, text.as_str(), entry)),
                _ => None,
            }
        });
        // "options.overlay.x" comes behind "options.force_mask" but before "options.size", so the order must be made.
        let (of_driver, general): (Vec<_>, Vec<_>) = options.partition(|(_, key, ..)| key.contains(".overlay."));
        general.into_iter().chain(of_driver)
    }
}

/// The value at a dotted key below `[storage]`.
fn find<'a>(document: &'a toml::Table, key: &str) -> Result<Option<&'a Toml>, toml::de::Error> {
    let mut table = document;
    let path = format!("storage.{key}");
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", &path));
    for name in parents.split('.') {
        table = match table.get(name) {
            None => return Ok(None),
            Some(Toml::Table(inner)) => inner,
            Some(_) => return Err(toml::de::Error::custom(format_args!("{name} must be a table"))),
        };
    }
    Ok(table.get(last))
}

/// A value of the right type, and whether a list is to be appended.
fn read(value: &Toml, kind: Kind) -> Option<(Value, bool)> {
    Some(match (kind, value) {
        (Kind::Text, Toml::String(text)) => (Value::Text(text.clone()), false),
        (Kind::Flag, &Toml::Boolean(flag)) => (Value::Flag(flag), false),
        (Kind::Mode, Toml::Integer(0)) => (Value::Text(String::new()), false),
        (Kind::Mode, Toml::Integer(mode)) => (Value::Text(format!("{mode:o}")), false),
        (Kind::List, Toml::Array(items)) => {
            let (append, items) = match items.split_last() {
                Some((Toml::Table(last), items)) => (last.get("append")?.as_bool()?, items),
                _ => (false, items.as_slice()),
            };
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            (Value::List(texts.collect::<Option<_>>()?), append)
        }
        _ => return None,
    })
}

fn unfit(key: &str, kind: Kind) -> toml::de::Error {
    let wanted = match kind {
        Kind::Text => "a string",
        Kind::Flag => "true or false",
        Kind::List => "a list of strings",
        Kind::Mode => "a number",
    };
    toml::de::Error::custom(format_args!("storage.{key} must be {wanted}"))
}

/// The options of `STORAGE_OPTS` or `--storage-opt`: a comma-separated list of `[driver.]key=value`
/// (containers/storage drivers/overlay/overlay.go, `parseOptions`).
pub(crate) fn driver_options(options: &str) -> impl Iterator<Item = (&str, &str)> {
    options.split(',').filter_map(|option| {
        let (key, value) = option.trim().split_once('=')?;
        Some((key.strip_prefix("overlay.").or_else(|| key.strip_prefix(".")).unwrap_or(key), value))
    })
}

/// Whether an option names an additional image store.
pub(crate) fn is_image_store(key: &str) -> bool {
    matches!(key, "imagestore" | "additionalimagestore")
}

/// The image stores among such options.
pub(crate) fn image_stores_in_options(options: &str) -> Vec<PathBuf> {
    driver_options(options)
        .filter(|(key, value)| is_image_store(key) && !value.is_empty())
        .map(|(_, value)| value.into())
        .collect()
}

/// The additional layer stores that options of the driver name.
pub(crate) fn layer_stores_in_options(options: &str) -> Vec<String> {
    driver_options(options)
        .filter(|(key, value)| *key == "additionallayerstore" && !value.is_empty())
        .map(|(_, value)| value.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        Table::parse(text.as_bytes(), Path::new("/f")).unwrap()
    }

    #[test]
    fn keys_are_found_and_lists_append() {
        let stores = |table: &Table| table.list("options.additionalimagestores").map(|(_, list, _)| list.join(" "));
        let mut base = table(
            "[storage]\ngraphroot = '/a'\nunknown = 1\n[storage.options]\nadditionalimagestores = ['/x']\nsize = ''",
        );
        assert_eq!(base.text("graphroot").map(|found| found.1), Some("/a"));
        assert_eq!(base.text("options.size"), None, "empty is unset");
        assert_eq!(stores(&base).as_deref(), Some("/x"));
        base.overlay(table("[storage.options]\nadditionalimagestores = ['/y', {append = true}]"));
        assert_eq!(stores(&base).as_deref(), Some("/x /y"));
        base.overlay(table("[storage]\ngraphroot = '/b'\n[storage.options]\nadditionalimagestores = ['/z']"));
        assert_eq!(base.text("graphroot").map(|found| found.1), Some("/b"));
        assert_eq!(stores(&base).as_deref(), Some("/z"));
        base.overlay(table("[storage.options]\nadditionalimagestores = []"));
        assert_eq!(stores(&base).as_deref(), Some(""));
    }

    #[test]
    fn the_table_of_the_driver_wins() {
        let both = table(
            "[storage.options]\nsize='1'\nmountopt='nodev'\nforce_mask=0o700\n[storage.options.overlay]\nsize='2'\nforce_mask='shared'",
        );
        let options: BTreeMap<_, _> = both.overlay_options().map(|(name, _, text, _)| (name, text)).collect();
        assert_eq!(options, BTreeMap::from([("size", "2"), ("mountopt", "nodev"), ("force_mask", "shared")]));
        let general = table("[storage.options]\nforce_mask=0o700");
        assert_eq!(general.text("options.force_mask").map(|found| found.1), Some("700"));
    }

    #[test]
    fn a_value_of_another_type_is_an_error() {
        for (text, says) in [
            ("[storage", "TOML parse error"),
            ("storage = 1", "storage must be a table"),
            ("[storage]\noptions = 1", "options must be a table"),
            ("[storage]\ngraphroot = 5", "storage.graphroot must be a string"),
            ("[storage]\ntransient_store = 'yes'", "storage.transient_store must be true or false"),
            ("[storage]\ndriver_priority = [1]", "storage.driver_priority must be a list of strings"),
            ("[storage.options]\nadditionalimagestores = ['/a', {}]", "must be a list of strings"),
            ("[storage.options]\nforce_mask = '700'", "storage.options.force_mask must be a number"),
        ] {
            let error = Table::parse(text.as_bytes(), Path::new("/f")).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn driver_options_name_image_stores() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("overlay.imagestore=/s", &["/s"]),
            ("additionalimagestore=/s,overlay.mount_program=/bin/f,.imagestore=/t,imagestore=", &["/s", "/t"]),
        ];
        for (options, stores) in table {
            let stores: Vec<PathBuf> = stores.iter().map(PathBuf::from).collect();
            assert_eq!(image_stores_in_options(options), stores, "{options}");
        }
    }
}
