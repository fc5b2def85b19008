//! Damaged tar-split files, and contents in `diff` that are not what tar-split says. Every row starts from a good
//! store in which one thing is changed; what the archive's headers may say wrongly is in `bad_header.rs`.

use std::{io::Write, path::Path};

use cstor_tests::forge::{
    Layer, Line, Member, Store, Subject, Trial, dir, file, split,
    trial::{Verdict, table},
    whiteout,
};

const IMAGE: &str = "localhost/app:1";

const TREE: &str = "
    f 644 data = 0123456789012345678901234567890123456789
    d 755 etc
    f 644 etc/lower = lower
    f 644 etc/upper = upper
";

/// The lower layer is the one that is damaged: its entries survive in the result.
fn good() -> Store {
    let data = "0123456789".repeat(300);
    let upper = vec![file("etc/upper", "upper"), whiteout("gone")];
    Store::stack(IMAGE, [vec![dir("etc"), file("etc/lower", "lower"), file("data", data), file("gone", "gone")], upper])
}

enum Expect {
    Tree,
    Refusal(&'static [i32], &'static [&'static str]),
}
use Expect::{Refusal, Tree};

struct Row {
    name: &'static str,
    damage: fn(&Trial),
    expect: Expect,
}

const fn row(name: &'static str, expect: Expect, damage: fn(&Trial)) -> Row {
    Row { name, damage, expect }
}

fn check(row: &Row, subject: Subject) -> Verdict {
    let trial = Trial::new(subject, &good());
    (row.damage)(&trial);
    trial.settle();
    match row.expect {
        Tree => trial.accept(IMAGE, &["--reflink", "never"], TREE).map(drop),
        Refusal(codes, objects) => trial.refuse(IMAGE, &["--reflink", "never"], codes, objects).map(drop),
    }
}

/// Damage to the compressed bytes.
fn gz(trial: &Trial, change: impl FnOnce(&mut Vec<u8>)) {
    trial.store.bytes(&trial.store.tar_split(0), change);
}

/// An error about a tar-split names its layer, or the member it was at.
const LAYER: &[&str] = &["<layer>", "etc/lower"];

const ROWS: &[Row] = &[
    row("nothing", Tree, |_| {}),
    row("B2 gzip CRC", Refusal(&[4], LAYER), |t| {
        gz(t, |bytes| {
            let crc = bytes.len() - 8;
            bytes[crc] ^= 1;
        });
    }),
    row("B2 gzip ISIZE", Refusal(&[4], LAYER), |t| {
        gz(t, |bytes| {
            let length = bytes.len() - 4;
            bytes[length] ^= 1;
        });
    }),
    row("B2 not gzip", Refusal(&[4], LAYER), |t| gz(t, |bytes| bytes[0] = 0)),
    row("B2 not compressed", Refusal(&[4], LAYER), |t| gz(t, |bytes| *bytes = split::gunzip(bytes))),
    row("B3 garbage behind", Refusal(&[4], LAYER), |t| gz(t, |bytes| bytes.extend_from_slice(b"garbage"))),
    row("B3 zeros behind", Refusal(&[4], LAYER), |t| gz(t, |bytes| bytes.extend_from_slice(&[0; 512]))),
    row("B3 a cut member behind", Refusal(&[4], LAYER), |t| {
        gz(t, |bytes| bytes.extend_from_slice(&split::gzip(b"")[..8]));
    }),
    row("B4 two members", Tree, |t| {
        gz(t, |bytes| {
            let text = split::gunzip(bytes);
            let (first, second) = text.split_at(text.len() / 2);
            *bytes = [split::gzip(first), split::gzip(second)].concat();
        });
    }),
    row("B4 an empty member behind", Tree, |t| gz(t, |bytes| bytes.extend_from_slice(&split::gzip(b"")))),
    // 64 members of 16 MiB of spaces each: 1 GiB out of 1 MiB, without a line's end.
    row("B5 a bomb", Refusal(&[4, 11], LAYER), |t| {
        gz(t, |bytes| bytes.extend_from_slice(&split::gzip(&[b' '; 16 << 20]).repeat(64)))
    }),
    row("B5 a bomb of empty lines", Refusal(&[4, 11], LAYER), |t| {
        gz(t, |bytes| bytes.extend_from_slice(&split::gzip(&[b'\n'; 16 << 20]).repeat(64)));
    }),
    row("B6 a line of 100 MB", Refusal(&[11], LAYER), |t| {
        t.store.split_text(0, |text| {
            let start = format!("{{\"type\":2,\"payload\":\"{}\",\"position\":0}}\n", "A".repeat(100_000_000));
            text.splice(..0, start.into_bytes());
        });
    }),
    row("B7 a line that is no JSON", Refusal(&[4], LAYER), |t| {
        t.store.split_text(0, |text| text.extend_from_slice(b"no\n"))
    }),
    row("B7 a line that is an array", Refusal(&[4], LAYER), |t| {
        t.store.split_text(0, |text| text.extend_from_slice(b"[]\n"))
    }),
    row("B7 the last line cut", Refusal(&[4], LAYER), |t| t.store.split_text(0, |text| text.truncate(text.len() - 10))),
    row("B7 brackets without end", Refusal(&[4], LAYER), |t| {
        t.store.split_text(0, |text| text.extend_from_slice(format!("{}\n", "[".repeat(1_000_000)).as_bytes()));
    }),
    row("B7 type 3", Refusal(&[4], LAYER), |t| t.store.line(0, "etc/lower", |line| line.kind = 3)),
    row("B7 type 0", Refusal(&[4], LAYER), |t| t.store.line(0, "etc/lower", |line| line.kind = 0)),
    row("B7 no position", Refusal(&[4], LAYER), |t| t.store.line(0, "etc/lower", |line| line.position = None)),
    row("B8 base64 of a segment", Refusal(&[4], LAYER), |t| {
        t.store.lines(0, |lines| lines[0].payload = Some("*".into()))
    }),
    row("B8 base64 of a CRC", Refusal(&[4], LAYER), |t| {
        t.store.line(0, "etc/lower", |line| line.payload = Some("*".into()));
    }),
    row("B8 a CRC of 4 bytes", Refusal(&[4], LAYER), |t| {
        t.store.line(0, "etc/lower", |line| line.payload = Some("AAAAAA==".into()))
    }),
    row("B8 no CRC", Refusal(&[4], LAYER), |t| t.store.line(0, "etc/lower", |line| line.payload = None)),
    row("B8 a segment of 5 MiB", Refusal(&[11], LAYER), |t| {
        t.store.lines(0, |lines| lines[0] = Line { position: Some(0), ..Line::segment(&vec![0; 5 << 20]) })
    }),
    row("B9 size -1", Refusal(&[4], LAYER), |t| t.store.line(0, "etc/lower", |line| line.size = Some(-1))),
    row("B9 size 2^63", Refusal(&[4], LAYER), |t| t.store.line(0, "etc/lower", |line| line.size = Some(1 << 63))),
    row("B9 size 2^64", Refusal(&[4], LAYER), |t| t.store.line(0, "etc/lower", |line| line.size = Some(1 << 64))),
    row("B9 another size than the header's", Refusal(&[4], LAYER), |t| {
        t.store.line(0, "etc/lower", |line| line.size = Some(4))
    }),
    row("B9 a size where the header has none", Refusal(&[4], &["<layer>", "etc"]), |t| {
        t.store.line(0, "etc/", |line| line.size = Some(5))
    }),
    row("B10 larger on disk", Refusal(&[4], &["etc/lower"]), |t| {
        t.store.bytes(&t.store.diff(0, "etc/lower"), |bytes| bytes.push(b'x'))
    }),
    row("B10 smaller on disk", Refusal(&[4], &["etc/lower"]), |t| {
        t.store.bytes(&t.store.diff(0, "etc/lower"), |bytes| bytes.truncate(4))
    }),
    row("B10 empty on disk", Refusal(&[4], &["etc/lower"]), |t| {
        t.store.bytes(&t.store.diff(0, "etc/lower"), Vec::clear)
    }),
    row("B11 other bytes on disk", Refusal(&[4], &["etc/lower"]), |t| {
        t.store.bytes(&t.store.diff(0, "etc/lower"), |bytes| bytes[4] ^= 1)
    }),
    row("B11 another CRC", Refusal(&[4], &["etc/lower"]), |t| {
        t.store.line(0, "etc/lower", |line| line.payload = Some("AAAAAAAAAAA=".into()))
    }),
    row("B13 name and name_raw", Refusal(&[4], LAYER), |t| {
        t.store.line(0, "etc/lower", |line| line.name_raw = Some("ZXRjL2xvd2Vy".into()));
    }),
    row("B13 another name than the header's", Refusal(&[4], &["<layer>", "etc/lower", "etc/other"]), |t| {
        t.store.line(0, "etc/lower", |line| line.name = Some("etc/other".into()));
    }),
    row("B15 a position twice", Refusal(&[4], LAYER), |t| t.store.lines(0, |lines| lines[3].position = Some(2))),
    row("B15 a position left out", Refusal(&[4], LAYER), |t| {
        t.store.lines(0, |lines| lines.last_mut().expect("a line").position = Some(99))
    }),
    row("B15 positions from 1", Refusal(&[4], LAYER), |t| {
        t.store.lines(0, |lines| {
            lines.iter_mut().for_each(|line| line.position = line.position.map(|position| position + 1))
        });
    }),
    row("B15 two lines exchanged", Refusal(&[4], LAYER), |t| t.store.lines(0, |lines| lines.swap(2, 3))),
    row("B15 a file's line left out", Refusal(&[4], LAYER), |t| edited(t, |lines| drop(lines.remove(3)))),
    row("B15 a segment's line left out", Refusal(&[4], LAYER), |t| edited(t, |lines| drop(lines.remove(2)))),
    row("B15 a file's line twice", Refusal(&[4], LAYER), |t| edited(t, |lines| lines.insert(3, lines[3].clone()))),
    row("B15 the trailer left out", Refusal(&[4], LAYER), |t| edited(t, |lines| lines.truncate(8))),
    row("B16 no tar-split", Refusal(&[4], LAYER), |t| t.store.remove(&t.store.tar_split(0))),
    row("B16 an empty tar-split", Refusal(&[4], LAYER), |t| gz(t, Vec::clear)),
    row("B16 a FIFO", Refusal(&[4], LAYER), |t| t.store.fifo(&t.store.tar_split(0))),
    row("B16 a directory", Refusal(&[4], LAYER), |t| t.store.directory(&t.store.tar_split(0))),
    row("B16 a symlink to a good one", Refusal(&[4], LAYER), |t| {
        t.store.moved(&t.store.tar_split(0), &t.dir().join("out/tar-split"));
    }),
    row("B17 no line, but an archive of members", Refusal(&[4], LAYER), |t| gz(t, |bytes| *bytes = split::gzip(b""))),
    row("B18 a segment that is no header", Refusal(&[4], LAYER), |t| {
        t.store.lines(0, |lines| lines[2].payload = Line::segment(&[0xaa; 512]).payload);
    }),
    row("B18 half a header", Refusal(&[4], LAYER), |t| {
        t.store.lines(0, |lines| lines[2].payload = Line::segment(&lines[2].bytes()[..256]).payload);
    }),
    // Go's reader passes over padding without a look; only the digest of the whole layer would show it.
    row("B18 padding that is not zero", Tree, |t| {
        t.store.lines(0, |lines| {
            let mut bytes = lines[4].bytes();
            bytes[0] = 1;
            lines[4].payload = Line::segment(&bytes).payload;
        });
    }),
    row("B18 more behind the trailer", Refusal(&[4], LAYER), |t| {
        edited(t, |lines| lines.push(Line::segment(&[0; 512])));
    }),
];

/// Changes the lines and numbers them anew, so that only what was changed is wrong.
fn edited(trial: &Trial, change: impl FnOnce(&mut Vec<Line>)) {
    trial.store.lines(0, |lines| {
        change(lines);
        split::number(lines);
    });
}

#[test]
fn rows() {
    table(ROWS, |row| row.name, check);
}

/// B1: no prefix of the file is taken for the whole.
#[test]
fn a_cut_file_is_never_a_whole_one() {
    table(
        &["every 97th byte"],
        |row| row,
        |_, subject| {
            let trial = Trial::new(subject, &good());
            trial.settle();
            let path = trial.store.tar_split(0);
            let whole = std::fs::read(&path).map_err(|error| error.to_string())?;
            for length in (0..whole.len()).step_by(97).chain([whole.len() - 8, whole.len() - 1]) {
                trial.store.bytes(&path, |bytes| bytes.truncate(length));
                let verdict = trial.refuse(IMAGE, &["--reflink", "never"], &[4], LAYER);
                verdict.map_err(|reason| format!("{length} of {} bytes: {reason}", whole.len()))?;
                trial.store.bytes(&path, |bytes| bytes.clone_from(&whole));
            }
            trial.accept(IMAGE, &[], TREE).map(drop)
        },
    );
}

/// B11: a copy and `--verify` see a wrong byte; a reflink does not look, and says so.
#[test]
fn contents_are_checked_unless_the_summary_says_not() {
    const DAMAGED: &str = "
        f 644 data = X123456789012345678901234567890123456789
        d 755 etc
        f 644 etc/lower = lower
        f 644 etc/upper = upper
    ";
    fn damaged(place: &Path, subject: Subject) -> Trial {
        let trial = Trial::within(place, subject, &good());
        trial.store.bytes(&trial.store.diff(0, "data"), |bytes| bytes[0] = b'X');
        trial.settle();
        trial
    }
    let refused: &[&[&str]] =
        &[&["--reflink", "never"], &["--no-reflinks"], &["--reflink", "never", "--verify"], &["--verify"]];
    table(
        refused,
        |options| options[0],
        |options, subject| damaged(&std::env::temp_dir(), subject).refuse(IMAGE, options, &[4], &["data"]).map(drop),
    );

    let Some(xfs) = std::env::var_os("CSTOR_LAB_XFS") else {
        return cstor_tests::lab::skip("no reflinks without CSTOR_LAB_XFS, which `tests/lab.sh env` says");
    };
    table(
        &["--reflink=always", "--reflink=auto"],
        |row| row,
        |option, subject| {
            let outcome = damaged(Path::new(&xfs), subject).accept(IMAGE, &[option], DAMAGED)?;
            if !outcome.stderr.contains("contents not checked") {
                return Err(format!("not said: {}", outcome.stderr));
            }
            damaged(Path::new(&xfs), subject).refuse(IMAGE, &[option, "--verify"], &[4], &["data"]).map(drop)
        },
    );
}

/// B12, B14: names that no path has, and names that are the same path.
#[test]
fn names_that_are_no_paths() {
    struct Row {
        name: &'static str,
        members: fn() -> Vec<Member>,
        expect: Result<&'static str, &'static [&'static str]>,
    }
    let rows = [
        Row {
            name: "B12 NUL",
            members: || vec![file("x", "").pax("path", "a\0b").absent()],
            expect: Err(&["<layer>"]),
        },
        Row {
            name: "B12 5,000 bytes",
            members: || vec![file(format!("{}/", "x".repeat(200)).repeat(25) + "x", "").absent()],
            expect: Err(&["<layer>", "xxxxxxxx"]),
        },
        Row { name: "B12 no UTF-8", members: || vec![file(b"caf\xe9", "bytes")], expect: Ok("f 644 caf\\xe9 = bytes") },
        Row {
            name: "B12 no UTF-8 in a directory",
            members: || vec![dir(b"\xff"), file(b"\xff/\xfe", "bytes")],
            expect: Ok("d 755 \\xff\nf 644 \\xff/\\xfe = bytes"),
        },
        Row {
            name: "B14 x and ./x",
            members: || vec![file("x", "1"), file("./x", "2").absent()],
            expect: Err(&["<layer>", "x"]),
        },
        Row {
            name: "B14 x and x",
            members: || vec![file("x", "1"), file("x", "1").absent()],
            expect: Err(&["<layer>", "x"]),
        },
        Row {
            name: "B14 x and a/../x",
            members: || vec![file("x", "1"), file("a/../x", "1").absent()],
            expect: Err(&["<layer>", "x"]),
        },
        Row {
            name: "B14 d/ and d",
            members: || vec![dir("d"), file("d", "").absent()],
            expect: Err(&["<layer>", "d"]),
        },
    ];
    table(
        &rows,
        |row| row.name,
        |row, subject| {
            let trial = Trial::new(subject, &Store::stack(IMAGE, [(row.members)()]));
            trial.settle();
            match row.expect {
                Ok(tree) => trial.accept(IMAGE, &[], tree).map(drop),
                Err(objects) => trial.refuse(IMAGE, &[], &[4], objects).map(drop),
            }
        },
    );
}

/// B17: a layer without members is a layer; a tar-split without lines is that of an empty archive.
#[test]
fn an_empty_layer_is_a_layer() {
    let rows: &[(&str, usize, bool)] =
        &[("two zero blocks", 1024, true), ("no bytes", 0, true), ("no bytes, no lines", 0, false)];
    table(
        rows,
        |row| row.0,
        |&(_, tail, lines), subject| {
            let mut store = Store::stack(IMAGE, [Vec::new()]);
            let layer = Layer { tail: vec![0; tail], ..Layer::new(Vec::new()) };
            store.layers[0] = Layer { lines: (!lines).then(Vec::new), ..layer };
            let trial = Trial::new(subject, &store);
            trial.settle();
            trial.accept(IMAGE, &[], "").map(drop)
        },
    );
}

/// B8, B12: an error names what is wrong with a name's own bytes, but a terminal sees none of them.
#[test]
fn names_are_escaped_in_errors() {
    let rows = ["line\nbreak", "\x1b[31mred", "\u{202e}gpj.exe", "back\\slash", "tab\tbell\x07"];
    table(
        &rows,
        |row| row,
        |name, subject| {
            let trial = Trial::new(subject, &Store::stack(IMAGE, [vec![file(name, "content")]]));
            trial.store.bytes(&trial.store.diff(0, name), |bytes| bytes[0] = b'X');
            trial.settle();
            // Enough of the name is plain to be found again.
            let plain: &str =
                name.split(|char: char| !char.is_ascii_alphanumeric()).max_by_key(|part| part.len()).unwrap_or(name);
            trial.refuse(IMAGE, &["--reflink", "never"], &[4], &[plain]).map(drop)
        },
    );
}

/// A tar-split of a million lines is read in a stream.
#[test]
fn a_million_empty_segments_take_no_memory() {
    table(
        &["10^6 lines"],
        |row| row,
        |_, subject| {
            let trial = Trial::new(subject, &good());
            trial.store.split_text(0, |text| {
                let start = split::parse(text).len();
                for position in start..start + 1_000_000 {
                    writeln!(text, "{{\"type\":2,\"payload\":\"\",\"position\":{position}}}").expect("a vector");
                }
            });
            trial.settle();
            trial.accept(IMAGE, &[], TREE).map(drop)
        },
    );
}
