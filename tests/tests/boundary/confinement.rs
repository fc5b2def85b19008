//! What a helper that was taken over can do: one row for each thing an attacker would try, made by machine code inside the
//! helper while it serves (`src/takeover.c`), with the sandbox whole and with each layer of it left out. As root of the
//! machine, and in the lab through podman's namespace. It does not test how names are resolved (that is the helper's own
//! test) nor what the client does with a helper that lies.

use cstor_tests::built::{install, program};
use cstor_tests::lab::{Fs, Lab, Who, skip};
use cstor_tests::run::must;
use cstor_tests::{lab_or_skip, tree};
use rustix::process::geteuid;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The layers left out, one column of the table each.
const WITHOUT: [&[&str]; 5] = [&[], &["seccomp"], &["landlock"], &["privileges"], &["landlock", "seccomp"]];

/// What is tried, and what comes of it in each column; a bar is between outcomes that differ by kernel settings or by
/// who owns the namespace. Blank is SIGSYS: the filter ended the helper.
#[rustfmt::skip]
const ROWS: &[(&str, [&str; 5])] = &[
    //                                 whole     no seccomp      no Landlock  all caps  privileges alone
    ("read beneath the root",         ["ok",     "ok",           "ok",        "ok",     "ok"]),
    // Only Landlock keeps a helper from reading what the mapped user may read, anywhere.
    ("read through ..",               ["EACCES", "EACCES",       "ok",        "EACCES", "ok"]),
    ("read by an absolute path",      ["EACCES", "EACCES",       "ok",        "EACCES", "ok"]),
    ("read /etc/passwd",              ["EACCES", "EACCES",       "ok",        "EACCES", "ok"]),
    ("read /proc",                    ["EACCES", "EACCES",       "ok",        "EACCES", "ok"]),
    ("open the root above to list it", ["EACCES", "EACCES",      "ok",        "EACCES", "ok"]),
    // What containers write to has no other description.
    ("open a directory to list it",   ["ok",     "ok",           "ok",        "ok",     "ok"]),
    ("read an attribute outside",     ["EBADF",  "EBADF",        "EBADF",     "EBADF",  "EBADF"]),
    ("set an attribute",              ["",       "EACCES",       "",          "",       "EACCES"]),
    // Nothing is written beneath the root with any one layer missing.
    ("create",                        ["EACCES", "EACCES",       "EACCES",    "EACCES", "EACCES"]),
    ("create without a name",         ["EACCES", "EACCES",       "EACCES",    "EACCES", "EACCES"]),
    ("open for writing",              ["EACCES", "EACCES",       "EACCES",    "EACCES", "EACCES"]),
    ("truncate by opening",           ["EACCES", "EACCES",       "EACCES",    "EACCES", "EACCES"]),
    ("open its own memory",           ["EACCES", "EACCES",       "EACCES",    "EACCES", "EACCES"]),
    ("unlink",                        ["",       "EACCES",       "",          "",       "EACCES"]),
    ("rename",                        ["",       "EACCES",       "",          "",       "EACCES"]),
    ("link",                          ["",       "EPERM|EACCES", "",          "",       "EPERM|EACCES"]),
    ("symlink",                       ["",       "EACCES",       "",          "",       "EACCES"]),
    ("mkdir",                         ["",       "EACCES",       "",          "",       "EACCES"]),
    ("mknod",                         ["",       "EACCES",       "",          "",       "EACCES"]),
    ("chmod",                         ["",       "EPERM",        "",          "",       "EPERM"]),
    ("chown",                         ["",       "EPERM",        "",          "",       "EPERM"]),
    ("set times",                     ["",       "EACCES",       "",          "",       "EACCES"]),
    ("truncate",                      ["",       "EACCES",       "",          "",       "EACCES"]),
    // openat is not needed, and resolves as it likes.
    ("openat",                        ["",       "ok",           "",          "",       "ok"]),
    ("openat outside",                ["",       "EACCES",       "",          "",       "ok"]),
    ("open by handle",                ["",       "EPERM|EACCES", "",          "",       "EPERM|ok"]),
    ("open_by_handle_at",             ["",       "EFAULT",       "",          "",       "EFAULT"]),
    // Others.
    ("connect an abstract socket",    ["",       "EPERM",        "",          "",       "ok"]),
    ("connect by TCP",                ["",       "EACCES",       "",          "",       "ok"]),
    ("bind a TCP port",               ["",       "EACCES",       "",          "",       "ok"]),
    ("fork",                          ["",       "EAGAIN",       "",          "",       "EAGAIN"]),
    // An exec starts no further process, but another program in place of the helper. EAGAIN: nobody has a process already.
    ("exec",                          ["",       EXEC,           "",          "",       "exit status: 0|EAGAIN"]),
    ("ptrace",                        ["",       "EPERM",        "",          "",       "EPERM"]),
    ("read another's memory",         ["",       "EPERM",        "",          "",       "EPERM"]),
    ("signal another process",        ["",       "EPERM",        "",          "",       "EPERM"]),
    ("tgkill another process",        ["",       "EPERM",        "",          "",       "EPERM"]),
    // The way back.
    ("raise capabilities",            ["",       "EPERM",        "",          "",       "EPERM"]),
    ("become the user again",         ["",       "EPERM",        "",          "",       "EPERM"]),
    ("raise a limit",                 ["",       "EPERM",        "",          "",       "EPERM"]),
    ("mount",                         ["",       "EPERM",        "",          "",       "EPERM"]),
    ("chroot",                        ["",       "EPERM",        "",          "",       "EPERM"]),
    ("setns",                         ["",       "EPERM",        "",          "",       "EPERM"]),
    ("unshare a mount namespace",     ["",       "EPERM",        "",          "",       "EPERM"]),
    ("unshare a user namespace",      ["",       "ok|EPERM",     "",          "",       "ok|EPERM"]),
    ("io_uring_setup",                ["",       "ENOMEM|EPERM", "",          "",       "ENOMEM|EPERM"]),
    // Arguments.
    ("map memory",                    ["ok",     "ok",           "ok",        "ok",     "ok"]),
    ("map executable memory",         ["",       "ok",           "",          "",       "ok"]),
    ("make memory executable",        ["",       "ok",           "",          "",       "ok"]),
    ("look at a descriptor's flags",  ["ok",     "ok",           "ok",        "ok",     "ok"]),
    ("change a descriptor's flags",   ["",       "ok",           "",          "",       "ok"]),
    ("copy a descriptor",             ["",       "ok",           "",          "",       "ok"]),
    ("write to standard error",       ["ok",     "ok",           "ok",        "ok",     "ok"]),
    ("write to standard output",      ["",       "ok",           "",          "",       "ok"]),
    ("write to the socket",           ["",       "ok",           "",          "",       "ok"]),
    #[cfg(target_arch = "x86_64")]
    ("a call of x32",                 ["",       "ENOSYS|EBADF", "",          "",       "ENOSYS|EBADF"]),
    #[cfg(target_arch = "x86_64")]
    ("a call of i386",                ["",       "EBADF",        "",          "",       "EBADF"]),
    ("no call",                       ["ENOSYS", "ENOSYS",       "ENOSYS",    "ENOSYS", "ENOSYS"]),
    ("abort",                         [ABORTED,  ABORTED,        ABORTED,     ABORTED,  ABORTED]),
];
const EXEC: &str = "EACCES|EAGAIN";
const ABORTED: &str = "signal: 6 (SIGABRT)";

