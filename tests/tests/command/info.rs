//! `cstor info`: against `podman info` under several configurations, and on forged stores what it says of locks,
//! drivers, databases and files that did not count. Which store is found is a matter of `discovery` and of the unit tests.

use cstor_tests::forge::{Forged, Store, file};
use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run};
use nix::fcntl::{FcntlArg, fcntl};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON: {error}: {text}"))
}

// ---- against podman ------------------------------------------------------------------------------------------------

/// A line each: root, run root, driver, additional store.
fn of_podman(text: &str) -> [String; 4] {
    let store = &json(text)["store"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let additional = text(&store["graphOptions"]["overlay.imagestore"]);
    [text(&store["graphRoot"]), text(&store["runRoot"]), text(&store["graphDriverName"]), additional]
}

fn of_cstor(text: &str) -> [String; 4] {
    let settings = &json(text)["settings"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |key: &str| text(&settings[key]["value"]);
    [of("root"), of("run_root"), of("driver"), text(&settings["additional_image_stores"]["value"][0])]
}

/// One configuration: what it is, the environment, the user's file, and whether podman agrees on the additional store.
struct Case {
    what: &'static str,
    environment: &'static [(&'static str, &'static str)],
    file: Option<&'static str>,
}

const CASES: [Case; 8] = [
    Case { what: "nothing but HOME", environment: &[], file: None },
    Case { what: "XDG_DATA_HOME", environment: &[("XDG_DATA_HOME", "@/data")], file: None },
    Case {
        what: "the user's file",
        environment: &[],
        file: Some("[storage]\ndriver='overlay'\ngraphroot='@/g-$UID-${UID}-$USER'\nrunroot='$HOME/run'\n"),
    },
    Case {
        what: "both roots",
        environment: &[],
        file: Some("[storage]\ndriver='overlay'\ngraphroot='@/g'\nrootless_storage_path='@/r'\n"),
    },
    Case {
        what: "rootless_storage_path",
        environment: &[],
        file: Some("[storage]\ndriver='overlay2'\nrootless_storage_path='@/r/$USER'\n"),
    },
    Case {
        what: "a file that is named",
        environment: &[("CONTAINERS_STORAGE_CONF", "@/named.conf")],
        file: Some("[storage]\ndriver='overlay'\ngraphroot='@/not-this'\n"),
    },
    Case {
        what: "an additional store",
        environment: &[],
        file: Some(
            "[storage]\ndriver='overlay'\ngraphroot='@/g'\n[storage.options]\nadditionalimagestores=['@/more']\n",
        ),
    },
    Case {
        what: "STORAGE_OPTS",
        environment: &[("STORAGE_OPTS", "overlay.imagestore=@/more"), ("STORAGE_DRIVER", "overlay")],
        file: Some("[storage]\ndriver='vfs'\ngraphroot='@/g'\n[storage.options]\nadditionalimagestores=['@/never']\n"),
    },
];

/// Everything in a directory of its own, so that no store of the lab is touched; then the pause process of podman, which
/// keeps the mounts of that directory, is ended.
fn compare(lab: &Lab, case: &Case, wrap: Option<&Path>) {
    let scratch = lab.scratch(Who::User, Fs::Ext4);
    let here = scratch.path().display().to_string();
    let owner = fs::metadata(scratch.path()).unwrap();
    let (uid, gid) = (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner));
    for dir in ["home", "home/.config", "home/.config/containers", "runtime", "more", "data"] {
        fs::create_dir(scratch.path().join(dir)).unwrap();
        chown(scratch.path().join(dir), Some(uid), Some(gid)).unwrap();
    }
    let write = |name: &str, text: &str| fs::write(scratch.path().join(name), text.replace('@', &here)).unwrap();
    write("named.conf", "[storage]\ndriver='overlay'\nrootless_storage_path='@/named'\n");
    if let Some(text) = case.file {
        write("home/.config/containers/storage.conf", text);
    }
    let ask = |program: &Path| {
        let mut command = match wrap {
            None => lab.command(Who::User, program),
            Some(etc) => {
                // A mount namespace of its own: /etc/containers is another there.
                let mut command = lab.command(Who::Root, "unshare");
                let script = "mount --bind \"$1\" /etc/containers && shift && exec setpriv --reuid \"$1\" --regid \"$2\" \
                              --clear-groups \"${@:3}\"";
                command.args(["-m", "bash", "-c", script, "bash"]).arg(etc);
                command.args([uid.to_string(), gid.to_string()]).arg(program);
                command
            }
        };
        command.args(["info", "--format", "json"]);
        command.env("HOME", format!("{here}/home")).env("XDG_RUNTIME_DIR", format!("{here}/runtime"));
        command.env("USER", "somebody");
        for (name, value) in case.environment {
            command.env(name, value.replace('@', &here));
        }
        must(&mut command)
    };
    let theirs = of_podman(&ask(Path::new("podman")));
    let pause = fs::read_to_string(scratch.path().join("runtime/libpod/tmp/pause.pid"));
    let ours = of_cstor(&ask(&lab.executable("cstor")));
    if let Some(pid) = pause.ok().and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?)) {
        kill_process(pid, Signal::KILL).expect("podman's pause process");
    }
    // A driver that nobody set is picked by podman.
    let theirs = if ours[2].is_empty() { [&theirs[0], &theirs[1], "", &theirs[3]].map(str::to_owned) } else { theirs };
    assert_eq!(ours, theirs, "{}", case.what);
}

