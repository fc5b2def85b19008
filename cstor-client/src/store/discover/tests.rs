//! Which settings come out of which surroundings, without a file system.

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
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let below = self.files.iter().map(|(file, _)| Path::new(file)).filter(|file| file.parent() == Some(dir));
        Ok(below.filter_map(|file| file.file_name()).map(OsString::from).collect())
    }
    fn is_own_dir(&self, _: &Path) -> bool {
        false
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
        ("rootful default", Fake::default(), "/var/lib/containers/storage"),
        (
            "rootless default",
            Fake { uid: 1000, vars: vec![home], ..Fake::default() },
            "/home/u/.local/share/containers/storage",
        ),
        ("rootless without HOME", Fake { uid: 1000, ..Fake::default() }, "/home/rec/.local/share/containers/storage"),
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
                files: vec![(ETC, "[storage]\nrootless_storage_path='$HOME/s/${HOME}/$UID-x'")],
                ..Fake::default()
            },
            "/home/u/s//home/u/1000-x",
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
            Fake { uid: 1000, vars: vec![home], files: vec![(ETC, "[storage]\ngraphroot='/srv'")], ..Fake::default() },
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
        assert_eq!(decide(&around).unwrap().settings.root.value, Path::new(root), "{what}");
    }
}

#[test]
fn storage_opts_replace_the_configured_image_stores() {
    let conf = ("/etc/containers/storage.conf", "[storage.options]\nadditionalimagestores=['/a']");
    let around = Fake { files: vec![conf], ..Fake::default() };
    assert_eq!(decide(&around).unwrap().settings.additional_image_stores.value, [PathBuf::from("/a")]);
    let around = Fake { files: vec![conf], vars: vec![("STORAGE_OPTS", "")], ..Fake::default() };
    assert!(decide(&around).unwrap().settings.additional_image_stores.value.is_empty());
    let around = Fake { files: vec![conf], vars: vec![("STORAGE_OPTS", "imagestore=/b")], ..Fake::default() };
    assert_eq!(decide(&around).unwrap().settings.additional_image_stores.value, [PathBuf::from("/b")]);
}

#[test]
fn a_named_file_that_is_missing_or_damaged_is_an_error() {
    let around = Fake { vars: vec![("CONTAINERS_STORAGE_CONF", "/gone")], ..Fake::default() };
    assert!(matches!(decide(&around), Err(StoreError::ConfMissing { .. })));
    let around =
        Fake { vars: vec![("CONTAINERS_STORAGE_CONF", "/bad")], files: vec![("/bad", "[storage")], ..Fake::default() };
    assert!(matches!(decide(&around), Err(StoreError::ConfSyntax { .. })));
}

/// podman 4.3.1: "static directory must be an absolute path".
#[test]
fn a_root_that_is_no_absolute_path_is_refused() {
    let home = ("HOME", "/home/u");
    for (vars, conf) in [
        (vec![home], "[storage]\ngraphroot='$NOPE'"),
        (vec![home], "[storage]\ngraphroot='store'"),
        (vec![home], "[storage]\nrootless_storage_path='./store'"),
        (vec![home, ("XDG_DATA_HOME", "data")], ""),
    ] {
        let files = vec![("/home/u/.config/containers/storage.conf", conf)];
        let around = Fake { uid: 1000, vars, files, ..Fake::default() };
        assert!(matches!(decide(&around), Err(StoreError::RelativeRoot { .. })), "{conf}");
    }
}
