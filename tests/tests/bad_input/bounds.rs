//! What an image may cost: shapes of kilobytes that would take gigabytes or hours end in time, within 300 MB, with the
//! right code and nothing left; what is ordinary is not refused.

use cstor_client::{ErrorKind, Storage};
use cstor_tests::forge::split::number;
use cstor_tests::forge::trial::table;
use cstor_tests::forge::{Line, Member, Store, Subject, Trial, dir, hard_link, symlink, whiteout};

const IMAGE: &str = "localhost/shape:1";
/// In KiB.
const MOST: u64 = 300_000;

struct Row {
    name: &'static str,
    members: fn() -> Vec<Vec<Member>>,
    /// Bytes of tar-split segments without a member, added in front.
    segments: usize,
    arguments: &'static [&'static str],
    codes: &'static [i32],
    says: &'static str,
}

const ROW: Row = Row {
    name: "",
    members: Vec::new,
    segments: 0,
    arguments: &["image", "toc", IMAGE],
    codes: &[11],
    says: "more than 256 MiB of memory",
};

fn heavy(name: String, namespace: &str) -> Member {
    let value = [b'a'; 60_000];
    (0..16).fold(dir(name), |member, number| member.xattr(&format!("{namespace}.v{number}"), value)).absent()
}

/// A directory that a link leads to, and directories below the link.
fn below_a_link(count: usize) -> Vec<Member> {
    let path = ["a".repeat(200).as_str(); 19].join("/");
    let first = [dir(&path).absent(), symlink("l", &path).absent()];
    first.into_iter().chain((0..count).map(|number| dir(format!("l/{number}")).absent())).collect()
}

fn with_attributes(count: usize) -> Member {
    (0..count).fold(dir("d"), |member, number| member.xattr(&format!("user.{number:05}"), "1")).absent()
}

fn slow_link() -> [Member; 2] {
    [dir("d").absent(), symlink("l", ["d/.."; 800].join("/")).absent()]
}

#[test]
fn hostile_shapes_end_in_time_and_within_bounds() {
    let extract = &["extract", IMAGE, "out/dest"];
    let rows = [
        Row {
            name: "attributes that a table of contents has",
            members: || vec![(0..300).map(|number| heavy(format!("d{number}"), "user")).collect()],
            ..ROW
        },
        Row {
            name: "attributes that a result will not have",
            members: || vec![(0..300).map(|number| heavy(format!("d{number}"), "trusted")).collect()],
            arguments: extract,
            codes: &[0],
            says: "skipped: 4800 extended attributes",
            ..ROW
        },
        Row {
            name: "attributes of a file with many names",
            members: || {
                let links = (0..2000).map(|number| hard_link(format!("l{number}"), "f").absent());
                vec![[heavy("d".into(), "user"), symlink("f", "x").absent()].into_iter().chain(links).collect()]
            },
            codes: &[0],
            says: "",
            ..ROW
        },
        Row {
            name: "more attributes than the kernel lists",
            members: || vec![vec![with_attributes(8000)]],
            says: "more than 65536 bytes in all",
            ..ROW
        },
        Row {
            name: "hard links that bring more attributes than the kernel lists",
            members: || {
                let link = |first: usize| {
                    let link = hard_link(format!("l{first}"), "f").absent();
                    (first..first + 2500).fold(link, |link, number| link.xattr(&format!("user.{number:05}"), "1"))
                };
                vec![vec![symlink("f", "x").absent(), link(0), link(2500), link(5000)]]
            },
            says: "more than 65536 bytes in all",
            ..ROW
        },
        Row {
            name: "headers without an end",
            members: || vec![vec![dir("d")]],
            segments: 40 << 20,
            says: "stand before the contents of the next member",
            ..ROW
        },
        Row {
            name: "directories below a long path",
            members: || vec![below_a_link(20_000)],
            codes: &[0],
            says: "",
            ..ROW
        },
        Row {
            name: "a target longer than a path",
            members: || vec![vec![symlink("l", "x".repeat(4096)).absent()]],
            codes: &[4],
            says: "a target of 4096 bytes",
            ..ROW
        },
        Row {
            name: "no target",
            members: || vec![vec![symlink("l", "").absent()]],
            arguments: extract,
            codes: &[4],
            says: "without a target",
            ..ROW
        },
        Row {
            name: "forty-one links as components",
            members: || {
                let [d, _] = slow_link();
                vec![vec![d, symlink("l", ".").absent(), dir("l/".repeat(41) + "x").absent()]]
            },
            codes: &[4],
            says: "more than 40 symbolic links",
            ..ROW
        },
        Row {
            name: "forty links as components",
            members: || {
                let [d, _] = slow_link();
                vec![vec![d, symlink("l", ".").absent(), dir("l/".repeat(40) + "x").absent()]]
            },
            codes: &[0],
            says: "",
            ..ROW
        },
        Row {
            name: "long links on the way to many members",
            members: || {
                let below = (0..300).map(|number| dir("l/".repeat(38) + &number.to_string()).absent());
                vec![slow_link().into_iter().chain(below).collect()]
            },
            says: "add more than 8000000 steps",
            ..ROW
        },
        Row {
            name: "what upper layers hide is freed",
            members: || (0..60).map(|_| (0..2000).map(|number| dir(format!("d{number}")).absent()).collect()).collect(),
            arguments: &["--memory-limit", "64M", "image", "toc", IMAGE],
            codes: &[0],
            says: "",
            ..ROW
        },
        Row {
            name: "whiteouts",
            members: || vec![(0..900_000).map(|number| whiteout(&format!("w{number}")).absent()).collect()],
            arguments: &["--memory-limit", "64M", "image", "toc", IMAGE],
            says: "more than 64 MiB of memory",
            ..ROW
        },
        Row {
            name: "too little memory to begin with",
            members: || vec![vec![dir("d")]],
            arguments: &["--memory-limit", "1M", "extract", IMAGE, "out/dest"],
            says: "1 MiB for reading an image are too little",
            ..ROW
        },
    ];
    for row in rows {
        check(&row);
    }
}