#[test]
fn settings_are_those_of_podman() {
    let lab = lab_or_skip!();
    for case in &CASES {
        compare(lab, case, None);
    }
}

#[test]
fn a_systems_file_means_little_to_a_rootless_user() {
    let lab = lab_or_skip!();
    if !Path::new("/etc/containers").is_dir() {
        return cstor_tests::lab::skip("there is no /etc/containers to mount over");
    }
    for text in [
        "[storage]\ndriver='overlay'\ngraphroot='/srv/system'\nrunroot='/run/system'\n",
        "[storage]\ndriver='overlay'\ngraphroot='/srv/system'\nrootless_storage_path='$HOME/of/$UID'\n[storage.options.overlay]\nmountopt='nodev'\n",
    ] {
        let etc = lab.scratch(Who::Root, Fs::Ext4);
        for entry in fs::read_dir("/etc/containers").unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), etc.path().join(entry.file_name())).unwrap();
            }
        }
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(etc.path(), open).unwrap();
        fs::write(etc.path().join("storage.conf"), text).unwrap();
        compare(lab, &Case { what: text.lines().last().unwrap(), environment: &[], file: None }, Some(etc.path()));
    }
}

// ---- without podman ------------------------------------------------------------------------------------------------

fn cstor(arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_embedder")).with_file_name("cstor"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").env("LC_ALL", "C.UTF-8");
    command.args(arguments);
    command
}

fn forged(place: &Path) -> Forged {
    let store = Store::stack("localhost/a:1", [vec![file("f", "x")], vec![file("g", "y")]]);
    store.write(&place.join("store"), rustix::process::geteuid().is_root()).unwrap()
}

/// Under a storage.conf that names the store.
fn configured(place: &Path, store: &Path, more: &str) -> Value {
    let conf = place.join("storage.conf");
    fs::write(&conf, format!("[storage]\ngraphroot = '{}'\nrunroot = '/r'\n{more}", store.display())).unwrap();
    let mut command = cstor(&["info", "--format", "json"]);
    json(&must(command.env("CONTAINERS_STORAGE_CONF", &conf)))
}

