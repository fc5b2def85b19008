//! What docs/security.md and docs/known-attacks.md claim of a result while it grows and of the socket of a server: each
//! test fails when the property is taken out of the code. It is in the way of a running extraction, at a moment that the
//! extraction itself tells, and looks at what must be private, or takes something away there. What a result holds in the
//! end is tested elsewhere (`extract`, `bad_tree`), and so are destinations that are taken before (`destination`).

use cstor_client::error::{ErrorKind, ExtractError};
use cstor_client::extract::Extractor;
use cstor_client::jsonrpc::Server;
use cstor_client::progress::Progress;
use cstor_client::splitfdstream::{Collect, DEFAULT_INLINE_THRESHOLD};
use cstor_client::{Image, Storage};
use cstor_tests::built;
use cstor_tests::forge::trial::{PLAIN, Verdict, seal, table};
use cstor_tests::forge::{Forged, Member, Store, Subject, Trial, dir, fifo, file, symlink};
use cstor_tests::lab::skip;
use cstor_tests::peer::RawHelper;
use cstor_tests::run::run;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, fstat, getxattr, inotify, setxattr};
use rustix::io::Errno;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink as link};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const IMAGE: &str = "localhost/img:latest";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A store, and beside it a directory with the destination `out/dest` and a canary.
struct Place {
    dir: TempDir,
    store: Forged,
}

impl Place {
    fn new(store: &Store) -> Place {
        let dir = TempDir::new().expect("a directory");
        let store = store.write(&dir.path().join("store"), is_root()).expect("a store");
        fs::create_dir_all(dir.path().join("out/canary/deep")).expect("new directories");
        fs::write(dir.path().join("out/canary/kept"), "canary").expect("a file");
        Place { dir, store }
    }

    fn image(&self) -> Image {
        Storage::open(&self.store.root).and_then(|storage| storage.image(IMAGE)).expect("it is there")
    }

    fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join("out").join(name)
    }

    /// The directory in which the result grows now.
    fn growing(&self) -> Option<PathBuf> {
        sibling(&self.out(""))
    }

    /// What is beside the result, by name, the canary first.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.out("")).expect("a directory");
        let mut names: Vec<_> =
            names.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    fn canary(&self) -> BTreeMap<String, String> {
        seal(&self.out("canary"))
    }
}

fn sibling(above: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(above).expect("a directory").flatten();
    entries.map(|entry| entry.path()).find(|path| path.file_name().is_some_and(is_temporary))
}

fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".dest.cstor-")
}

/// Does something once, when the first files are placed: all directories are there, while links and the metadata of
/// directories are still to come.
#[derive(Clone)]
struct Midway {
    once: Arc<Once>,
    act: Arc<dyn Fn() + Send + Sync>,
}

impl Midway {
    fn new(act: impl Fn() + Send + Sync + 'static) -> Midway {
        Midway { once: Arc::new(Once::new()), act: Arc::new(act) }
    }

    fn has_acted(&self) -> bool {
        self.once.is_completed()
    }
}

