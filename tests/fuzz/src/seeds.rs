//! Inputs for the targets to start from, all made here: the shapes that layers, stores and streams have, and those that
//! broke a reader before, in small.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cstor_client::{splitdirfdstream as dir, splitfdstream as fd};

use crate::layers::encode;
use crate::tar::{CONTENT, LINK, NAME, PAX, RAW, REPEATED, SEALED, assemble, gzip, header, piece};

type Named = (String, Vec<u8>);

/// All seeds: the target, the name, the bytes.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let targets: [(&'static str, Vec<Named>); 11] = [
        (
            "tar_header",
            tars().into_iter().map(|(name, program)| (name, behind(0, &program))).chain(raw_tars()).collect(),
        ),
        ("tar_split", splits()),
        ("merge", layers()),
        ("extract", extracts()),
        ("splitfd", streams()),
        ("chunked", tocs()),
        ("store_json", stores()),
        ("names", names()),
        ("storage_conf", confs()),
        ("reference", references()),
        ("jsonrpc", messages()),
    ];
    let flat = targets
        .into_iter()
        .flat_map(|(target, seeds)| seeds.into_iter().map(move |(name, bytes)| (target, name, bytes)));
    flat.collect()
}

fn behind(mode: u8, bytes: &[u8]) -> Vec<u8> {
    [&[mode][..], bytes].concat()
}

fn named(name: &str, bytes: impl AsRef<[u8]>) -> Named {
    (name.to_owned(), bytes.as_ref().to_vec())
}

/// A header as a piece of a program, with bytes put in before it is sealed.
fn block(typeflag: u8, name: &str, link: &str, size: u64, patches: &[(usize, &[u8])]) -> Vec<u8> {
    let mut block = header(typeflag, name.as_bytes(), link.as_bytes(), size);
    for (place, bytes) in patches {
        block[*place..place + bytes.len()].copy_from_slice(bytes);
    }
    // Zeros at its end are added again.
    let length = block.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    piece(SEALED, &block[..length])
}

fn file(name: &str, content: &str) -> Vec<u8> {
    [block(b'0', name, "", content.len() as u64, &[]), piece(CONTENT, content.as_bytes())].concat()
}

fn end() -> Vec<u8> {
    piece(REPEATED | RAW, &[10, 0])
}

fn program(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), end()].concat()
}

const GNU: &[u8] = b"ustar  \0";

