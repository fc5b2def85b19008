//! What somebody who looks at a discovery should know: where podman, or another version of it, would use another store.

use std::fmt;
use std::path::{Path, PathBuf};

use super::discover::{Discovery, Rules};
use super::podman_db::Database;

/// Something that may surprise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The generations of rules lead to different stores.
    OtherRules {
        /// Whose result is not taken.
        rules: Rules,
        /// The root that they lead to.
        root: PathBuf,
        /// The root that is taken.
        chosen: PathBuf,
    },
    /// podman's database names another root.
    OtherRoot {
        /// The database.
        database: PathBuf,
        /// The root that it names.
        root: PathBuf,
    },
    /// It names another run root.
    OtherRunRoot {
        /// The database.
        database: PathBuf,
        /// The run root that it names.
        run_root: PathBuf,
    },
    /// A driver is set that is not read here.
    OtherDriver {
        /// Its name.
        driver: String,
    },
    /// podman's database could not be asked.
    DatabaseUnknown {
        /// The database.
        database: PathBuf,
        /// Why.
        why: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::OtherRules { rules, root, chosen } => {
                let whose = match rules {
                    Rules::Older => "podman 4 and 5",
                    Rules::Newer => "podman with containers/storage 1.63 or later",
                };
                if root == chosen {
                    return write!(f, "{whose} would use the same root with other settings (see --explain)");
                }
                write!(f, "{whose} would use {}", root.display())
            }
            Warning::OtherRoot { database, root } => write!(
                f,
                "podman would use {}, which its database {} names; buildah and skopeo would not",
                root.display(),
                database.display()
            ),
            Warning::OtherRunRoot { database, run_root } => write!(
                f,
                "podman would use the run root {}, which its database {} names",
                run_root.display(),
                database.display()
            ),
            Warning::OtherDriver { driver } => {
                write!(f, "podman would use the driver {driver}; cstor reads overlay stores only")
            }
            Warning::DatabaseUnknown { database, why } => {
                write!(
                    f,
                    "whether podman would use another root is not known: its database {}: {why}",
                    database.display()
                )
            }
        }
    }
}

impl Discovery {
    /// What may surprise; `same` tells whether two paths lead to one directory.
    pub(super) fn surprises(&self, database: &Database, same: impl Fn(&Path, &Path) -> bool) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if let (Some(rules), Some(other)) = (self.rules, &self.other) {
            let rules = match rules {
                Rules::Older => Rules::Newer,
                Rules::Newer => Rules::Older,
            };
            let (root, chosen) = (other.root.value.clone(), self.settings.root.value.clone());
            warnings.push(Warning::OtherRules { rules, root, chosen });
        }
        // A root that is named to podman as well overrides the database.
        let asked = self.rules.is_some();
        let mut driver = self.settings.driver.as_ref().map(|driver| driver.value.clone());
        match database {
            Database::Sqlite { path, root, run_root, driver: of_database } if asked => {
                let differs = |ours: &Path, theirs: &Path| !theirs.as_os_str().is_empty() && !same(ours, theirs);
                if differs(&self.settings.root.value, root) {
                    warnings.push(Warning::OtherRoot { database: path.clone(), root: root.clone() });
                }
                if differs(&self.settings.run_root.value, run_root) {
                    warnings.push(Warning::OtherRunRoot { database: path.clone(), run_root: run_root.clone() });
                }
                if !of_database.is_empty() {
                    driver = Some(of_database.clone());
                }
            }
            Database::Unknown { path, why } if asked => {
                warnings.push(Warning::DatabaseUnknown { database: path.clone(), why: why.clone() });
            }
            _ => {}
        }
        if let Some(driver) = driver.filter(|driver| driver != "overlay") {
            warnings.push(Warning::OtherDriver { driver });
        }
        warnings
    }
}
