//! `tar-diff` on archives by GNU tar, bsdtar and Python: the same tree in another format has the same meaning in other
//! bytes, every kind of difference is told from the others, and members are what Python's tarfile says they are.

use cstor_tests::built::program;
use cstor_tests::run::{Ended, must, run};
use cstor_tests::tree;
use serde_json::Value;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const PYTHON_MAKE: &str = r#"
import sys, tarfile
with tarfile.open(sys.argv[2], "w", format=getattr(tarfile, sys.argv[1])) as tar:
    for name in sys.argv[3:]:
        tar.add(name, recursive=False)
"#;

const PYTHON_LIST: &str = r#"
import sys, json, tarfile
from decimal import Decimal
from datetime import datetime, timezone
kinds = {b"0": "reg", b"\0": "reg", b"S": "reg", b"1": "hardlink", b"2": "symlink", b"5": "dir", b"6": "fifo"}
for t in tarfile.open(sys.argv[1]):
    name = t.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    mtime = Decimal(t.pax_headers.get("mtime", t.mtime))
    seconds = int(mtime // 1)
    time = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    nanoseconds = "%09d" % int((mtime - seconds) * 10**9)
    fraction = "." + nanoseconds.rstrip("0") if int(nanoseconds) else ""
    print(json.dumps([name, kinds[t.type], t.size, t.mode & 0o7777, time + fraction + "Z"]))
"#;

fn tar_diff() -> Command {
    Command::new(program("tar-diff"))
}

fn diff(a: &Path, b: &Path) -> Ended {
    run(tar_diff().args([a, b]))
}

/// Whether the tools are there.
fn have(tools: &[&str]) -> bool {
    let missing = |tool: &&&str| run(Command::new("sh").args(["-c", "command -v \"$0\"", tool])).code() != 0;
    let Some(tool) = tools.iter().find(missing) else { return true };
    cstor_tests::lab::skip(&format!("no {tool}"));
    false
}

/// A tree whose times all formats can hold.
fn tree() -> TempDir {
    let top = tempfile::tempdir().unwrap();
    tree::small(top.path());
    top
}

fn whole_seconds(top: &Path) {
    must(Command::new("find").current_dir(top).args(["t", "-exec", "touch", "-h", "-d", "@1600000001", "{}", ";"]));
}

/// Archives names by one tool in one format.
fn make(top: &Path, tool: &str, format: &str, names: &[&std::ffi::OsStr]) -> PathBuf {
    let to = top.join(format!("{tool}-{}.tar", format.replace([' ', '/'], "_")));
    let mut command = Command::new(tool);
    command.current_dir(top).env("LC_ALL", "C.UTF-8");
    match tool {
        "tar" => command.args(format.split(' ')).arg("--no-recursion").arg("-cf").arg(&to),
        "bsdtar" => command.args(format.split(' ')).arg("-n").arg("-cf").arg(&to),
        _ => command.args(["-c", PYTHON_MAKE, format]).arg(&to),
    };
    must(command.args(names));
    to
}

fn names<'a>(names: &[&'a str]) -> Vec<&'a std::ffi::OsStr> {
    names.iter().map(|name| std::ffi::OsStr::new(*name)).collect()
}

fn makers<'a>(formats: &[(&'a str, &[&'a str])]) -> Vec<(&'a str, &'a str)> {
    formats.iter().flat_map(|(tool, formats)| formats.iter().map(|format| (*tool, *format))).collect()
}

/// Lines without the last, which sums them up.
fn lines(ended: &Ended) -> Vec<&str> {
    let mut lines: Vec<&str> = ended.stdout.lines().collect();
    assert!(lines.pop().is_none_or(|last| last.starts_with("differ: ")), "{}", ended.stdout);
    lines
}

/// Every archive is the same as itself, and all mean the same.
fn all_mean_the_same(archives: &[PathBuf]) {
    for a in archives {
        for b in archives {
            let (ended, what) = (diff(a, b), format!("{} {}", a.display(), b.display()));
            assert_eq!(ended.stderr, "", "{what}");
            let same = fs::read(a).unwrap() == fs::read(b).unwrap();
            assert_eq!((ended.code(), ended.stdout.is_empty()), if same { (0, true) } else { (1, false) }, "{what}");
            let other: Vec<&str> = lines(&ended).into_iter().filter(|line| !line.starts_with("bytes: ")).collect();
            assert_eq!(other, [""; 0], "{what}");
        }
    }
}

