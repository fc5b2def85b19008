//! Which store is found, by the environment.

use crate::again::again;
use crate::place::{Place, is_root};
use cstor_tests::forge::{Store, file};
use cstor_tests::run::must;
use std::{env, fs};

#[test]
fn a_store_is_discovered_as_podman_does() {
    let place = Place::new(&Store::stack("localhost/conf:1", [vec![file("f", "x")]]));
    let top = place.dir.path();
    for (path, image) in [
        ("home/.local/share/containers/storage", "localhost/home:1"),
        ("data/containers/storage", "localhost/data:1"),
        ("more", "localhost/more:1"),
        ("own", "localhost/own:1"),
    ] {
        fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
        place.beside(path, &Store::stack(image, [vec![file(image, image)]]));
    }
    let conf = |path: &str, text: String| {
        fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
        fs::write(top.join(path), text).unwrap();
        top.join(path).display().to_string()
    };
    let at = |path: &str| top.join(path).display().to_string();
    let named = conf("named.conf", format!("[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\n", at("store")));
    let with_more = conf(
        "more.conf",
        format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\n[storage.options]\nadditionalimagestores = [\"{}\"]\n",
            at("store"),
            at("more")
        ),
    );
    conf("config/containers/storage.conf", format!("[storage]\ngraphroot = \"{}\"\n", at("own")));
    conf("other-home/.config/containers/storage.conf", format!("[storage]\ngraphroot = \"{}\"\n", at("own")));
    let broken = conf("broken.conf", "[storage\n".to_owned());
    let options = format!("overlay.additionalimagestore={}", at("more"));
    let (home, data, config) = (at("home"), at("data"), at("config"));
    let (other_home, nowhere) = (at("other-home"), at("nowhere"));

    // what, its environment, the root and its images or the kind of error
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], String);
    let table: [Row<'_>; 11] = [
        (
            "a named configuration",
            &[("HOME", &home), ("CONTAINERS_STORAGE_CONF", &named)],
            format!("{} localhost/conf:1", at("store")),
        ),
        (
            "its additional stores",
            &[("HOME", &home), ("CONTAINERS_STORAGE_CONF", &with_more)],
            format!("{} localhost/conf:1,localhost/more:1", at("store")),
        ),
        (
            "STORAGE_OPTS",
            &[("HOME", &home), ("CONTAINERS_STORAGE_CONF", &named), ("STORAGE_OPTS", &options)],
            format!("{} localhost/conf:1,localhost/more:1", at("store")),
        ),
        (
            "an override",
            &[("HOME", &home), ("CONTAINERS_STORAGE_CONF_OVERRIDE", &named)],
            format!("{} localhost/conf:1", at("store")),
        ),
        ("a user's default", &[("HOME", &home)], format!("{home}/.local/share/containers/storage localhost/home:1")),
        (
            "XDG_DATA_HOME",
            &[("HOME", &home), ("XDG_DATA_HOME", &data)],
            format!("{data}/containers/storage localhost/data:1"),
        ),
        ("XDG_CONFIG_HOME", &[("HOME", &home), ("XDG_CONFIG_HOME", &config)], format!("{} localhost/own:1", at("own"))),
        ("a user's configuration", &[("HOME", &other_home)], format!("{} localhost/own:1", at("own"))),
        (
            "a configuration that is missing",
            &[("HOME", &home), ("CONTAINERS_STORAGE_CONF", "/nonexistent")],
            "NotFound".to_owned(),
        ),
        (
            "a configuration that is none",
            &[("HOME", &home), ("CONTAINERS_STORAGE_CONF", &broken)],
            "Failure".to_owned(),
        ),
        ("no store at all", &[("HOME", &nowhere)], "NotFound".to_owned()),
    ];
    for (what, environment, wanted) in table {
        let mut command = again(&env::current_exe().unwrap(), &["discover"]);
        command.envs(environment.iter().copied());
        if is_root() {
            // Root of a namespace that podman made for a user: the user's rules count.
            command.envs([("_CONTAINERS_USERNS_CONFIGURED", "done"), ("_CONTAINERS_ROOTLESS_UID", "1234")]);
        }
        let said = must(&mut command);
        let found = said.lines().find_map(|line| line.strip_prefix("found "));
        assert_eq!(found, Some(wanted.as_str()), "{what}: {said}");
    }
}