#[test]
fn every_value_says_where_it_is_from() {
    let place = tempfile::tempdir().unwrap();
    let store = forged(place.path());
    let more = "imagestore='/i'\ntransient_store=true\ndriver_priority=['overlay','vfs']\n[storage.options]\n\
                additionallayerstores=['/l:ref']\nmount_program='/a'\n[storage.options.overlay]\nmount_program='/b'\n";
    let info = configured(place.path(), &store.root, more);
    let conf = place.path().join("storage.conf").display().to_string();
    let from = |key: &str, value: Value| json!({ "value": value, "source": "file", "variable": null, "file": conf, "key": format!("storage.{key}") });
    let default =
        |value: Value| json!({ "value": value, "source": "default", "variable": null, "file": null, "key": null });
    let settings = json!({
        "root": from("graphroot", json!(store.root)),
        "run_root": from("runroot", json!("/r")),
        "image_store": from("imagestore", json!("/i")),
        "transient_store": from("transient_store", json!(true)),
        "driver": null,
        "driver_priority": from("driver_priority", json!(["overlay", "vfs"])),
        "additional_image_stores": default(json!([])),
        "additional_layer_stores": from("options.additionallayerstores", json!(["/l:ref"])),
        "options": { "mount_program": from("options.overlay.mount_program", json!("/b")) },
    });
    assert_eq!(info["settings"], settings);
    assert_eq!((&info["schema"], &info["rules"], &info["other"]), (&json!(1), &json!("newer"), &Value::Null));
    assert_eq!(info["warnings"], json!([]));
    let looked_at: Vec<_> = info["looked_at"].as_array().unwrap().iter().map(|step| step["what"].clone()).collect();
    assert_eq!(
        looked_at,
        [json!("$CONTAINERS_STORAGE_CONF"), json!(conf), json!("$CONTAINERS_STORAGE_CONF"), json!(conf)]
    );
    let free = json!({ "state": "free", "by": null });
    let row = &info["stores"][0];
    assert_eq!(
        (&row["driver"], &row["images"], &row["layers"], &row["containers"]),
        (&json!("overlay"), &json!(1), &json!(2), &json!(0))
    );
    assert!(row["size"].as_u64().unwrap() > 0 && row["problem"].is_null());
    assert_eq!(row["locks"]["images"], free);
    assert_eq!(
        (&info["stores"][1]["role"], &info["stores"][1]["problem"]),
        (&json!("image store"), &json!("/i: no container store here"))
    );

    let given = json(&must(cstor(&["info", "--format", "json", "--root"]).arg(&store.root)));
    assert_eq!(given["settings"]["root"]["source"], "command line");
    assert_eq!((&given["rules"], &given["looked_at"]), (&Value::Null, &json!([])));
}

