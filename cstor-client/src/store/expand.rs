//! Variables in the paths of a storage.conf, as containers/storage and Go expand them.
//!
//! `$UID` is replaced first, and literally, so that `$UIDx` is the uid and an `x` while `${UID}` is an environment
//! variable (types/utils.go, `expandEnvPath`). The rest is Go's `os.ExpandEnv` (os/env.go, `Expand`).

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Expands a path; `var` gives an environment variable.
pub(super) fn expand(path: &str, uid: u32, var: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let path = path.replace("$UID", &uid.to_string());
    let mut expanded = OsString::new();
    let mut rest = path.as_str();
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push(before);
        let (name, tail) = name_of(after);
        match name {
            Name::Variable(name) => expanded.push(var(name).unwrap_or_default()),
            Name::None => expanded.push("$"),
            Name::Bad => {}
        }
        rest = tail;
    }
    expanded.push(OsStr::new(rest));
    PathBuf::from(expanded)
}

enum Name<'a> {
    Variable(&'a str),
    /// No name follows: the dollar stays.
    None,
    /// `${}` or `${` without an end: dropped.
    Bad,
}

fn name_of(after: &str) -> (Name<'_>, &str) {
    if let Some(braced) = after.strip_prefix('{') {
        return match braced.split_once('}') {
            Some(("", tail)) => (Name::Bad, tail),
            Some((name, tail)) => (Name::Variable(name), tail),
            None => (Name::Bad, braced),
        };
    }
    // The shell's special variables have one character.
    if after.starts_with(|c: char| c.is_ascii_digit() || "*#$@!?-".contains(c)) {
        let (name, tail) = after.split_at(1);
        return (Name::Variable(name), tail);
    }
    match after.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(after.len()) {
        0 => (Name::None, after),
        end => {
            let (name, tail) = after.split_at(end);
            (Name::Variable(name), tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right side is what Go 1.19 makes of it; the first four rows were also seen with podman 4.3.1.
    #[test]
    fn variables_expand_as_in_go() {
        let var = |name: &str| match name {
            "HOME" => Some(OsString::from("/h")),
            "A_1" => Some("a".into()),
            _ => None,
        };
        for (path, expanded) in [
            ("$HOME/x", "/h/x"),
            ("${HOME}x", "/hx"),
            ("/s-$UID-${UID}", "/s-1000-"),
            ("/$UIDx", "/1000x"),
            ("/$A_1/$NOBODY/y", "/a//y"),
            ("/a$", "/a$"),
            ("/$/b", "/$/b"),
            ("/$1b", "/b"),
            ("/${}b", "/b"),
            ("/${b", "/b"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(path, 1000, var), PathBuf::from(expanded), "{path}");
        }
    }
}
