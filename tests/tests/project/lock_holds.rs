//! How long cstor keeps podman waiting. A command of podman that writes waits for every reader of the store's locks, so
//! it waits at most for the longest time that one of them is held: a tracer notes when a lock was taken and when it was
//! let go, for cstor and for all that it starts, `podman unshare` included. That what is read meanwhile is right, is
//! tested in `beside_podman`.

use cstor_tests::alone::turn;
use cstor_tests::forge::{Image, Layer, Store, file};
use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::must;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What a command of podman may wait for us.
const LONGEST: Duration = Duration::from_millis(50);
/// Whoever is interrupted by another process while it holds a lock is so once, not each time.
const ATTEMPTS: u32 = 3;

/// One time that a lock was held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hold {
    lasted: Duration,
    path: String,
}

/// The holds in the traces of some threads: lines of `TIME fcntl(5</path/of.lock>, F_OFD_SETLK, …) = 0`, then
/// `TIME close(5</path/of.lock>) = 0`, maybe in the trace of another thread. podman takes its locks by `F_SETLKW`, and
/// waits in it; the time is that of the call, so a wait counts as well. What is never closed ends with its thread.
fn holds(traces: &[String]) -> Vec<Hold> {
    let time =
        |line: &str| line.split_once(' ').map(|(time, _)| Duration::from_secs_f64(time.parse().expect("seconds")));
    let ends: Vec<_> = traces.iter().map(|trace| trace.lines().last().and_then(time).unwrap_or_default()).collect();
    let lines = traces.iter().zip(&ends).flat_map(|(trace, end)| trace.lines().map(move |line| (line, *end)));
    let mut lines: Vec<(Duration, &str, Duration)> =
        lines.filter_map(|(line, end)| Some((time(line)?, line.split_once(' ')?.1, end))).collect();
    lines.sort_by_key(|(time, ..)| *time);
    let mut taken: BTreeMap<&str, [Duration; 2]> = BTreeMap::new();
    let mut holds = Vec::new();
    let mut ended = |descriptor: &str, began: Duration, end: Duration| {
        let path = descriptor.split_once('<').map_or(descriptor, |(_, path)| path);
        holds.push(Hold { lasted: end - began, path: format!("{path}.lock") });
    };
    for (time, line, end) in lines {
        let Some((call, rest)) = line.split_once('(') else { continue };
        let Some((descriptor, rest)) = rest.split_once(".lock>") else { continue };
        let locks = ["F_OFD_SETLK", "F_SETLK"].iter().any(|how| rest.contains(how)) && rest.ends_with("= 0");
        if (call == "close" || locks)
            && let Some([began, end]) = taken.remove(descriptor)
        {
            ended(descriptor, began, end.min(time));
        }
        if locks && !rest.contains("F_UNLCK") {
            taken.insert(descriptor, [time, end]);
        }
    }
    taken.iter().for_each(|(descriptor, [began, end])| ended(descriptor, *began, *end));
    holds
}

/// Runs cstor under a tracer of root, so that newuidmap may do its work; the longest hold, in the best of the attempts.
fn longest_hold(lab: &Lab, who: Who, store: &Path, arguments: &[&str]) -> Hold {
    let attempt = |_| {
        let scratch = lab.scratch(who, Fs::Xfs);
        let traces = lab.scratch(Who::Root, Fs::Xfs);
        let mut strace = lab.command(Who::Root, "strace");
        for (name, value) in lab.command(who, "true").get_envs() {
            strace.env(name, value.expect("no variable is removed"));
        }
        if who == Who::User {
            strace.arg("-u").arg(lab.user());
        }
        strace.args(["-ff", "--seccomp-bpf", "-ttt", "-y", "-e", "trace=fcntl,close", "-o"]);
        strace.arg(traces.path().join("trace")).arg(lab.executable("cstor")).arg("--root").arg(store).args(arguments);
        if arguments.contains(&"export") {
            strace.arg("-o");
        }
        if arguments.contains(&"export") || arguments.contains(&"extract") {
            strace.arg(scratch.path().join("out"));
        }
        must(&mut strace);
        let files = fs::read_dir(traces.path()).unwrap().map(|entry| entry.unwrap().path());
        let holds = holds(&files.map(|file| fs::read_to_string(file).unwrap()).collect::<Vec<_>>());
        assert!(holds.len() >= 2, "{arguments:?}: layers.lock and images.lock are taken: {holds:?}");
        holds.into_iter().max().unwrap()
    };
    let mut holds = (0..ATTEMPTS).map(attempt);
    let first = holds.next().unwrap();
    if first.lasted < LONGEST { first } else { holds.min().unwrap() }
}

