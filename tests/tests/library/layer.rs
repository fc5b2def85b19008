//! Layers: found by each of their names, their members, their exact tar, and single files.

use crate::place::{IMAGE, Place, two_layers};
use cstor_client::error::{ReadProblem, StoreError};
use cstor_client::tar::Kind;
use cstor_client::{Error, ErrorKind, Escaped, Layer, Verify};
use cstor_tests::forge;
use cstor_tests::forge::{Store, char_device, dir, file, hard_link, symlink};
use serde_json::json;
use std::fs;
use std::io::{Read, Seek, Write};

#[test]
fn a_layer_is_found_by_each_of_its_names() {
    let mut description = two_layers();
    description.layers[0].fields.insert("names".to_owned(), json!(["base"]));
    let place = Place::new(&description);
    let storage = place.open();
    let [base, top] = &place.store.layers[..] else { unreachable!("two layers") };
    let link = fs::read_to_string(place.store.overlay(0).join("link")).unwrap();
    for reference in [&*base.id, &base.id[..12], &base.id[..3], &base.diff_id(), "base", &link] {
        for layer in [Layer::open(&storage, reference), storage.layer(reference)] {
            assert_eq!(layer.unwrap().id().to_string(), base.id, "{reference}");
        }
    }
    assert_eq!(storage.resolve_link(&link).unwrap().unwrap().to_string(), base.id);
    assert_eq!(storage.resolve_link(&"A".repeat(26)).unwrap(), None);
    assert_eq!(storage.resolve_link("../../../etc/passwd").unwrap(), None);
    for reference in ["", &base.id[..2], "nosuch", &format!("sha256:{}", "0".repeat(64)), &"A".repeat(26)] {
        assert!(matches!(Layer::open(&storage, reference), Err(StoreError::NoLayer { .. })), "{reference:?}");
    }

    let layer = Layer::open(&storage, &top.id).unwrap();
    assert_eq!(layer.parent().unwrap().to_string(), base.id);
    assert_eq!(layer.diff_size(), Some(top.tar.len() as u64));
    assert_eq!(layer.diff_id().unwrap().to_string(), top.diff_id());
    assert_eq!(layer.compressed_digest(), layer.diff_id(), "the forge does not compress");
    assert_eq!(layer.created(), Some("2020-01-01T00:00:00Z"));
    assert!(layer.names().is_empty() && format!("{layer:?}").contains(&top.id[..12]));
    let chain: Vec<_> = layer.chain().unwrap().iter().map(|layer| layer.id().to_string()).collect();
    assert_eq!(chain, [&*base.id, &*top.id]);
    let base_layer = Layer::open(&storage, &base.id).unwrap();
    assert_eq!((base_layer.parent(), base_layer.names()), (None, &["base".to_owned()][..]));

    // Unknown sizes and digests are none, not zero.
    place.layer_record(1, |record| {
        record["diff-size"] = json!(-1);
        for key in ["diff-digest", "compressed-diff-digest"] {
            record.as_object_mut().unwrap().remove(key);
        }
    });
    let layer = Layer::open(&storage, &top.id).unwrap();
    assert_eq!((layer.diff_size(), layer.diff_id(), layer.compressed_digest()), (None, None, None));
    // An incomplete layer is not listed.
    place.layer_record(1, |record| record["flags"] = json!({"incomplete": true}));
    assert_eq!(storage.layers().unwrap().len(), 1);
    assert!(matches!(storage.layer(&top.id), Err(StoreError::NoLayer { .. })));
    // Two layers of one name: neither.
    place.layer_record(1, |record| {
        record["names"] = json!(["base"]);
        record.as_object_mut().unwrap().remove("flags");
    });
    let Err(StoreError::AmbiguousLayer { candidates, .. }) = storage.layer("base") else { panic!("two have it") };
    assert_eq!(candidates.len(), 2);
}

#[test]
fn a_layers_entries_are_its_tar() {
    let place = Place::new(&two_layers());
    let storage = place.open();
    for (number, forged) in place.store.layers.iter().enumerate() {
        let layer = Layer::open(&storage, &forged.id).unwrap();
        let entries: Vec<_> = layer.entries().unwrap().collect::<Result<_, _>>().unwrap();
        assert!(entries.last().unwrap().member.is_none(), "the trailer is the last");
        let (mut at, mut seen) = (0, Vec::new());
        for entry in &entries {
            assert!(forged.tar[at..].starts_with(&entry.raw), "layer {number}: raw bytes at {at}");
            at += entry.raw.len();
            let Some(member) = &entry.member else { continue };
            assert!(!member.sparse);
            seen.push(String::from_utf8(member.header.path.clone()).unwrap());
            if let Some(content) = member.content {
                assert_eq!(member.header.kind, Kind::File);
                assert!(content.crc.is_some());
                at += usize::try_from(content.size).unwrap();
            }
        }
        assert_eq!(at, forged.tar.len(), "layer {number}");
        let wanted = [
            &["etc/", "etc/passwd", "etc/old", "lib", "usr/", "usr/lib/", "usr/lib/so"][..],
            &["bin/", "bin/su", "bin/also-su", "etc/.wh.old", "bin/sh"],
        ];
        assert_eq!(seen, wanted[number]);
        assert!(format!("{:?}", layer.entries().unwrap()).contains("Entries"));
    }
}

