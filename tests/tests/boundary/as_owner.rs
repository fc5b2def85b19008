//! Root and somebody else's store: refused, or with `--as-owner` read with the owner's rights and nothing more. What a
//! hostile store could lead an ordinary user's cstor to is the subject of `bad_store` and `bad_tree`.

use cstor_tests::lab::{Fs, Lab, Launcher, Who, assert_refused};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run};
use cstor_tests::tree::{self, Sight, assert_same};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn as_owner(lab: &Lab, who: Who, store: &Path) -> Command {
    let mut command = lab.cstor(who, store);
    command.arg("--as-owner");
    command
}

/// A copy of a store that a test may change.
fn copy_of(lab: &Lab, store: &str) -> (TempDir, PathBuf) {
    // Links of the fixtures are too long for XFS.
    let scratch = lab.scratch(Who::User, Fs::Btrfs);
    let to = scratch.path().join("store");
    must(lab.command(Who::Root, "cp").args(["-a", "--reflink=auto"]).arg(lab.store(Fs::Btrfs, store)).arg(&to));
    (scratch, to)
}

#[test]
fn root_opens_nothing_of_another_users_store() {
    let lab = lab_or_skip!();
    let (scratch, launcher) = (lab.scratch(Who::Root, Fs::Xfs), Launcher::new(lab, ""));
    let (store, trace) = (lab.store(Fs::Xfs, "local"), launcher.path().join("trace"));
    let mut command = lab.command(Who::Root, "strace");
    command.args(["-f", "-qq", "-e", "trace=open,openat,openat2,execve", "-o"]).arg(&trace);
    command.arg(lab.executable("cstor")).arg("--root").arg(&store);
    command.args(["extract", "localhost/tool"]).arg(scratch.path().join("out"));
    let ended = run(&mut command);
    assert_refused(lab, &ended, 6, scratch.path(), "root on a user's store");
    assert!(ended.stderr.contains("--as-owner"), "{}", ended.stderr);
    let trace = fs::read_to_string(trace).expect("a trace");
    // Its own arguments name the store too; strace cuts them short, or not, as long as they are.
    let opens = trace.lines().filter(|line| !line.contains(" execve("));
    let opened: Vec<&str> = opens.filter(|line| line.contains(store.to_str().expect("a path"))).collect();
    assert!(matches!(opened[..], [root] if root.contains("O_PATH")), "more than to look at the root: {opened:#?}");
    assert!(!trace.contains("openat2("), "{trace}");
}

#[test]
fn as_the_owner_it_is_the_owners_run() {
    let lab = lab_or_skip!();
    let store = lab.store(Fs::Xfs, "local");
    for (image, starts) in [("localhost/tool", 0), ("localhost/private", 1)] {
        let run_by = |who| {
            let (scratch, launcher) = (lab.scratch(Who::User, Fs::Xfs), Launcher::new(lab, ""));
            let mut command = if who == Who::Root { as_owner(lab, who, &store) } else { lab.cstor(who, &store) };
            // The helper that root has in mind is not the owner's.
            if who == Who::Root {
                command.env("CSTOR_HELPER", "/nonexistent");
            }
            command.args(["extract", image]).arg(scratch.path().join("out"));
            let ended = run(launcher.before(&mut command));
            assert_eq!((ended.code(), launcher.starts()), (0, starts), "{image}: {}", ended.stderr);
            scratch
        };
        let (own, of_root) = (run_by(Who::User), run_by(Who::Root));
        let list = |scratch: &TempDir| tree::list(&scratch.path().join("out")).unwrap();
        assert_same(&list(&own), &list(&of_root), Sight::ALL, image);
        assert_eq!(fs::metadata(of_root.path().join("out")).unwrap().uid(), lab.uid(), "{image}");
    }
    // Every command takes it.
    let listed = |mut command: Command| must(command.args(["image", "list", "--format", "json"]));
    assert_eq!(listed(as_owner(lab, Who::Root, &store)), listed(lab.cstor(Who::User, &store)));
}

#[test]
fn nothing_of_root_comes_along() {
    let lab = lab_or_skip!();
    let (scratch, store) = (lab.scratch(Who::User, Fs::Xfs), lab.store(Fs::Xfs, "local"));
    let seen = "{ env; id; grep -E '^(Uid|Gid|Groups|Cap)' /proc/self/status; ls -l /proc/self/fd; } >\"${0%/*}/seen\"";
    let launcher = Launcher::of(lab, &format!("{seen}; exec unshare --map-root-user --map-auto \"$@\""));
    let mut shell = lab.command(Who::Root, "sh");
    shell.args(["-c", "exec 9</etc/shadow; exec \"$@\"", "sh"]).arg(lab.executable("cstor"));
    shell.args(["--as-owner", "--root"]).arg(&store);
    shell.args(["extract", "localhost/private"]).arg(scratch.path().join("out")).env("SECRET", "of root");
    must(launcher.before(&mut shell));
    let seen = fs::read_to_string(launcher.path().join("seen")).expect("what the launcher saw");
    let uid = lab.uid();
    for wanted in [
        format!("uid={uid}("),
        format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n"),
        "CapEff:\t0000000000000000\n".to_owned(),
        "CapPrm:\t0000000000000000\n".to_owned(),
        format!(
            "HOME={}\n",
            lab.command(Who::User, "x")
                .get_envs()
                .find_map(|(k, v)| (k == "HOME").then(|| v.unwrap().to_str().unwrap().to_owned()))
                .unwrap()
        ),
        "LC_ALL=C.UTF-8\n".to_owned(),
    ] {
        assert!(seen.contains(&wanted), "{wanted:?} in {seen}");
    }
    for unwanted in ["SECRET", "shadow", "HOME=/root", "groups=0", ",0(root)"] {
        assert!(!seen.contains(unwanted), "{unwanted:?} in {seen}");
    }
}

