//! The command line as a user or a script meets it: what is printed where, in which shape, with which exit code, and
//! what each flag of `extract` changes. The stores are forged; two tests need the lab. Whether an extracted tree is
//! right is the matter of `extract`.

use cstor_tests::built::install;
use cstor_tests::forge::{
    self, Image, Outcome, Store, Subject, Trial, char_device, dir, file, hard_link, symlink,
    trial::{Verdict, listing, seal, table},
};
use cstor_tests::lab::{Fs, Launcher, Who, assert_refused};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{Ended, must, run};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

const IMAGE: &str = "localhost/img:latest";

/// The `cstor` that cargo built together with the other executables.
fn cstor() -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_embedder")).with_file_name("cstor"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").env("LC_ALL", "C.UTF-8");
    command
}

fn on(trial: &Trial) -> Command {
    let mut command = cstor();
    command.arg("--root").arg(&trial.store.root);
    command
}

/// A store of the caller.
fn trial(store: &Store) -> Trial {
    Trial::new(Subject::Caller, store)
}

/// Two layers, three files of 24 bytes in all, a set-id program with two names, two links.
fn small() -> Store {
    Store::stack(
        IMAGE,
        [
            vec![dir("etc"), file("etc/passwd", "root:x:0:0"), symlink("lib", "/usr/lib"), file("note", "library")],
            vec![
                dir("bin"),
                file("bin/su", "program").mode(0o4755).owner(5, 6),
                hard_link("bin/also-su", "bin/su").mode(0o4755).owner(5, 6),
                symlink("bin/sh", "su"),
            ],
        ],
    )
}

fn with_device() -> Store {
    Store::stack(IMAGE, [vec![file("f", "x"), char_device("null", 1, 3)]])
}

fn no_control(text: &str) -> bool {
    !text.chars().any(|char| char != '\n' && (char.is_control() || ('\u{202a}'..='\u{202e}').contains(&char)))
}

fn checked(condition: bool, what: impl FnOnce() -> String) -> Verdict {
    if condition { Ok(()) } else { Err(what()) }
}

