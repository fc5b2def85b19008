//! The store is never a destination: what is, lies in, or holds a directory of one is refused by every command that
//! writes, whichever path, link or bind mount leads there, before anything is made. Mounts need root; each run has a
//! mount namespace of its own.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use cstor_tests::forge::{
    Store, Subject, Trial, file,
    trial::{Outcome, Verdict, seal, table},
};

const IMAGE: &str = "localhost/app:1";

fn small() -> Store {
    Store::stack(IMAGE, [vec![file("x", "bytes")]])
}

/// Every command that writes, with `@` for the destination and `LAYER` for the layer.
const WRITERS: &[&[&str]] = &[
    &["extract", IMAGE, "@"],
    &["extract", "--replace", IMAGE, "@"],
    &["image", "extract", "--no-sandbox", IMAGE, "@"],
    &["layer", "extract", "--replace", "LAYER", "@"],
    &["image", "export", "-o", "@", IMAGE],
    &["layer", "export", "-o", "@", "LAYER"],
    &["layer", "splitfd", "-o", "@", "LAYER"],
    &["image", "copy", IMAGE, "oci:@"],
    &["image", "copy", IMAGE, "oci-archive:@"],
    &["image", "copy", IMAGE, "docker-archive:@:app:1"],
    &["serve", "--socket", "@"],
];

/// A way to a place where nothing may be written. `DIFF` stands for the layer's files.
struct Way {
    name: &'static str,
    /// What is made before.
    prepare: fn(&Trial),
    /// Directories that the script needs.
    made: &'static [&'static str],
    /// A script that root runs before, in the trial's directory.
    mounts: &'static str,
    to: &'static str,
    says: &'static str,
}

const fn way(name: &'static str, to: &'static str, says: &'static str) -> Way {
    Way { name, prepare: |_| {}, made: &[], mounts: "", to, says }
}

const fn mounted(name: &'static str, mounts: &'static str, to: &'static str, says: &'static str) -> Way {
    Way { name, prepare: |_| {}, made: &["out/else", "out/else/a b", "store/volumes"], mounts, to, says }
}

const WAYS: &[Way] = &[
    way("the root", "store", "is"),
    way("below the root", "store/new", "lies in"),
    way("a directory of the store", "store/overlay", "lies in"),
    way("a layer", "DIFF", "lies in"),
    way("below a layer", "DIFF/new", "lies in"),
    way("what holds the store", ".", "holds"),
    way("what holds the store, by another path", "out/..", "holds"),
    way("a path that comes back", "out/../store/new", "lies in"),
    Way { prepare: |t| link(t, "../store", "out/link"), ..way("a link to the root", "out/link/new", "lies in") },
    Way { prepare: |t| link(t, "../DIFF", "out/link"), ..way("a link to a layer", "out/link/new", "lies in") },
    Way {
        prepare: |t| link(t, "../..", "out/canary/up"),
        ..way("a link to what holds it", "out/canary/up/store", "is")
    },
    Way {
        prepare: |t| {
            make(t, "volumes");
            link(t, "../out/volumes", "store/volumes");
        },
        ..way("a part of the store that is a link", "out/volumes/new", "lies in")
    },
    mounted("a bind mount of the root", "mount --bind store out/else", "out/else/new", "lies in"),
    mounted("a bind mount of the root itself", "mount --bind store out/else", "out/else", "is"),
    mounted("a bind mount of what lies below", "mount --bind store/overlay out/else", "out/else/new", "lies in"),
    mounted("a bind mount of a layer", "mount --bind DIFF out/else", "out/else/new", "lies in"),
    mounted("a bind mount of a layer itself", "mount --bind DIFF out/else", "out/else", "lies in"),
    mounted(
        "a bind mount of a bind mount",
        "mount --bind DIFF out/else; mount --bind out/else out/canary",
        "out/canary/new",
        "lies in",
    ),
    mounted("a bind mount of what holds the store", "mount --bind . out/else", "out/else", "holds"),
    mounted("a name with a blank", "mount --bind DIFF 'out/else/a b'", "out/else/a b/new", "lies in"),
    mounted("what is mounted in the store", "mount --bind out/canary store/volumes", "out/canary/new", "lies in"),
    mounted(
        "what is mounted in a bind mount of the store",
        "mount --bind store out/else; mount --bind out/canary out/else/volumes",
        "out/canary/new",
        "lies in",
    ),
    mounted(
        "a store on a file system that is mounted twice",
        "mount -t tmpfs t out/else; cp -a store out/else/st; mount --bind out/else out/canary; mount --bind out/else/st store",
        "out/canary/st/new",
        "lies in",
    ),
    mounted(
        "a directory mounted on one in it",
        "mount --bind store/overlay store/overlay/l",
        "store/overlay/l/new",
        "lies in",
    ),
];