fn agrees_with_python(archive: &Path) {
    let text = must(Command::new("python3").args(["-c", PYTHON_LIST]).arg(archive));
    let python: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let nothing = tempfile::NamedTempFile::new().unwrap();
    let ended = run(tar_diff().args(["--format", "json"]).args([archive, nothing.path()]));
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    let listed = document["differences"].as_array().unwrap().iter().filter(|found| found["kind"] == "missing");
    let ours: Vec<Value> = listed
        .map(|found| {
            let name = found["name"].as_str().unwrap();
            // Python takes the slash off.
            let name = if found["type"] == "dir" { name.trim_end_matches('/') } else { name };
            serde_json::json!([name, found["type"], found["size"], found["mode"], found["mtime"]])
        })
        .collect();
    assert_eq!(ours, python, "{}", archive.display());
    assert_eq!(document["entries"]["a"], python.len(), "{}", archive.display());
}

#[test]
fn formats_differ_in_bytes_alone() {
    if !have(&["tar", "bsdtar", "python3"]) {
        return;
    }
    let top = tree();
    whole_seconds(top.path());
    let formats = makers(&[
        ("tar", &["--format=v7", "--format=ustar", "--format=gnu", "--format=oldgnu", "--format=pax"]),
        ("bsdtar", &["--format=v7", "--format=ustar", "--format=gnutar", "--format=pax"]),
        ("python3", &["USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"]),
    ]);
    let archives: Vec<PathBuf> =
        formats.into_iter().map(|(tool, format)| make(top.path(), tool, format, &names(&tree::SMALL))).collect();
    all_mean_the_same(&archives);
    archives.iter().for_each(|archive| agrees_with_python(archive));
}

#[test]
fn long_and_odd_names_differ_in_bytes_alone() {
    if !have(&["tar", "bsdtar", "python3", "mkfifo"]) {
        return;
    }
    let top = tree();
    let long = format!("t/{}/{}", "d".repeat(150), "f".repeat(150));
    let odd = std::ffi::OsStr::from_bytes(b"t/caf\xe9 \xc3\xa9");
    fs::create_dir(top.path().join(&long).parent().unwrap()).unwrap();
    fs::write(top.path().join(&long), "long").unwrap();
    fs::write(top.path().join(odd), "odd").unwrap();
    symlink("l".repeat(200), top.path().join("t/long-link")).unwrap();
    must(Command::new("mkfifo").arg(top.path().join("t/fifo")));
    whole_seconds(top.path());
    let mut wanted = names(&tree::SMALL);
    wanted.extend([std::ffi::OsStr::new(&long), odd, "t/long-link".as_ref(), "t/fifo".as_ref()]);
    let formats = makers(&[
        ("tar", &["--format=gnu", "--format=pax"]),
        ("bsdtar", &["--format=gnutar", "--format=pax"]),
        ("python3", &["GNU_FORMAT", "PAX_FORMAT"]),
    ]);
    let archives: Vec<PathBuf> =
        formats.into_iter().map(|(tool, format)| make(top.path(), tool, format, &wanted)).collect();
    all_mean_the_same(&archives);
    archives.iter().for_each(|archive| agrees_with_python(archive));
    let ended = diff(&archives[0], &make(top.path(), "tar", "--format=gnu --numeric-owner", &wanted[..9]));
    assert!(lines(&ended).contains(&"missing: \"t/caf\\xe9 é\""), "{}", ended.stdout);
}