impl Progress for Midway {
    fn layer_read(&self, _: usize, _: usize, _: u64) {}
    fn planned(&self, _: u64, _: u64) {}
    fn advanced(&self, files: u64, _: u64) {
        if files > 0 {
            self.once.call_once(|| (self.act)());
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("a path of the result").mode() & 0o7777
}

/// Everyone may enter what this image has, once it is complete.
fn open_to_all() -> Store {
    let members = vec![
        dir("./").mode(0o777),
        dir("open").mode(0o777),
        dir("open/deep").mode(0o777),
        file("open/f", "x").mode(0o666),
        file("f", "x").mode(0o666),
        symlink("open/l", "f"),
    ];
    Store::stack(IMAGE, [members])
}

#[test]
fn a_result_is_private_until_it_is_complete() {
    let place = Place::new(&open_to_all());
    // A set-group-id bit comes along with whatever is made here.
    fs::set_permissions(place.out(""), Permissions::from_mode(0o2755)).unwrap();
    for (what, before) in [("new", None), ("an empty directory", Some(false)), ("replaced", Some(true))] {
        let dest = place.out("dest");
        if let Some(full) = before {
            fs::DirBuilder::new().mode(0o777).create(&dest).expect("a directory");
            if full {
                fs::write(dest.join("old"), "old").expect("a file");
            }
        }
        let above = place.out("");
        let looks = Midway::new(move || {
            let root = sibling(&above).expect("a result that grows");
            for path in ["", "open", "open/deep"] {
                assert_eq!(mode(&root.join(path)), 0o700, "{what}: {path:?} half-way");
            }
        });
        let extractor = Extractor::new().replace(true).before_placing(|reach| {
            assert_eq!(fstat(reach.grows)?.st_mode & 0o7777, 0o700, "before anything is placed");
            Ok(())
        });
        extractor.progress(looks.clone()).extract(&place.image(), &dest).unwrap();
        assert!(looks.has_acted(), "{what}");
        for path in ["", "open", "open/deep"] {
            assert_eq!(mode(&dest.join(path)), 0o777, "{what}: {path:?} at the end");
        }
        fs::remove_dir_all(&dest).unwrap();
    }
    // The same of layers that come as streams.
    let mut stream = Vec::new();
    let mut files = Collect::new(16);
    place.image().layers().unwrap()[0].splitfdstream(&mut stream, &mut files, DEFAULT_INLINE_THRESHOLD).unwrap();
    let files = files.into_files();
    let extractor = Extractor::new().before_placing(|reach| {
        assert_eq!(fstat(reach.grows)?.st_mode & 0o7777, 0o700, "a stream");
        Err(std::io::Error::other("seen"))
    });
    let ended = extractor.extract_streams([(&stream[..], &files[..])], place.out("dest"));
    assert!(matches!(ended, Err(ExtractError::Hook(_))), "{ended:?}");
    assert_eq!(place.names(), ["canary"]);
}

/// A default ACL (acl(5)) as the kernel stores it (linux/posix_acl_xattr.h): the owner may all, one more user too, the
/// group and others nothing.
fn default_acl() -> Vec<u8> {
    const VERSION: u32 = 2;
    const NO_ID: u32 = u32::MAX;
    const STRANGER: u32 = 12_345;
    // USER_OBJ, USER, GROUP_OBJ, MASK, OTHER
    let entries: [(u16, u16, u32); 5] =
        [(0x01, 7, NO_ID), (0x02, 7, STRANGER), (0x04, 0, NO_ID), (0x10, 7, NO_ID), (0x20, 0, NO_ID)];
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// E12: what a directory hands on to what is made in it would change modes, groups and rights of the whole result.
#[test]
fn nothing_is_inherited_from_the_parent() {
    const OTHER_GROUP: u32 = 54_321;
    let members = vec![
        dir("./").mode(0o755),
        dir("d").mode(0o750),
        dir("d/e").mode(0o711),
        file("d/f", "x").mode(0o604),
        file("d/x", "x").mode(0o777),
        file("f", "x").mode(0o640),
        fifo("p").mode(0o622),
        symlink("l", "f"),
    ];
    let tree = "d 750 d
                d 711 d/e
                f 604 d/f = x
                f 777 d/x = x
                f 640 f = x
                l l -> f
                p 622 p";
    let store = Store::stack(IMAGE, [members]);
    let rows = [("set-group-id", true, false), ("default ACL", false, true), ("both", true, true)];
    table(
        &rows,
        |row| row.0,
        |&(_, set_group_id, acl), subject| {
            let trial = Trial::new(subject, &store);
            trial.settle();
            let out = trial.dir().join("out");
            let own_group = fs::metadata(&out).map_err(text)?.gid();
            // A plain user has one group, so root must make the directory another one's.
            if set_group_id && is_root() {
                chown(&out, None, Some(OTHER_GROUP)).map_err(text)?;
            }
            fs::set_permissions(&out, Permissions::from_mode(if set_group_id { 0o2775 } else { 0o755 }))
                .map_err(text)?;
            if acl {
                match setxattr(&out, "system.posix_acl_default", &default_acl(), XattrFlags::empty()) {
                    Err(Errno::OPNOTSUPP) => return Ok(()),
                    set => set.map_err(text)?,
                }
            }
            trial.accept(IMAGE, &[], tree)?;
            if mode(&trial.dest) != 0o755 {
                return Err(format!("the result has the mode {:o}", mode(&trial.dest)));
            }
            for path in ["", "d", "d/e", "d/f", "d/x", "f", "p", "l"] {
                let path = trial.dest.join(path);
                let group = path.symlink_metadata().map_err(text)?.gid();
                if group != own_group {
                    return Err(format!("{}: group {group}, not {own_group}", path.display()));
                }
                for attribute in ["system.posix_acl_default", "system.posix_acl_access"] {
                    if !path.is_symlink() && getxattr(&path, attribute, &mut [0u8; 0][..]).is_ok() {
                        return Err(format!("{}: {attribute}", path.display()));
                    }
                }
            }
            Ok(())
        },
    );
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A directory of the growing result is exchanged for a link, which leads to another directory of the result or out of
/// it. The last component is refused in any case; so the link stands in the middle of the path.
#[test]
fn a_directory_that_becomes_a_link_is_not_entered() {
    let with_link = || vec![dir("victim"), dir("victim/deep").mode(0o711), symlink("victim/deep/l", "x"), dir("other")];
    let with_nothing = || vec![dir("victim"), dir("victim/deep").mode(0o711), dir("other")];
    type Members = fn() -> Vec<Member>;
    let images: [(&str, Members); 2] = [("a link is placed", with_link), ("a mode is set", with_nothing)];
    for (what, members) in images {
        for target in ["other", "../canary"] {
            let what = format!("{what}, link to {target}");
            let mut members = members();
            members.extend([dir("other/deep").mode(0o700), file("f", "x")]);
            let place = Place::new(&Store::stack(IMAGE, [members]));
            fs::set_permissions(place.out("canary/deep"), Permissions::from_mode(0o700)).unwrap();
            let canary = place.canary();
            let above = place.out("");
            let swap = Midway::new(move || {
                let root = sibling(&above).expect("a result that grows");
                fs::rename(root.join("victim"), root.join("moved")).unwrap();
                link(target, root.join("victim")).unwrap();
            });
            let error = Extractor::new().progress(swap.clone()).extract(&place.image(), place.out("dest")).unwrap_err();
            assert!(swap.has_acted(), "{what}");
            // At the first lookup through the link, and not at a later one of the link itself.
            assert!(matches!(error.kind(), ErrorKind::Destination), "{what}: {error:?}");
            assert!(error.to_string().contains("victim/deep"), "{what}: {error}");
            assert_eq!(place.canary(), canary, "{what}");
            assert_eq!(place.names(), ["canary"], "{what}");
        }
    }
}

/// What stands already where something is to be made is neither used nor followed. This is also what a file system that
/// folds case does (E5): `a` stands where `A` is to be made.
#[test]
fn what_stands_in_the_result_is_never_used() {
    type Plant = fn(&Path, &Path);
    let plants: [(&str, Plant); 4] = [
        ("a file", |path, _| fs::write(path, "").unwrap()),
        ("a directory", |path, _| fs::create_dir(path).unwrap()),
        ("a link to the canary", |path, canary| link(canary, path).unwrap()),
        ("a further name of the canary's file", |path, canary| fs::hard_link(canary.join("kept"), path).unwrap()),
    ];
    let members = [dir("new"), file("new", "written"), symlink("new", "target"), fifo("new")];
    for member in members {
        let place = Place::new(&Store::stack(IMAGE, [vec![member.clone()]]));
        let above = place.out("");
        for (what, plant) in plants {
            let (at, canary) = (above.clone(), place.out("canary"));
            let extractor = Extractor::new().before_placing(move |_| {
                plant(&sibling(&at).expect("a result that grows").join("new"), &canary);
                Ok(())
            });
            let error = extractor.extract(&place.image(), place.out("dest")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Destination, "{what} for {member:?}: {error}");
            assert_eq!(place.names(), ["canary"], "{what} for {member:?}");
            let canary = fs::metadata(place.out("canary/kept")).unwrap();
            assert_eq!((canary.len(), canary.nlink()), (6, 1), "{what} for {member:?}");
        }
    }
}

/// An empty directory is what the kernel would replace.
#[test]
fn an_empty_directory_that_appears_meanwhile_stays() {
    let place = Place::new(&open_to_all());
    let dest = place.out("dest");
    let appearing = dest.clone();
    let appear = Midway::new(move || fs::DirBuilder::new().mode(0o751).create(&appearing).unwrap());
    let error = Extractor::new().progress(appear.clone()).extract(&place.image(), &dest).unwrap_err();
    assert!(matches!(error, ExtractError::Occupied { .. }) && appear.has_acted(), "{error:?}");
    assert_eq!((mode(&dest), fs::read_dir(&dest).unwrap().count()), (0o751, 0));
    assert_eq!(place.names(), ["canary", "dest"]);
}

/// Where others may write to the directory that holds the destination, they can rename the growing result and put
/// something else in its place.
#[test]
fn what_takes_the_place_of_a_growing_result_does_not_become_the_result() {
    type Impostor = fn(&Path);
    let impostors: [(&str, Impostor); 3] = [
        ("a link", |path| link("canary", path).unwrap()),
        ("a directory", |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("f"), "another").unwrap();
        }),
        ("a file", |path| fs::write(path, "another").unwrap()),
    ];
    let place = Place::new(&open_to_all());
    let canary = place.canary();
    for (what, impostor) in impostors {
        let temporary = Arc::new(std::sync::Mutex::new(PathBuf::new()));
        let (above, seen) = (place.out(""), Arc::clone(&temporary));
        let swap = Midway::new(move || {
            let growing = sibling(&above).expect("a result that grows");
            fs::rename(&growing, above.join("stolen")).unwrap();
            impostor(&growing);
            *seen.lock().unwrap() = growing;
        });
        let error = Extractor::new().progress(swap.clone()).extract(&place.image(), place.out("dest")).unwrap_err();
        assert!(matches!(error, ExtractError::Occupied { .. }), "{what}: {error:?}");
        assert!(!place.out("dest").exists(), "{what}");
        let temporary = temporary.lock().unwrap().clone();
        assert!(temporary.is_symlink() || seal(&temporary).len() <= 2, "{what}");
        match what {
            "a directory" => assert_eq!(fs::read(temporary.join("f")).unwrap(), b"another"),
            "a file" => assert_eq!(fs::read(&temporary).unwrap(), b"another"),
            _ => assert!(temporary.is_symlink()),
        }
        assert_eq!(fs::read_dir(place.out("stolen")).unwrap().count(), 0, "{what}: what was stolen is emptied");
        assert_eq!(place.canary(), canary, "{what}");
        fs::remove_dir(place.out("stolen")).unwrap();
        fs::remove_dir_all(&temporary).or_else(|_| fs::remove_file(&temporary)).unwrap();
    }
}

/// The same before the result has begun to grow: another user puts a directory of his own in place of the one that root
/// has just made. A tracer holds root up between making and opening it.
#[test]
fn root_puts_nothing_into_a_directory_of_another_user() {
    if !is_root() || run(Command::new("sh").args(["-c", "command -v strace"])).code() != 0 {
        return skip("to be another user takes root, and to hold cstor up takes strace");
    }
    let place = Place::new(&open_to_all());
    fs::set_permissions(place.dir.path(), Permissions::from_mode(0o755)).unwrap();
    chown(place.out(""), Some(PLAIN), Some(PLAIN)).unwrap();
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=mkdirat",
        "-e",
        "inject=mkdirat:delay_exit=500000:when=1",
    ]);
    command.arg(built::program("cstor")).arg("--root").arg(&place.store.root);
    command.args(["extract", "--no-sandbox", IMAGE]).arg(place.out("dest"));
    let ended = AtomicBool::new(false);
    let (ended, impostor) = thread::scope(|scope| {
        let attacking = scope.spawn(|| {
            become_plain();
            while !ended.load(Ordering::Relaxed) {
                let Some(made) = place.growing() else { continue };
                fs::rename(&made, place.out("stolen")).unwrap();
                fs::create_dir(&made).unwrap();
                return Some(made);
            }
            None
        });
        let outcome = run(&mut command);
        ended.store(true, Ordering::Relaxed);
        (outcome, attacking.join().unwrap())
    });
    let impostor = impostor.expect("the directory was seen");
    assert_eq!(ended.code(), 10, "{}", ended.stderr);
    assert!(!place.out("dest").exists(), "{}", ended.stderr);
    assert_eq!(fs::metadata(&impostor).unwrap().uid(), PLAIN);
    let named = fs::read_dir(&impostor).unwrap().count();
    assert_eq!((named, mode(&impostor) & 0o700), (0, 0o700), "something was made for another user: {}", ended.stderr);
    assert!(ended.stderr.contains("create a directory beside it"), "{}", ended.stderr);
}

