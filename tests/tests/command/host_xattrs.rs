//! Attributes of an image that would act where the result is used: none of them gets there, all others do, and the exact
//! forms of a layer keep every one.

use cstor_tests::forge::{Store, Subject, Trial, dir, file};
use rustix::fs::{lgetxattr, llistxattr};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const IMAGE: &str = "localhost/marked:1";

/// Each with the value that would act, and whether a flat tar keeps it.
const ACTING: [(&str, &str, bool); 8] = [
    ("user.fuseoverlayfs.override_stat", "0:0:104755", true),
    ("user.fuseoverlayfs.opaque", "y", true),
    ("user.containers.override_stat", "0:0:4755", true),
    ("user.overlay.opaque", "y", false),
    ("user.overlay.redirect", "/elsewhere", false),
    ("user.virtfs.mode", "\u{1}\u{2}", true),
    ("user.rootlesscontainers", "\u{8}\u{1}", true),
    ("trusted.overlay.opaque", "y", false),
];
const PLAIN: (&str, &str) = ("user.note", "kept");

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| name.starts_with(b"user.") || name.starts_with(b"trusted."));
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = lgetxattr(path, name, &mut value[..]).unwrap();
            (String::from_utf8(name.to_vec()).unwrap(), value[..length].to_vec())
        })
        .collect()
}

#[test]
fn no_attribute_of_an_image_acts_where_the_result_is_used() {
    let mark = |member| {
        let marked = ACTING
            .iter()
            .fold(member, |member: cstor_tests::forge::Member, (name, value, _)| member.xattr(name, value));
        marked.xattr(PLAIN.0, PLAIN.1)
    };
    let store =
        Store::stack(IMAGE, [vec![mark(dir("./")), mark(dir("d")), mark(file("d/prog", "#!/bin/sh\n").mode(0o755))]]);
    let has = |bytes: &[u8], name: &str| bytes.windows(name.len()).any(|part| part == name.as_bytes());
    for &subject in Subject::all() {
        let trial = Trial::new(subject, &store);
        trial.settle();
        let ended = trial.extract(IMAGE, &[]).unwrap();
        assert_eq!(ended.code, 0, "{subject:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("skipped: nothing"), "{subject:?}: {}", ended.stderr);
        for path in ["", "d", "d/prog"] {
            let found = attributes(&trial.dest.join(path));
            assert_eq!(found, BTreeMap::from([(PLAIN.0.to_owned(), PLAIN.1.into())]), "{subject:?} {path}");
        }
        let out = trial.dest.with_extension("tar");
        let write = |words: &[&str]| {
            let words: Vec<&str> = words.iter().copied().chain(["-o", out.to_str().unwrap()]).collect();
            let ended = trial.run(&words).unwrap();
            assert_eq!(ended.code, 0, "{words:?}: {}", ended.stderr);
            fs::read(&out).unwrap()
        };
        let flat = write(&["image", "export", IMAGE]);
        let exact = write(&["layer", "export", &trial.store.layers[0].id]);
        assert_eq!(exact, trial.store.layers[0].tar);
        for (name, _, kept) in ACTING {
            assert_eq!(has(&flat, name), kept, "{name} in a flat tar");
            assert!(has(&exact, name), "{name} in a layer");
        }
        assert!(has(&flat, PLAIN.0));
    }
}