#[test]
fn sparse_files_are_their_contents() {
    if !have(&["tar", "bsdtar", "python3"]) {
        return;
    }
    let top = tree();
    let sparse = fs::File::create(top.path().join("t/sparse")).unwrap();
    sparse.set_len(10 << 30).unwrap();
    // More runs of data than a GNU header and the block after it hold.
    for run in 0..40u64 {
        sparse.write_all_at(b"data", 1 + (run << 26)).unwrap();
    }
    whole_seconds(top.path());
    let wanted = names(&["t/sparse", "t/file"]);
    let formats = makers(&[
        (
            "tar",
            &[
                "--sparse --format=gnu",
                "--sparse --format=oldgnu",
                "--sparse --format=pax --sparse-version=0.0",
                "--sparse --format=pax --sparse-version=0.1",
                "--sparse --format=pax --sparse-version=1.0",
            ],
        ),
        ("bsdtar", &["--format=pax"]),
    ]);
    let archives: Vec<PathBuf> = formats.iter().map(|(tool, format)| make(top.path(), tool, format, &wanted)).collect();
    for archive in &archives {
        assert!(fs::metadata(archive).unwrap().len() < 1 << 20, "{} is not sparse", archive.display());
        agrees_with_python(archive);
    }
    all_mean_the_same(&archives);
    let before: Vec<PathBuf> = archives
        .iter()
        .map(|archive| {
            let kept = archive.with_extension("before");
            fs::rename(archive, &kept).unwrap();
            kept
        })
        .collect();
    sparse.write_all_at(b"D", 1 + (3 << 26)).unwrap();
    whole_seconds(top.path());
    let reversed = names(&["t/file", "t/sparse"]);
    for (a, (tool, format)) in before.iter().zip(&formats) {
        let b = make(top.path(), tool, format, &wanted);
        // GNU tar writes its process id and the time of the change into PAX headers.
        let ended = diff(a, &b);
        let found = lines(&ended).into_iter().filter(|line| !line.starts_with("bytes: header"));
        let wanted_line = "content: \"t/sparse\": first difference at byte 201326593";
        assert_eq!(found.collect::<Vec<_>>(), [wanted_line], "{format}");
        // By index: the same contents in two forms, then others.
        let b = make(top.path(), tool, format, &reversed);
        for a in &before {
            let ended = diff(a, &b);
            assert!(ended.stdout.contains("content: \"t/sparse\": first"), "{format}: {}", ended.stdout);
        }
    }
    sparse.write_all_at(b"d", 1 + (3 << 26)).unwrap();
    whole_seconds(top.path());
    for (tool, format) in &formats {
        let b = make(top.path(), tool, format, &reversed);
        for a in &before {
            let ended = diff(a, &b);
            let contents = lines(&ended).into_iter().filter(|line| !line.starts_with("bytes: "));
            let wanted = "order: \"t/sparse\": entry 1 in A, entry 2 in B";
            assert_eq!(contents.collect::<Vec<_>>(), [wanted], "{format}");
        }
    }
}

