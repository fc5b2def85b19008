//! Where the parts of a store are, as storage.conf or a caller says it. It does not look whether they are there.

use std::path::PathBuf;

use super::conf;

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub(crate) root: PathBuf,
    pub(crate) image_store: Option<PathBuf>,
    pub(crate) transient: Option<PathBuf>,
    pub(crate) additional: Vec<PathBuf>,
    pub(crate) layer_stores: Vec<PathBuf>,
    /// Where podman keeps what is not read here, and nothing may be written to either.
    pub(crate) unread: Vec<PathBuf>,
}

impl Location {
    /// All of it at this root.
    pub fn new(root: impl Into<PathBuf>) -> Location {
        Location {
            root: root.into(),
            image_store: None,
            transient: None,
            additional: Vec::new(),
            layer_stores: Vec::new(),
            unread: Vec::new(),
        }
    }

    /// Images and the contents of their layers lie here: a split store (`imagestore` of storage.conf, podman's
    /// `--imagestore`).
    #[must_use]
    pub fn image_store(self, path: impl Into<PathBuf>) -> Location {
        Location { image_store: Some(path.into()), ..self }
    }

    /// Containers are listed below this run root, and lost at a reboot (`transient_store` of storage.conf).
    #[must_use]
    pub fn transient(self, run_root: impl Into<PathBuf>) -> Location {
        Location { transient: Some(run_root.into()), ..self }
    }

    /// Stores of single layers whose files another program provides, as storage.conf names them: `PATH`, or `PATH:ref`
    /// where layers lie beneath the references of their images.
    #[must_use]
    pub fn layer_stores(mut self, stores: impl IntoIterator<Item = String>) -> Location {
        let path = |store: String| PathBuf::from(store.strip_suffix(":ref").unwrap_or(&store));
        self.layer_stores.extend(stores.into_iter().map(path));
        self
    }

    /// The additional stores that options of the driver name, as podman's `--storage-opt` does:
    /// `[overlay.]additionalimagestore=PATH` and `[overlay.]additionallayerstore=PATH[:ref]`. Other options are left to
    /// podman.
    #[must_use]
    pub fn storage_options(self, options: &[impl AsRef<str>]) -> Location {
        let options = || options.iter().map(AsRef::as_ref);
        self.additional(options().flat_map(conf::image_stores_in_options))
            .layer_stores(options().flat_map(conf::layer_stores_in_options))
    }

    /// The further stores.
    pub fn additional_stores(&self) -> &[PathBuf] {
        &self.additional
    }

    /// Further stores, for reading.
    #[must_use]
    pub fn additional(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Location {
        self.additional.extend(paths);
        self
    }
}