#[track_caller]
fn check(row: &Row) {
    let trial = Trial::new(Subject::Caller, &Store::stack(IMAGE, (row.members)()));
    if row.segments > 0 {
        trial.store.lines(0, |lines| {
            let empty = vec![0; 1 << 20];
            lines.splice(0..0, (0..row.segments >> 20).map(|_| Line::segment(&empty)));
            number(lines);
        });
    }
    let outcome = trial.run(row.arguments).unwrap_or_else(|error| panic!("{}: {error}", row.name));
    assert!(row.codes.contains(&outcome.code), "{}: {}: {}", row.name, outcome.code, outcome.stderr);
    if outcome.code != 0 {
        outcome.is_refusal(row.codes, &[]).unwrap_or_else(|error| panic!("{}: {error}", row.name));
        assert!(!trial.dest.exists(), "{}", row.name);
    }
    assert!(outcome.stderr.contains(row.says), "{}: does not say `{}`: {}", row.name, row.says, outcome.stderr);
    assert!(outcome.peak < MOST, "{}: {} KiB", row.name, outcome.peak);
}

/// Half of an address space of 100 MB is less than there must be.
#[test]
fn the_limit_of_the_process_counts() {
    table(
        &[("100000000", 11), ("400000000", 0)],
        |(limit, _)| limit,
        |(limit, code), subject| {
            let trial = Trial::new(subject, &Store::stack(IMAGE, [vec![dir("d")]]));
            trial.settle();
            let wrapper = ["/usr/bin/prlimit", &format!("--as={limit}"), "--"];
            let outcome = trial.run_through(&wrapper, &["image", "toc", IMAGE])?;
            match outcome.code {
                found if found != *code => Err(format!("{found}: {}", outcome.stderr)),
                11 => outcome.is_refusal(&[11], &["the memory"]),
                _ => Ok(()),
            }
        },
    );
}

/// The library has the same account, and the same interrupt: both are looked at for every member and every piece.
#[test]
fn every_member_and_every_piece_is_a_moment_to_stop() {
    let place = tempfile::tempdir().unwrap();
    let many = (0..1000).map(|number| dir(format!("d{number}")).absent());
    let large = cstor_tests::forge::file("large", vec![7; 2 << 20]);
    let store = Store::stack(IMAGE, [many.chain([large]).collect::<Vec<_>>()]);
    let forged = store.write(&place.path().join("store"), rustix::process::geteuid().is_root()).unwrap();
    let storage = Storage::open(&forged.root).unwrap();
    let (image, layer) = (storage.image(IMAGE).unwrap(), storage.layer(&forged.layers[0].id).unwrap());
    let looks = |what: &str, least: u64, action: &dyn Fn() -> Result<(), cstor_client::Error>| {
        let before = storage.interrupt().looks();
        action().unwrap_or_else(|error| panic!("{what}: {error}"));
        let looked = storage.interrupt().looks() - before;
        assert!(looked >= least, "{what}: {looked} looks, at least {least} expected");
        storage.interrupt().raise();
        let kind = action().map_err(|error| error.kind());
        storage.interrupt().lower();
        assert_eq!(kind, Err(ErrorKind::Interrupted), "{what}");
    };
    // Members when they are read, and names when they are laid over those below.
    looks("tree", 2000, &|| Ok(image.rootfs().map(drop)?));
    looks("export of an image", 3000 + 8, &|| Ok(image.rootfs()?.export(std::io::sink()).map(drop)?));
    looks("table of contents", 1000 + 8, &|| Ok(layer.toc(true).map(drop)?));
    looks("export of a layer", 1000 + 8, &|| Ok(layer.export(std::io::sink(), Default::default()).map(drop)?));
    looks("verification", 1000 + 8, &|| Ok(layer.verify(cstor_client::Verify::Digest).map(drop)?));
    let image = storage.with_memory_limit(1 << 20).image(IMAGE).unwrap();
    assert_eq!(image.rootfs().unwrap_err().kind(), ErrorKind::Limit);
}