/// An archive whose parts are at known places: header, 1400 bytes, padding, …
fn simple(top: &Path) -> (PathBuf, Vec<u8>) {
    let path = make(top, "tar", "--format=ustar", &names(&["t/file", "t/block", "t/dir"]));
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

fn fix_checksum(block: &mut [u8]) {
    let sum: u32 =
        block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn one_byte_is_found_and_named() {
    if !have(&["tar"]) {
        return;
    }
    let top = tree();
    whole_seconds(top.path());
    let (a, bytes) = simple(top.path());
    let end = 512 + 1536 + 512 + 512 + 512;
    // Where, what, and whether the checksum of the first header is to be made right.
    let table: [(usize, u8, bool, &str); 8] = [
        (512 + 700, b'X', false, "content: \"t/file\": first difference at byte 700"),
        (2048 + 512 + 511, b'X', false, "content: \"t/block\": first difference at byte 511"),
        (512 + 1400, b'X', false, "bytes: padding of \"t/file\" differs at archive offset 1912"),
        (end, b'X', false, ""),
        (end + 512, b'X', false, "bytes: end of archive differs at archive offset 4096"),
        (bytes.len() - 1, b'X', false, "bytes: end of archive differs at archive offset 10239"),
        (106, b'0', true, "metadata: \"t/file\": mode 0644 -> 0640"),
        (511, b'X', true, "bytes: header of \"t/file\" differs at archive offset 148"),
    ];
    let b = top.path().join("b.tar");
    for (place, byte, checksum, line) in table {
        let mut changed = bytes.clone();
        assert_ne!(changed[place], byte, "byte {place}");
        changed[place] = byte;
        let mut line = line.to_owned();
        if checksum {
            fix_checksum(&mut changed[..512]);
            if place == 511 {
                let first = bytes.iter().zip(&changed).position(|(a, b)| a != b).unwrap();
                line = format!("bytes: header of \"t/file\" differs at archive offset {first}");
            }
        }
        fs::write(&b, &changed).unwrap();
        let ended = diff(&a, &b);
        if line.is_empty() {
            assert_eq!(ended.code(), 2, "byte {place}: no header begins so");
            continue;
        }
        assert_eq!((ended.code(), lines(&ended)), (1, vec![line.as_str()]), "byte {place}");
        assert_eq!(ended.stdout.lines().last(), Some("differ: 1 difference, 3 entries in A, 3 in B"));
    }
}

#[test]
fn entries_are_missing_extra_moved_or_renamed() {
    if !have(&["tar"]) {
        return;
    }
    let top = tree();
    whole_seconds(top.path());
    let make = |format: &str, wanted: &[&str]| make(top.path(), "tar", format, &names(wanted));
    let a = make("--format=ustar", &["t/file", "t/block", "t/dir", "t/empty"]);
    fs::copy(top.path().join("t/block"), top.path().join("t/renamed")).unwrap();
    whole_seconds(top.path());
    let table: [(&[&str], &[&str]); 5] = [
        (&["t/file", "t/dir", "t/empty"], &["missing: \"t/block\""]),
        (&["t/file", "t/block", "t/dir", "t/dir/set-id", "t/empty"], &["extra: \"t/dir/set-id\""]),
        (&["t/file", "t/renamed", "t/dir", "t/empty"], &["missing: \"t/block\"", "extra: \"t/renamed\""]),
        (&["t/block", "t/dir", "t/empty", "t/file"], &["order: \"t/file\": entry 1 in A, entry 4 in B"]),
        (&[], &["missing: \"t/file\"", "missing: \"t/block\"", "missing: \"t/dir/\"", "missing: \"t/empty\""]),
    ];
    for (wanted, expected) in table {
        let b = if wanted.is_empty() {
            let empty = top.path().join("empty.tar");
            fs::write(&empty, [0; 1024]).unwrap();
            empty
        } else {
            make("--format=ustar --owner=root", wanted)
        };
        let ended = diff(&a, &b);
        // Where the last entry ends, blocking puts another number of zeros behind it.
        let found: Vec<&str> = lines(&ended).into_iter().filter(|line| !line.starts_with("bytes: end")).collect();
        assert_eq!((ended.code(), found), (1, expected.to_vec()), "{wanted:?}");
    }
    // What moved and changed; in a pipe it cannot be looked at again.
    let b = make("--format=ustar --owner=root", &["t/block", "t/dir", "t/empty", "t/file"]);
    let mut bytes = fs::read(&b).unwrap();
    bytes[1024 + 1024 + 512 + 5] ^= 1;
    fs::write(&b, bytes).unwrap();
    let order = "order: \"t/file\": entry 1 in A, entry 4 in B";
    assert_eq!(lines(&diff(&a, &b)), ["content: \"t/file\": first difference at byte 5", order]);
    let script = "cat \"$1\" | \"$0\" - \"$2\"";
    let ended = run(Command::new("sh").args(["-c", script]).arg(tar_diff().get_program()).args([&a, &b]));
    assert_eq!(lines(&ended), ["content: \"t/file\": first difference not known", order]);
    // From the middle of a file, it can.
    let prefixed = top.path().join("prefixed");
    fs::write(&prefixed, [vec![b'x'; 512], fs::read(&a).unwrap()].concat()).unwrap();
    let after = "{ dd bs=512 count=1 status=none >/dev/null; \"$0\" - \"$2\"; } <\"$1\"";
    let ended = run(Command::new("sh").args(["-c", after]).arg(tar_diff().get_program()).args([&prefixed, &b]));
    assert_eq!(lines(&ended), ["content: \"t/file\": first difference at byte 5", order]);
    let ended = run(Command::new("sh").args(["-c", script]).arg(tar_diff().get_program()).args([&a, &a]));
    assert_eq!((ended.code(), &*ended.stdout), (0, ""));
}

#[test]
fn trouble_is_one_line_and_exit_code_2() {
    if !have(&["tar", "gzip"]) {
        return;
    }
    let top = tree();
    let (a, bytes) = simple(top.path());
    let at = |name: &str| top.path().join(name);
    for (name, length) in [("header.tar", 300), ("contents.tar", 1000), ("second.tar", 2048 + 200)] {
        fs::write(at(name), &bytes[..length]).unwrap();
    }
    fs::write(at("text.tar"), "no tar\n".repeat(1000)).unwrap();
    must(Command::new("gzip").arg("-k").arg(&a));
    let gzip = a.with_extension("tar.gz");
    let table: [(&Path, &str); 7] = [
        (&at("header.tar"), "is not a tar"),
        (&at("contents.tar"), "ends within a member, at byte 1000: get all of it"),
        (&at("second.tar"), "ends within a member, at byte 2248"),
        (&at("text.tar"), "is not a tar, at byte 0: name a tar"),
        (&gzip, "is compressed with gzip, at byte 0: decompress it first"),
        (&at("nowhere"), "cannot be opened: No such file"),
        (top.path(), "cannot be read: Is a directory"),
    ];
    for (b, wanted) in table {
        for (a, b) in [(a.as_path(), b), (b, &a)] {
            let ended = diff(a, b);
            assert_eq!((ended.code(), &*ended.stdout, ended.stderr.lines().count()), (2, "", 1), "{wanted}");
            assert!(ended.stderr.starts_with("tar-diff: error: ") && ended.stderr.contains(wanted), "{}", ended.stderr);
        }
    }
    let usage: [&[&str]; 4] = [&[], &["a"], &["-", "-"], &["--no-such-flag", "a", "b"]];
    for arguments in usage {
        let ended = run(tar_diff().args(arguments));
        assert_eq!((ended.code(), ended.stderr.lines().count()), (2, 1), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("tar-diff: error: command line: "), "{}", ended.stderr);
    }
}

#[test]
fn output_is_quiet_or_json() {
    if !have(&["tar"]) {
        return;
    }
    let top = tree();
    whole_seconds(top.path());
    let (a, mut bytes) = simple(top.path());
    bytes[512] ^= 1;
    bytes[2048 + 106] = b'0';
    fix_checksum(&mut bytes[2048..2560]);
    let b = top.path().join("b.tar");
    fs::write(&b, &bytes).unwrap();
    let ended = run(tar_diff().arg("-q").args([&a, &b]));
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (1, "", ""));
    let json = |b: &Path| -> Value {
        serde_json::from_str(&run(tar_diff().args(["--format", "json"]).args([&a, b])).stdout).unwrap()
    };
    assert_eq!(
        json(&b),
        serde_json::json!({"schema": 1, "same": false, "entries": {"a": 3, "b": 3}, "differences": [
            {"kind": "content", "name": "t/file", "size": {"a": 1400, "b": 1400}, "at": 0},
            {"kind": "metadata", "name": "t/block", "changes": [{"field": "mode", "a": 0o644, "b": 0o640}]},
        ]})
    );
    assert_eq!(
        json(&a),
        serde_json::json!({"schema": 1, "same": true, "entries": {"a": 3, "b": 3}, "differences": []})
    );
    // Nobody reads what it prints.
    let script = "{ sleep 0.2; \"$0\" \"$1\" \"$2\"; echo $? >\"$3\"; } | true";
    let code = top.path().join("code");
    let ended = run(Command::new("sh").args(["-c", script]).arg(tar_diff().get_program()).args([&a, &b, &code]));
    assert_eq!((fs::read_to_string(code).unwrap().as_str(), &*ended.stderr), ("0\n", ""));
}

/// What docs/json.md promises of each kind, with the JSON type of each value.
const KINDS: [(&str, &[(&str, &str)]); 6] = [
    ("missing", LISTED),
    ("extra", LISTED),
    ("metadata", &[("changes", "changes"), ("name", "string")]),
    ("content", &[("at", "integer"), ("name", "string"), ("size", "sides")]),
    ("order", &[("entry", "sides"), ("name", "string")]),
    ("bytes", &[("at", "sides"), ("name", "string or null"), ("part", "part")]),
];
const LISTED: &[(&str, &str)] = &[
    ("entry", "integer"),
    ("gid", "integer"),
    ("mode", "integer"),
    ("mtime", "string"),
    ("name", "string"),
    ("size", "integer"),
    ("type", "string"),
    ("uid", "integer"),
];

fn is(value: &Value, wanted: &str) -> bool {
    let keys = |wanted: &[&str]| value.as_object().is_some_and(|object| object.keys().eq(wanted));
    match wanted {
        "integer" => value.is_u64(),
        "string" => value.is_string(),
        "string or null" => value.is_string() || value.is_null(),
        "sides" => keys(&["a", "b"]) && value["a"].is_u64() && value["b"].is_u64(),
        "part" => ["header", "padding", "end"].iter().any(|part| value == part),
        "changes" => value.as_array().is_some_and(|changes| {
            let change =
                |change: &Value| change.as_object().is_some_and(|change| change.keys().eq(&["a", "b", "field"]));
            !changes.is_empty() && changes.iter().all(change)
        }),
        other => panic!("{other}"),
    }
}

#[test]
fn json_has_the_keys_of_its_contract_and_no_others() {
    if !have(&["tar", "setfattr"]) {
        return;
    }
    let top = tree();
    must(Command::new("setfattr").args(["-n", "user.a", "-v", "raw"]).arg(top.path().join("t/block")));
    whole_seconds(top.path());
    let a = make(top.path(), "tar", "--format=pax --xattrs", &names(&["t/file", "t/block", "t/dir", "t/empty"]));
    must(Command::new("setfattr").args(["-x", "user.a"]).arg(top.path().join("t/block")));
    fs::write(top.path().join("t/file"), "other contents\n").unwrap();
    whole_seconds(top.path());
    let flags = "--format=gnu --owner=someone:12345";
    let other = make(top.path(), "tar", flags, &names(&["t/block", "t/file", "t/symlink", "t/empty"]));
    let (plain, mut bytes) = simple(top.path());
    // Padding, the end, and a header's unused byte.
    for place in [512 + 100, bytes.len() - 1] {
        bytes[place] = b'X';
    }
    bytes[511] = b'X';
    fix_checksum(&mut bytes[..512]);
    let damaged = top.path().join("damaged.tar");
    fs::write(&damaged, bytes).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for [a, b] in [[&a, &other], [&other, &a], [&plain, &damaged]] {
        let ended = run(tar_diff().args(["--format", "json"]).args([a, b]));
        let document: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert!(document.as_object().unwrap().keys().eq(["differences", "entries", "same", "schema"]), "{document}");
        assert_eq!((ended.code(), &document["schema"], &document["same"]), (1, &1.into(), &false.into()));
        assert!(is(&document["entries"], "sides"), "{document}");
        for found in document["differences"].as_array().unwrap() {
            let kind = found["kind"].as_str().unwrap();
            let (_, wanted) = KINDS.iter().find(|(name, _)| *name == kind).unwrap_or_else(|| panic!("{found}"));
            let keys = found.as_object().unwrap().keys().map(String::as_str).filter(|key| *key != "kind");
            assert!(keys.eq(wanted.iter().map(|(key, _)| *key)), "{found}");
            wanted.iter().for_each(|(key, kind)| assert!(is(&found[key], kind), "{key}: {found}"));
            seen.insert(kind.to_owned());
            if kind == "bytes" {
                seen.insert(found["part"].to_string());
                assert_eq!(found["name"].is_null(), found["part"] == "end", "{found}");
            }
            for change in found["changes"].as_array().into_iter().flatten() {
                seen.insert(change["field"].to_string());
                // In base64, and null where there is none.
                if change["field"] == "xattr user.a" {
                    assert!([&change["a"], &change["b"]].contains(&&"cmF3".into()), "{change}");
                    assert!(change["a"].is_null() || change["b"].is_null(), "{change}");
                }
            }
        }
    }
    let wanted = KINDS.iter().map(|(kind, _)| (*kind).to_owned());
    let more = ["\"header\"", "\"padding\"", "\"end\"", "\"uid\"", "\"user\"", "\"xattr user.a\""];
    for wanted in wanted.chain(more.map(str::to_owned)) {
        assert!(seen.contains(&wanted), "{wanted} is not among {seen:?}");
    }
}