fn make(trial: &Trial, name: &str) {
    std::fs::create_dir(trial.dir().join("out").join(name)).expect("a directory");
}

fn link(trial: &Trial, to: &str, name: &str) {
    symlink(filled(trial, to), trial.dir().join(name)).expect("a link");
}

fn filled(trial: &Trial, text: &str) -> String {
    text.replace("DIFF", &format!("store/overlay/{}/diff", trial.store.layers[0].id))
}

/// All but the logs of the runs, and the directory that they lie in.
fn all(trial: &Trial) -> BTreeMap<String, String> {
    let mut seal = seal(trial.dir());
    seal.retain(|path, _| !["", "stdout", "stderr"].contains(&path.as_str()));
    seal
}

/// Runs a command that must be refused, and must change nothing.
fn refused(trial: &Trial, mounts: &str, arguments: &[&str], says: &str) -> Verdict<Outcome> {
    let before = all(trial);
    let outcome = trial.start_in(mounts, arguments).finish().map_err(|error| format!("{arguments:?}: {error}"))?;
    outcome
        .is_refusal(&[10], &["a directory of a container store"])
        .map_err(|error| format!("{arguments:?}: {error}"))?;
    if !outcome.stderr.contains(&format!(": {says} ")) {
        return Err(format!("{arguments:?}: does not say `{says}`: {}", outcome.stderr));
    }
    let after = all(trial);
    let changed: Vec<_> = before.iter().filter(|(path, facts)| after.get(*path) != Some(facts)).collect();
    if !changed.is_empty() || after.len() != before.len() {
        return Err(format!("{arguments:?}: changed {changed:?}, {} files, then {}", before.len(), after.len()));
    }
    Ok(outcome)
}

#[test]
fn the_store_is_never_a_destination() {
    table(
        WAYS,
        |way| way.name,
        |way, subject| {
            if !way.mounts.is_empty() && !rustix::process::geteuid().is_root() {
                return Ok(());
            }
            let trial = Trial::new(subject, &small());
            (way.prepare)(&trial);
            for made in way.made {
                std::fs::create_dir_all(trial.dir().join(made)).expect("a directory");
            }
            trial.settle();
            let (mounts, destination) = (filled(&trial, way.mounts), filled(&trial, way.to));
            for writer in WRITERS {
                let arguments = writer
                    .iter()
                    .map(|word| word.replace('@', &destination).replace("LAYER", &trial.store.layers[0].id))
                    .collect::<Vec<_>>();
                let says = match (writer.contains(&"splitfd"), way.says) {
                    // It writes into a directory, and so beside a store that this one holds.
                    (true, "holds") => continue,
                    (true, _) => "lies in",
                    (false, says) => says,
                };
                let mut all = vec!["--root", "store"];
                all.extend(arguments.iter().map(String::as_str));
                refused(&trial, &mounts, &all, says)?;
            }
            Ok(())
        },
    );
}

