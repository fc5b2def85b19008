//! One storage.conf: from TOML to the keys that say where a store is.
//!
//! Which files are read, and which wins, is decided in `discover.rs`. Keys: containers-storage.conf(5).

use std::path::PathBuf;

use serde::Deserialize;

/// The `[storage]` table, as far as a reader needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct StorageTable {
    pub(crate) graphroot: Option<String>,
    pub(crate) rootless_storage_path: Option<String>,
    pub(crate) imagestore: Option<String>,
    pub(crate) runroot: Option<String>,
    pub(crate) transient_store: Option<bool>,
    options: Options,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Options {
    additionalimagestores: Vec<Item>,
    overlay: OverlayOptions,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct OverlayOptions {
    additionalimagestores: Vec<Item>,
}

/// An element of a list; since containers/storage 1.63 the last may be `{append = true}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Item {
    Value(String),
    Append { append: bool },
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    storage: StorageTable,
}

impl StorageTable {
    /// Parses the bytes of a file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<StorageTable, toml::de::Error> {
        Ok(toml::from_slice::<File>(bytes)?.storage)
    }

    /// The additional image stores; the table of the driver comes first.
    pub(crate) fn additional_image_stores(&self) -> Vec<String> {
        let lists = [&self.options.overlay.additionalimagestores, &self.options.additionalimagestores];
        lists.into_iter().find(|list| !list.is_empty()).map(|list| values(list)).unwrap_or_default()
    }

    /// Lays a file of higher priority over this one, key by key.
    pub(crate) fn overlay(&mut self, over: StorageTable) {
        for (ours, theirs) in [
            (&mut self.graphroot, over.graphroot),
            (&mut self.rootless_storage_path, over.rootless_storage_path),
            (&mut self.imagestore, over.imagestore),
            (&mut self.runroot, over.runroot),
        ] {
            if theirs.is_some() {
                *ours = theirs;
            }
        }
        self.transient_store = over.transient_store.or(self.transient_store);
        overlay_list(&mut self.options.additionalimagestores, over.options.additionalimagestores);
        overlay_list(&mut self.options.overlay.additionalimagestores, over.options.overlay.additionalimagestores);
    }
}

fn values(list: &[Item]) -> Vec<String> {
    let value = |item: &Item| match item {
        Item::Value(value) => Some(value.clone()),
        Item::Append { .. } => None,
    };
    list.iter().filter_map(value).collect()
}

fn overlay_list(ours: &mut Vec<Item>, theirs: Vec<Item>) {
    if matches!(theirs.last(), Some(Item::Append { append: true })) {
        ours.extend(theirs);
    } else if !theirs.is_empty() {
        *ours = theirs;
    }
}

/// The image stores named by `STORAGE_OPTS` or `--storage-opt`: a comma-separated list of
/// `[driver.]key=value` (containers/storage drivers/overlay/overlay.go, `parseOptions`).
pub(crate) fn image_stores_in_options(options: &str) -> Vec<PathBuf> {
    let stores = options.split(',').filter_map(|option| {
        let (key, value) = option.trim().split_once('=')?;
        let key = key.strip_prefix("overlay.").or_else(|| key.strip_prefix(".")).unwrap_or(key);
        matches!(key, "imagestore" | "additionalimagestore").then(|| PathBuf::from(value))
    });
    stores.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_lists_append() {
        let mut base = StorageTable::parse(
            b"[storage]\ngraphroot = '/a'\nunknown = 1\n[storage.options]\nadditionalimagestores = ['/x']\nsize = ''\n[storage.options.overlay]\nmountopt = 'nodev'\n",
        )
        .unwrap();
        assert_eq!(base.graphroot.as_deref(), Some("/a"));
        assert_eq!(base.additional_image_stores(), ["/x"]);
        base.overlay(
            StorageTable::parse(b"[storage.options]\nadditionalimagestores = ['/y', {append = true}]").unwrap(),
        );
        assert_eq!(base.additional_image_stores(), ["/x", "/y"]);
        base.overlay(
            StorageTable::parse(b"[storage]\ngraphroot = '/b'\n[storage.options]\nadditionalimagestores = ['/z']")
                .unwrap(),
        );
        assert_eq!(base.graphroot.as_deref(), Some("/b"));
        assert_eq!(base.additional_image_stores(), ["/z"]);
        assert!(StorageTable::parse(b"[storage\n").is_err());
    }

    #[test]
    fn driver_options_name_image_stores() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("overlay.imagestore=/s", &["/s"]),
            ("additionalimagestore=/s,overlay.mount_program=/bin/f,.imagestore=/t", &["/s", "/t"]),
        ];
        for (options, stores) in table {
            let stores: Vec<PathBuf> = stores.iter().map(PathBuf::from).collect();
            assert_eq!(image_stores_in_options(options), stores, "{options}");
        }
    }
}
