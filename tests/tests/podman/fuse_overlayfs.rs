//! Stores that podman filled through fuse-overlayfs, which it takes where the kernel has no overlay for plain users.
//! Whiteouts are files there, `.wh.NAME` and `.wh..wh..opq`. What is extracted is held against podman's own mount, of
//! loaded images in the user's store, where the kernel mounts.

use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::must;
use cstor_tests::tree::{self, Listing, Sight, assert_same};
use std::process::Command;
use tempfile::TempDir;

const LOADED: [&str; 2] = ["localhost/walk:v2", "localhost/odd:latest"];
/// Made of the first.
const BUILT: &str = "localhost/more:latest";
/// What is changed in it.
const STEPS: &str = "rm -r opt/linked opt/doc etc/version && mkdir opt/linked && echo f >opt/doc && echo x >opt/linked/x && \
                     chown 5:6 opt/linked/x && chmod 4711 opt/linked/x && ln opt/doc etc/doc && rm -r opt/hidden && mkdir opt/hidden";

struct Made {
    lab: &'static Lab,
    who: Who,
    place: TempDir,
}

impl Made {
    fn podman(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.command(self.who, "podman");
        command.current_dir(self.place.path()).env("TMPDIR", self.place.path());
        command.args(["--root", "store", "--runroot", "run", "--tmpdir", "tmp"]);
        command.args(["--storage-opt", "overlay.mount_program=/usr/bin/fuse-overlayfs"]).args(arguments);
        command
    }

    /// Some images as they are, and one that changes another.
    fn new(lab: &'static Lab, who: Who) -> Made {
        let made = Made { lab, who, place: lab.scratch(who, Fs::Ext4) };
        let saved = lab.scratch(Who::User, Fs::Ext4);
        let archive = saved.path().join("images.tar");
        must(lab.command(Who::User, "podman").args(["save", "-q", "-m", "-o"]).arg(&archive).args(LOADED));
        must(made.podman(&["load", "-q", "-i"]).arg(&archive));
        must(&mut made.podman(&["create", "-q", "--net", "none", "--name", "c", LOADED[0], "/bin/sh"]));
        let script = r#"cd "$("$@" mount c)" && eval "$what"; s=$?; cd "$here" && "$@" unmount c && exit $s"#;
        made.inside(script, STEPS);
        must(&mut made.podman(&["commit", "-q", "c", BUILT]));
        made
    }

    /// Runs a script where container ids are ids; `$@` is podman, `$what` the second argument.
    fn inside(&self, script: &str, what: &str) -> String {
        let mut command = self.lab.command(self.who, if self.who == Who::User { "podman" } else { "env" });
        command.current_dir(self.place.path()).args((self.who == Who::User).then_some("unshare"));
        let script = format!("here=$PWD what=$1 lister=$2; shift 2; {script}");
        command.args(["sh", "-c", &script, "sh", what]).arg(self.lab.executable("cstor-lab-tree"));
        must(command.arg("podman").args(self.podman(&[]).get_args()))
    }

    /// Listed where fuse-overlayfs has it mounted, and let go in any case.
    fn shown(&self, image: &str) -> Listing {
        let script = r#"mounted=$("$@" image mount "$what") && "$lister" "$mounted"; s=$?
                        "$@" image unmount "$what" >/dev/null && exit $s"#;
        tree::parse(&self.inside(script, image)).expect("lines of JSON")
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // What keeps the directory from being removed: files of other ids, and a mount of podman's over its own layers.
        let mut command = match self.who {
            Who::User => self.podman(&["unshare", "rm", "-rf", "store", "run"]),
            Who::Root => self.lab.command(Who::Root, "umount"),
        };
        let _ = command.args((self.who == Who::Root).then(|| self.place.path().join("store/overlay"))).output();
    }
}

fn is_what_podman_mounts(who: Who, sight: Sight) {
    let lab = lab_or_skip!();
    let made = Made::new(lab, who);
    let store = made.place.path().join("store");
    let whiteouts = must(Command::new("find").arg(store.join("overlay")).args(["-name", ".wh.*"]));
    assert!(whiteouts.lines().count() > 5, "not made by fuse-overlayfs: {whiteouts}");
    for image in LOADED.into_iter().chain([BUILT]) {
        let scratch = lab.scratch(who, Fs::Ext4);
        let out = scratch.path().join("out");
        must(lab.cstor(who, &store).args(["extract", image]).arg(&out));
        // fuse-overlayfs shows no link between a file that an upper layer has again and another of that layer.
        let shown = if image == BUILT { made.shown(image) } else { lab.podman_shows(image) };
        assert_same(&shown, &tree::list(&out).unwrap(), sight, &format!("{who:?}, {image}"));
        must(lab.cstor(who, &store).args(["verify", "--level", "digest", image]));
    }
}

#[test]
fn images_of_fuse_overlayfs_are_what_podman_mounts_for_the_user() {
    is_what_podman_mounts(Who::User, Sight::PLAIN);
}

#[test]
fn images_of_fuse_overlayfs_are_what_podman_mounts_for_root() {
    is_what_podman_mounts(Who::Root, Sight::ALL);
}