#[test]
fn a_hostile_store_discloses_nothing() {
    let lab = lab_or_skip!();
    for what in ["layer", "diff", "layers.json"] {
        let (_kept, store) = copy_of(lab, "tour");
        let layers = fs::read_dir(store.join("overlay")).unwrap().flatten().map(|entry| entry.path());
        // A layer that says it has etc/shadow gets the machine's.
        let victims: Vec<PathBuf> = layers.filter(|layer| layer.join("diff/etc/shadow").exists()).collect();
        assert!(!victims.is_empty());
        match what {
            "layers.json" => {
                fs::remove_file(store.join("overlay-layers/layers.json")).unwrap();
                symlink("/etc/shadow", store.join("overlay-layers/layers.json")).unwrap();
            }
            _ => {
                for layer in &victims {
                    let place = if what == "diff" { layer.join("diff") } else { layer.clone() };
                    fs::remove_dir_all(&place).unwrap();
                    symlink("/", &place).unwrap();
                }
            }
        }
        let (scratch, launcher) = (lab.scratch(Who::User, Fs::Btrfs), Launcher::new(lab, ""));
        let mut command = as_owner(lab, Who::Root, &store);
        command.args(["extract", "localhost/tour:v1"]).arg(scratch.path().join("out"));
        let ended = run(launcher.before(&mut command));
        assert!([4, 6].contains(&ended.code()), "{what}: {} {}", ended.code(), ended.stderr);
        assert_refused(lab, &ended, ended.code(), scratch.path(), what);
        assert!(!ended.stderr.contains("root:"), "{what}: {}", ended.stderr);
    }
}

#[test]
fn it_is_refused_where_it_makes_no_sense() {
    let lab = lab_or_skip!();
    let users = lab.store(Fs::Xfs, "local");
    let roots = lab.store(Fs::Xfs, "root-local");
    let scratch = lab.scratch(Who::Root, Fs::Xfs);
    let link = scratch.path().join("link");
    symlink(&users, &link).unwrap();
    let nobodys = scratch.path().join("nobodys");
    fs::create_dir(&nobodys).unwrap();
    chown(&nobodys, Some(4_000_000_000), None).unwrap();
    let third = scratch.path().join("third");
    fs::create_dir(&third).unwrap();
    chown(&third, Some(65_534), None).unwrap();
    let additional = format!("additionalimagestore={}", third.display());
    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let of_root = format!("additionalimagestore={}", empty.display());
    // Directories on the way may be links, but not to a store that root would then read as its own.
    let way = scratch.path().join("way");
    symlink(users.parent().unwrap(), &way).unwrap();
    let table: [(&str, Who, &Path, &[&str], i32); 11] = [
        ("a link on the way", Who::Root, &way.join("local"), &[], 0),
        ("a link on the way to a store of root", Who::Root, &way.join("root-local"), &[], 2),
        ("its own store", Who::User, &users, &[], 0),
        ("root's own store", Who::Root, &roots, &[], 0),
        ("root's store for a user", Who::User, &roots, &[], 2),
        ("a link to the store", Who::Root, &link, &[], 2),
        ("no store", Who::Root, &scratch.path().join("nosuch"), &[], 3),
        ("an owner without a name", Who::Root, &nobodys, &[], 6),
        ("a third owner's additional store", Who::Root, &users, &["--storage-opt", &additional], 6),
        ("the same for the owner", Who::User, &users, &["--storage-opt", &additional], 0),
        ("root's additional store", Who::Root, &users, &["--storage-opt", &of_root], 0),
    ];
    for (what, who, store, options, code) in table {
        let ended = run(as_owner(lab, who, store).args(options).args(["image", "list", "-q"]));
        assert_eq!(ended.code(), code, "{what}: {}", ended.stderr);
        if code != 0 {
            assert_eq!((ended.stderr.lines().count(), &*ended.stdout), (1, ""), "{what}: {}", ended.stderr);
        }
    }
    let ended = run(lab.command(Who::Root, lab.executable("cstor")).args(["--as-owner", "image", "list"]));
    assert_eq!(ended.code(), 2, "without --root: {}", ended.stderr);
    // What stands behind -- is a name.
    let ended = run(lab.cstor(Who::User, &users).args(["image", "inspect", "--", "--as-owner"]));
    assert_eq!(ended.code(), 3, "{}", ended.stderr);
    let ended = run(as_owner(lab, Who::Root, &users).args(["image", "inspect", "--", "--as-owner"]));
    assert_eq!(ended.code(), 3, "{}", ended.stderr);
    let ended =
        run(as_owner(lab, Who::Root, &users).args(["extract", "localhost/tool"]).arg(scratch.path().join("out")));
    assert_eq!(ended.code(), 10, "the owner may not write there: {}", ended.stderr);
    assert!(!scratch.path().join("out").exists());
}