/// How long each race goes on. It proves nothing alone: the moments that matter are hit on purpose above.
const RACE: Duration = Duration::from_secs(3);
/// How many runs there are at least, on a machine that has other things to do.
const RUNS: i32 = 4;

/// What an attacker does again and again.
type Attack = fn(&Path);

/// E4: as root in a directory of a plain user, who takes the growing result away and puts links there; and as anybody,
/// with a process of the same user exchanging directories below it.
#[test]
fn a_race_for_the_growing_result_harms_nobody() {
    let members = (0..100).flat_map(|number| {
        let name = format!("d{number:02}");
        [
            dir(&name),
            dir(format!("{name}/deep")),
            file(format!("{name}/deep/kept"), "x"),
            symlink(format!("{name}/deep/l"), "x"),
        ]
    });
    let store = Store::stack(IMAGE, [members.collect::<Vec<_>>()]);
    let attacks: [(&str, bool, Attack); 2] = [
        ("in place of the result", true, |out| {
            let Some(growing) = sibling(out) else { return };
            let stolen = out.join("stolen");
            let _ = fs::rename(&growing, &stolen);
            let _ = link("canary", &growing);
            // The next run is to be robbed in the same way.
            let _ = fs::remove_file(&growing);
            let _ = fs::rename(&stolen, &growing);
        }),
        ("in place of its directories", false, |out| {
            let Some(growing) = sibling(out) else { return };
            for number in 0..100 {
                let victim = growing.join(format!("d{number:02}"));
                let aside = growing.join("aside");
                if fs::rename(&victim, &aside).is_ok() {
                    let _ = link("../canary", &victim);
                    let _ = fs::remove_file(&victim);
                    let _ = fs::rename(&aside, &victim);
                }
            }
        }),
    ];
    for (what, by_another, attack) in attacks {
        let trial = Trial::new(Subject::Caller, &store);
        let out = trial.dir().join("out");
        for path in ["out/canary/deep", "out/canary/d00"] {
            fs::create_dir(trial.dir().join(path)).unwrap();
        }
        fs::write(out.join("canary/deep/kept"), "canary").unwrap();
        let attacker = by_another && is_root();
        if attacker {
            chown(&out, Some(PLAIN), Some(PLAIN)).unwrap();
        }
        let canary = seal(&out.join("canary"));
        let stop = AtomicBool::new(false);
        let (mut runs, mut refused) = (0, 0);
        thread::scope(|scope| {
            let attacking = scope.spawn(|| {
                if attacker {
                    become_plain();
                }
                while !stop.load(Ordering::Relaxed) {
                    attack(&out);
                }
            });
            let began = Instant::now();
            let mut verdict: Verdict = Ok(());
            while (began.elapsed() < RACE || runs < RUNS) && verdict.is_ok() {
                verdict = trial.extract(IMAGE, &["--reflink", "never"]).and_then(|outcome| {
                    runs += 1;
                    refused += i32::from(outcome.code == 10);
                    match outcome.code {
                        0 | 10 => Ok(()),
                        code => Err(format!("exit code {code}: {}", outcome.stderr)),
                    }
                });
                if seal(&out.join("canary")) != canary {
                    verdict = verdict.and(Err("the canary has changed".to_owned()));
                }
                trial.discard();
            }
            stop.store(true, Ordering::Relaxed);
            attacking.join().unwrap();
            assert_eq!(verdict, Ok(()), "{what}: run {runs}, {refused} were refused");
        });
        eprintln!("{what}: {runs} runs, {refused} refused");
    }
}

