//! storage.conf and what stands beside it: two files and the options of the driver, by the rules of either generation.
//! What comes out must be what a plain TOML reader finds, and no longer than its parts.
//!
//! Input: a byte of flags (rootless, a store at the newer root, which files there are, options); a byte for how the
//! rest is shared out; the options or the first file; the second file.

#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use cstor_client::fuzzing::discover::{Given, decide_among};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [flags, share, rest @ ..] = data else { return };
    let (first, second) = rest.split_at(rest.len() * usize::from(*share) / 255);
    let flag = |place: u8| flags >> place & 1 == 1;
    let mut given = Given { uid: if flag(0) { 1000 } else { 0 }, ..Given::default() };
    let text = |text: &[u8]| OsString::from_vec(text.iter().copied().filter(|&byte| byte != 0).collect());
    given.vars.push(("HOME", "/home/u".into()));
    if flag(1) {
        given.vars.push(("STORAGE_OPTS", text(first)));
    } else {
        given.files.push(("/etc/containers/storage.conf".into(), first.to_vec()));
    }
    let own = if flag(0) { "/home/u/.config/containers/storage.conf" } else { "/etc/containers/storage.conf.d/1.conf" };
    match (flag(2), flag(3)) {
        (false, _) => given.files.push((own.into(), second.to_vec())),
        (true, false) => {
            given.vars.push(("CONTAINERS_STORAGE_CONF", "/named".into()));
            given.files.push(("/named".into(), second.to_vec()));
        }
        (true, true) => {
            given.vars.push(("CONTAINERS_STORAGE_CONF_OVERRIDE", "/named".into()));
            given.files.push(("/named".into(), second.to_vec()));
        }
    }
    if flag(4) {
        given.vars.push(("STORAGE_DRIVER", text(first.get(..8).unwrap_or(first))));
    }
    if flag(5) {
        given.store = Some("/home/u/.local/share/containers/storage".into());
    }
    let Some(discovery) = decide_among(&given) else { return };
    let again = decide_among(&given).expect("the same again");
    assert_eq!((&discovery.settings, &discovery.steps), (&again.settings, &again.steps), "the same again");
    for settings in [Some(&discovery.settings), discovery.other.as_ref()].into_iter().flatten() {
        // A dollar and a name can stand for no more than the value of HOME or the number of the user.
        let longest = (rest.len() + 64) * 8;
        assert!(settings.root.value.as_os_str().len() <= longest, "{settings:?}");
        assert!(settings.root.value.is_absolute(), "{settings:?}");
        let lists = settings.additional_image_stores.value.len() + settings.additional_layer_stores.value.len();
        assert!(lists <= rest.len() && settings.options.len() <= rest.len());
        assert!(
            settings.additional_image_stores.value.iter().all(|path| path.as_os_str().as_bytes().len() <= rest.len())
        );
    }
    // One file alone, by its plain reading.
    if !flag(0) && !flag(1) && second.is_empty() && !flag(2) {
        let table: toml::Table = toml::from_slice(first).expect("what was taken is TOML");
        let storage = table.get("storage").and_then(toml::Value::as_table);
        let value =
            storage.and_then(|storage| storage.get("graphroot")).and_then(toml::Value::as_str).unwrap_or_default();
        if !value.contains('$') {
            let root = if value.is_empty() { "/var/lib/containers/storage" } else { value };
            assert_eq!(discovery.settings.root.value.as_os_str(), root);
        }
    }
});