/// `--replace`, without which a full directory is refused anyway: the store that is read, and the directory above it.
#[test]
fn replacing_never_takes_the_store_away() {
    table(
        &["store", "../NAME", "store/overlay"],
        |to| to,
        |to, subject| {
            let trial = Trial::new(subject, &small());
            trial.settle();
            let name = trial.dir().file_name().and_then(|name| name.to_str()).ok_or("no name")?;
            let to = to.replace("NAME", name);
            refused(
                &trial,
                "",
                &["--root", "store", "extract", "--replace", IMAGE, &to],
                if to == "store" {
                    "is"
                } else if to.contains("overlay") {
                    "lies in"
                } else {
                    "holds"
                },
            )?;
            trial.run(&["image", "list"])?.is_success()
        },
    );
}

/// The store that podman would use for this user is spared too, where another one is read and where an image proxy gives
/// the image; a storage.conf that cannot be understood changes nothing about it.
#[test]
fn podmans_own_store_is_spared_too() {
    type Prepare = fn(&Trial);
    let rows: &[(&str, Prepare)] = &[
        ("by the configuration", |trial| {
            let home = trial.dir().join("empty-path/.config/containers");
            std::fs::create_dir_all(&home).expect("a directory");
            let own = trial.dir().join("own");
            std::fs::create_dir_all(own.join("overlay-layers")).expect("a directory");
            std::fs::create_dir_all(trial.dir().join("run")).expect("a directory");
            let conf = format!(
                "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
                own.display(),
                trial.dir().join("run").display()
            );
            std::fs::write(home.join("storage.conf"), conf).expect("a file");
        }),
        ("a configuration that is not one", |trial| {
            let home = trial.dir().join("empty-path/.config/containers");
            std::fs::create_dir_all(&home).expect("a directory");
            std::fs::write(home.join("storage.conf"), "[[[").expect("a file");
            let own = trial.dir().join("empty-path/.local/share/containers/storage");
            std::fs::create_dir_all(&own).expect("a directory");
            symlink("empty-path/.local/share/containers/storage", trial.dir().join("own")).expect("a link");
        }),
    ];
    table(
        rows,
        |row| row.0,
        |(name, prepare), subject| {
            // Without a configuration of their own, root's store is this machine's.
            if subject.is_root() && name.contains("not one") {
                return Ok(());
            }
            let trial = Trial::new(subject, &small());
            prepare(&trial);
            trial.settle();
            let mut destinations = vec![("own/new", "lies in"), ("own/overlay-layers/new", "lies in"), ("own", "is")];
            if trial.dir().join("run").is_dir() {
                destinations.push(("run/new", "lies in"));
            } else {
                destinations.remove(1);
            }
            for (to, says) in destinations {
                refused(&trial, "", &["--root", "store", "extract", IMAGE, to], says)?;
                refused(&trial, "", &["--root", "store", "image", "export", "-o", to, IMAGE], says)?;
                refused(&trial, "", &["extract", "--via", "/nowhere/proxy", "oci:x", to], says)?;
            }
            trial.run(&["extract", IMAGE, "out/dest"])?.is_success()
        },
    );
}

/// Beside a store there is room.
#[test]
fn beside_the_store_is_a_destination() {
    table(
        &["beside", "store.new", "out/dest", "sto"],
        |to| to,
        |to, subject| {
            let trial = Trial::new(subject, &small());
            trial.settle();
            trial.run(&["extract", IMAGE, to])?.is_success()?;
            trial.run(&["image", "export", "-o", &format!("{to}.tar"), IMAGE])?.is_success()?;
            trial.run(&["image", "copy", IMAGE, &format!("oci:{to}.oci")])?.is_success()
        },
    );
}

/// A destination in a directory whose parents this user may not search: what the kernel shows of its path still tells.
#[test]
fn parents_that_are_closed_hide_nothing() {
    table(
        &[Subject::Plain],
        |_| "a closed parent",
        |_, subject| {
            if subject != Subject::Plain {
                return Ok(());
            }
            let trial = Trial::new(subject, &small());
            trial.settle();
            let script = "cd store/overlay; chmod 700 ../..; chown 0 ../..";
            let arguments = ["--root", "/proc/self/cwd/..", "extract", IMAGE, "new"];
            let outcome = trial.start_in(script, &arguments).finish()?;
            outcome.is_refusal(&[10], &["a directory of a container store"])
        },
    );
}