/// Gives up root's rights for this thread alone; credentials belong to threads (credentials(7)).
fn become_plain() {
    let (user, group) = (rustix::fs::Uid::from_raw(PLAIN), rustix::fs::Gid::from_raw(PLAIN));
    set_thread_groups(&[]).expect("root may leave groups");
    set_thread_res_gid(group, group, group).expect("root may change groups");
    set_thread_res_uid(user, user, user).expect("root may become another user");
}

/// The mode of a socket is one lock, the user of the peer is the other: it holds also where everybody can connect.
#[test]
fn a_socket_that_is_open_to_all_serves_its_own_user_alone() {
    let place = Place::new(&open_to_all());
    fs::set_permissions(place.dir.path(), Permissions::from_mode(0o755)).unwrap();
    let path = place.dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let stop = cstor_client::interrupt::Interrupt::new();
    let server = Server::new(&Storage::open(&place.store.root).unwrap()).interrupt(stop.clone());
    let serving = thread::spawn(move || server.serve(listener));
    let heard = |plain: bool| {
        let path = path.clone();
        // A thread has credentials of its own, and the kernel notes those of the one that connects.
        let asking = thread::spawn(move || {
            if plain {
                become_plain();
            }
            let mut socket = UnixStream::connect(path).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            // Nothing is sent to a server that refuses: what it left unread would take its answer along (unix(7)).
            if !plain {
                std::io::Write::write_all(&mut socket, br#"{"jsonrpc":"2.0","method":"ListImages","id":1}"#).unwrap();
                socket.shutdown(std::net::Shutdown::Write).unwrap();
            }
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            answer
        });
        asking.join().unwrap()
    };
    let own = heard(false);
    assert!(own.contains("result") && own.contains("img:latest"), "{own}");
    if is_root() {
        let refusal = heard(true);
        assert!(refusal.contains("this server is for another user") && refusal.contains("-32600"), "{refusal}");
        assert!(!refusal.contains("result"), "{refusal}");
        // And it goes on.
        assert_eq!(heard(false), own);
    } else {
        skip("to connect as another user takes root");
    }
    stop.raise();
    serving.join().unwrap().unwrap();
}

/// Extracts to `dest` in a file system that is made for it and gone afterwards: `make` mounts it at `$1`, with `$1.img`
/// free for its image. Gives nothing where the kernel or root is missing; else the exit code, what was said, and what
/// the file system has in the end.
fn on_a_file_system_of_its_own(make: &str, store: &Store, options: &[&str]) -> Option<(i32, String, String)> {
    const CANNOT: i32 = 99;
    if !is_root() {
        skip("to mount takes root");
        return None;
    }
    let place = Place::new(store);
    let script = format!(
        "mkdir \"$1\" && {{ {make}; }} >&2 || exit {CANNOT}
         at=$1 cstor=$2 store=$3; shift 3
         \"$cstor\" --root \"$store\" extract \"$@\" {IMAGE} \"$at/dest\" >&2; code=$?
         cd \"$at\" && find . -mindepth 1; exit $code"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.arg(place.out("mounted")).arg(built::program("cstor")).arg(&place.store.root).args(options);
    let ended = run(&mut command);
    if ended.code() == CANNOT {
        eprintln!("{make}: {}", ended.stderr);
        return None;
    }
    Some((ended.code(), ended.stderr, ended.stdout))
}

#[track_caller]
fn assert_refused_by_the_file_system(found: &(i32, String, String), says: &str) {
    let (code, stderr, left) = found;
    assert_eq!((*code, left.as_str()), (10, ""), "{stderr}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("cstor: error: ")).count(), 1, "{stderr}");
    assert!(stderr.contains(says), "{stderr}");
}

/// E7.
#[test]
fn a_file_system_without_inodes_gets_nothing() {
    for inodes in [3, 20, 50] {
        let members = (0..100).flat_map(|number| [dir(format!("d{number}")), file(format!("d{number}/f"), "x")]);
        let store = Store::stack(IMAGE, [members.collect::<Vec<_>>()]);
        let make = format!("mount -t tmpfs -o nr_inodes={inodes} tmpfs \"$1\"");
        let Some(found) = on_a_file_system_of_its_own(&make, &store, &[]) else { return };
        assert_refused_by_the_file_system(&found, "No space left on device");
    }
}

/// E8: an attribute that cannot be set is not left out in silence.
#[test]
fn a_file_system_without_attributes_gets_nothing() {
    let make = "mount -t ramfs ramfs \"$1\"";
    let plain = Store::stack(IMAGE, [vec![file("f", "x"), symlink("l", "f")]]);
    let Some((code, stderr, left)) = on_a_file_system_of_its_own(make, &plain, &[]) else { return };
    assert_eq!((code, left.lines().count()), (0, 3), "{stderr}");
    let noted = Store::stack(IMAGE, [vec![file("e", "x"), file("f", "x").xattr("user.note", "kept")]]);
    let Some(found) = on_a_file_system_of_its_own(make, &noted, &[]) else { return };
    assert_refused_by_the_file_system(&found, "extended attribute");
}

/// E9: a quota, as btrfs has it for a subvolume.
#[test]
fn a_quota_that_is_used_up_leaves_nothing() {
    let make = "truncate -s 256M \"$1.img\" && mkfs.btrfs -q \"$1.img\" && mount -o loop \"$1.img\" \"$1\" &&
                btrfs quota enable \"$1\" && btrfs qgroup limit 2M \"$1\"";
    let files = (0..8).map(|number| file(format!("f{number}"), vec![number; 1 << 20]));
    let store = Store::stack(IMAGE, [files.collect::<Vec<_>>()]);
    let Some(found) = on_a_file_system_of_its_own(make, &store, &["--reflink", "never"]) else { return };
    assert_refused_by_the_file_system(&found, "quota");
}

/// E5, where the kernel can (CONFIG_UNICODE); see also what stands in the result.
#[test]
fn a_file_system_that_folds_case_gets_no_mixture() {
    let make = "truncate -s 64M \"$1.img\" && mkfs.ext4 -q -O casefold -E encoding=utf8 \"$1.img\" &&
                mount -o loop \"$1.img\" \"$1\" && rmdir \"$1/lost+found\" && chattr +F \"$1\"";
    for (lower, upper) in [(file("a", "x"), file("A", "y")), (dir("a"), dir("A")), (file("a", "x"), symlink("A", "a"))]
    {
        let store = Store::stack(IMAGE, [vec![lower, upper]]);
        let Some(found) = on_a_file_system_of_its_own(make, &store, &[]) else { return };
        assert_refused_by_the_file_system(&found, "File exists");
    }
}

/// CVE-2020-35517: to open a device acts on it, so root looks first. inotify(7) tells of every open but one that only
/// looks.
#[test]
fn root_looks_before_it_opens() {
    for &subject in Subject::all() {
        let trial = Trial::new(subject, &Store::stack(IMAGE, [vec![file("f", "x")]]));
        let trap = trial.store.diff(0, "f");
        fs::remove_file(&trap).unwrap();
        rustix::fs::mknodat(CWD, &trap, FileType::Fifo, Mode::from(0o644), 0).unwrap();
        trial.settle();
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watch, &trap, inotify::WatchFlags::OPEN).unwrap();
        trial.refuse(IMAGE, &[], &[4], &["f"]).unwrap();
        // Others may open it, without waiting: what they cannot open as devices does nothing.
        let opened = rustix::io::read(&watch, &mut [0; 4096]) != Err(Errno::AGAIN);
        assert_eq!(opened, !subject.is_root(), "{subject:?}");
    }
}

/// The helper leaves its caller's session and directory, and can neither grow a file, nor start a process, nor leave a
/// core, nor use much memory.
#[test]
fn a_helper_has_left_its_surroundings_and_lowered_its_limits() {
    let place = TempDir::new().unwrap();
    let root = File::open(place.path()).unwrap();
    let mut command = Command::new(built::program("cstor-helper"));
    let mut helper = RawHelper::start(command.current_dir(place.path()));
    let about = |what: &str| fs::read_to_string(format!("/proc/{}/{what}", helper.pid())).unwrap();
    // Before it is greeted, since then nobody but root may see its directory.
    let began = Instant::now();
    let directory = || fs::read_link(format!("/proc/{}/cwd", helper.pid())).unwrap();
    while directory() != Path::new("/") {
        assert!(began.elapsed() < Duration::from_secs(20), "still in {}", directory().display());
        thread::sleep(Duration::from_millis(1));
    }
    let session = about("stat").rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().to_owned();
    assert_eq!(session, helper.pid().to_string(), "the session of another");
    helper.send(b"\x00CSTR\x01\x01\x01", &[root.as_fd()]).unwrap();
    assert_eq!(helper.receive().0[..2], [0, 1], "Ready of version 1");
    let limits = about("limits");
    let limits: Vec<_> = limits.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for limit in [
        "Max file size 0 0 bytes",
        "Max core file size 0 0 bytes",
        "Max processes 0 0 processes",
        "Max locked memory 0 0 bytes",
        "Max address space 134217728 134217728 bytes",
        "Max stack size 1048576 1048576 bytes",
        "Max open files 1024 1024 files",
    ] {
        assert!(limits.iter().any(|line| line == limit), "{limit}: {limits:#?}");
    }
    helper.hang_up();
    assert_eq!(helper.end(), 0);
}

/// CVE-2021-20263: a capability that is set before the owner is lost with the change, and whoever is not root must not
/// set any. Set-id bits are lost in the same way.
#[test]
fn capabilities_are_set_after_the_owner_and_by_root_alone() {
    // CAP_NET_BIND_SERVICE, effective, as version 2 has it (linux/capability.h, `vfs_cap_data`).
    const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const NAME: &str = "security.capability";
    let members = vec![
        file("bin", "x").mode(0o755).owner(5, 6).xattr(NAME, CAPABILITY),
        file("both", "x").mode(0o6555).owner(5, 6).xattr(NAME, CAPABILITY),
        file("own", "x").mode(0o700).xattr(NAME, CAPABILITY),
    ];
    let place = Place::new(&Store::stack(IMAGE, [members]));
    for (number, (extractor, kept)) in
        [(Extractor::new(), is_root()), (Extractor::new().same_owner(false), false)].into_iter().enumerate()
    {
        let out = place.out(&number.to_string());
        let report = extractor.extract(&place.image(), &out).unwrap();
        assert_eq!(report.losses.capabilities, if kept { 0 } else { 3 }, "{number}");
        for name in ["bin", "both", "own"] {
            let mut value = [0; 64];
            let found = getxattr(out.join(name), NAME, &mut value[..]).map(|length| &value[..length]);
            assert_eq!(found, if kept { Ok(&CAPABILITY[..]) } else { Err(Errno::NODATA) }, "{number}: {name}");
        }
        if kept {
            let both = fs::metadata(out.join("both")).unwrap();
            assert_eq!((mode(&out.join("both")), both.uid(), both.gid()), (0o6555, 5, 6));
        }
    }
}