/// The numbers that occur above (asm-generic/errno-base.h, errno.h).
const ERRORS: [(&str, i32); 8] = [
    ("EPERM", 1),
    ("EIO", 5),
    ("EBADF", 9),
    ("EAGAIN", 11),
    ("ENOMEM", 12),
    ("EACCES", 13),
    ("EFAULT", 14),
    ("ENOSYS", 38),
];

/// The calls that pass whatever their arguments, by number (asm/unistd_64.h; asm-generic/unistd.h): close, fstat, brk,
/// munmap, rt_sigprocmask, getpid, sendmsg, recvmsg, sigaltstack, gettid, fgetxattr, exit_group, openat2.
#[cfg(target_arch = "x86_64")]
const PASS: [u32; 13] = [3, 5, 11, 12, 14, 39, 46, 47, 131, 186, 193, 231, 437];
#[cfg(target_arch = "aarch64")]
const PASS: [u32; 13] = [10, 57, 80, 94, 132, 135, 172, 178, 211, 212, 214, 215, 437];
/// uretprobe and uprobe, which the kernel lets past every filter (kernel/seccomp.c): they are for the code that a probe
/// put there, and from anywhere else do nothing or are SIGILL.
const PAST_EVERY_FILTER: [u32; 2] = if cfg!(target_arch = "x86_64") { [335, 336] } else { [u32::MAX; 2] };
/// Beyond the last number that any kernel has.
const NUMBERS: u32 = 600;

/// A root and what is needed around it, in a place that its owner can reach.
struct Stage {
    lab: Option<&'static Lab>,
    dir: TempDir,
}