fn json_of(ended: &Ended) -> Value {
    assert_eq!((ended.code(), &*ended.stderr), (0, ""));
    assert!(ended.stdout.ends_with("}\n"), "a document and a newline: {}", ended.stdout);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

// ---- help and usage -------------------------------------------------------------------------------------------------

#[test]
fn a_wrong_command_line_is_one_line_and_exit_2() {
    let rows: [(&[&str], &str); 19] = [
        (&[], ""),
        (&["image"], ""),
        (&["layer"], ""),
        (&["nosuch"], "nosuch"),
        (&["image", "nosuch"], "nosuch"),
        (&["extract"], "IMAGE"),
        (&["extract", "img"], "DIR"),
        (&["extract", "img", "dir", "more"], "more"),
        (&["extract", "img", "dir", "--nosuch"], "--nosuch"),
        (&["extract", "img", "dir", "--reflink", "maybe"], "maybe"),
        (&["extract", "img", "dir", "--reflink", "auto", "--no-reflinks"], "--no-reflinks"),
        (&["extract", "img", "dir", "--devices", "keep"], "keep"),
        (&["extract", "img", "dir", "--helper", "no"], "--helper"),
        (&["extract", "img", "dir", "--progress", "dots"], "dots"),
        (&["extract", "img", "dir", "--strict", "--strict"], "--strict"),
        (&["image", "list", "more"], "more"),
        (&["image", "list", "--format", "xml"], "xml"),
        (&["image", "list", "--quiet", "--format", "json"], "--quiet"),
        (&["--storage-opt", "additionalimagestore=/x", "image", "list"], "--root"),
    ];
    for (arguments, needle) in rows {
        let ended = run(cstor().args(arguments));
        assert_eq!((ended.code(), &*ended.stdout), (2, ""), "{arguments:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("cstor: error: command line: "), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.trim_end().ends_with(": see cstor --help"), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(needle), "{arguments:?}: no {needle:?}: {}", ended.stderr);
    }
}

#[test]
fn what_is_missing_is_called_missing() {
    for arguments in [&[][..], &["image"], &["layer"]] {
        let ended = run(cstor().args(arguments));
        // Not what the program is for.
        assert!(ended.stderr.contains("subcommand") || ended.stderr.contains("command is"), "{}", ended.stderr);
    }
}

#[test]
fn hostile_arguments_are_escaped() {
    let hostile: [&[u8]; 6] =
        [b"\x1b[31mred", b"bell\x07", b"a\rb", b"a\nb", b"not UTF-8 \xff", "turn\u{202e}ed".as_bytes()];
    for bytes in hostile {
        let text = OsString::from_vec(bytes.to_vec());
        let trial = trial(&small());
        for (arguments, code) in [(&["extract", "", "out"][..], 3), (&["image", "inspect", ""], 3), (&[""], 2)] {
            let arguments =
                arguments.iter().map(|argument| if argument.is_empty() { text.clone() } else { argument.into() });
            let ended = run(on(&trial).args(arguments).current_dir(trial.dir()));
            // What is not UTF-8 can be no reference: clap says so.
            let code = if bytes.ends_with(b"\xff") { 2 } else { code };
            assert_eq!(ended.code(), code, "{text:?}: {}", ended.stderr);
            assert_eq!(ended.stderr.lines().count(), 1, "{text:?}: {}", ended.stderr);
            assert!(no_control(&ended.stderr), "{text:?}: {:?}", ended.stderr);
        }
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let version = format!("cstor {}\n", env!("CARGO_PKG_VERSION"));
    for flag in ["--version", "-V"] {
        let ended = run(cstor().arg(flag));
        assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, &*version, ""));
    }
    let table: [(&[&str], &[&str]); 4] = [
        (&["--help"], &["Usage: cstor", "extract", "image", "--root"]),
        (&["help"], &["Usage: cstor"]),
        (&["image", "--help"], &["list", "inspect", "layers", "extract"]),
        (
            &["extract", "--help"],
            &[
                "<IMAGE> <DIR>",
                "--reflink",
                "--no-reflinks",
                "--helper",
                "--devices",
                "--preserve-setid",
                "--no-same-owner",
                "--strict",
                "--verify",
                "--replace",
                "--progress",
            ],
        ),
    ];
    for (arguments, needles) in table {
        let ended = run(cstor().args(arguments));
        assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{arguments:?}");
        for needle in needles {
            assert!(ended.stdout.contains(needle), "{arguments:?}: no {needle}: {}", ended.stdout);
        }
    }
    let both = [&["extract", "--help"][..], &["image", "extract", "--help"]].map(|arguments| {
        let said = must(cstor().args(arguments));
        said.split_once("Arguments:").expect("a list of arguments").1.to_owned()
    });
    assert_eq!(both[0], both[1], "extract is image extract");
}

// ---- lists ------------------------------------------------------------------------------------------------------------

/// Three images: of two names, of one, of none; the newest is neither first nor last.
fn several() -> Store {
    let mut store = small();
    store.images[0].names.push("registry.example:5000/team/img:2".to_owned());
    let image = |name: &str, created: &str| Image {
        created: created.to_owned(),
        comment: created.to_owned(),
        ..Image::new(name, Some(0))
    };
    store.images.push(image("localhost/newest:1", "2024-05-06T07:08:09.123456789Z"));
    // On a layer of its own stack it would be a step of the first.
    store.images.push(Image { names: Vec::new(), top: None, ..image("", "2019-01-01T00:00:00Z") });
    store
}

#[test]
fn image_list_prints_a_table_json_or_ids() {
    let trial = trial(&several());
    let ids = &trial.store.images;
    let said = must(on(&trial).args(["image", "list"]));
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]);
    let starts: Vec<_> = lines[1..].iter().map(|line| line[..3].to_vec()).collect();
    assert_eq!(
        starts,
        [
            ["localhost/newest", "1", &ids[1][..12]],
            ["localhost/img", "latest", &ids[0][..12]],
            ["registry.example:5000/team/img", "2", &ids[0][..12]],
            ["<none>", "<none>", &ids[2][..12]],
        ]
    );
    assert!(
        lines[1..].iter().all(|line| line.contains(&"ago") && ["B", "kB"].contains(line.last().unwrap())),
        "{said}"
    );
    // Columns begin where their titles do.
    let at = said.lines().next().unwrap().find("IMAGE ID").unwrap();
    for (line, id) in said.lines().skip(1).zip([1, 0, 0, 2]) {
        assert!(line[at..].starts_with(&ids[id][..12]), "{said}");
    }
    assert_eq!(must(on(&trial).args(["image", "ls"])), said);
    assert!(must(on(&trial).args(["image", "list", "--no-trunc"])).contains(&ids[0]));

    let order = [1, 0, 2].map(|image| &ids[image]);
    let short: String = order.iter().map(|id| format!("{}\n", &id[..12])).collect();
    let full: String = order.iter().map(|id| format!("{id}\n")).collect();
    assert_eq!(must(on(&trial).args(["image", "list", "-q"])), short);
    assert_eq!(must(on(&trial).args(["image", "list", "--quiet", "--no-trunc"])), full);

    let listed = json_of(&run(on(&trial).args(["image", "list", "--format", "json"])));
    assert_eq!(listed["schema"], 1);
    let images = listed["images"].as_array().unwrap();
    assert_eq!(images.len(), 3);
    for (image, id) in images.iter().zip(order) {
        assert_eq!(image["id"], **id, "in full");
        assert!(image["size"].is_u64() && image["names"].is_array(), "{image}");
        assert!(image["digest"].as_str().unwrap().starts_with("sha256:"), "{image}");
        assert!(is_rfc_3339(&image["created"]), "{image}");
    }
    assert_eq!(images[0]["created"], "2024-05-06T07:08:09.123456789Z");
    assert_eq!(images[1]["names"], json!([IMAGE, "registry.example:5000/team/img:2"]));
    assert_eq!(images[2]["names"], json!([]));

    let empty = tempfile::TempDir::new().unwrap();
    let ended = run(cstor().arg("--root").arg(empty.path()).args(["image", "list", "--format", "json"]));
    assert_eq!(json_of(&ended), json!({"schema": 1, "images": []}));
}