#[test]
fn the_table_names_what_counted_and_what_did_not() {
    let place = tempfile::tempdir().unwrap();
    let store = forged(place.path());
    let home = place.path().join("home/.config/containers");
    fs::create_dir_all(home.join("storage.conf.d")).unwrap();
    fs::write(home.join("storage.conf"), "[storage]\ngraphroot='/nowhere'\n").unwrap();
    let drop_in = home.join("storage.conf.d/10.conf");
    fs::write(&drop_in, format!("[storage]\ngraphroot='{}'\n", store.root.display())).unwrap();
    let ask = |arguments: &[&str]| {
        // For root the older rules look here only if the variable is set.
        let ended = run(cstor(arguments).env("XDG_CONFIG_HOME", place.path().join("home/.config")));
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        ended
    };
    let short = ask(&["info"]);
    let line = |text: &str, starts: &str| {
        let found = text.lines().find(|line| line.starts_with(starts)).unwrap_or_else(|| panic!("{starts}: {text}"));
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let root = format!("root {} {}: storage.graphroot", store.root.display(), drop_in.display());
    assert_eq!(line(&short.stdout, "root "), root);
    assert_eq!(line(&short.stdout, "rules "), "rules newer only the root of the newer rules has a store");
    assert!(
        line(&short.stdout, "store (root)").ends_with("1 image, 2 layers, 0 containers, 4.1 kB"),
        "{}",
        short.stdout
    );
    assert_eq!(short.stderr, "cstor: warning: podman 4 and 5 would use /nowhere\n");
    assert!(!short.stdout.contains("counts: "), "{}", short.stdout);

    let long = ask(&["info", "--explain"]).stdout;
    assert!(long.contains("counts: drop-in, laid over the files before it"), "{long}");
    assert_eq!(
        line(&long, "not taken: root"),
        format!("not taken: root /nowhere {}: storage.graphroot", home.join("storage.conf").display())
    );
}

#[test]
fn a_lock_is_shown_and_not_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let store = forged(place.path());
    let lock = fs::File::options().read(true).write(true).open(store.root.join("overlay-images/images.lock")).unwrap();
    let whole = nix::libc::flock { l_type: nix::libc::F_WRLCK as _, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(&lock, FcntlArg::F_SETLK(&whole)).unwrap();
    let ended = run(cstor(&["info", "--format", "json", "--root"]).arg(&store.root));
    let row = &json(&ended.stdout)["stores"][0];
    assert_eq!(row["locks"]["images"], json!({ "state": "held", "by": std::process::id() }));
    assert_eq!(row["locks"]["layers"], json!({ "state": "free", "by": null }));
    assert_eq!((&row["images"], &row["problem"]), (&Value::Null, &json!("locked: not counted")));
    assert!(ended.took.as_secs() < 5, "{:?}", ended.took);
}

#[test]
fn podmans_database_is_asked_and_believed_less_than_the_file() {
    let place = tempfile::tempdir().unwrap();
    let store = forged(place.path());
    let path = store.root.join("db.sql");
    let fill = |root: &Path, driver: &str| {
        let _ = fs::remove_file(&path);
        let database = Connection::open(&path).unwrap();
        // The columns of podman 5 (libpod/sqlite_state_internal.go).
        let table = "CREATE TABLE DBConfig(ID INTEGER PRIMARY KEY NOT NULL, SchemaVersion INTEGER NOT NULL, OS TEXT NOT \
             NULL, StaticDir TEXT NOT NULL, TmpDir TEXT NOT NULL, GraphRoot TEXT NOT NULL, RunRoot TEXT NOT NULL, \
             GraphDriver TEXT NOT NULL, VolumeDir TEXT NOT NULL, CHECK (ID IN (1)))";
        database.execute(table, []).unwrap();
        let row = "INSERT INTO DBConfig VALUES (1, 1, 'linux', '/s', '/t', ?1, '/r', ?2, '/v')";
        database.execute(row, (root.to_str().unwrap(), driver)).unwrap();
    };
    let ask = || configured(place.path(), &store.root, "");
    let warnings = |info: &Value| {
        info["warnings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };

    let link = place.path().join("link");
    std::os::unix::fs::symlink(&store.root, &link).unwrap();
    fill(&link, "overlay");
    let info = ask();
    let says =
        json!({ "kind": "sqlite", "path": path, "root": link, "run_root": "/r", "driver": "overlay", "why": null });
    assert_eq!(info["database"], says);
    assert_eq!(warnings(&info), [""; 0], "another name of the same directory");

    fill(Path::new("/elsewhere"), "vfs");
    let info = ask();
    assert_eq!(info["settings"]["root"]["value"], json!(store.root));
    let said = warnings(&info);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("podman would use /elsewhere, ") && said[1].contains("driver vfs"), "{said:?}");
    let given = json(&must(cstor(&["info", "--format", "json", "--root"]).arg(&store.root)));
    assert_eq!(given["warnings"], json!([]), "whoever names the root overrides it");

    fs::write(&path, "SQLite format 3\0and no more of it").unwrap();
    let info = ask();
    assert_eq!(info["database"]["kind"], "unknown");
    assert!(warnings(&info)[0].contains("not known"), "{info}");
    fs::remove_file(&path).unwrap();
    fs::create_dir(store.root.join("libpod")).unwrap();
    fs::write(store.root.join("libpod/bolt_state.db"), "").unwrap();
    assert_eq!(ask()["database"]["kind"], "boltdb");
}

/// Every command refuses them with 5; `info` shows what was found.
#[test]
fn other_drivers_and_layouts_are_refused_by_name() {
    for (names, says, driver) in [
        (&["vfs", "vfs-layers", "storage.lock"][..], ": a store of the vfs driver", json!("vfs")),
        (&["btrfs", "btrfs-images", "libpod"], ": a store of the btrfs driver", json!("btrfs")),
        (&["zfs-layers", "zfs-images"], ": a store of the zfs driver", json!("zfs")),
        (&["new\u{202e}-layers"], ": a store of the new", json!("new\\xe2\\x80\\xae")),
        (&["bin", "etc", "home", "lib", "usr", "var"], "it holds bin, etc, home, lib, usr", Value::Null),
    ] {
        let place = tempfile::tempdir().unwrap();
        for name in names {
            fs::create_dir(place.path().join(name)).unwrap();
        }
        for arguments in [&["image", "list"][..], &["layer", "list"], &["extract", "x", "/nonexistent/out"]] {
            let ended = run(cstor(&["--root"]).arg(place.path()).args(arguments));
            assert_eq!(ended.code(), 5, "{names:?} {arguments:?}: {}", ended.stderr);
            assert!(ended.stderr.contains(says) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
        }
        let info = json(&must(cstor(&["info", "--format", "json", "--root"]).arg(place.path())));
        let row = &info["stores"][0];
        assert_eq!((&row["driver"], &row["images"]), (&driver, &Value::Null));
        assert!(row["problem"].as_str().unwrap().contains(says), "{row}");
    }
    // What podman leaves in a root before there is anything else is an empty store, and so is an empty directory.
    for names in [&[][..], &["storage.lock", "userns.lock"], &["libpod"], &["overlay", "overlay-containers"]] {
        let place = tempfile::tempdir().unwrap();
        for name in names {
            fs::create_dir(place.path().join(name)).unwrap();
        }
        let said = must(cstor(&["image", "list", "-q", "--root"]).arg(place.path()));
        assert_eq!(said, "", "{names:?}");
    }
}
