//! From a start that failed to the one cause that the user can do something about.
//!
//! What launchers print is for people and changes; it is shown, and looked at for one word only. What the kernel and
//! the file system say decides.

use super::SourceError;
use super::launcher::Way;
use super::seen::{Mapper, Seen};

/// The cause of a failed start where it can be seen, else the failure as it is.
pub(in crate::access) fn cause(way: Way, failure: SourceError, seen: &Seen) -> SourceError {
    if way == Way::None {
        return failure;
    }
    let launcher = way.name();
    let (stderr, about_maps) = match &failure {
        SourceError::Died { stderr, .. } => (stderr.clone(), way == Way::NewUidMap || speaks_of_maps(stderr)),
        SourceError::Unmappable { stderr, .. } => (stderr.clone(), true),
        SourceError::NoNamespace { .. } | SourceError::Powerless { .. } => (Vec::new(), false),
        SourceError::NoLauncher { launcher } if *launcher == "newuidmap" || *launcher == "newgidmap" => {
            return SourceError::NoMapper { program: launcher };
        }
        _ => return failure,
    };
    if let Some(switch) = seen.forbidden_by {
        return SourceError::NoUserNamespaces { switch };
    }
    if about_maps {
        for mapper in &seen.mappers {
            match mapper {
                Mapper::Missing(program) => return SourceError::NoMapper { program },
                Mapper::Powerless(path) => return SourceError::PowerlessMapper { path: path.clone() },
                Mapper::Able(_) => {}
            }
        }
        if seen.no_new_privs {
            return SourceError::NoNewPrivs { launcher, stderr };
        }
        if let Some(file) = seen.without_range {
            return SourceError::NoSubordinateIds { user: super::subids::Owner::of_this_process().to_string(), file };
        }
    }
    // podman has a profile of its own; a namespace that this program makes is left without capabilities.
    if seen.apparmor && way == Way::NewUidMap {
        return SourceError::AppArmor;
    }
    failure
}

/// podman and buildah name the program or the file of the map when the kernel refuses it.
fn speaks_of_maps(stderr: &[u8]) -> bool {
    [b"uidmap".as_slice(), b"gidmap", b"uid_map", b"gid_map", b"user namespace"]
        .iter()
        .any(|word| stderr.windows(word.len()).any(|part| part == *word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::time::Duration;

    fn seen() -> Seen {
        Seen {
            no_new_privs: false,
            forbidden_by: None,
            apparmor: false,
            mappers: ["/usr/bin/newuidmap", "/usr/bin/newgidmap"].map(|path| Mapper::Able(PathBuf::from(path))),
            without_range: None,
        }
    }

    #[test]
    fn one_cause_is_named() {
        let died = |text: &str| SourceError::Died { status: None, stderr: text.as_bytes().to_vec() };
        let maps = "Error: cannot set up namespace using \"/usr/bin/newuidmap\": exit status 1";
        let powerless = || SourceError::Powerless { launcher: "x", mapped_uids: 65_537 };
        let unmappable = || SourceError::Unmappable { program: "newuidmap", status: None, stderr: Vec::new() };
        let silent = || SourceError::Silent { launcher: "podman", waited: Duration::ZERO, stderr: Vec::new() };
        let nnp = Seen { no_new_privs: true, ..seen() };
        let off = Seen { forbidden_by: Some("user.max_user_namespaces"), ..nnp.clone() };
        let gone = Seen { mappers: [Mapper::Able("/n".into()), Mapper::Missing("newgidmap")], ..nnp.clone() };
        let plain = Seen { mappers: [Mapper::Powerless("/n".into()), Mapper::Able("/g".into())], ..nnp.clone() };
        let none = Seen { without_range: Some("/etc/subuid"), ..seen() };
        let apparmor = Seen { apparmor: true, ..seen() };
        let table: Vec<(&str, Way, SourceError, Seen, &str)> = vec![
            ("nothing is known", Way::Podman, died(maps), seen(), "Died"),
            ("no_new_privs", Way::Podman, died(maps), nnp.clone(), "NoNewPrivs"),
            ("no_new_privs", Way::NewUidMap, unmappable(), nnp.clone(), "NoNewPrivs"),
            ("no_new_privs is not to blame", Way::Podman, died("Error: no such option"), nnp.clone(), "Died"),
            ("as root nothing of it matters", Way::None, died(maps), off.clone(), "Died"),
            ("no namespaces", Way::Podman, died(""), off.clone(), "NoUserNamespaces"),
            ("no namespaces", Way::NewUidMap, died(""), off, "NoUserNamespaces"),
            ("no newgidmap", Way::Buildah, died(maps), gone, "NoMapper"),
            ("no newuidmap", Way::NewUidMap, SourceError::NoLauncher { launcher: "newuidmap" }, seen(), "NoMapper"),
            ("no podman", Way::Podman, SourceError::NoLauncher { launcher: "podman" }, nnp.clone(), "NoLauncher"),
            ("newuidmap without rights", Way::Podman, died(maps), plain, "PowerlessMapper"),
            ("no range", Way::Podman, died(maps), none, "NoSubordinateIds"),
            ("AppArmor", Way::NewUidMap, powerless(), apparmor.clone(), "AppArmor"),
            ("AppArmor", Way::NewUidMap, unmappable(), apparmor.clone(), "AppArmor"),
            ("podman has a profile", Way::Podman, powerless(), apparmor, "Powerless"),
            ("no capability", Way::NewUidMap, powerless(), nnp.clone(), "Powerless"),
            ("a lock", Way::Podman, silent(), nnp, "Silent"),
        ];
        for (what, way, failure, seen, expected) in table {
            let found = format!("{:?}", cause(way, failure, &seen));
            let variant = found.split(|c: char| !c.is_alphanumeric()).next();
            assert_eq!(variant, Some(expected), "{what} ({way:?}): {found}");
        }
    }
}