/// Every kind of member that the forge knows, names and numbers of every encoding.
fn all_kinds() -> Store {
    let long = "d/".repeat(60);
    Store::stack(
        IMAGE,
        [
            vec![
                forge::global_header(&[("comment", "global")]),
                dir("d"),
                file("d/empty", ""),
                file("d/511", vec![1; 511]),
                file("d/512", vec![2; 512]),
                file("d/513", vec![3; 513]),
                file("d/big", vec![9; 3_000_000]),
                file(b"d/\xff\xfe", "not UTF-8"),
                file(format!("{long}pax"), "long").pax("mtime", "1000000000.123456789"),
                file(format!("{long}gnu"), "long").gnu(),
                file("d/ids", "base 256").owner(70_000, 4_000_000_000).mtime(-5),
                symlink("d/link", "x".repeat(300)),
                hard_link("d/again", "d/512"),
                forge::fifo("d/fifo"),
                char_device("d/null", 1, 3),
                forge::block_device("d/disk", 8, 0),
            ],
            vec![forge::opaque("d"), dir("d"), file("d/new", "new")],
            vec![],
        ],
    )
}

#[test]
fn an_export_is_the_tar_to_the_byte() {
    let mut unpadded = two_layers();
    // Archivers differ in what follows the last member.
    unpadded.layers[0].tail = vec![0; 10_240];
    unpadded.layers[1].tail = Vec::new();
    for description in [two_layers(), unpadded, all_kinds()] {
        let place = Place::new(&description);
        let storage = place.open();
        for forged in &place.store.layers {
            let layer = Layer::open(&storage, &forged.id).unwrap();
            for verify in [Verify::Digest, Verify::Crc, Verify::Structure, Verify::default()] {
                let mut tar = Vec::new();
                assert_eq!(layer.export(&mut tar, verify).unwrap(), forged.tar.len() as u64);
                assert!(tar == forged.tar, "{}: {verify:?}: another tar", forged.id);
            }
            let mut out = tempfile::tempfile().unwrap();
            assert_eq!(layer.export_unchecked(&out).unwrap(), forged.tar.len() as u64);
            let mut tar = Vec::new();
            out.rewind().unwrap();
            out.read_to_end(&mut tar).unwrap();
            assert!(tar == forged.tar, "{}: unchecked: another tar", forged.id);
            for level in [Verify::Structure, Verify::Crc, Verify::Digest, Verify::default()] {
                assert!(layer.verify(level).unwrap().is_empty(), "{}: {level:?}", forged.id);
            }
        }
    }
}

#[test]
fn damaged_contents_are_no_export() {
    let place = Place::new(&two_layers());
    let layer = Layer::open(&place.open(), &place.store.layers[0].id).unwrap();
    place.store.bytes(&place.store.diff(0, "etc/passwd"), |bytes| bytes[0] ^= 1);
    for verify in [Verify::Digest, Verify::Crc] {
        let error = layer.export(std::io::sink(), verify).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("etc/passwd"), "{error}");
    }
    assert!(layer.verify(Verify::Structure).unwrap().is_empty(), "it opens no file");
    let findings = layer.verify(Verify::Crc).unwrap();
    assert!(matches!(&findings[..], [one] if one.name.as_deref() == Some(b"etc/passwd")), "{findings:?}");
    // Unchecked means unchecked, but for the sizes.
    let size = place.store.layers[0].tar.len() as u64;
    assert_eq!(layer.export(std::io::sink(), Verify::Structure).unwrap(), size);
    assert_eq!(layer.export_unchecked(tempfile::tempfile().unwrap()).unwrap(), size);

    // Every file is what its checksum says, but the whole is another tar.
    let place = Place::new(&two_layers());
    place.layer_record(0, |record| record["diff-digest"] = json!(format!("sha256:{}", "1".repeat(64))));
    let layer = Layer::open(&place.open(), &place.store.layers[0].id).unwrap();
    let Err(Error::Read(error)) = layer.export(std::io::sink(), Verify::Digest).map_err(Error::from) else {
        panic!("another digest")
    };
    assert!(matches!(error.problem, ReadProblem::Digest { .. }), "{error}");
    assert!(layer.export(std::io::sink(), Verify::Crc).is_ok());
    assert_eq!(layer.verify(Verify::Digest).unwrap().len(), 1);
}

#[test]
fn one_file_of_a_layer_opens_as_in_a_chroot() {
    let place = Place::new(&two_layers());
    let storage = place.open();
    let base = Layer::open(&storage, &place.store.layers[0].id).unwrap();
    for name in ["etc/passwd", "/etc/passwd", "./etc//passwd", "../../etc/passwd", "etc/../etc/passwd"] {
        let mut text = String::new();
        base.open_file_std(name).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "root:x:0:0", "{name}");
    }
    // `lib` is a link to /usr/lib: that of the layer.
    let mut text = String::new();
    base.open_file_std("lib/so").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "library");
    assert!(base.open_file_std("etc/passwd").unwrap().write(b"x").is_err(), "read-only");
    let table: [(&[u8], ErrorKind); 6] = [
        (b"nosuch", ErrorKind::Corrupt),
        (b"etc", ErrorKind::Corrupt),
        (b"lib", ErrorKind::Corrupt),
        (b"bin/su", ErrorKind::Corrupt),
        (b"", ErrorKind::Corrupt),
        (b"a\0b", ErrorKind::Corrupt),
    ];
    for (name, kind) in table {
        let error = base.open_file_std(name).unwrap_err();
        assert_eq!(error.kind(), kind, "{}: {error}", Escaped(name));
    }
}