fn tars() -> Vec<Named> {
    let pax = |records: &str| piece(PAX, records.as_bytes());
    let plain = |typeflag: u8, name: &str, link: &str| block(typeflag, name, link, 0, &[]);
    let gnu = |typeflag: u8, name: &str, size: u64, more: &[(usize, &[u8])]| {
        block(typeflag, name, "", size, &[&[(257, GNU)], more].concat())
    };
    vec![
        named(
            "kinds",
            program(&[
                plain(b'5', "d/", ""),
                file("d/a", "contents"),
                plain(b'1', "d/h", "d/a"),
                plain(b'2', "l", "d/a"),
                block(b'3', "c", "", 0, &[(329, b"0000001"), (337, b"0000003")]),
                block(b'4', "b", "", 0, &[(329, b"0000010")]),
                plain(b'6', "p", ""),
                plain(0, "old", ""),
                plain(0, "olddir/", ""),
            ]),
        ),
        named(
            "pax_all",
            program(&[
                pax(
                    "path=long/name\nlinkpath=target\nsize=5\nuid=70000\ngid=70001\nmtime=1700000000.123456789\nuname=u\ngname=g\nSCHILY.xattr.user.note=value\n",
                ),
                block(b'0', "short", "", 3, &[]),
                piece(CONTENT, b"hello"),
                file("next", "x"),
            ]),
        ),
        named(
            "pax_link",
            program(&[pax("linkpath=a/long/target"), plain(b'2', "l", "t"), pax("linkpath=h"), plain(b'1', "h", "t")]),
        ),
        named("pax_empty", program(&[pax("path=a\nsize=\nuid=\nmtime="), file("b", "x")])),
        named(
            "pax_times",
            program(&[pax("mtime=-1.25"), plain(b'0', "a", ""), pax("mtime=1.1234567899"), plain(b'0', "b", "")]),
        ),
        named(
            "pax_two",
            program(&[pax("path=a"), pax("uid=5"), plain(b'0', "b", ""), pax("path=c\npath=d"), plain(b'0', "e", "")]),
        ),
        named(
            "pax_bad",
            program(&[block(b'x', "p", "", 12, &[]), piece(CONTENT, b"12 path=xx\0\0"), plain(b'0', "b", "")]),
        ),
        named(
            "pax_newline",
            program(&[block(b'x', "p", "", 13, &[]), piece(CONTENT, b"13 path=a\nbc\n"), plain(b'0', "b", "")]),
        ),
        named(
            "pax_global",
            program(&[block(b'g', "g", "", 18, &[]), piece(CONTENT, b"18 comment=global\n"), file("a", "x")]),
        ),
        named(
            "xattrs",
            program(&[
                pax(
                    "SCHILY.xattr.trusted.a=1\nSCHILY.xattr.user.b=\nLIBARCHIVE.xattr.user.c=YQ==\nSCHILY.acl.access=user::rw-",
                ),
                plain(b'5', "d/", ""),
            ]),
        ),
        named("xattrs_long", program(&[piece(REPEATED | PAX, b"\x0cSCHILY.xattr.user.a=1\n"), plain(b'5', "d/", "")])),
        named(
            "xattr_names",
            program(&[pax("SCHILY.xattr.nodot=1\nSCHILY.xattr..a=1\nSCHILY.xattr.a.=1"), plain(b'5', "d/", "")]),
        ),
        named(
            "gnu_long",
            program(&[
                piece(NAME, b"a/long/name\0"),
                piece(LINK, b"a/long/target\0"),
                plain(b'2', "l", "t"),
                file("a", "b"),
            ]),
        ),
        named("gnu_twice", program(&[piece(NAME, b"a\0"), piece(NAME, b"b\0"), plain(b'0', "c", "")])),
        named("gnu_and_pax", program(&[piece(NAME, b"gnu\0"), pax("path=pax"), plain(b'0', "c", "")])),
        named("gnu_huge", program(&[piece(REPEATED | NAME, b"\x0dlong/name"), plain(b'0', "c", "")])),
        named(
            "numbers",
            program(&[
                gnu(
                    b'0',
                    "big",
                    0,
                    &[
                        (108, b"\x80\0\0\0\0\x01\0\0"),
                        (116, b"\x80\0\0\0\xff\xff\xff\xff"),
                        (136, b"\x80\0\0\0\0\0\0\x01\0\0\0\0"),
                    ],
                ),
                gnu(b'0', "old", 0, &[(136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xae\x80")]),
                block(b'0', "blank", "", 0, &[(100, b"   644 \0"), (124, b"          0 ")]),
                block(b'0', "mode", "", 0, &[(100, b"7777777")]),
            ]),
        ),
        named("numbers_bad", program(&[block(b'0', "a", "", 0, &[(108, b"0000008")])])),
        named(
            "size_negative",
            program(&[gnu(b'0', "a", 0, &[(124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")])]),
        ),
        named("size_huge", program(&[gnu(b'0', "a", 0, &[(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff")])])),
        named(
            "prefix",
            program(&[
                block(b'0', "name", "", 0, &[(345, b"pre/fix")]),
                block(b'0', "star", "", 0, &[(345, b"pre"), (476, b"00000000000\x0000000000000\0"), (508, b"tar\0")]),
                gnu(b'0', "go", 0, &[(345, b"not/octal")]),
            ]),
        ),
        named("v7", program(&[block(b'0', "v7", "", 2, &[(257, &[0; 8])]), piece(CONTENT, b"ok")])),
        named(
            "link_with_size",
            program(&[block(b'1', "h", "a", 5, &[]), block(b'5', "d/", "", 7, &[]), file("a", "x")]),
        ),
        named(
            "types",
            program(&[
                plain(b'7', "contiguous", ""),
                plain(b'V', "volume", ""),
                plain(b'M', "multi", ""),
                plain(0x80, "odd", ""),
            ]),
        ),
        named(
            "sparse_gnu",
            program(&[
                gnu(
                    b'S',
                    "s",
                    5,
                    &[(386, b"00000000000\x0000000000003\x0000000001000\x0000000000002\0"), (483, b"00000001002")],
                ),
                piece(CONTENT, b"abcde"),
                file("next", "x"),
            ]),
        ),
        named(
            "sparse_gnu_blocks",
            program(&[
                gnu(
                    b'S',
                    "s",
                    516,
                    &[
                        (386, b"00000000000\x0000000001000\x0000000002000\x0000000000004\0"),
                        (482, b"\0"),
                        (483, b"00000002004"),
                    ],
                ),
                piece(CONTENT, &[b'x'; 516]),
                file("next", "x"),
            ]),
        ),
        named(
            "sparse_gnu_more",
            program(&[
                gnu(b'S', "s", 3, &[(386, b"00000000000\x0000000000001\0"), (482, b"\x01"), (483, b"00000000012")]),
                piece(CONTENT, b"00000000004\x0000000000001\x0000000000011\x0000000000001\0"),
                piece(CONTENT, b"abc"),
            ]),
        ),
        named(
            "sparse_huge",
            program(&[
                gnu(
                    b'S',
                    "s",
                    1,
                    &[
                        (386, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xfe00000000001\0"),
                        (483, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
                    ],
                ),
                piece(CONTENT, b"a"),
            ]),
        ),
        named(
            "sparse_00",
            program(&[
                pax(
                    "GNU.sparse.size=10\nGNU.sparse.numblocks=2\nGNU.sparse.offset=1\nGNU.sparse.numbytes=2\nGNU.sparse.offset=8",
                ),
                block(b'0', "s", "", 3, &[]),
                piece(CONTENT, b"abc"),
            ]),
        ),
        named(
            "sparse_01",
            program(&[
                pax("GNU.sparse.size=10\nGNU.sparse.map=1,2,8,1\nGNU.sparse.name=real"),
                block(b'0', "s", "", 3, &[]),
                piece(CONTENT, b"abc"),
                file("next", "x"),
            ]),
        ),
        named(
            "sparse_10",
            program(&[
                pax("GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.realsize=20\nGNU.sparse.name=real"),
                block(b'0', "s", "", 515, &[]),
                piece(CONTENT, b"2\n1\n2\n10\n1\n"),
                piece(CONTENT, b"abc"),
                file("next", "x"),
            ]),
        ),
        named(
            "sparse_10_bad",
            program(&[
                pax("GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.realsize=20"),
                block(b'0', "s", "", 515, &[]),
                piece(CONTENT, b"99999999999\n1\n2\n10\n1\n"),
                piece(CONTENT, b"abc"),
            ]),
        ),
        named("checksum", program(&[piece(RAW, &header(b'0', b"a", b"", 0)), file("b", "x")])),
        named("cut", block(b'0', "a", "", 600, &[])),
        named("no_end", file("a", "x")),
        named("garbage_behind", [program(&[file("a", "x")]), piece(RAW, b"garbage"), file("b", "y")].concat()),
    ]
}

fn raw_tars() -> Vec<Named> {
    let tar = assemble(&file("a", "x"));
    vec![
        named("raw", behind(1, &tar)),
        named("raw_gzip", behind(1, b"\x1f\x8b\x08\0\0\0\0\0")),
        named("raw_zeros", behind(1, &[0; 600])),
        named("empty", b"\0"),
    ]
}

fn splits() -> Vec<Named> {
    let lines: [(&str, &[u8]); 16] = [
        ("line_file", br#"{"type":1,"name":"bin/cat","size":44016,"payload":"GXWs86xlBPg=","position":0}"#),
        ("line_dir", br#"{"type":1,"name":"etc/","payload":null,"position":0}"#),
        ("line_raw", br#"{"type":1,"name_raw":"bGF0aW4xLen/","size":0,"position":0}"#),
        ("line_segment", br#"{"type":2,"payload":"AAEC","position":0}"#),
        ("line_escaped", br#"{"type":1,"name":"a\u003cb\n\ud83d\ude00","payload":null,"position":0}"#),
        ("line_two_names", br#"{"type":1,"name":"a","name_raw":"YQ==","position":0}"#),
        ("line_type", br#"{"type":3,"position":0}"#),
        ("line_position", br#"{"type":1,"name":"a","position":1}"#),
        ("line_no_position", br#"{"type":1,"name":"a"}"#),
        ("line_negative", br#"{"type":1,"size":-1,"position":0}"#),
        ("line_large", br#"{"type":1,"size":9223372036854775808,"position":0}"#),
        ("line_checksum", br#"{"type":1,"payload":"AAA=","position":0}"#),
        ("line_base64", br#"{"type":2,"payload":"A!","position":0}"#),
        ("line_twice", br#"{"type":1,"name":"a","name":"b","position":0}"#),
        ("line_list", b"[1]"),
        ("line_nul", br#"{"type":1,"name":"a\u0000b","position":0}"#),
    ];
    let mut seeds: Vec<Named> = lines.into_iter().map(|(name, line)| named(name, behind(0, line))).collect();
    let segment = |position: usize, program: &[u8]| {
        format!("{{\"type\":2,\"payload\":\"{}\",\"position\":{position}}}\n", STANDARD.encode(assemble(program)))
    };
    let dir =
        segment(0, &block(b'5', "d/", "", 0, &[])) + "{\"type\":1,\"name\":\"d/\",\"payload\":null,\"position\":1}\n";
    let text = dir.clone()
        + &segment(2, &block(b'0', "d/a", "", 5, &[]))
        + "{\"type\":1,\"name\":\"d/a\",\"size\":5,\"payload\":\"AAAAAAAAAAc=\",\"position\":3}\n"
        + &segment(4, &piece(REPEATED | RAW, &[9, 0]));
    seeds.push(named("text", behind(2, text.as_bytes())));
    seeds.push(named("text_other_name", behind(2, text.replace("\"d/a\"", "\"d/b\"").as_bytes())));
    seeds.push(named("text_other_size", behind(2, text.replace("\"size\":5", "\"size\":6").as_bytes())));
    seeds.push(named("text_order", behind(2, text.replace("\"position\":3", "\"position\":5").as_bytes())));
    seeds.push(named("text_no_end", behind(2, dir.as_bytes())));
    let pieces: String = (0..8).map(|position| segment(position, &piece(REPEATED | RAW, &[8, b' ']))).collect();
    seeds.push(named("text_segments", behind(2, pieces.as_bytes())));
    let first = gzip(dir.as_bytes());
    let second = gzip(&text.as_bytes()[dir.len()..]);
    let whole = [first.clone(), second].concat();
    seeds.push(named("gzip_two", behind(1, &whole)));
    seeds.push(named("gzip_cut", behind(1, &whole[..whole.len() - 20])));
    seeds.push(named("gzip_garbage", behind(1, &[&whole[..], b"garbage"].concat())));
    let mut wrong = first;
    let sum = wrong.len() - 8;
    wrong[sum] ^= 1;
    seeds.push(named("gzip_sum", behind(1, &wrong)));
    seeds.push(named("gzip_blanks", behind(1, &gzip(&[b' '; 200_000]))));
    let of_tars =
        ["kinds", "pax_all", "pax_link", "pax_global", "gnu_long", "numbers", "prefix", "xattrs", "v7", "sparse_01"];
    let programs = tars().into_iter().filter(|(name, _)| of_tars.contains(&name.as_str()));
    seeds.extend(programs.map(|(name, program)| (format!("tar_{name}"), behind(3, &program))));
    seeds
}

/// Layers in words (`layers.rs`).
const LAYERS: [(&str, &str); 45] = [
    ("plain", "d d; f d/a; f@2 d/b; l l d/a; h h d/a; p g; c x"),
    ("two", "d d; f d/a; f a; --; f d/b; f a"),
    ("absolute_link", "l a /etc; f a/canary"),
    ("link_upwards", "l a ../../../../etc; f a/canary"),
    ("dangling", "l a ../../../../x; f a/f"),
    ("link_in_layer", "l lib usr/lib; d usr/lib; f lib/f"),
    ("link_dangling_in_layer", "l lib usr/lib; f lib/f"),
    ("names", "f ../x; f b/../../e; d d/e; l l d/e; f l/../f; f /a/x; f g//h"),
    ("alias_overwrite", "d d; f d/a; l s d; l s/a /etc/canary"),
    ("alias_fifo", "d d; f d/a; l s d; p s/a"),
    ("alias_dir", "d d; d d/a; f d/a/x; l s d; f s/a"),
    ("alias_dir_dir", "d d; d@2 d/a; f d/a/x; l s d; d@4 s/a"),
    ("loop", "l l l; f l/x"),
    ("links_as_components", "l s .; f *s/x"),
    ("links_few", "l s .; f s/s/s/s/s/s/x"),
    ("link_long", "d d; l l *d/..; f l/x"),
    ("root_link", "l . a"),
    ("root_file", "f /."),
    ("root_dir", "d@2 .; f a; --; d@5 ./; f b"),
    ("hard_outside", "h a ../../etc/canary"),
    ("hard_missing", "h a b"),
    ("hard_dir", "d d; h a d"),
    ("hard_self", "f a; h a a"),
    ("hard_forward", "h a b; f b"),
    ("hard_names", "d d; f d/a; h a /d/a; h b ./d/a; h e d//a; h x d/../d/a; h f ../d/a"),
    ("hard_through_link", "d d; f d/a; l s d; h h s/a"),
    ("hard_to_link", "l s d; h h s; h@2 g h"),
    ("hard_to_fifo", "p g; h@3 h g"),
    ("hard_survives", "f a; h h a; --; f .wh.a"),
    ("hard_lower", "f a; --; h h a"),
    ("hard_whited", "f a; --; f .wh.a; h h a"),
    ("hard_metadata", "f a; h@3 h a; l l a; h@3 g l"),
    ("hard_over_dir", "d d; f d/a; h d d/a"),
    ("hard_over_link", "d d; f d/a; l s d; h s s/a"),
    ("whiteout_names", "f .wh.a; d d; f d/.wh.; --; f .wh./x"),
    ("whiteout_order", "f x; d d; f d/a; --; f .wh.x; f x; d d; f .wh.d"),
    ("whiteout_then_dir", "d d; f d/a; --; f .wh.d; d d; f d/b"),
    ("whiteout_no_dir", "d d; f d/a; --; f .wh.d; f d/b"),
    ("whiteout_below", "d d; f d/a; --; f .wh.d; f d/.wh.a"),
    ("whiteout_through_link", "f canary; d d; --; l s ..; f s/.wh.a"),
    ("whiteout_twice_replaced", "d d; f d/a; --; d e; l l /; f .wh.d; f d; d l/d; f d/b"),
    ("opaque", "d d; f d/a; --; d d; f d/b; f d/.wh..wh..opq; --; f d/e"),
    ("opaque_root", "d d; f d/a; --; f .wh..wh..opq; f b"),
    ("aufs", "d .wh..wh.plnk; f .wh..wh.plnk/a; f a"),
    ("kinds_over_kinds", "d d; f d/a; f a; l l d; --; f d; d a; f a/b; d l; --; l d a; f d/b"),
];

fn layers() -> Vec<Named> {
    LAYERS.into_iter().map(|(name, text)| (name.to_owned(), encode(text))).collect()
}

fn extracts() -> Vec<Named> {
    let mut seeds: Vec<Named> = layers().into_iter().map(|(name, bytes)| (name, behind(0, &bytes))).collect();
    let link = |name: &str, target: &str| block(b'2', name, target, 0, &[]);
    let empty = |name: &str| block(b'0', name, "", 0, &[]);
    for (name, parts) in [
        ("raw_there", vec![file("a", "a"), file("d/a", "a")]),
        ("raw_missing", vec![file("nothing", "x")]),
        ("raw_through_links", vec![file("s/canary", "canary"), file("l/canary", "canary"), file("f", "f")]),
        ("raw_other_size", vec![file("a", "aa")]),
        ("raw_links", vec![link("out", "/canary"), empty("out/x"), link("up", "../../../canary")]),
        (
            "raw_modes",
            vec![
                block(b'0', "g", "", 0, &[(100, b"0006777")]),
                block(b'5', "d/", "", 0, &[(100, b"0000000")]),
                empty("d/x"),
            ],
        ),
        (
            "raw_xattrs",
            vec![
                piece(PAX, b"SCHILY.xattr.user.overlay.opaque=y\nSCHILY.xattr.user.fuseoverlayfs.opaque=y"),
                block(b'5', "d/", "", 0, &[]),
            ],
        ),
        ("raw_long", vec![piece(REPEATED | NAME, b"\x0adeep/"), empty("x")]),
        ("raw_component", vec![piece(REPEATED | NAME, b"\x09x"), empty("x")]),
        ("raw_nul", vec![piece(PAX, b"path=a\0b"), empty("x")]),
    ] {
        seeds.push(named(name, behind(1, &program(&parts))));
    }
    let out =
        program(&[link("out", "/canary"), link("up", "../../../canary"), file("out/x", "x"), file("a", "contents")]);
    seeds.push(named("stream", behind(3, &out)));
    seeds.push(named("stream_twice", behind(3, &program(&[file("a", "x"), file("d/a", "y"), file("./a", "z")]))));
    seeds
}

fn streams() -> Vec<Named> {
    let tar = assemble(&program(&[file("a", "hello")]));
    let stream = |parts: &[Result<&[u8], u32>]| {
        let mut writer = fd::Writer::new(Vec::new());
        for part in parts {
            match part {
                Ok(bytes) => writer.inline(bytes).expect("a vector"),
                Err(number) => writer.external(*number).expect("a vector"),
            }
        }
        writer.finish().expect("a vector")
    };
    let of_file = assemble(&block(b'0', "a", "", 600, &[]));
    let padding = [0; 424 + 1024];
    let mut named_stream = dir::Writer::new(Vec::new());
    named_stream.metadata(&of_file).expect("a vector");
    named_stream.file(600, 0, b"600").expect("a vector");
    named_stream.metadata(&padding).expect("a vector");
    let named_stream = named_stream.finish().expect("a vector");
    let with_name = |name: &[u8]| {
        let name = [&u32::try_from(name.len()).expect("short").to_le_bytes()[..], name].concat();
        [&[0, 0, 2, 0, 0][..], &of_file, &[2], &600u64.to_le_bytes(), &0u32.to_le_bytes(), &name].concat()
    };
    let mut seeds = vec![
        named("inline", behind(0, &stream(&[Ok(&tar)]))),
        named("external", behind(0, &stream(&[Ok(&of_file), Err(2), Ok(&padding)]))),
        named("other_size", behind(0, &stream(&[Ok(&of_file), Err(1), Ok(&padding)]))),
        named("not_regular", behind(0, &stream(&[Ok(&of_file), Err(4), Ok(&padding)]))),
        named("misplaced", behind(0, &stream(&[Ok(&of_file[..100]), Err(2)]))),
        named("first", behind(0, &stream(&[Err(2)]))),
        named("no_such_file", behind(0, &9i64.to_le_bytes())),
        named("one_too_many", behind(0, &5i64.to_le_bytes())),
        named("large_number", behind(0, &(1i64 << 32).to_le_bytes())),
        named("lowest", behind(0, &i64::MIN.to_le_bytes())),
        named("long_chunk", behind(0, &(-(256i64 << 20) - 1).to_le_bytes())),
        named("cut", behind(0, &[&(-(256i64 << 20)).to_le_bytes()[..], b"abc"].concat())),
        named("dir", behind(1, &named_stream)),
        named("dir_upwards", behind(1, &with_name(b"../secret"))),
        named("dir_link", behind(1, &with_name(b"up"))),
        named("dir_through_link", behind(1, &with_name(b"s/secret"))),
        named("dir_absolute", behind(1, &with_name(b"/etc/passwd"))),
        named("dir_self", behind(1, &with_name(b"."))),
        named("dir_long", behind(1, &with_name(&[b'a'; 4097]))),
        named("dir_type", behind(1, &[3])),
        named("dir_empty", behind(1, &[0, 0, 0, 0, 0])),
        named("dir_no_contents", behind(1, &[1, 0, 0, 0, 0])),
        named("dir_long_chunk", behind(1, &[1, 1, 0, 0, 16])),
        named("written", behind(3, &[6, 1, 2, 3, 1, 0, 3, 0xfe, 9, 9, 9])),
    ];
    let of_tars =
        ["kinds", "pax_all", "pax_global", "gnu_long", "link_with_size", "sparse_01", "garbage_behind", "no_end"];
    let programs = tars().into_iter().filter(|(name, _)| of_tars.contains(&name.as_str()));
    seeds.extend(programs.map(|(name, program)| (format!("tar_{name}"), behind(2, &program))));
    seeds
}

fn tocs() -> Vec<Named> {
    let digest = format!("sha256:{}", "e1".repeat(32));
    let toc = |rows: &str| behind(0, format!(r#"{{"version":1,"entries":[{rows}]}}"#).as_bytes());
    let mut seeds = vec![
        named(
            "rows",
            toc(&format!(
                r#"{{"type":"dir","name":"bin/","mode":509,"modtime":"2026-11-23T18:28:31Z"}},{{"type":"reg","name":"a","mode":2541,"size":4097,"uid":42,"gid":43,"modtime":"2026-11-23T18:28:31.5+01:00","xattrs":{{"user.note":"AAE="}},"offset":1,"digest":"{digest}"}},{{"type":"chunk","name":"a","offset":9}},{{"type":"hardlink","name":"h","linkName":"a"}},{{"type":"symlink","name":"l","linkName":"a"}},{{"type":"char","name":"null","devMajor":1,"devMinor":3}},{{"type":"fifo","name":"p"}}"#
            )),
        ),
        named("landmark", toc(r#"{"type":"reg","name":".prefetch.landmark","size":1},{"type":"reg","name":"a"}"#)),
        named("no_digest", toc(r#"{"type":"reg","name":"a","size":1}"#)),
        named("type", toc(r#"{"type":"door","name":"a"}"#)),
        named("modtime", toc(r#"{"type":"dir","name":"a","modtime":"today"}"#)),
        named("xattr_base64", toc(r#"{"type":"dir","name":"a","xattrs":{"user.a":"!"}}"#)),
        named("xattr_name", toc(r#"{"type":"dir","name":"a","xattrs":{"a":""}}"#)),
        named("nul", toc(r#"{"type":"symlink","name":"a","linkName":"b\u0000"}"#)),
        named("name_nul", toc(r#"{"type":"reg","name":"a\u0000b"}"#)),
        named("numbers", toc(r#"{"type":"reg","name":"a","size":-1,"uid":18446744073709551616}"#)),
        named("digest", toc(r#"{"type":"reg","name":"a","digest":"md5:1"}"#)),
        named(
            "twice",
            toc(&format!(r#"{{"type":"reg","name":"a","size":1,"digest":"{digest}"}},{{"type":"reg","name":"./a"}}"#)),
        ),
        named(
            "replacement",
            toc(&format!("{{\"type\":\"reg\",\"name\":\"a\u{fffd}\",\"size\":1,\"digest\":\"{digest}\"}}")),
        ),
        named("version", b"\0{\"version\":2,\"entries\":[]}"),
        named("empty", b"\0{\"version\":1,\"entries\":[],\"tarSplitDigest\":\"sha256:00\"}"),
        named("deep", behind(0, &b"[".repeat(300))),
    ];
    for (name, text) in [
        ("time", "2024-02-29T12:00:00Z"),
        ("time_zone", "2024-02-29T12:00:00.25+01:00"),
        ("time_old", "0000-01-01T00:00:00-23:59"),
        ("time_last", "9999-12-31T23:59:60.999999999Z"),
        ("time_bad", "2024-02-29T12:00:00.2.5Z"),
        ("time_wide", "2024-02-29T12:00:00.\u{e9}Z"),
    ] {
        seeds.push(named(name, behind(1, text.as_bytes())));
    }
    seeds
}

fn stores() -> Vec<Named> {
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let digest = format!("sha256:{b}");
    let layers = [
        (
            "layers",
            format!(
                r#"[{{"id":"{a}","created":"2024-01-01T00:00:00Z","diff-digest":"{digest}","diff-size":10,"names":["x"],"big-data-names":["zstd-chunked-manifest"]}},{{"id":"{b}","parent":"{a}","flags":{{"incomplete":true}},"uidmap":[{{"container_id":0,"host_id":1,"size":2}}],"gidmap":[]}}]"#
            ),
        ),
        ("layers_null", "null".to_owned()),
        ("layers_object", "{}".to_owned()),
        ("layers_nested", "[[]]".to_owned()),
        ("layers_deep", "[".repeat(1000)),
        ("layers_cut", format!(r#"[{{"id":"{a}","created":"20"#)),
        ("layers_upwards", r#"[{"id":"../../etc"}]"#.to_owned()),
        ("layers_nul", format!(r#"[{{"id":"{}\u0000"}}]"#, "a".repeat(63))),
        ("layers_upper", format!(r#"[{{"id":"{}"}},{{"id":"{b}"}}]"#, "A".repeat(64))),
        ("layers_short", format!(r#"[{{"id":"{}"}}]"#, "a".repeat(63))),
        ("layers_self", format!(r#"[{{"id":"{a}","parent":"{a}"}}]"#)),
        ("layers_twice", format!(r#"[{{"id":"{a}"}},{{"id":"{a}","parent":"{b}"}}]"#)),
        ("layers_parent", format!(r#"[{{"id":"{a}","parent":"../x"}}]"#)),
        (
            "layers_digest",
            format!(r#"[{{"id":"{a}","diff-digest":"sha512:00"}},{{"id":"{b}","diff-digest":"sha256:../x"}}]"#),
        ),
        ("layers_size", format!(r#"[{{"id":"{a}","diff-size":-1}},{{"id":"{b}","diff-size":1e30}}]"#)),
        ("layers_map", format!(r#"[{{"id":"{a}","uidmap":[{{"container_id":4294967296,"host_id":-1,"size":0}}]}}]"#)),
        ("layers_garbage", "[] x".to_owned()),
        ("layers_empty", String::new()),
    ];
    let images = [
        (
            "images",
            format!(
                r#"[{{"id":"{a}","digest":"{digest}","names":["localhost/x:latest"],"layer":"{b}","mapped-layers":["{a}"],"created":"2024-01-01T00:00:00Z","big-data-names":["manifest"],"big-data-sizes":{{"manifest":5}},"big-data-digests":{{"manifest":"{digest}"}}}}]"#
            ),
        ),
        ("images_no_layer", format!(r#"[{{"id":"{a}","layer":"","names":null}}]"#)),
        ("images_layer", format!(r#"[{{"id":"{a}","layer":"/etc"}}]"#)),
        ("images_digest", format!(r#"[{{"id":"{a}","big-data-digests":{{"manifest":"md5:00"}}}}]"#)),
        ("images_name", format!(r#"[{{"id":"{a}","names":["\u001b[31m\u202e"]}}]"#)),
        ("images_object", "{}".to_owned()),
    ];
    let containers = [
        (
            "containers",
            format!(
                r#"[{{"id":"{a}","names":["web"],"image":"{b}","layer":"{a}","created":"2024-01-01T00:00:00Z","metadata":"{{\"image-name\":\"x\"}}","uidmap":[{{"container_id":0,"host_id":1,"size":2}}]}}]"#
            ),
        ),
        ("containers_no_image", format!(r#"[{{"id":"{a}","image":"","layer":"{b}","metadata":"["}}]"#)),
        ("containers_no_layer", format!(r#"[{{"id":"{a}"}}]"#)),
        ("containers_image", format!(r#"[{{"id":"{a}","image":"x","layer":"{b}"}}]"#)),
    ];
    let of = |mode: u8, list: &[(&str, String)]| -> Vec<Named> {
        list.iter().map(|(name, text)| named(name, behind(mode, text.as_bytes()))).collect()
    };
    [of(0, &layers), of(1, &images), of(2, &containers)].concat()
}

fn names() -> Vec<Named> {
    let raw = [
        ("plain", "d/a"),
        ("absolute", "/d/e/f"),
        ("upwards", "../../etc/passwd"),
        ("through_up", "up/outside"),
        ("through_abs", "abs/e/a"),
        ("dots", "dots/a"),
        ("loop", "loop/x"),
        ("link", "f"),
        ("none", "none/x"),
        ("long", "long/a"),
        ("fifo", "fifo"),
        ("below_file", "a/b"),
        ("directory", "d/"),
        ("root", "a/.."),
        ("nul", "a\0b"),
        ("magic", "proc/self/root"),
        ("chain", "d/x/s/e/a"),
    ];
    let mut seeds: Vec<Named> = raw.into_iter().map(|(name, text)| named(name, behind(1, text.as_bytes()))).collect();
    seeds.push(named("component", behind(1, &[b'n'; 256])));
    seeds.push(named("too_long", behind(1, &b"d/../".repeat(900))));
    seeds.push(named("words", [0, 6, 4, 5, 10]));
    seeds.push(named("forty", behind(0, &[&[11; 40][..], &[3]].concat())));
    seeds.push(named("forty_one", behind(0, &[&[11; 41][..], &[3]].concat())));
    seeds
}

fn confs() -> Vec<Named> {
    let conf = |flags: u8, share: u8, text: &str| [&[flags, share][..], text.as_bytes()].concat();
    vec![
        named("system", conf(0, 255, "[storage]\ndriver='overlay'\ngraphroot='/srv'\nrunroot='/run/x'\n")),
        named(
            "options",
            conf(
                0,
                255,
                "[storage.options]\nadditionalimagestores=['/a','/b']\nsize=''\nforce_mask=0o700\n[storage.options.overlay]\nmount_program='/bin/f'\nmountopt='nodev'\n",
            ),
        ),
        named(
            "append",
            conf(
                0,
                128,
                "[storage.options]\nadditionalimagestores=['/a']\n[storage.options]\nadditionalimagestores=['/b',{append=true}]\n",
            ),
        ),
        named("rootless", conf(1, 255, "[storage]\nrootless_storage_path='$HOME/s/${HOME}/$UID-x$'\n")),
        named("own", conf(1, 0, "[storage]\ngraphroot='$HOME/x'\n")),
        named("named", conf(4, 0, "[storage]\ngraphroot='/named'\ntransient_store=true\n")),
        named("override", conf(12, 0, "[storage]\ngraphroot='/named'\nimagestore='/i'\n")),
        named(
            "storage_opts",
            conf(2, 255, "overlay.imagestore=/s,additionallayerstore=/l:ref,.mount_program=/bin/f,=,x"),
        ),
        named("types", conf(0, 255, "storage = 1")),
        named("dollars", conf(1, 255, "[storage]\ngraphroot='${}${HOME$$UID${UID}$1$a_b'\n")),
        named("deep", conf(0, 255, &format!("[storage]\na={}", "[".repeat(300)))),
        named("dotted", conf(0, 255, &format!("[storage]\n{}=1", "a.".repeat(300) + "b"))),
        named("expanding", conf(1, 255, &format!("[storage]\ngraphroot='{}'", "$HOME".repeat(100)))),
        named("expanding_to_nothing", conf(1, 0, "[storage]\ngraphroot='$NONE'\n")),
        named("relative", conf(0, 255, "[storage]\ngraphroot='store'\n")),
        named("no_toml", conf(0, 255, "[storage")),
        named("driver", conf(16, 16, "overlay2[storage]\ndriver='vfs'\ndriver_priority=['vfs','overlay']\n")),
    ]
}

fn references() -> Vec<Named> {
    let images = [
        "app",
        "app:v1",
        "containers-storage:localhost/app",
        "org/app",
        "quay.io/org/app:latest",
        "127.0.0.1:5000/tool",
        "tool",
        "abc",
        "sha256:abc3",
        "dup",
        "aaa",
        "abd4",
        "twice",
        "",
        ":",
        "/",
        "@",
        "sha256:../x",
        "app@sha256:00",
    ];
    let full = format!("quay.io/org/app@sha256:ddd2{}", "0".repeat(60));
    let destinations = [
        "oci:d",
        "oci:/a/d:v1",
        "/a/d",
        "./d:v1",
        "oci-archive:f.tar:a/b:c",
        "oci-archive:-",
        "docker-archive:f:host:5000/a/b",
        "docker-archive:f:app:1",
        "",
        "oci::v1",
        "dir:x",
        "docker://x/y",
        "oci:d:-a",
        "docker-archive:f:a@sha256:00",
        "-",
    ];
    let of = |mode: u8, kind: &str, texts: &[&str]| -> Vec<Named> {
        texts
            .iter()
            .enumerate()
            .map(|(number, text)| (format!("{kind}{number}"), behind(mode, text.as_bytes())))
            .collect()
    };
    [of(0, "image", &images), of(0, "digest", &[full.as_str()]), of(1, "destination", &destinations)].concat()
}

fn messages() -> Vec<Named> {
    let stream = |mode: u8, cut: u8, text: &str| [&[mode, cut][..], text.as_bytes()].concat();
    vec![
        named("request", stream(0, 100, r#"{"jsonrpc":"2.0","method":"M","params":{"a":[1]},"id":1} {"method":"N"}"#)),
        named("ids", stream(0, 0, r#"{"id":null}{"id":"x"}{"id":-1}{"id":1.5}{"id":18446744073709551615}"#)),
        named("id_exact", stream(0, 0, r#"{"id":1.46744073709551615}"#)),
        named("id_large", stream(0, 0, r#"{"id":18446744073709551616}{"id":1e400}"#)),
        named("files", stream(8, 20, r#"{"method":"layer.file","fds":2}  {"method":"layer.file","fds":1}"#)),
        named("files_old", stream(4, 20, r#"{"method":"f","params":{"fd":{"__jsonrpc_fd__":true,"index":0}}}"#)),
        named("files_missing", stream(0, 20, r#"{"fds":3}"#)),
        named("files_many", stream(4, 20, r#"{"fds":18446744073709551615}"#)),
        named("files_negative", stream(4, 20, r#"{"fds":-1}"#)),
        named("files_surplus", stream(38, 200, r#"{"method":"a"} {"method":"b"}"#)),
        named("error", stream(0, 0, r#"{"error":{"code":-5,"message":"no","data":{"count":7}},"id":1}"#)),
        named("error_list", stream(0, 0, r#"{"error":[1],"id":1}"#)),
        named("strings", stream(0, 10, r#"{"}":"\"}{[","\\":1}{"method":"\u007b"}"#)),
        named("deep", stream(0, 0, &("{\"a\":".to_owned() + &"[".repeat(40)))),
        named("not_closed", stream(0, 0, r#"{"a":["#)),
        named("mixed", stream(0, 0, r#"{"a":]}"#)),
        named("no_object", stream(0, 0, "[1]")),
        named("blanks", stream(2, 0, &" ".repeat(500))),
        named("long", stream(0, 0, &format!(r#"{{"method":"{}"}}"#, "x".repeat(9000)))),
        named("twice", stream(0, 0, r#"{"method":"a","method":"b"}"#)),
        named("packet", stream(1, 0, r#"{"success":true,"value":[1,2],"pipeid":3}"#)),
        named("packet_refused", stream(1, 0, r#"{"success":false,"error":"no such image"}"#)),
        named("packet_list", stream(1, 0, "[true,null,3]")),
        named("packet_pipe", stream(1, 0, r#"{"success":true,"pipeid":4294967296}"#)),
    ]
}
