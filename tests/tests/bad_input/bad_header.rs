//! Tar headers as no archiver should write them: sizes that disagree, PAX records out of shape, foreign typeflags,
//! numbers at their ends. tar-split agrees with the archive in every row; only what the archive says is odd.

use cstor_tests::forge::{
    Layer, Line, Member, Store, Subject, Trial, block_device, char_device, dir, fifo, file, global_header, hard_link,
    other, split, symlink,
    trial::{Verdict, table},
};

const IMAGE: &str = "localhost/app:1";

enum Expect {
    Tree(&'static str),
    /// One of these codes; the error names the layer or the member `x`.
    Refusal(&'static [i32]),
    Either(&'static str, &'static [i32]),
    /// By whether root runs it.
    Root {
        root: &'static [i32],
        user: &'static str,
    },
}
use Expect::{Either, Refusal, Root, Tree};

struct Row {
    name: &'static str,
    members: fn() -> Vec<Member>,
    expect: Expect,
}

const fn row(name: &'static str, expect: Expect, members: fn() -> Vec<Member>) -> Row {
    Row { name, members, expect }
}

const OBJECTS: &[&str] = &["<layer>", "x", "linkpath"];

fn verdict(trial: &Trial, expect: &Expect) -> Verdict {
    trial.settle();
    match *expect {
        Tree(tree) => trial.accept(IMAGE, &[], tree).map(drop),
        Refusal(codes) => trial.refuse(IMAGE, &[], codes, OBJECTS).map(drop),
        Root { root, user } => match trial.subject().is_root() {
            true => trial.refuse(IMAGE, &[], root, OBJECTS).map(drop),
            false => trial.accept(IMAGE, &[], user).map(drop),
        },
        Either(tree, codes) => {
            let refused = trial.refuse(IMAGE, &[], codes, OBJECTS).map(drop);
            if refused.is_ok() {
                return refused;
            }
            trial.discard();
            trial.accept(IMAGE, &[], tree).map(drop).map_err(|reason| format!("{reason}; nor a refusal: {refused:?}"))
        }
    }
}

fn check(row: &Row, subject: Subject) -> Verdict {
    verdict(&Trial::new(subject, &Store::stack(IMAGE, [(row.members)()])), &row.expect)
}

/// An octal field of 12 bytes, as `size` and `mtime` are.
const THREE: &[u8] = b"00000000003\0";

const ROWS: &[Row] = &[
    row("C1 PAX size, another in the header", Tree("f 644 x = 12345"), || {
        vec![file("x", "12345").pax("size", "5").field(124, THREE)]
    }),
    row("C1 PAX size, zero in the header", Tree("f 644 x = 12345\nf 644 y = y"), || {
        vec![file("x", "12345").pax("size", "5").field(124, b"00000000000\0"), file("y", "y")]
    }),
    row("C3 record without newline", Refusal(&[4]), || vec![file("x", "").raw_pax("12 path=abcd").absent()]),
    row("C3 record longer than its header", Refusal(&[4]), || vec![file("x", "").raw_pax("99 path=a\n").absent()]),
    row("C3 record of length 0", Refusal(&[4]), || vec![file("x", "").raw_pax("0 path=a\n").absent()]),
    row("C3 record of no length", Refusal(&[4]), || vec![file("x", "").raw_pax("x path=a\n").absent()]),
    row("C3 record of length 2^64", Refusal(&[4]), || {
        vec![file("x", "").raw_pax("18446744073709551616 path=a\n").absent()]
    }),
    row("C3 record without =", Refusal(&[4]), || vec![file("x", "").raw_pax("8 path\n\n").absent()]),
    row("C3 a signed length", Either("f 644 a =", &[4]), || vec![file("x", "").raw_pax("+11 path=a\n").absent()]),
    row("C3 record of 2 MB", Refusal(&[11]), || vec![file("x", "").pax("comment", "c".repeat(2_000_000))]),
    row("C3 an extended header before nothing", Either("f 644 y =", &[4]), || {
        // The two zero blocks follow where the member should.
        vec![file("y", ""), other(b'x', "PaxHeaders/x", "9 path=x\n")]
    }),
    row("C4 path with NUL", Refusal(&[4]), || vec![file("x", "").pax("path", "x\0y").absent()]),
    row("C4 linkpath with NUL", Refusal(&[4]), || vec![symlink("x", "y").pax("linkpath", "x\0y")]),
    row("C4 path empty", Refusal(&[4]), || vec![file("x", "").pax("path", "").absent()]),
    row("C4 size is no number", Refusal(&[4]), || vec![file("x", "").pax("size", "five").absent()]),
    row("C4 size negative", Refusal(&[4]), || vec![file("x", "").pax("size", "-1").absent()]),
    row("C4 uid is no number", Refusal(&[4]), || vec![file("x", "").pax("uid", "root")]),
    row("C4 mtime is no number", Refusal(&[4]), || vec![file("x", "").pax("mtime", "now")]),
    row("C5 global header", Tree("f 644 x = x"), || {
        vec![global_header(&[("comment", "of no consequence")]), file("x", "x")]
    }),
    row("C5 two global headers, one inside", Tree("f 644 x = x\nf 644 y = y"), || {
        vec![global_header(&[("a", "1")]), file("x", "x"), other(b'g', "another", "6 b=2\n"), file("y", "y")]
    }),
    row("C6 checksum", Refusal(&[4]), || vec![file("x", "x").wrong_checksum()]),
    row("C6 a number of letters", Refusal(&[4]), || vec![file("x", "x").field(100, "modeless")]),
    row("C7 GNU long name of 100 KB", Refusal(&[11]), || vec![file("x", "").gnu_name("x".repeat(100_000)).absent()]),
    row("C7 two GNU long links", Refusal(&[4]), || vec![symlink("x", "y").gnu_link("a").gnu_link("b").absent()]),
    row("C7 two GNU long names", Refusal(&[4]), || vec![file("x", "").gnu_name("a").gnu_name("b").absent()]),
    row("C7 GNU long name before nothing", Either("f 644 y =", &[4]), || {
        vec![file("y", ""), other(b'L', "././@LongLink", "x\0")]
    }),
    row("C9 typeflag V", Refusal(&[5]), || vec![other(b'V', "x", "")]),
    row("C9 typeflag M", Refusal(&[5]), || vec![other(b'M', "x", "")]),
    row("C9 typeflag D", Refusal(&[5]), || vec![other(b'D', "x", "")]),
    row("C9 typeflag 0x80", Refusal(&[5]), || vec![other(0x80, "x", "")]),
    row("C10 uid 2^32", Root { root: &[6], user: "f 644 x = x" }, || vec![file("x", "x").owner(1 << 32, 0)]),
    row("C10 gid 2^32 by PAX", Root { root: &[6], user: "f 644 x = x" }, || {
        vec![file("x", "x").pax("gid", "4294967296")]
    }),
    row("C10 mtime before 1970", Tree("f 644 x = x"), || vec![file("x", "x").mtime(-5)]),
    row("C10 mtime before 1970 by PAX", Tree("f 644 x = x"), || vec![file("x", "x").pax("mtime", "-5.5")]),
    row("C10 mtime 2^40", Tree("f 644 x = x"), || vec![file("x", "x").mtime(1 << 40)]),
    row("C11 hard link with a size", Either("f 644 a = abc\nh 644 x == a", &[4]), || {
        vec![file("a", "abc"), hard_link("x", "a").field(124, THREE)]
    }),
    row("C12 xattr without namespace", Refusal(&[4]), || vec![file("x", "x").xattr("nonamespace", "1")]),
    row("C12 xattr name of 300 bytes", Refusal(&[4]), || {
        vec![file("x", "x").pax(format!("SCHILY.xattr.user.{}", "n".repeat(295)), "1").absent()]
    }),
    row("C12 xattr of 70 KB", Refusal(&[11]), || {
        vec![file("x", "").pax("SCHILY.xattr.user.large", "v".repeat(70_000)).absent()]
    }),
    row("C13 LIBARCHIVE.xattr", Tree("f 644 x = x"), || vec![file("x", "x").pax("LIBARCHIVE.xattr.user.q", "MQ==")]),
    row("C13 SCHILY.acl", Tree("f 644 x = x"), || {
        vec![file("x", "x").pax("SCHILY.acl.access", "user::rw-,group::r--,other::r--")]
    }),
    row("C14 devices", Tree("p 644 fifo\nf 644 x = x"), || {
        vec![
            char_device("null", 1, 3).absent(),
            char_device("whiteout", 0, 0).absent(),
            block_device("disk", 8, 0),
            fifo("fifo"),
            file("x", "x"),
        ]
    }),
    row("a regular file's name with a slash at its end", Either("f 644 x =", &[4]), || vec![file("x/", "")]),
    row("typeflag NUL with a slash at its end", Tree("d 755 x"), || vec![dir("x").field(156, [0])]),
];

#[test]
fn rows() {
    table(ROWS, |row| row.name, check);
}

/// C2: one reader takes the header's size and another the record's, and each sees other members.
#[test]
fn tar_split_and_header_must_agree_on_the_size() {
    type Build = fn() -> Member;
    let rows: &[(&str, Build, i128)] = &[
        ("tar-split has the header's", || file("x", "12345").pax("size", "5").field(124, THREE), 3),
        ("tar-split has the record's", || file("x", "12345").pax("size", "3").field(124, b"00000000005\0"), 5),
        ("tar-split has its own", || file("x", "12345"), 512),
    ];
    table(
        rows,
        |row| row.0,
        |(_, member, size), subject| {
            let trial = Trial::new(subject, &Store::stack(IMAGE, [vec![member(), file("y", "y")]]));
            trial.store.line(0, "x", |line| {
                *line =
                    Line { position: line.position, ..Line::file(b"x", *size, &b"12345"[..(*size).min(5) as usize]) };
            });
            verdict(&trial, &Refusal(&[4]))
        },
    );
}

/// C8: podman writes the whole file to disk and records its logical size, so that the contents are all there; the
/// sparse map is lost, and with it the archive.
#[test]
fn a_sparse_member_is_extracted_in_full() {
    const SIZE: usize = 10_000;
    let mut logical = vec![0; SIZE];
    logical[4096..4101].copy_from_slice(b"hello");
    let map = [&b"1\n4096\n512\n"[..], &[0; 501]].concat();
    let stored = [&map[..], &logical[4096..4608]].concat();
    let pax = other(b'0', "GNUSparseFile.1/x", &stored)
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", "x")
        .pax("GNU.sparse.realsize", SIZE.to_string());
    // The old format has its map in the header: offset and length, then the real size.
    let gnu = other(b'S', "x", &logical[4096..4608])
        .field(257, b"ustar  \0")
        .field(386, b"00000010000\x0000000001000\0")
        .field(483, b"00000023420\0");
    let rows = [("PAX 1.0", "GNUSparseFile.1/x", pax, &[][..]), ("typeflag S", "x", gnu, &[5][..])];
    table(
        &rows,
        |row| row.0,
        |(_, name, member, codes), subject| {
            let mut layer = Layer::new(vec![member.clone(), file("y", "y")]);
            let mut lines = split::disassemble(&layer.tar());
            let line = lines.iter_mut().find(|line| line.name.as_deref() == Some(name)).ok_or("no line")?;
            *line = Line { position: line.position, ..Line::file(b"x", SIZE as i128, &logical) };
            layer.lines = Some(lines);
            layer.only_on_disk = vec![file("x", &logical)];
            let mut store = Store::stack(IMAGE, [Vec::new()]);
            store.layers[0] = layer;
            let zeros = "f 644 x = \\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\
                     \\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\nf 644 y = y";
            let trial = Trial::new(subject, &store);
            trial.settle();
            if trial.refuse(IMAGE, &[], codes, OBJECTS).is_ok() {
                return Ok(());
            }
            trial.discard();
            trial.accept(IMAGE, &[], zeros)?;
            let content = std::fs::read(trial.dest.join("x")).map_err(|error| error.to_string())?;
            if content == logical { Ok(()) } else { Err("other bytes".to_owned()) }
        },
    );
}

/// C10: of a mode the twelve bits count that the kernel has; set-id bits are root's.
#[test]
fn the_mode_is_masked() {
    table(
        &["07777777"],
        |row| row,
        |_, subject| {
            let member = file("x", "x").mode(0o7777).field(100, "7777777\0");
            let trial = Trial::new(subject, &Store::stack(IMAGE, [vec![member]]));
            trial.settle();
            trial.accept(IMAGE, &[], if subject.is_root() { "f 7777 x = x" } else { "f 1777 x = x" }).map(drop)
        },
    );
}

/// C14: what is left out is counted, and under `--strict` it is an error before anything is written.
#[test]
fn devices_are_skipped_and_counted() {
    table(
        &["c 1:3"],
        |row| row,
        |_, subject| {
            let store = Store::stack(IMAGE, [vec![char_device("null", 1, 3).absent(), file("x", "x")]]);
            let trial = Trial::new(subject, &store);
            trial.settle();
            trial.refuse(IMAGE, &["--strict"], &[5], &["null", "device"])?;
            trial.refuse(IMAGE, &["--devices", "fail"], &[5], &["null", "device"])?;
            let outcome = trial.accept(IMAGE, &[], "f 644 x = x")?;
            if outcome.stderr.contains("device") { Ok(()) } else { Err(format!("not counted: {}", outcome.stderr)) }
        },
    );
}