fn nobody_waits_long(lab: &Lab, who: Who, store: &Path, commands: &[&[&str]]) {
    for arguments in commands {
        let hold = longest_hold(lab, who, store, arguments);
        println!("{who:?} {arguments:?}: {hold:?}");
        assert!(hold.lasted < LONGEST, "{arguments:?}: {hold:?}");
    }
}

#[test]
fn podman_does_not_wait_for_commands_on_the_users_store() {
    let lab = lab_or_skip!();
    let _turn = turn();
    let store = lab.store(Fs::Xfs, "local");
    let layers = must(lab.cstor(Who::User, &store).args(["image", "layers", "-q", "--no-trunc", "localhost/crowd"]));
    let commands: [&[&str]; 10] = [
        &["info"],
        &["image", "list", "-a"],
        &["image", "inspect", "localhost/deep"],
        &["extract", "localhost/deep"],
        // With the helper, which podman starts.
        &["extract", "localhost/private"],
        &["extract", "localhost/debian"],
        &["layer", "export", layers.trim()],
        &["image", "export", "localhost/debian"],
        &["image", "toc", "localhost/walk:v2"],
        &["verify", "localhost/walk:v2"],
    ];
    nobody_waits_long(lab, Who::User, &store, &commands);
}

/// 4,000 layers and 4,000 images, one of them with almost as many layers as there may be.
#[test]
fn podman_does_not_wait_for_commands_on_a_store_of_thousands() {
    const MANY: usize = 4_000;
    const DEEP: usize = 450;
    let lab = lab_or_skip!();
    let _turn = turn();
    let mut store = Store::default();
    for n in 0..MANY {
        let parent = if n < DEEP { n.checked_sub(1) } else { Some(n % 20) };
        store.layers.push(Layer { parent, ..Layer::new(vec![file(format!("f{n}"), n.to_string())]) });
        let name = format!("localhost/many:{n}");
        store.images.push(Image { comment: name.clone(), ..Image::new(&name, Some(n)) });
    }
    let place = lab.scratch(Who::Root, Fs::Ext4);
    let forged = store.write(&place.path().join("store"), true).unwrap();
    let (deepest, layer) = (format!("localhost/many:{}", DEEP - 1), &forged.layers[DEEP - 1].id);
    let commands: [&[&str]; 6] = [
        &["info"],
        &["image", "list", "-a"],
        &["image", "inspect", &deepest],
        &["extract", &deepest],
        &["layer", "export", layer],
        &["image", "export", &deepest],
    ];
    nobody_waits_long(lab, Who::Root, &forged.root, &commands);
}

#[test]
fn a_hold_is_from_the_call_that_took_it_to_the_close() {
    let reader = "10.000001 fcntl(4</s/layers.lock>, F_GETFD) = 0x1 (flags FD_CLOEXEC)\n\
                  10.000002 fcntl(4</s/layers.lock>, F_OFD_SETLK, {l_type=F_RDLCK, l_len=0}) = -1 EAGAIN (busy)\n\
                  10.500000 fcntl(4</s/layers.lock>, F_OFD_SETLK, {l_type=F_RDLCK, l_len=0}) = 0\n\
                  10.500001 close(5</s/images.lock>) = 0\n\
                  10.750000 close(4</s/layers.lock>) = 0\n\
                  12.000000 +++ exited with 0 +++\n";
    let podman = "11.000000 fcntl(7</s/storage.lock>, F_SETLKW, {l_type=F_WRLCK, l_len=0}) = 0\n\
                  11.250000 fcntl(8</s/images.lock>, F_SETLKW, {l_type=F_WRLCK, l_len=0}) = 0\n\
                  11.750000 +++ killed by SIGKILL +++\n";
    let other = "11.125000 close(7</s/storage.lock>) = 0\n\
                 11.875000 +++ killed by SIGKILL +++\n";
    let hold = |milliseconds, path: &str| Hold { lasted: Duration::from_millis(milliseconds), path: path.to_owned() };
    let found = holds(&[reader, podman, other].map(str::to_owned));
    assert_eq!(found, [hold(250, "/s/layers.lock"), hold(125, "/s/storage.lock"), hold(500, "/s/images.lock")]);
}
