//! Layers whose names, links and markers work against each other: what the result must be where there is a right
//! one, which is the tree that podman mounts unless a row says otherwise, and the code where there is none. No row
//! may touch anything beside the destination; `out/canary` lies where a wrong step would lead.

use cstor_tests::forge::{
    Member, Store, Subject, Trial, dir, fifo, file, hard_link, opaque, symlink,
    trial::{Verdict, table},
    whiteout,
};

const IMAGE: &str = "localhost/app:1";

enum Expect {
    Tree(&'static str),
    /// One of these codes; the error names the layer or the member, in whose name there is an `x`.
    Refusal(&'static [i32]),
    Either(&'static str, &'static [i32]),
}
use Expect::{Either, Refusal, Tree};

struct Row {
    name: &'static str,
    layers: fn() -> Vec<Vec<Member>>,
    expect: Expect,
}

const fn row(name: &'static str, expect: Expect, layers: fn() -> Vec<Vec<Member>>) -> Row {
    Row { name, layers, expect }
}

fn check(row: &Row, subject: Subject) -> Verdict {
    const OBJECTS: &[&str] = &["<layer>", "x"];
    let trial = Trial::new(subject, &Store::stack(IMAGE, (row.layers)()));
    trial.settle();
    match row.expect {
        Tree(tree) => trial.accept(IMAGE, &[], tree).map(drop),
        Refusal(codes) => trial.refuse(IMAGE, &[], codes, OBJECTS).map(drop),
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

/// Symlinks on the way to a member, of the same layer and of lower ones; names that leave the root.
const PATHS: &[Row] = &[
    row("D1 absolute link", Tree("l a -> /etc\nd 755 etc\nf 644 etc/cstor-x = bytes"), || {
        vec![vec![dir("etc"), symlink("a", "/etc"), file("a/cstor-x", "bytes")]]
    }),
    row("D2 link above the root", Tree("l a -> ../../../../etc\nd 755 etc\nf 644 etc/cstor-x = bytes"), || {
        vec![vec![dir("etc"), symlink("a", "../../../../etc"), file("a/cstor-x", "bytes")]]
    }),
    row("D3 lib -> usr/lib", Tree("l lib -> usr/lib\nd 755 usr\nd 755 usr/lib\nf 644 usr/lib/x = bytes"), || {
        vec![vec![dir("usr"), dir("usr/lib"), symlink("lib", "usr/lib"), file("lib/x", "bytes")]]
    }),
    row("D3 a link to a link", Tree("l a -> b\nl b -> c\nd 755 c\nf 644 c/x = bytes"), || {
        vec![vec![dir("c"), symlink("b", "c"), symlink("a", "b"), file("a/x", "bytes")]]
    }),
    row("D3 a link in the middle", Tree("d 755 d\nl d/l -> ../e\nd 755 e\nd 755 e/f\nf 644 e/f/x = bytes"), || {
        vec![vec![dir("d"), dir("e"), symlink("d/l", "../e"), file("d/l/f/x", "bytes")]]
    }),
    // Each layer is unpacked into a directory of its own: a link below it is not there.
    row(
        "D3 the link is in the lower layer",
        Tree("d 755 lib\nf 644 lib/x = new\nd 755 usr\nd 755 usr/lib\nf 644 usr/lib/x = old"),
        || {
            vec![
                vec![dir("usr"), dir("usr/lib"), file("usr/lib/x", "old"), symlink("lib", "usr/lib")],
                vec![file("lib/x", "new")],
            ]
        },
    ),
    row(
        "D3 the link is in both layers",
        Tree("l lib -> usr/new\nd 755 usr\nd 755 usr/new\nf 644 usr/new/x = new\nd 755 usr/old"),
        || {
            vec![
                vec![dir("usr"), dir("usr/old"), symlink("lib", "usr/old")],
                vec![dir("usr"), dir("usr/new"), symlink("lib", "usr/new"), file("lib/x", "new")],
            ]
        },
    ),
    row("D3 the link's target is in the lower layer alone", Refusal(&[4]), || {
        vec![vec![dir("usr")], vec![symlink("lib", "usr"), file("lib/x", "bytes").absent()]]
    }),
    row("D4 ../x", Tree("f 644 x = bytes"), || vec![vec![file("../x", "bytes")]]),
    row("D4 ../../passwd", Tree("f 644 passwd = bytes"), || vec![vec![file("../../passwd", "bytes")]]),
    row("D4 y/../../z", Tree("f 644 z = bytes"), || vec![vec![file("y/../../z", "bytes")]]),
    // The name is cleaned as text before any link is looked at.
    row("D4 l/../x with l -> d/e", Tree("d 755 d\nd 755 d/e\nl l -> d/e\nf 644 x = bytes"), || {
        vec![vec![dir("d"), dir("d/e"), symlink("l", "d/e"), file("l/../x", "bytes")]]
    }),
    row("D4 /abs/x", Tree("d 755 abs\nf 644 abs/x = bytes"), || vec![vec![file("/abs/x", "bytes")]]),
    row("D4 p//q", Tree("d 755 p\nf 644 p/q = bytes"), || vec![vec![file("p//q", "bytes")]]),
    row("D4 ./p/./q", Tree("d 755 p\nf 644 p/q = bytes"), || vec![vec![file("./p/./q", "bytes")]]),
    row("D7 a loop of links", Refusal(&[4]), || {
        vec![vec![symlink("a", "b"), symlink("b", "a"), file("a/x", "bytes").absent()]]
    }),
    row("D7 a link to itself", Refusal(&[4]), || vec![vec![symlink("a", "a"), file("a/x", "bytes").absent()]]),
    row("H2 40 links as components", Tree("l s -> .\nf 644 x = bytes"), || {
        vec![vec![symlink("s", "."), file("s/".repeat(40) + "x", "bytes")]]
    }),
    row("H2 41 links as components", Refusal(&[4]), || {
        vec![vec![symlink("s", "."), file("s/".repeat(41) + "x", "bytes").absent()]]
    }),
    row("D7 41 links", Refusal(&[4]), || {
        let links = (0..41).map(|link| symlink(format!("l{link}"), format!("l{}", link + 1)));
        vec![links.chain([dir("l41"), file("l0/x", "bytes").absent()]).collect()]
    }),
    row("below a dangling link", Refusal(&[4]), || vec![vec![symlink("s", "no"), file("s/x", "bytes").absent()]]),
    row("below a file of the same layer", Refusal(&[4]), || vec![vec![file("f", ""), file("f/x", "bytes").absent()]]),
    row("below a FIFO of the same layer", Refusal(&[4]), || vec![vec![fifo("f"), file("f/x", "bytes").absent()]]),
    row("below a link to a file", Refusal(&[4]), || {
        vec![vec![file("f", ""), symlink("s", "f"), file("s/x", "bytes").absent()]]
    }),
    row("below a file of the lower layer", Tree("d 755 f\nf 644 f/x = bytes"), || {
        vec![vec![file("f", "lower")], vec![file("f/x", "bytes")]]
    }),
    row("D8 /. is a link", Refusal(&[4]), || vec![vec![symlink("/.", "x").absent()]]),
    row("D8 . is a link", Refusal(&[4]), || vec![vec![symlink(".", "x").absent()]]),
    row("D8 . is a file", Refusal(&[4]), || vec![vec![file(".", "x").absent()]]),
    row("D8 / is a file", Refusal(&[4]), || vec![vec![file("/", "x").absent()]]),
    row("D8 a/.. is a FIFO", Refusal(&[4]), || vec![vec![fifo("a/..").absent()]]),
    row("D19 256 bytes", Refusal(&[4]), || vec![vec![file("x".repeat(256), "").absent()]]),
];

/// Members that take another's place, by a second name for it or in a higher layer.
const REPLACEMENTS: &[Row] = &[
    row("D5 a file, then a link by another name", Either("d 755 d\nl d/x -> y\nl l -> d", &[4]), || {
        vec![vec![dir("d"), file("d/x", "bytes"), symlink("l", "d"), symlink("l/x", "y")]]
    }),
    row("D5 a file, then a link out of the store", Either("d 755 d\nl d/x -> ../../../passwd\nl l -> d", &[4]), || {
        vec![vec![dir("d"), file("d/x", "root"), symlink("l", "d"), symlink("l/x", "../../../passwd")]]
    }),
    row("D6 a file, then a FIFO by another name", Either("d 755 d\np 644 d/x\nl l -> d", &[4]), || {
        vec![vec![dir("d"), file("d/x", "bytes"), symlink("l", "d"), fifo("l/x")]]
    }),
    row("D5 a file, then a file by another name", Either("d 755 d\nf 644 d/x = later\nl l -> d", &[4]), || {
        vec![vec![dir("d"), file("d/x", "early"), symlink("l", "d"), file("l/x", "later")]]
    }),
    row(
        "D5 a directory, then a directory by another name",
        Tree("d 755 d\nd 711 d/x\nf 644 d/x/f =\nl l -> d"),
        || vec![vec![dir("d"), dir("d/x").mode(0o700), file("d/x/f", ""), symlink("l", "d"), dir("l/x").mode(0o711)]],
    ),
    row("D15 file over directory", Tree("f 644 d = file"), || {
        vec![vec![dir("d"), dir("d/e"), file("d/e/f", "")], vec![file("d", "file")]]
    }),
    row("D15 link over directory", Tree("l d -> e"), || vec![vec![dir("d"), file("d/f", "")], vec![symlink("d", "e")]]),
    row("D15 directory over link", Tree("d 755 d\nf 644 d/old = old\nd 711 s\nf 644 s/new = new"), || {
        vec![vec![dir("d"), file("d/old", "old"), symlink("s", "d")], vec![dir("s").mode(0o711), file("s/new", "new")]]
    }),
    row("D15 directory over file", Tree("d 755 f\nf 644 f/x = new"), || {
        vec![vec![file("f", "old")], vec![dir("f"), file("f/x", "new")]]
    }),
    row("D15 directory over directory", Tree("d 700 d\nf 644 d/a = a\nf 644 d/b = b"), || {
        vec![vec![dir("d"), file("d/a", "a")], vec![dir("d").mode(0o700), file("d/b", "b")]]
    }),
    row("D15 there and back again", Tree("d 755 d\nf 644 d/new = new"), || {
        vec![vec![dir("d"), file("d/old", "")], vec![file("d", "")], vec![dir("d"), file("d/new", "new")]]
    }),
    // The directory has no member in the upper layer: unpacking makes it, 0755 and root's, and that is what covers.
    row("D15 a parent without a member", Tree("d 755 d\nf 644 d/a = a\nf 644 d/b = b"), || {
        vec![vec![dir("d").mode(0o700), file("d/a", "a")], vec![file("d/b", "b")]]
    }),
    row("D16 a link, then a directory of its name", Refusal(&[4]), || {
        vec![vec![symlink("x", "../canary"), dir("x").mode(0).absent()]]
    }),
    row("D16 the same by another name", Tree("d 755 a\nd 700 a/x\nl l -> a"), || {
        vec![vec![dir("a"), symlink("l", "a"), symlink("a/x", "../../canary"), dir("l/x").mode(0o700)]]
    }),
    row("D16 a lower link, an upper directory", Tree("d 700 x\nf 600 x/kept = new"), || {
        vec![vec![symlink("x", "../canary")], vec![dir("x").mode(0o700), file("x/kept", "new").mode(0o600)]]
    }),
    row("D16 a lower link, an upper file below it", Tree("d 755 x\nf 600 x/kept = new"), || {
        vec![vec![symlink("x", "../canary")], vec![file("x/kept", "new").mode(0o600)]]
    }),
];

const HARD_LINKS: &[Row] = &[
    row("a pair", Tree("d 755 d\nf 644 d/a = bytes\nh 644 x == d/a"), || {
        vec![vec![dir("d"), file("d/a", "bytes"), hard_link("x", "d/a")]]
    }),
    row("by an absolute name", Tree("d 755 d\nf 644 d/a = bytes\nh 644 x == d/a"), || {
        vec![vec![dir("d"), file("d/a", "bytes"), hard_link("x", "/d/a")]]
    }),
    row("by a name above the root", Tree("d 755 d\nf 644 d/a = bytes\nh 644 x == d/a"), || {
        vec![vec![dir("d"), file("d/a", "bytes"), hard_link("x", "../../d//a")]]
    }),
    row("through a link of the layer", Tree("d 755 d\nf 644 d/a = bytes\nl s -> /d\nh 644 x == d/a"), || {
        vec![vec![dir("d"), file("d/a", "bytes"), symlink("s", "/d"), hard_link("x", "s/a")]]
    }),
    row("to a link", Tree("l s -> no\nh 777 x == s"), || {
        vec![vec![symlink("s", "no"), hard_link("x", "s").mode(0o777)]]
    }),
    row("to a FIFO", Tree("p 644 f\nh 644 x == f"), || vec![vec![fifo("f"), hard_link("x", "f")]]),
    // chmod by the link's member reaches the inode that both share.
    row("with another mode", Tree("f 600 a = bytes\nh 600 x == a"), || {
        vec![vec![file("a", "bytes"), hard_link("x", "a").mode(0o600)]]
    }),
    row("D9 to ../passwd", Refusal(&[4]), || vec![vec![hard_link("x", "../passwd").absent()]]),
    row("D9 to ../../etc/shadow", Refusal(&[4]), || {
        vec![vec![dir("etc"), hard_link("x", "../../etc/shadow").absent()]]
    }),
    row("D9 through a link out of the root", Refusal(&[4]), || {
        vec![vec![symlink("s", "../canary"), hard_link("x", "s/kept").absent()]]
    }),
    row("D9 to nothing", Refusal(&[4]), || vec![vec![hard_link("x", "no").absent()]]),
    row("D9 to no name", Refusal(&[4]), || vec![vec![hard_link("x", "").absent()]]),
    row("D9 to a directory", Refusal(&[4]), || vec![vec![dir("d"), hard_link("x", "d").absent()]]),
    row("D9 to the root", Refusal(&[4]), || vec![vec![hard_link("x", "/").absent()]]),
    row("D9 to itself", Refusal(&[4]), || vec![vec![hard_link("x", "x").absent()]]),
    // By another way, since the same name twice is refused anyway.
    row("D9 in the place of the directory of its target", Refusal(&[4]), || {
        vec![vec![dir("d"), file("d/x", "bytes"), symlink("s", "."), hard_link("s/d", "d/x").absent()]]
    }),
    row("D9 in the place of a link to its target", Refusal(&[4]), || {
        let layer = vec![dir("d"), file("d/x", "bytes"), symlink("l", "d"), symlink("s", ".")];
        vec![[layer, vec![hard_link("s/l", "l/x").absent()]].concat()]
    }),
    row("D9 forward", Refusal(&[4]), || vec![vec![hard_link("x", "f").absent(), file("f", "bytes")]]),
    row("D9 to a file of the lower layer", Refusal(&[4]), || {
        vec![vec![file("f", "bytes")], vec![hard_link("x", "f").absent()]]
    }),
    row("D9 to what the same layer hides", Refusal(&[4]), || {
        vec![vec![file("f", "bytes")], vec![whiteout("f"), hard_link("x", "f").absent()]]
    }),
    row("D10 the first name is hidden above", Tree("f 644 x = bytes"), || {
        vec![vec![file("f", "bytes"), hard_link("x", "f")], vec![whiteout("f")]]
    }),
    row("D10 the first name is replaced above", Tree("f 644 f = new\nf 644 x = bytes"), || {
        vec![vec![file("f", "bytes"), hard_link("x", "f")], vec![file("f", "new")]]
    }),
    row("D10 two of four names are left", Tree("f 644 b = bytes\nh 644 d == b"), || {
        let links = ["b", "c", "d"].map(|name| hard_link(name, "a"));
        vec![[vec![file("a", "bytes")], links.into()].concat(), vec![whiteout("a"), whiteout("c")]]
    }),
    row("D10 the directory of the first name is hidden", Tree("f 644 x = bytes"), || {
        vec![vec![dir("d"), file("d/f", "bytes"), hard_link("x", "d/f")], vec![whiteout("d")]]
    }),
];

const MARKERS: &[Row] = &[
    row("D11 .wh.", Refusal(&[4]), || vec![vec![dir("x")], vec![file("x/.wh.", "").absent()]]),
    row("D11 .wh..", Refusal(&[4]), || vec![vec![dir("x")], vec![file("x/.wh..", "").absent()]]),
    row("D11 .wh...", Refusal(&[4]), || vec![vec![dir("x")], vec![file("x/.wh...", "").absent()]]),
    row("D11 .wh./x", Refusal(&[4]), || vec![vec![file(".wh./x", "").absent()]]),
    row("D12 marker, then file", Tree("f 644 x = upper"), || {
        vec![vec![file("x", "lower")], vec![whiteout("x"), file("x", "upper")]]
    }),
    // podman's overlay driver cannot unpack this order; other drivers of the same library do, with this result.
    row("D12 file, then marker", Tree("f 644 x = upper"), || {
        vec![vec![file("x", "lower")], vec![file("x", "upper"), whiteout("x").absent()]]
    }),
    row("D12 file, then marker, nothing below", Tree("f 644 x = bytes"), || {
        vec![vec![file("x", "bytes"), whiteout("x").absent()]]
    }),
    row("D12 directory, then marker", Tree("d 755 d\nf 644 d/new = new"), || {
        vec![vec![dir("d"), file("d/old", "old")], vec![dir("d"), file("d/new", "new"), whiteout("d").absent()]]
    }),
    // A marker hides what lower layers have; podman's mount shows `d/old`, because unpacking the directory takes the
    // marker's device away again.
    row("D12 marker, then directory", Tree("d 755 d\nf 644 d/new = new"), || {
        vec![vec![dir("d"), file("d/old", "old")], vec![whiteout("d"), dir("d"), file("d/new", "new")]]
    }),
    // What the first marker hides has nothing that the second could hide.
    row("D12 parent's marker, then child's", Tree("f 644 x ="), || {
        vec![vec![dir("d"), file("d/old", ""), file("x", "")], vec![whiteout("d"), whiteout("d/old").absent()]]
    }),
    row("D12 markers of nothing", Tree("d 755 q\nf 644 x ="), || {
        vec![vec![file("x", "")], vec![whiteout("no"), whiteout("q/no")]]
    }),
    row("D12 a marker's directory has no member", Tree("d 755 d\nf 644 d/b ="), || {
        vec![vec![dir("d").mode(0o700), file("d/a", ""), file("d/b", "")], vec![whiteout("d/a")]]
    }),
    row("D12 hidden, then new above", Tree("d 755 d\nf 644 d/new = new"), || {
        vec![vec![dir("d"), file("d/old", "")], vec![whiteout("d")], vec![dir("d"), file("d/new", "new")]]
    }),
    row("D12 hidden, then a file, then a directory", Tree("d 755 d\nf 644 d/new = new\nl s -> ."), || {
        let upper = vec![symlink("s", "."), whiteout("d"), file("d", ""), dir("s/d"), file("d/new", "new")];
        vec![vec![dir("d"), file("d/old", "")], upper]
    }),
    row("D13 opaque marker, then file", Tree("d 755 d\nf 644 d/new = new"), || {
        vec![vec![dir("d"), file("d/old", "")], vec![dir("d"), opaque("d"), file("d/new", "new")]]
    }),
    row("D13 file, then opaque marker", Tree("d 755 d\nf 644 d/new = new"), || {
        vec![vec![dir("d"), file("d/old", "")], vec![dir("d"), file("d/new", "new"), opaque("d")]]
    }),
    row("D13 a file of a subdirectory, then the marker", Tree("d 755 d\nd 755 d/sub\nf 644 d/sub/new = new"), || {
        vec![vec![dir("d"), dir("d/sub"), file("d/sub/old", "")], vec![file("d/sub/new", "new"), opaque("d")]]
    }),
    row("D13 opaque in the middle", Tree("d 755 d\nf 644 d/mid =\nf 644 d/top ="), || {
        vec![vec![dir("d"), file("d/low", "")], vec![dir("d"), opaque("d"), file("d/mid", "")], vec![file("d/top", "")]]
    }),
    row("D13 opaque of nothing", Tree("d 755 d"), || vec![vec![dir("d"), opaque("d")]]),
    row("D14 through a link to the root", Tree("f 644 kept =\nl s -> .."), || {
        vec![vec![file("canary", ""), file("kept", "")], vec![symlink("s", ".."), whiteout("s/canary")]]
    }),
    row("D14 through a link to a directory of the layer", Tree("d 755 canary\nl s -> ../canary"), || {
        vec![
            vec![dir("canary"), file("canary/kept", "")],
            vec![dir("canary"), symlink("s", "../canary"), whiteout("s/kept")],
        ]
    }),
    row("D14 opaque through a link to the root", Either("d 755 d\nl d/s -> ../../canary", &[4]), || {
        vec![vec![dir("d")], vec![dir("d"), symlink("d/s", "../../canary"), opaque("d/s").absent()]]
    }),
];

#[test]
fn paths() {
    table(PATHS, |row| row.name, check);
}

#[test]
fn replacements() {
    table(REPLACEMENTS, |row| row.name, check);
}

#[test]
fn hard_links() {
    table(HARD_LINKS, |row| row.name, check);
}

#[test]
fn markers() {
    table(MARKERS, |row| row.name, check);
}

/// D17: what a mode forbids its owner must be written before the mode is set.
#[test]
fn closed_directories_get_their_children() {
    let rows: &[(&str, u32, &str)] = &[
        ("0555", 0o555, "d 555 d\nd 555 d/e\nf 0 d/e/f = deep\nf 444 d/f = bytes"),
        ("0", 0, "d 0 d\nd 0 d/e\nf 0 d/e/f = deep\nf 444 d/f = bytes"),
        ("0311", 0o311, "d 311 d\nd 311 d/e\nf 0 d/e/f = deep\nf 444 d/f = bytes"),
    ];
    table(
        rows,
        |row| row.0,
        |&(_, mode, tree), subject| {
            let members = vec![
                dir("d").mode(mode),
                dir("d/e").mode(mode),
                file("d/f", "bytes").mode(0o444),
                file("d/e/f", "deep").mode(0),
            ];
            let trial = Trial::new(subject, &Store::stack(IMAGE, [members]));
            // What is closed to its owner takes a helper, which this user does not have: the store's is left open.
            for path in ["d", "d/e"] {
                trial.store.mode(&trial.store.diff(0, path), 0o755);
            }
            trial.store.mode(&trial.store.diff(0, "d/e/f"), 0o600);
            trial.settle();
            trial.accept(IMAGE, &["--helper", "never"], tree).map(drop)
        },
    );
}

/// D18: 1,024 levels are allowed, which every path of 4,096 bytes can have; more is not.
#[test]
fn nesting_has_a_limit() {
    let rows: &[(&str, usize, &[i32])] =
        &[("1,024 levels", 1024, &[0]), ("1,025 levels", 1025, &[11]), ("5,000 levels", 5000, &[4, 11])];
    table(
        rows,
        |row| row.0,
        |&(_, levels, codes), subject| {
            let deep = vec![dir("x/".repeat(levels)).absent()];
            let trial = Trial::new(subject, &Store::stack(IMAGE, [deep]));
            trial.settle();
            if codes == [0] {
                return trial.extract(IMAGE, &[])?.is_success();
            }
            trial.refuse(IMAGE, &[], codes, &["<layer>", "x/x"]).map(drop)
        },
    );
}

/// D19: 255 bytes are a name; a byte more is in the table above.
#[test]
fn the_longest_name() {
    table(
        &["x".repeat(255)],
        |name| name,
        |name, subject| {
            let trial = Trial::new(subject, &Store::stack(IMAGE, [vec![file(name, "")]]));
            trial.settle();
            trial.accept(IMAGE, &[], &format!("f 644 {name} =")).map(drop)
        },
    );
}

/// D20: what `diff` no longer has, or no longer shows.
#[test]
fn files_that_are_not_in_diff() {
    type Damage = fn(&Trial);
    let rows: &[(&str, &[i32], Damage)] = &[
        ("removed", &[4], |t| t.store.remove(&t.store.diff(0, "d/x"))),
        ("its directory removed", &[4], |t| t.store.remove(&t.store.diff(0, "d"))),
        ("a FIFO", &[4], |t| t.store.fifo(&t.store.diff(0, "d/x"))),
        ("a directory", &[4], |t| t.store.directory(&t.store.diff(0, "d/x"))),
        ("a symlink to a good one", &[4], |t| t.store.moved(&t.store.diff(0, "d/x"), &t.dir().join("out/x"))),
        ("below a symlink to a good directory", &[4], |t| t.store.moved(&t.store.diff(0, "d"), &t.dir().join("out/d"))),
    ];
    table(
        rows,
        |row| row.0,
        |(_, codes, damage), subject| {
            let trial = Trial::new(subject, &Store::stack(IMAGE, [vec![dir("d"), file("d/x", "bytes")]]));
            damage(&trial);
            trial.settle();
            trial.refuse(IMAGE, &[], codes, &["d/x"]).map(drop)
        },
    );
}

/// D20: an id that the user's namespace does not have cannot be read with any helper's aid.
#[test]
fn files_of_unmapped_owners() {
    if Subject::all().len() == 1 {
        return cstor_tests::lab::skip("only root can become a plain user");
    }
    let trial = Trial::new(Subject::Plain, &Store::stack(IMAGE, [vec![dir("d"), file("d/x", "bytes")]]));
    trial.settle();
    let path = trial.store.diff(0, "d/x");
    std::os::unix::fs::chown(&path, Some(99_999), Some(99_999)).expect("root may");
    trial.store.mode(&path, 0);
    let verdict = trial.refuse(IMAGE, &["--helper", "never"], &[6], &["d/x"]);
    assert!(verdict.is_ok(), "{verdict:?}");
}

/// D21: a name may hold any byte but NUL and slash, and none of them reaches the terminal.
#[test]
fn odd_names_are_kept_and_never_printed() {
    let tree = "f 644 \\x1b[31mred =\nf 644 a\\nb =\nf 644 tab\\tbell\\x07 =\nf 644 \\xe2\\x80\\xaegpj.exe =";
    table(
        &["odd names"],
        |row| row,
        |_, subject| {
            let names = ["\x1b[31mred", "a\nb", "tab\tbell\x07", "\u{202e}gpj.exe"];
            let trial = Trial::new(subject, &Store::stack(IMAGE, [names.map(|name| file(name, "")).into()]));
            trial.settle();
            let outcome = trial.accept(IMAGE, &["-v"], tree)?;
            let printed = outcome.stdout + &outcome.stderr;
            let raw = |char: char| (char.is_control() && char != '\n') || char == '\u{202e}';
            if printed.contains(raw) { Err(format!("{printed:?}")) } else { Ok(()) }
        },
    );
}

/// D22: a header may claim 4 EiB, and layers.json may agree.
#[test]
fn a_size_without_bounds_is_refused() {
    let huge = 1_u64 << 62;
    // What the header claims begins with the archive's own end; three blocks are left for segments.
    let field = [&[0x80, 0, 0, 0][..], &huge.to_be_bytes()].concat();
    let rows = [("layers.json knows better", None), ("layers.json agrees", Some(huge + 3 * 512))];
    table(
        &rows,
        |row| row.0,
        |(_, diff_size), subject| {
            let member = file("x", "").field(124, &field).absent();
            let mut store = Store::stack(IMAGE, [vec![file("a", "a"), member]]);
            if let Some(size) = diff_size {
                store.layers[0].fields.insert("diff-size".to_owned(), (*size).into());
            }
            let trial = Trial::new(subject, &store);
            trial.settle();
            let codes: &[i32] = if diff_size.is_some() { &[11] } else { &[4, 11] };
            trial.refuse(IMAGE, &[], codes, &["<layer>", "x", "the image"]).map(drop)
        },
    );
}
