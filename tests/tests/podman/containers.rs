//! Containers where an image can stand: each is made and changed by podman, and what cstor extracts, exports and calls
//! its changes is held against podman's own mount and `podman diff`. The changes are made through that mount in a
//! chroot, because an OCI runtime wants control groups that a test machine need not have.

use cstor_tests::lab::{Fs, Lab, Launcher, Who, assert_refused};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run};
use cstor_tests::tree::{self, Listing, Sight, assert_same};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const IMAGE: &str = "localhost/walk:v2";

/// Every kind of change, for the busybox of the image. `OPAQUE` is what `podman diff` tells in another way.
const CHANGES: &str = r#"
mkdir -p /private/sub && echo secret >/private/sub/file && ln -s file /private/sub/link
echo again >/private/sub/also && ln /private/sub/also /private/sub/linked && mkfifo /private/pipe
chown -R 33:34 /private && chmod 600 /private/sub/also && chmod 700 /private/sub && chmod 700 /private
rm /opt/size/0000512 && rm -r /opt/turn/dir-link
chown 101:102 /opt/size/0004096 && chmod 4755 /bin/su
echo more >>/opt/linked/b
mkdir -m 1777 /scratch && echo x >"/scratch/$(printf 'odd\377name')"
echo inside >/var/daemon/private/new && chmod 711 /var/daemon
"#;
/// fuse-overlayfs shows the new name and the old one as one file even when they are two.
const LINK: &str = "ln /etc/version /etc/version-link\n";
const OPAQUE: &str = "rm -r /opt/doc && mkdir -m 750 /opt/doc && echo new >/opt/doc/new && chown 5:6 /opt/doc
    rm -r /var/daemon && mkdir -p /var/daemon/private";

/// A container, and the store and the podman that it was made with.
struct Made<'a> {
    lab: &'a Lab,
    who: Who,
    place: TempDir,
    flags: &'a [&'a str],
}