fn is_rfc_3339(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default().as_bytes();
    let fits = |(place, mark): (usize, u8)| text.get(place) == Some(&mark);
    text.len() >= 20
        && [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')].into_iter().all(fits)
        && text.ends_with(b"Z")
}

#[test]
fn image_inspect_and_layers_print_the_same_layers() {
    let trial = trial(&small());
    let (layers, id) = (&trial.store.layers, &trial.store.images[0]);
    let inspected = json_of(&run(on(&trial).args(["image", "inspect", "img", "--format", "json"])));
    assert_eq!((&inspected["schema"], &inspected["id"]), (&json!(1), &json!(id)));
    assert_eq!(inspected["names"], json!([IMAGE]));
    assert_eq!((&inspected["architecture"], &inspected["os"]), (&json!("amd64"), &json!("linux")));
    assert!(inspected["size"].is_u64() && is_rfc_3339(&inspected["created"]) && is_rfc_3339(&inspected["stored"]));
    assert_eq!(inspected["media_type"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(inspected["config"], json!({}));

    let listed = json_of(&run(on(&trial).args(["image", "layers", "img", "--format", "json"])));
    assert_eq!((&listed["schema"], &listed["image"]), (&json!(1), &json!(id)));
    assert_eq!(listed["layers"], inspected["layers"]);
    for (number, layer) in listed["layers"].as_array().unwrap().iter().enumerate() {
        assert_eq!(layer["id"], layers[number].id);
        assert_eq!(layer["diff_id"], layers[number].diff_id());
        assert_eq!(layer["size"], layers[number].tar.len());
        assert_eq!(layer["created_by"], format!("layer {number}"));
        assert_eq!(layer["parent"], if number == 0 { Value::Null } else { json!(layers[0].id) });
        assert!(is_rfc_3339(&layer["created"]));
    }

    let said = must(on(&trial).args(["image", "layers", "img"]));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[0].split("  ").filter(|title| !title.is_empty()).map(str::trim).collect::<Vec<_>>(),
        ["LAYER ID", "DIFF ID", "SIZE", "CREATED BY"]
    );
    for (line, layer) in lines[1..].iter().zip(layers) {
        assert!(line.starts_with(&layer.id[..12]) && line.contains(&layer.diff_id()[7..19]), "{said}");
        assert!(!line.contains(&layer.id), "{said}");
    }
    let full = must(on(&trial).args(["image", "layers", "img", "--no-trunc"]));
    assert!(layers.iter().all(|layer| full.contains(&layer.id)), "{full}");
    let ids: String = layers.iter().map(|layer| format!("{}\n", &layer.id[..12])).collect();
    assert_eq!(must(on(&trial).args(["image", "layers", "-q", "img"])), ids, "the base first");

    let said = must(on(&trial).args(["image", "inspect", "img"]));
    for (key, value) in [("id", &**id), ("names", IMAGE), ("platform", "linux/amd64")] {
        assert!(said.lines().any(|line| line.split_whitespace().eq([key, value])), "{key}: {said}");
    }
    assert_eq!(said.lines().filter(|line| line.starts_with("layer ")).count(), 2, "{said}");
    assert_eq!(must(on(&trial).args(["image", "inspect", "-q", "img"])), format!("{}\n", &id[..12]));
    assert_eq!(must(on(&trial).args(["image", "inspect", "-q", "--no-trunc", "img"])), format!("{id}\n"));
}

#[test]
fn names_of_images_cannot_write_to_the_terminal() {
    let hostile = ["localhost/\x1b[2Jclear:1", "localhost/two\nlines:\x07", "localhost/a\u{202e}b:\u{9b}31m"];
    let mut store = small();
    store.images[0].names = hostile.map(str::to_owned).to_vec();
    let trial = trial(&store);
    trial.store.json(&trial.store.layers_json(), |layers| layers[0]["created"] = json!("now\x1b[31m"));
    for arguments in [&["image", "list"][..], &["image", "inspect"], &["image", "layers"]] {
        let mut command = on(&trial);
        command.args(arguments);
        if arguments[1] != "list" {
            command.arg(&trial.store.images[0]);
        }
        let said = must(&mut command);
        assert!(no_control(&said), "{arguments:?}: {said:?}");
        if arguments[1] == "list" {
            assert_eq!(said.lines().count(), 4, "a line for each name: {said}");
        }
        // Programs get the names as they are.
        if arguments[1] != "layers" {
            let document = json_of(&run(command.args(["--format", "json"])));
            let image = if arguments[1] == "list" { &document["images"][0] } else { &document };
            assert_eq!(image["names"], json!(hostile), "{arguments:?}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let trial = trial(&several());
    let top = &trial.store.layers[1].id;
    for arguments in [
        &["image", "list"][..],
        &["image", "list", "--format", "json"],
        &["image", "layers", "img"],
        &["layer", "export", top],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = on(&trial);
        let output =
            command.args(arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{arguments:?}");

        // A full disk is.
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = on(&trial);
        let output = command.args(arguments).stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(1 | 10)), "{arguments:?}: {said}");
        assert!(said.starts_with("cstor: error: ") && said.lines().count() == 1, "{arguments:?}: {said}");
    }
}

// ---- extract ----------------------------------------------------------------------------------------------------------

/// The fields of a summary line; there is no other line.
fn summary(outcome: &Outcome) -> Verdict<Vec<&str>> {
    outcome.is_success()?;
    let said = outcome.stderr.trim_end();
    checked(outcome.stdout.is_empty() && !said.contains('\n'), || format!("more than a summary: {said}"))?;
    Ok(said.split([',', ';']).flat_map(|part| part.split(": ")).map(str::trim).collect())
}

#[test]
fn the_summary_says_what_was_done() {
    type Row = (&'static str, fn() -> Store, &'static [&'static str], &'static [&'static str], &'static [&'static str]);
    // what, store, flags, what root reads, what a plain user reads
    let rows: [Row; 3] = [
        (
            "all kinds",
            small,
            &["--reflink", "never"],
            &[
                "3 files",
                "3 directories",
                "2 symlinks",
                "1 hard link",
                "0 B reflinked",
                "24 B copied",
                "0 files through the helper",
                "nothing",
                "all contents checked",
            ],
            &["3 files", "1 set-id bit", "all contents checked"],
        ),
        (
            "a device",
            with_device,
            &["--no-reflinks"],
            &["1 file", "1 directory", "0 symlinks", "1 device node"],
            &["1 device node"],
        ),
        ("checked", small, &["--verify"], &["all contents checked"], &["all contents checked"]),
    ];
    table(
        &rows,
        |row| row.0,
        |(_, store, flags, root, plain), subject| {
            let trial = Trial::new(subject, &store());
            trial.settle();
            let outcome = trial.extract("img", flags)?;
            let fields = summary(&outcome)?;
            let head = format!("img ({}) -> {}", &trial.store.images[0][..12], trial.dest.display());
            checked(fields.first() == Some(&head.as_str()), || format!("{fields:?}, not {head}"))?;
            let wanted = if subject.is_root() { root } else { plain };
            for field in wanted.iter() {
                checked(
                    fields.iter().any(|found| found == field || found.ends_with(&format!("skipped {field}"))),
                    || format!("no {field:?} in {fields:?}"),
                )?;
            }
            Ok(())
        },
    );
}

#[test]
fn progress_is_lines_where_asked_for_and_a_bar_on_a_terminal_alone() {
    let trial = trial(&small());
    let out = |name: &str| trial.dir().join("out").join(name);
    let said = |flags: &[&str], name: &str| {
        let ended = run(on(&trial).args(["extract", "img"]).arg(out(name)).args(flags));
        assert_eq!((ended.code(), &*ended.stdout), (0, ""), "{flags:?}: {}", ended.stderr);
        assert!(no_control(&ended.stderr), "{flags:?}: {:?}", ended.stderr);
        ended.stderr
    };
    let plain = said(&["--progress", "plain"], "plain");
    let lines: Vec<&str> = plain.lines().collect();
    assert_eq!(
        lines[..3],
        ["cstor: layer 1 of 2: 4 entries", "cstor: layer 2 of 2: 4 entries", "cstor: placing 3 files, 24 B"]
    );
    assert_eq!(lines.len(), 4, "and the summary: {plain}");
    assert_eq!(said(&[], "auto").lines().count(), 1);
    assert_eq!(said(&["--progress", "auto"], "auto-2").lines().count(), 1);
    assert_eq!(said(&["--progress", "never"], "never").lines().count(), 1);

    // On a terminal; script(1) gives one.
    let on_terminal = |flags: &str, name: &str| {
        let program = on(&trial);
        let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().expect("UTF-8"));
        let words: Vec<String> = std::iter::once(program.get_program()).chain(program.get_args()).map(quoted).collect();
        let line = format!("{} extract img {} {flags}", words.join(" "), out(name).display());
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
        let ended = run(&mut script);
        assert_eq!(ended.code(), 0, "{line}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    };
    let bar = on_terminal("", "bar");
    assert!(bar.contains("\x1b["), "no bar: {bar:?}");
    let last = bar.trim_end().rsplit(['\r', '\n']).next().unwrap_or_default();
    assert!(last.contains("img (") && last.contains("-> "), "the bar is gone, the summary stays: {bar:?}");
    for flags in ["--progress never", "--progress plain"] {
        let quiet = on_terminal(flags, &flags.replace(' ', "-"));
        assert!(!quiet.contains('\x1b'), "{flags}: {quiet:?}");
    }
}

#[test]
fn strict_refuses_what_would_lose_something() {
    type Row = (&'static str, fn() -> Store, &'static [&'static str], i32, i32);
    // what, store, flags, exit code for root, for a plain user
    let rows: [Row; 6] = [
        ("a device", with_device, &["--strict"], 5, 5),
        ("a device, created", with_device, &["--strict", "--devices", "create"], 0, 6),
        ("a set-id program", small, &["--strict"], 0, 5),
        ("a set-id program, kept", small, &["--strict", "--preserve-setid"], 0, 0),
        ("nothing to lose", || Store::stack(IMAGE, [vec![file("f", "x")]]), &["--strict"], 0, 0),
        (
            "an attribute that not even root is given",
            || Store::stack(IMAGE, [vec![file("f", "x").xattr("trusted.x", "x")]]),
            &["--strict"],
            5,
            5,
        ),
    ];
    table(
        &rows,
        |row| row.0,
        |(_, store, flags, root, plain), subject| {
            let trial = Trial::new(subject, &store());
            trial.settle();
            match if subject.is_root() { *root } else { *plain } {
                0 => trial.extract("img", flags)?.is_success(),
                code => trial.refuse("img", flags, &[code], &[]).map(drop),
            }
        },
    );
}

#[test]
fn devices_are_skipped_created_or_an_error() {
    type Row = (&'static str, &'static [&'static str], Result<bool, i32>, Result<bool, i32>);
    let rows: [Row; 4] = [
        ("by default", &[], Ok(false), Ok(false)),
        ("skip", &["--devices", "skip"], Ok(false), Ok(false)),
        ("create", &["--devices", "create"], Ok(true), Err(6)),
        ("fail", &["--devices", "fail"], Err(5), Err(5)),
    ];
    table(
        &rows,
        |row| row.0,
        |(_, flags, root, plain), subject| {
            let trial = Trial::new(subject, &with_device());
            trial.settle();
            match if subject.is_root() { root } else { plain } {
                Err(code) => trial.refuse("img", flags, &[*code], &[]).map(drop),
                Ok(made) => {
                    trial.extract("img", flags)?.is_success()?;
                    let device = fs::symlink_metadata(trial.dest.join("null")).ok().map(|found| found.rdev());
                    checked(device == made.then(|| rustix::fs::makedev(1, 3)), || format!("{device:?}"))
                }
            }
        },
    );
}

#[test]
fn owners_and_set_id_bits_follow_the_flags() {
    // flags, mode and owner of the program for root, for a plain user (who owns all)
    type Row = (&'static str, &'static [&'static str], (u32, bool), u32);
    let rows: [Row; 4] = [
        ("by default", &[], (0o4755, true), 0o755),
        ("--preserve-setid", &["--preserve-setid"], (0o4755, true), 0o4755),
        ("--no-same-owner", &["--no-same-owner"], (0o4755, false), 0o755),
        ("both", &["--no-same-owner", "--preserve-setid"], (0o4755, false), 0o4755),
    ];
    table(
        &rows,
        |row| row.0,
        |(_, flags, root, plain), subject| {
            let trial = Trial::new(subject, &small());
            trial.settle();
            trial.extract("img", flags)?.is_success()?;
            let found = fs::metadata(trial.dest.join("bin/su")).map_err(|error| error.to_string())?;
            let top = fs::metadata(&trial.dest).map_err(|error| error.to_string())?;
            let mine = (top.uid(), top.gid());
            let wanted = match subject.is_root() {
                true => (root.0, if root.1 { (5, 6) } else { (0, 0) }),
                false => (*plain, mine),
            };
            let found = (found.mode() & 0o7777, (found.uid(), found.gid()));
            checked(found == wanted, || format!("{found:x?}, not {wanted:x?}"))
        },
    );
}

/// A name in the parent directory that is never absent is the old tree or the new one, at every look.
#[test]
fn replace_gives_the_old_tree_or_the_new_one() {
    table(
        &["complete", "failing", "interrupted"],
        |row| row,
        |row, subject| {
            let members: Vec<_> = (0..500).map(|number| file(format!("f{number}"), "bytes")).collect();
            let trial = Trial::new(subject, &Store::stack(IMAGE, [members]));
            if *row == "failing" {
                // The last one in the order of names.
                trial.store.bytes(&trial.store.diff(0, "f99"), |bytes| bytes[0] ^= 1);
            }
            fs::create_dir_all(trial.dest.join("old/deep")).map_err(|error| error.to_string())?;
            fs::write(trial.dest.join("old/file"), "old").map_err(|error| error.to_string())?;
            trial.settle();
            let before = seal(&trial.dest);
            trial.extract("img", &[])?.is_refusal(&[10], &["dest"])?;
            checked(seal(&trial.dest) == before, || "touched without --replace".to_owned())?;

            let dest = trial.dest.to_str().ok_or("UTF-8")?;
            let mut running = trial.start(&["extract", "img", dest, "--replace", "--no-reflinks"]);
            if *row == "interrupted" {
                rustix::process::kill_process(running.pid(), rustix::process::Signal::INT)
                    .map_err(|error| error.to_string())?;
            }
            while !running.has_ended() {
                // One look: there is no moment between two of them in which nothing is there.
                let entries = trial.dest.read_dir().map_err(|error| format!("absent: {error}"))?;
                drop(entries);
            }
            let outcome = running.finish()?;
            let neighbours = fs::read_dir(trial.dir().join("out")).map_err(|error| error.to_string())?.count();
            checked(neighbours == 4, || format!("{neighbours} names beside the destination"))?;
            if outcome.code == 0 {
                checked(*row != "failing", || "damage was not noticed".to_owned())?;
                let names = listing(&trial.dest);
                return checked(names.len() == 500 && !names.iter().any(|name| name.contains("old")), || {
                    format!("{} names", names.len())
                });
            }
            checked(*row != "complete", || outcome.stderr.clone())?;
            // A signal before the handler is in place ends the program as it ends any other.
            checked([4, 130, -2].contains(&outcome.code), || format!("{}: {}", outcome.code, outcome.stderr))?;
            checked(seal(&trial.dest) == before, || "the old tree has changed".to_owned())
        },
    );
}

// ---- the helper's executable --------------------------------------------------------------------------------------------

#[test]
fn the_helper_may_be_named_but_not_by_everybody() {
    let lab = lab_or_skip!();
    let at = lab.scratch(Who::User, Fs::Ext4);
    let named = at.path().join("my-helper");
    install(lab.executable("cstor-helper"), &named);
    // mode, exit code
    for (mode, code) in [(0o755, 0), (0o757, 7), (0o777, 7), (0o700, 0), (0o644, 7)] {
        fs::set_permissions(&named, Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&named, Some(lab.uid()), None).unwrap();
        let (scratch, launcher) = (lab.scratch(Who::User, Fs::Xfs), Launcher::new(lab, ""));
        let mut command = lab.cstor(Who::User, &lab.store(Fs::Xfs, "local"));
        command.args(["extract", "localhost/private"]).arg(scratch.path().join("out")).env("CSTOR_HELPER", &named);
        let ended = run(launcher.before(&mut command));
        let what = format!("mode {mode:o}");
        if code == 0 {
            assert_eq!((ended.code(), launcher.starts()), (0, 1), "{what}: {}", ended.stderr);
            let started = fs::read_to_string(launcher.path().join("starts")).unwrap();
            assert!(started.contains(named.to_str().unwrap()), "{what}: {started}");
        } else {
            assert_refused(lab, &ended, code, scratch.path(), &what);
            if mode & 0o002 != 0 {
                let wanted = format!("{}: the helper executable is writable by others", named.display());
                assert!(ended.stderr.contains(&wanted), "{what}: {}", ended.stderr);
                assert_eq!(launcher.starts(), 0, "{what}");
            }
        }
    }
}

#[test]
fn a_name_for_the_helper_matters_only_where_one_is_needed() {
    let trial = trial(&small());
    let ended = run(on(&trial).args(["extract", "img"]).arg(&trial.dest).env("CSTOR_HELPER", "/nonexistent"));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(forge::trial::listing(&trial.dest).len() > 5);
}
