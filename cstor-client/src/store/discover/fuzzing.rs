//! For `tests/fuzz`: which settings come out of which files and variables, without a file system.

use super::*;

/// What the decision is to depend on.
#[derive(Debug, Default)]
pub struct Given {
    /// The user; 0 is rootful.
    pub uid: u32,
    /// Environment variables.
    pub vars: Vec<(&'static str, OsString)>,
    /// Files by their paths, with what they contain.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Where a store is.
    pub store: Option<PathBuf>,
}

impl Surroundings for Given {
    fn var(&self, name: &str) -> Option<OsString> {
        self.vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone())
    }

    fn uid(&self) -> u32 {
        self.uid
    }

    fn home_of_record(&self) -> Option<PathBuf> {
        None
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.iter().find(|(file, _)| file == path).map(|(_, bytes)| bytes.clone()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let below = self.files.iter().filter(|(file, _)| file.parent() == Some(dir));
        Ok(below.filter_map(|(file, _)| file.file_name()).map(OsString::from).collect())
    }

    fn is_own_dir(&self, _: &Path) -> bool {
        false
    }

    fn has_store(&self, root: &Path) -> bool {
        self.store.as_deref() == Some(root)
    }
}

/// Decides, and asks all that there is to ask of the result.
pub fn decide_among(given: &Given) -> Option<Discovery> {
    let discovery = decide(given).ok()?;
    let _ = discovery.settings.location();
    let _ = discovery.surprises(&Database::None, |one, other| one == other);
    Some(discovery)
}