impl Stage {
    /// With a lab the helper runs in the user's namespace, else as root.
    fn set(lab: Option<&'static Lab>) -> Stage {
        let dir = match lab {
            Some(lab) => lab.scratch(Who::User, Fs::Ext4),
            None => TempDir::new().expect("a directory"),
        };
        let at = dir.path().to_owned();
        fs::set_permissions(&at, Permissions::from_mode(0o755)).expect("the owner may chmod");
        let layer = at.join("root/overlay").join("ab".repeat(32)).join("diff");
        fs::create_dir_all(layer.join("dir")).expect("new directories");
        fs::write(layer.join("f"), "content").expect("a file");
        std::os::unix::fs::symlink("f", layer.join("link")).expect("a link");
        fs::write(at.join("root/file"), "of the root").expect("a file");
        fs::write(at.join("other"), "of the user").expect("a file");
        fs::set_permissions(at.join("other"), Permissions::from_mode(0o600)).expect("the owner may chmod");
        for (program, name) in [
            (program("cstor-helper"), "cstor-helper"),
            (env!("CARGO_BIN_EXE_cstor-lab-helper").into(), "cstor-lab-helper"),
            (env!("CARGO_BIN_EXE_cstor-lab-client").into(), "cstor-lab-client"),
            (env!("CARGO_BIN_EXE_embedder").into(), "embedder"),
        ] {
            install(&program, &at.join(name));
        }
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/takeover.c");
        must(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(at.join("takeover.so")).arg(source));
        // The scratch directory is the user's.
        must(Command::new("chown").arg("-R").arg("--reference").arg(&at).arg(&at));
        Stage { lab, dir }
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// `cstor-lab-client WHAT` with a helper, both where the helper belongs; what it printed.
    fn client(&self, what: &str, helper: &str, arguments: &[&str]) -> String {
        let client = self.at("cstor-lab-client");
        let mut command = match self.lab {
            Some(lab) if what.starts_with("unshare") => lab.command(Who::User, client),
            Some(lab) => lab.command(Who::User, "podman"),
            None => Command::new(&client),
        };
        if command.get_program() == "podman" {
            command.arg("unshare").arg(self.at("cstor-lab-client"));
        }
        must(command.arg(what).arg(self.dir.path()).arg(helper).args(arguments))
    }

    /// What comes of each call.
    fn take_over(&self, helper: &str, arguments: &[&str], calls: &[&str]) -> Vec<String> {
        fs::write(self.at("calls"), calls.join("\n")).expect("root may write");
        let said = self.client("take-over", helper, arguments);
        let lines: Vec<_> = said.lines().map(|line| line.split_once(": ").expect("NAME: OUTCOME")).collect();
        assert_eq!(lines.iter().map(|(call, _)| *call).collect::<Vec<_>>(), calls);
        lines.into_iter().map(|(_, outcome)| named(outcome)).collect()
    }

    /// All that the root holds and the file beside it.
    fn state(&self) -> String {
        let root = tree::list(Path::new(&self.at("root"))).and_then(|listing| Ok(tree::print(&listing)?));
        root.expect("root may list") + &fs::read_to_string(self.at("other")).expect("root may read")
    }
}

/// An outcome with the name of the error in place of its number, and nothing for SIGSYS.
fn named(outcome: &str) -> String {
    let number = outcome.strip_prefix("errno ").and_then(|number| number.parse().ok());
    match number.and_then(|number: i32| ERRORS.iter().find(|(_, known)| *known == number)) {
        Some((name, _)) => (*name).to_owned(),
        None if outcome == "SIGSYS" => String::new(),
        None => outcome.to_owned(),
    }
}

/// As root of the machine, in any case that root runs the test.
fn machine() -> Option<Stage> {
    geteuid().is_root().then(|| Stage::set(None)).or_else(|| {
        skip("the helper drops root's privileges, and there are none");
        None
    })
}

#[track_caller]
fn assert_rows(stage: &Stage) {
    let calls: Vec<_> = ROWS.iter().map(|(call, _)| *call).collect();
    let before = stage.state();
    let mut wrong = Vec::new();
    let columns = WITHOUT.iter().enumerate().map(|(column, without)| (column, "cstor-lab-helper", *without));
    // The helper itself leaves nothing out, whatever it is told.
    let itself = [(0, "cstor-helper", WITHOUT[0]), (0, "cstor-helper", &["privileges", "landlock", "seccomp"][..])];
    for (column, helper, without) in columns.chain(itself) {
        let outcomes = stage.take_over(&stage.at(helper), without, &calls);
        for ((call, expected), outcome) in ROWS.iter().zip(outcomes) {
            if !expected[column].split('|').any(|one| one == outcome) {
                wrong.push(format!("{helper} without {without:?}: {call}: {outcome:?}, not {:?}", expected[column]));
            }
        }
        assert_eq!(stage.state(), before, "{helper} without {without:?} changed something");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_a_helper_of_root_can_do() {
    let Some(stage) = machine() else { return };
    assert_rows(&stage);
}

#[test]
fn what_a_helper_in_podmans_namespace_can_do() {
    assert_rows(&Stage::set(Some(lab_or_skip!())));
}

#[test]
fn no_other_call_passes() {
    let Some(stage) = machine() else { return };
    let numbers: Vec<_> = (0..NUMBERS).map(|number| number.to_string()).collect();
    let calls: Vec<_> = numbers.iter().map(String::as_str).collect();
    let outcomes = stage.take_over(&stage.at("cstor-helper"), &[], &calls);
    let passed = (0..).zip(outcomes).filter(|(_, outcome)| !outcome.is_empty()).map(|(number, _)| number);
    assert_eq!(passed.filter(|number| !PAST_EVERY_FILTER.contains(number)).collect::<Vec<u32>>(), PASS);
}

/// The number into which a tracer turns a call that it answers itself must pass the filter.
#[test]
fn a_tracer_can_make_a_call_fail() {
    let Some(stage) = machine() else { return };
    let trace = ["-qq", "-o", "/dev/null", "-e", "trace=openat2", "-e", "inject=openat2:error=EIO"];
    let helper = stage.at("cstor-helper");
    let outcome = stage.take_over("strace", &[&trace[..], &[&helper]].concat(), &["read beneath the root"]);
    assert_eq!(outcome, ["EIO"]);
}

/// What the client says of a helper, as `NAME VALUE...` lines.
#[track_caller]
fn assert_ready(said: &str, mapped: u32) {
    let sandbox = "effective: 4, regainable: 4, no_new_privs: true, nobody: true, landlock: Fully, seccomp: true";
    let expected = format!("Confinement {{ {sandbox}, mapped_uids: {mapped}, mapped_gids: {mapped} }}");
    assert!(said.contains(&expected), "{expected}, not {said}");
    assert!(said.contains("\nlayer Layer(Ok(LayerHandle(0)))\n"), "{said}");
    let files = "files Opened([Ok(()), Err(NotRegular), Err(NotFound), Ok(()), Err(NotRegular)])\n";
    assert!(said.contains(files), "{said}");
    assert!(said.ends_with("\nend exit status: 0\n"), "{said}");
}

#[test]
fn a_helper_says_what_holds_and_occupies_little() {
    let Some(stage) = machine() else { return };
    let said = stage.client("ready", &stage.at("cstor-helper"), &[]);
    // No namespace: every id there is.
    assert_ready(&said, u32::MAX);
    let occupied = |when: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(when)).unwrap_or_else(|| panic!("{when}: {said}"));
        let words: Vec<_> = line.split_whitespace().collect();
        let after = |key: &str, n: usize| words[words.iter().position(|word| *word == key).expect(key) + n].to_owned();
        assert_eq!([1, 2, 3, 4].map(|n| after("Uid:", n)), ["65534"; 4].map(str::to_owned), "{line}");
        // What is not dumpable belongs to root in /proc.
        assert_eq!(after("owner", 1), "0", "{line}");
        // An empty list of groups.
        assert_eq!(after("Groups:", 1), "VmRSS:", "{line}");
        [after("VmRSS:", 1), after("fds", 1)].map(|number| number.parse::<u32>().expect("a number"))
    };
    let ([resident, fds], [resident_after, fds_after]) = (occupied("before"), occupied("after"));
    // Three standard ones, the socket once more, the root, the layer.
    assert_eq!((fds, fds_after), (6, 6), "{said}");
    assert!(resident.max(resident_after) <= 4096, "more than 4 MiB: {said}");
}

#[test]
fn a_helper_ends_with_its_launcher() {
    let Some(stage) = machine() else { return };
    assert_eq!(stage.client("orphan", &stage.at("cstor-helper"), &[]), "the peer closed the connection\n");
    // Where the client itself is the launcher, PDEATHSIG would come when the thread ends that started the helper.
    assert_eq!(stage.client("thread", &stage.at("cstor-helper"), &[]), "still there\n");
}

#[test]
fn the_longest_message_fits_the_sandbox() {
    let Some(stage) = machine() else { return };
    let said = stage.client("crowd", &stage.at("cstor-helper"), &[]);
    assert_eq!(said, "Fault(OverLimit)\nend exit status: 71\n");
}

#[test]
fn a_helper_makes_a_namespace_of_its_own() {
    let stage = Stage::set(Some(lab_or_skip!()));
    assert_ready(&stage.client("ready", &stage.at("cstor-helper"), &[]), 65537);
    let own = ["--cstor-userns-helper", "--unshare"];
    for program in ["cstor-helper", "embedder"] {
        assert_ready(&stage.client("unshare", &stage.at(program), &own), 65537);
        let early = stage.client("unshare-early", &stage.at(program), &own);
        assert_eq!(early, "the peer closed the connection\nend exit status: 75\n", "{program}");
    }
}