impl<'a> Made<'a> {
    /// In a new store, with options for its podman, from a copy of the image, and changed by a script.
    fn new(lab: &'a Lab, who: Who, flags: &'a [&'a str], create: &[&str], script: &str) -> Made<'a> {
        Made::of(IMAGE, lab, who, flags, create, script)
    }

    fn of(image: &str, lab: &'a Lab, who: Who, flags: &'a [&'a str], create: &[&str], script: &str) -> Made<'a> {
        let place = lab.scratch(who, Fs::Xfs);
        let made = Made { lab, who, place, flags };
        let archive = made.place.path().join("image.tar");
        let saved = lab.command(Who::User, "podman").args(["save", "-q", image]).output().expect("podman save");
        fs::write(&archive, saved.stdout).expect("root may write");
        must(made.podman().args(["load", "-q", "-i"]).arg(&archive));
        must(made.podman().args(["create", "--name", "c1", "--hostname", "c1"]).args(create).args([image, "/bin/sh"]));
        made.change(script);
        made
    }

    fn store(&self) -> PathBuf {
        self.place.path().join("store")
    }

    fn podman(&self) -> Command {
        let mut command = self.lab.command(self.who, "podman");
        command.arg("--root").arg(self.store()).arg("--runroot").arg(self.place.path().join("run"));
        command.args(self.flags);
        command
    }

    /// Runs shell commands where podman has the container mounted at `$m`: a user's only in the namespace.
    fn mounted(&self, commands: &str, argument: &Path) -> String {
        let podman = self.podman();
        let words = std::iter::once(podman.get_program()).chain(podman.get_args());
        let words: Vec<&str> = words.map(|word| word.to_str().expect("UTF-8")).collect();
        let podman = words.join(" ");
        let script = format!("m=$({podman} mount c1) && {commands}; s=$?; {podman} umount c1 >/dev/null; exit $s");
        must(self.shell().args(["-c", &script, "sh"]).arg(argument))
    }

    /// A shell for which container ids are ids.
    fn shell(&self) -> Command {
        match self.who {
            Who::Root => self.lab.command(Who::Root, "sh"),
            Who::User => {
                let mut command = self.podman();
                command.args(["unshare", "sh"]);
                command
            }
        }
    }

    fn change(&self, script: &str) {
        let path = self.place.path().join("script");
        fs::write(&path, script).expect("root may write");
        self.mounted("chroot $m /bin/busybox sh -e <\"$1\"", &path);
    }

    /// What podman shows of it.
    fn shown(&self) -> Listing {
        let lines = self.mounted("\"$1\" $m", &self.lab.executable("cstor-lab-tree"));
        tree::parse(&lines).expect("lines of JSON")
    }

    fn cstor(&self) -> Command {
        self.lab.cstor(self.who, &self.store())
    }

    /// An extraction, listed; for a user the second listing is of one inside the namespace, with all owners.
    fn extracted(&self, flags: &[&str]) -> Listing {
        let out = self.place.path().join("out");
        let ended = run(self.cstor().args(["extract", "container:c1"]).arg(&out).args(flags));
        assert_eq!(ended.code(), 0, "{flags:?}: {}", ended.stderr);
        let listing = tree::list(&out).expect("root may list");
        fs::remove_dir_all(&out).expect("root may remove");
        listing
    }

    /// What `--owner`ful tools see: cstor runs inside the namespace as its root, or as root of the host.
    fn extracted_by_root(&self) -> Listing {
        let out = self.place.path().join("out");
        let script = "\"$1\" --root \"$2\" extract container:c1 \"$3\" && \"$4\" \"$3\" && rm -rf \"$3\"";
        let mut command = self.shell();
        command.args(["-c", script, "sh"]).arg(self.lab.executable("cstor")).arg(self.store()).arg(&out);
        tree::parse(&must(command.arg(self.lab.executable("cstor-lab-tree")))).expect("lines of JSON")
    }

    fn diff(&self) -> Value {
        serde_json::from_str(&must(self.cstor().args(["container", "diff", "c1", "--format", "json"]))).unwrap()
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        // podman as root mounts a directory of its store on itself, which keeps it from being removed.
        let _ = run(Command::new("umount").arg("-q").arg(self.store().join("overlay")));
        // The files of other ids are the namespace's to remove; root removes the rest with the scratch directory.
        let _ = run(self.lab.command(self.who, "chmod").args(["-R", "u+rwx"]).arg(self.place.path()));
    }
}

fn paths(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned()).collect()
}

fn a_container_is_what_podman_mounts(who: Who) {
    let lab = lab_or_skip!();
    let made = Made::new(lab, who, &[], &[], &format!("{CHANGES}{LINK}{OPAQUE}"));
    let shown = made.shown();
    assert!(shown.len() > 70 && shown.contains_key("private/sub/linked") && !shown.contains_key("opt/doc/000"));
    let sight = if who == Who::Root { Sight::ALL } else { Sight::PLAIN };
    for flags in [&[][..], &["--reflink", "never"], &["--helper", "always"]] {
        assert_same(&shown, &made.extracted(flags), sight, &format!("{who:?} {flags:?}"));
    }
    assert_same(&shown, &made.extracted_by_root(), Sight::ALL, &format!("{who:?}, by root"));

    // The tar of `image export`, unpacked by GNU tar.
    let script = "mkdir \"$3\" && \"$1\" --root \"$2\" image export container:c1 | tar --xattrs --xattrs-include='*' \
                  --numeric-owner -xpC \"$3\" && \"$4\" \"$3\" && rm -rf \"$3\"";
    let mut command = made.shell();
    command
        .args(["-c", script, "sh"])
        .arg(lab.executable("cstor"))
        .arg(made.store())
        .arg(made.place.path().join("tar"));
    let unpacked = tree::parse(&must(command.arg(lab.executable("cstor-lab-tree")))).unwrap();
    assert_same(&shown, &unpacked, Sight::ALL, &format!("{who:?}, exported"));
}

#[test]
fn a_container_is_what_podman_mounts_for_the_user() {
    a_container_is_what_podman_mounts(Who::User);
}

#[test]
fn a_container_is_what_podman_mounts_for_root() {
    a_container_is_what_podman_mounts(Who::Root);
}

#[test]
fn changes_are_those_of_podman_diff() {
    let lab = lab_or_skip!();
    let made = Made::new(lab, Who::User, &[], &[], &format!("{CHANGES}{LINK}"));
    let ours = made.diff();
    let theirs: Value = serde_json::from_str(&must(made.podman().args(["diff", "--format", "json", "c1"]))).unwrap();
    for kind in ["added", "deleted"] {
        let as_bytes = |path: String| path.replace("\\xff", "\u{fffd}");
        let ours: BTreeSet<_> = paths(&ours[kind]).into_iter().map(as_bytes).collect();
        assert!(ours.len() > 1, "{ours:?}");
        assert_eq!(ours, paths(&theirs[kind]), "{kind}");
    }
    // podman also calls a directory changed whose size on disk is another one.
    let (ours, theirs) = (paths(&ours["changed"]), paths(&theirs["changed"]));
    assert!(ours.contains("/var/daemon") && ours.contains("/opt/linked/b"), "{ours:?}");
    assert!(ours.is_subset(&theirs), "{ours:?} {theirs:?}");
    let shown = made.shown();
    for path in theirs.difference(&ours) {
        assert_eq!(shown[path.trim_start_matches('/')].kind, 'd', "{path}");
    }
    // podman says that such a directory is deleted; what is deleted is what was in it.
    made.change(OPAQUE);
    let ours = made.diff();
    assert!(paths(&ours["deleted"]).contains("/opt/doc/000") && paths(&ours["changed"]).contains("/opt/doc"));
    assert!(paths(&ours["added"]).contains("/opt/doc/new"));
    // Only the higher one of two new directories is marked.
    assert!(paths(&ours["deleted"]).contains("/var/daemon/private/key"), "{ours}");
    let table = must(made.cstor().args(["container", "diff", "c1"]));
    assert!(table.lines().any(|line| line == "D /opt/doc/000") && table.contains("A /private/sub/file\n"), "{table}");
}

#[test]
fn private_directories_need_the_helper() {
    let lab = lab_or_skip!();
    let made = Made::new(lab, Who::User, &[], &[], CHANGES);
    let launcher = Launcher::new(lab, "");
    let out = made.place.path().join("out");
    must(launcher.before(&mut made.cstor()).args(["extract", "container:c1"]).arg(&out));
    assert_eq!(launcher.starts(), 1);
    fs::remove_dir_all(&out).unwrap();
    let empty = lab.scratch(Who::User, Fs::Xfs);
    let refused =
        run(made.cstor().args(["--helper", "never", "extract", "container:c1"]).arg(empty.path().join("out")));
    assert_refused(lab, &refused, 6, empty.path(), "without a helper");
    assert!(refused.stderr.contains("private"), "{}", refused.stderr);
}

/// An id map of its own: layers and files belong to other ids on disk, and the image's layer is a copy with those.
#[test]
fn a_container_with_its_own_ids_is_what_podman_mounts() {
    let lab = lab_or_skip!();
    for who in [Who::User, Who::Root] {
        let create = ["--uidmap", "0:5000:1000", "--gidmap", "0:6000:1000"];
        const SCRIPT: &str =
            "echo x >/new && mkdir -m 700 /closed && echo y >/closed/in && chown -R 5033:6034 /new /closed";
        let made = Made::new(lab, who, &[], &create, SCRIPT);
        // The mount shows ids of the namespace; the container sees its own.
        let mut shown = made.shown();
        for row in shown.values_mut() {
            (row.uid, row.gid) = (row.uid - 5000, row.gid - 6000);
        }
        assert_eq!((shown["closed/in"].uid, shown["closed/in"].gid), (33, 34));
        let sight = if who == Who::Root { Sight::ALL } else { Sight::PLAIN };
        // Directories of the copied layer have the time of the copy.
        assert_same(&shown, &made.extracted(&[]), sight.file_times(), &format!("{who:?}"));
        assert_same(&shown, &made.extracted_by_root(), Sight::ALL.file_times(), &format!("{who:?}, by root"));
        // The namespace's root is nobody in the container.
        made.change("echo x >/outside");
        let empty = lab.scratch(who, Fs::Xfs);
        let refused = run(made.cstor().args(["extract", "container:c1"]).arg(empty.path().join("out")));
        assert_refused(lab, &refused, 6, empty.path(), "an owner outside of the map");
        assert!(refused.stderr.contains("outside"), "{}", refused.stderr);
    }
}

#[test]
fn what_cannot_be_told_is_refused() {
    let lab = lab_or_skip!();
    type Row<'a> = (Who, &'a [&'a str], &'a str, &'a str);
    let table: &[Row<'_>] = &[
        (Who::User, &[], "echo x >/opt/.wh.name", "its name is that of a whiteout"),
        (
            Who::Root,
            &["--storage-opt", "overlay.mountopt=nodev,metacopy=on"],
            "chown 7:7 /opt/size/1500001",
            "overlay.metacopy",
        ),
        (
            Who::Root,
            &["--storage-opt", "overlay.mountopt=nodev,redirect_dir=on"],
            "mv /opt/size /opt/moved",
            "overlay.redirect",
        ),
    ];
    for (who, flags, script, message) in table {
        let made = Made::new(lab, *who, flags, &[], script);
        let empty = lab.scratch(*who, Fs::Xfs);
        let refused = run(made.cstor().args(["extract", "container:c1"]).arg(empty.path().join("out")));
        assert_refused(lab, &refused, 5, empty.path(), message);
        assert!(refused.stderr.contains(message), "{script}: {}", refused.stderr);
    }
}

/// The marks of fuse-overlayfs, and metadata that `force_mask` keeps in attributes.
#[test]
fn stores_of_fuse_overlayfs_are_what_podman_mounts() {
    let lab = lab_or_skip!();
    const PROGRAM: &str = "overlay.mount_program=/usr/bin/fuse-overlayfs";
    let plain = Made::new(lab, Who::User, &["--storage-opt", PROGRAM], &[], &format!("{CHANGES}{OPAQUE}"));
    assert_same(&plain.shown(), &plain.extracted(&[]), Sight::PLAIN, "fuse-overlayfs");
    assert_same(&plain.shown(), &plain.extracted_by_root(), Sight::ALL, "fuse-overlayfs, by root");
    const SCRIPT: &str = "for t in mkdir chown chmod rm ln; do busybox ln -s busybox /bin/$t; done; mkdir -p /a/b && echo x >/a/b/c && \
        chown -R 33:34 /a && chmod 4750 /a/b/c && chmod 700 /a && ln -s c /a/b/d && rm /bin/sh";
    let flags = ["--storage-opt", PROGRAM, "--storage-opt", "overlay.force_mask=shared"];
    let masked = Made::of("localhost/tool", lab, Who::User, &flags, &[], SCRIPT);
    let mut shown = masked.shown();
    // It shows what it does not read itself.
    shown.values_mut().for_each(|row| row.xattrs.retain(|name, _| !name.starts_with("user.containers.")));
    // fuse-overlayfs forgets the owner of a file whose mode is changed.
    assert_eq!((&*shown["a/b/c"].mode, shown["a/b"].uid), ("0o4750", 33));
    assert_same(&shown, &masked.extracted(&[]), Sight::PLAIN, "force_mask");
    assert_same(&shown, &masked.extracted_by_root(), Sight::ALL, "force_mask, by root");
}

#[test]
fn containers_are_listed_and_named_as_by_podman() {
    let lab = lab_or_skip!();
    let made = Made::new(lab, Who::User, &[], &[], "echo x >/new");
    let list = |arguments: &[&str]| must(made.cstor().args(["container", "list"]).args(arguments));
    let ours: Value = serde_json::from_str(&list(&["--format", "json"])).unwrap();
    let theirs: Value = serde_json::from_str(&must(made.podman().args(["ps", "-a", "--format", "json"]))).unwrap();
    let (ours, theirs) = (&ours["containers"][0], &theirs[0]);
    for (our, their) in [("id", "Id"), ("names", "Names"), ("image", "ImageID"), ("image_name", "Image")] {
        assert_eq!(ours[our], theirs[their], "{our}");
    }
    // podman 4.3.1 keeps states in BoltDB.
    assert_eq!((ours["state"].as_str(), ours["pod"].as_str()), (Some("unknown"), None));
    let id = ours["id"].as_str().unwrap();
    assert_eq!(list(&["-q"]), format!("{}\n", &id[..12]));
    assert!(list(&[]).contains("c1"), "{}", list(&[]));
    let toc = |name: &str| run(made.cstor().args(["image", "toc", name]));
    let whole = toc("container:c1");
    for name in [id, &id[..12], &format!("container:{}", &id[..4])] {
        assert_eq!(toc(name).stdout, whole.stdout, "{name}");
    }
    assert!(whole.stdout.contains("\"name\":\"new\""));
    for (name, code) in [("c1", 3), ("container:c2", 3), ("container:", 3)] {
        assert_eq!(toc(name).code(), code, "{name}");
    }
    let layer = ours["layer"].as_str().unwrap();
    type Case<'a> = (&'a [&'a str], i32, &'a str);
    let cases: &[Case<'_>] = &[
        (&["image", "inspect", "container:c1"], 5, "commit it with podman first"),
        (&["image", "copy", "container:c1", "oci:/nowhere"], 5, "commit it with podman first"),
        (&["layer", "export", layer], 5, "there is no tar of it"),
        (&["layer", "toc", layer], 0, ""),
        (&["image", "layers", "container:c1"], 0, ""),
        (&["verify", "container:c1"], 0, ""),
        (&["container", "diff", "container:c1"], 0, ""),
    ];
    for (arguments, code, message) in cases {
        let ended = run(made.cstor().args(*arguments));
        assert_eq!(ended.code(), *code, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{arguments:?}: {}", ended.stderr);
    }
}

/// The database of the podman that made the fixture.
#[test]
fn states_come_from_the_database() {
    let lab = lab_or_skip!();
    let listed =
        must(lab.cstor(Who::User, &lab.store(Fs::Btrfs, "tour")).args(["container", "list", "--format", "json"]));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let states: Vec<_> = listed["containers"].as_array().unwrap().iter().map(|row| &row["state"]).collect();
    assert_eq!(states, ["created", "created"], "{listed}");
}

/// A copy of that store, in which its database says other things.
#[test]
fn what_runs_may_change_and_pods_have_names() {
    let lab = lab_or_skip!();
    let place = lab.scratch(Who::Root, Fs::Btrfs);
    let store = place.path().join("store");
    must(Command::new("cp").args(["-a", "--reflink=auto"]).arg(lab.store(Fs::Btrfs, "root-tour")).arg(&store));
    let script = "import sqlite3, sys\n\
        db = sqlite3.connect(sys.argv[1])\n\
        c1, c2 = [db.execute('SELECT ID FROM ContainerConfig WHERE Name = ?', (n,)).fetchone()[0] for n in ('tour-c1', 'tour-c2')]\n\
        db.execute('UPDATE ContainerState SET State = 3 WHERE ID = ?', (c1,))\n\
        db.execute('UPDATE ContainerState SET State = 6, ExitCode = 42 WHERE ID = ?', (c2,))\n\
        db.execute('PRAGMA foreign_keys = OFF')\n\
        db.execute(\"INSERT INTO IDNamespace VALUES ('pod-id')\")\n\
        db.execute(\"INSERT INTO PodConfig (ID, Name, JSON) VALUES ('pod-id', 'peas', '{}')\")\n\
        db.execute(\"UPDATE ContainerConfig SET PodID = 'pod-id' WHERE ID = ?\", (c1,))\n\
        db.commit()\n";
    must(Command::new("python3").args(["-c", script]).arg(store.join("db.sql")));
    let cstor = |arguments: &[&str]| run(lab.cstor(Who::Root, &store).args(arguments));
    let listed: Value = serde_json::from_str(&cstor(&["container", "list", "--format", "json"]).stdout).unwrap();
    let mut rows: Vec<_> = listed["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["names"][0], &row["state"], &row["exit_code"], &row["pod"]))
        .map(|(name, state, code, pod)| (name.as_str().unwrap(), state.as_str().unwrap(), code.as_i64(), pod.as_str()))
        .collect();
    rows.sort_unstable();
    assert_eq!(rows, [("tour-c1", "running", None, Some("peas")), ("tour-c2", "exited", Some(42), None)]);
    for (name, warned) in [("tour-c1", true), ("tour-c2", false)] {
        let ended = cstor(&["image", "layers", &format!("container:{name}")]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        assert_eq!(ended.stderr.contains("is running: its files may change"), warned, "{name}: {}", ended.stderr);
    }
}

/// What only a container's root can arrange, and what it may not gain by it.
#[test]
fn a_container_cannot_pass_for_a_masked_store() {
    let lab = lab_or_skip!();
    let made = Made::new(lab, Who::Root, &[], &[], "echo x >/disk");
    let script = "setfattr -n user.containers.override_stat -v 0:0:0755 $m && \
                  setfattr -n user.containers.override_stat -v 0:0:0666:block-254-0 $m/disk";
    made.mounted(script, Path::new(""));
    let found = made.extracted(&["--devices", "create"]);
    assert_eq!((found["disk"].kind, found["disk"].size), ('f', Some(2)));
}

/// The directory of a layer can be closed too, and so can what is said of it.
#[test]
fn the_top_of_a_container_may_be_anothers() {
    let lab = lab_or_skip!();
    let made = Made::new(lab, Who::User, &[], &[], "mkdir -p /closed && echo x >/closed/in");
    made.mounted("chown 33:34 $m $m/closed && chmod 711 $m && setfattr -n user.note -v hi $m", Path::new(""));
    // The next mount would give it back.
    let (by_root, by_user) = (made.extracted_by_root(), made.extracted(&[]));
    let shown = made.shown();
    assert_same(&shown, &by_root, Sight::ALL, "by root");
    assert_same(&shown, &by_user, Sight::PLAIN, "by the user");
}

#[test]
fn sixty_four_descriptors_are_enough_for_a_container() {
    let lab = lab_or_skip!();
    let made = Made::new(
        lab,
        Who::User,
        &[],
        &[],
        "mkdir /many && cd /many && i=0; while [ $i -lt 300 ]; do echo $i >f$i; i=$((i+1)); done; chown -R 33:33 /many && chmod 700 /many",
    );
    let out = made.place.path().join("out");
    let mut command = lab.cstor_with_descriptors(64, Who::User, &made.store());
    must(command.args(["extract", "container:c1"]).arg(&out));
    assert_same(&made.shown(), &tree::list(&out).unwrap(), Sight::PLAIN, "with 64 descriptors");
}

/// Deleted or cut short between the look and the reading, which an output that takes nothing holds up.
#[test]
fn what_changes_meanwhile_is_a_change() {
    let lab = lab_or_skip!();
    let made = Made::new(
        lab,
        Who::Root,
        &[],
        &[],
        "mkdir /a /z && i=0; while [ $i -lt 900 ]; do echo $i >/z/f$i; i=$((i+1)); done",
    );
    fs::write(made.place.path().join("big"), vec![1; 8 << 20]).unwrap();
    made.mounted("cp \"$1\" $m/a/big", &made.place.path().join("big"));
    let layer = must(made.cstor().args(["container", "list", "--format", "json"]));
    let layer: Value = serde_json::from_str(&layer).unwrap();
    let diff = made.store().join("overlay").join(layer["containers"][0]["layer"].as_str().unwrap()).join("diff");
    type Change = fn(&Path);
    let table: [(Change, &str); 3] = [
        (|z| fs::remove_file(z.join("f999")).or_else(|_| fs::remove_file(z.join("f899"))).unwrap(), "a moment ago"),
        (|z| fs::write(z.join("f898"), "").unwrap(), "a moment ago"),
        (|z| fs::remove_file(z.join("f897")).and_then(|()| fs::create_dir(z.join("f897"))).unwrap(), "a moment ago"),
    ];
    for (change, message) in table {
        let mut export = made.cstor();
        export.args(["image", "export", "container:c1"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut export = export.spawn().unwrap();
        let mut first = [0; 512];
        export.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        // It waits for this reader now, before it has come to what is changed.
        change(&diff.join("z"));
        let ended = export.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(9), "{said}");
        assert!(said.contains(message) && said.contains("(container:c1)"), "{said}");
    }
}
