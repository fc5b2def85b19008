use super::*;

fn block(name: &str, typeflag: u8, size: u64, edit: impl Fn(&mut tar::Header)) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkflag = [typeflag];
    for field in [tar::Header::set_uid, tar::Header::set_gid] {
        field(&mut header, 0);
    }
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    edit(&mut header);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn member(name: &str, typeflag: u8, contents: &[u8]) -> Vec<u8> {
    padded(block(name, typeflag, contents.len() as u64, |_| ()), contents)
}

fn padded(mut header: Vec<u8>, contents: &[u8]) -> Vec<u8> {
    header.extend(contents);
    header.resize(header.len().next_multiple_of(BLOCK), 0);
    header
}

fn records(pairs: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
        format!("{length} {key}={value}\n").into_bytes()
    };
    pairs.iter().flat_map(record).collect()
}

/// Name, type, contents (holes as zeros), stored size.
type Found = (String, u8, Vec<u8>, u64);

/// Everything in an archive; checks that headers and stored contents are all of its bytes.
fn walk(bytes: &[u8]) -> Result<Vec<Found>, ArchiveError> {
    let (mut archive, mut found, mut buffer) = (Archive::new(bytes), Vec::new(), [0; 100]);
    let mut total = 0;
    while let Some(placed) = archive.next_entry()? {
        assert_eq!(placed.offset, total);
        let at = total as usize;
        assert_eq!(bytes[at..at + placed.entry.raw.len()], placed.entry.raw);
        total += placed.entry.raw.len() as u64 + placed.stored;
        let mut contents = Vec::new();
        while let Some(piece) = archive.read_content(&mut buffer)? {
            match piece {
                Piece::Data(length) => contents.extend(&buffer[..length]),
                Piece::Hole(length) => contents.resize(contents.len() + length as usize, 0),
            }
        }
        match placed.entry.member {
            Some(member) => {
                assert_eq!(member.content.map_or(0, |content| content.size), contents.len() as u64);
                found.push((String::from_utf8(member.header.path).unwrap(), placed.typeflag, contents, placed.stored));
            }
            None => total += contents.len() as u64,
        }
    }
    assert_eq!(total, bytes.len() as u64);
    Ok(found)
}

const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

#[test]
fn members_come_with_their_contents() {
    let long = "n".repeat(300);
    let bytes = [
        member("pax_global_header", b'g', &records(&[("comment", "x")])),
        member("././@LongLink", b'L', format!("{long}\0").as_bytes()),
        member("short", b'0', &[7; 513]),
        member("@PaxHeader", b'x', &records(&[("path", "pax"), ("mtime", "1.5"), ("size", "3")])),
        padded(block("plain", b'0', 0, |_| ()), b"abc"),
        block("link", b'1', 99, |_| ()),
        member("label", b'V', b""),
        member("unknown", b'Z', b"zz"),
        member("old/", 0, b""),
        END.to_vec(),
        b"trailing".to_vec(),
    ]
    .concat();
    let found = walk(&bytes).unwrap();
    let expected: [(&str, u8, &[u8]); 7] = [
        ("pax_global_header", b'g', b"13 comment=x\n"),
        (&long, b'0', &[7; 513]),
        ("pax", b'0', b"abc"),
        ("link", b'1', b""),
        ("label", b'V', b""),
        ("unknown", b'Z', b"zz"),
        ("old/", 0, b""),
    ];
    for ((name, typeflag, contents, _), (wanted, wanted_type, wanted_contents)) in found.iter().zip(expected) {
        assert_eq!((name.as_str(), *typeflag, contents.as_slice()), (wanted, wanted_type, wanted_contents));
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn sparse_contents_are_expanded_from_each_form() {
    // Five bytes at 1000 and at 3000 of 4000.
    let sparse = [&[0; 1000][..], b"hello", &[0; 1995], b"world", &[0; 995]].concat();
    let set = |field: &mut [u8; 12], value: u64| field.copy_from_slice(format!("{value:011o}\0").as_bytes());
    let old = |extended: bool| {
        block("sparse", b'S', 10, |header| {
            let gnu = header.as_gnu_mut().unwrap();
            set(&mut gnu.realsize, 4000);
            gnu.isextended = [u8::from(extended)];
            set(&mut gnu.sparse[0].offset, 1000);
            set(&mut gnu.sparse[0].numbytes, 5);
            if !extended {
                set(&mut gnu.sparse[1].offset, 3000);
                set(&mut gnu.sparse[1].numbytes, 5);
            }
        })
    };
    let mut extension = [0; BLOCK];
    extension[..24].copy_from_slice(b"00000005670\x0000000000005\0");
    let data = b"helloworld".as_slice();
    let map_in_data = [&padded(b"2\n1000\n5\n3000\n5\n".to_vec(), b""), data].concat();
    let name = ("GNU.sparse.name", "sparse");
    let pax = |pairs: &[(&str, &str)], data: &[u8]| {
        [member("@PaxHeader", b'x', &records(pairs)), member("placeholder", b'0', data)].concat()
    };
    let size = ("GNU.sparse.size", "4000");
    let forms = [
        padded(old(false), data),
        padded([old(true), extension.to_vec()].concat(), data),
        pax(&[name, size, ("GNU.sparse.map", "1000,5,3000,5")], data),
        pax(
            &[
                name,
                size,
                ("GNU.sparse.offset", "1000"),
                ("GNU.sparse.numbytes", "5"),
                ("GNU.sparse.offset", "3000"),
                ("GNU.sparse.numbytes", "5"),
            ],
            data,
        ),
        pax(
            &[name, ("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "4000")],
            &map_in_data,
        ),
    ];
    for (number, form) in forms.iter().enumerate() {
        let found = walk(&[form.as_slice(), &member("after", b'0', b"x"), &END].concat()).unwrap();
        assert_eq!(found.len(), 2, "form {number}");
        let (name, _, contents, stored) = &found[0];
        assert_eq!((name.as_str(), *stored), ("sparse", 10), "form {number}");
        assert_eq!(*contents, sparse, "form {number}");
        assert_eq!(found[1].0, "after");
    }
}

#[test]
fn an_archive_may_end_early_between_members_only() {
    let bytes = [member("a", b'0', b"abc"), member("b", b'0', &[1; 600])].concat();
    assert_eq!(walk(b"").unwrap(), []);
    for length in 1..bytes.len() {
        let found = walk(&bytes[..length]);
        // At a block's end, or where only padding is missing.
        match length {
            515..=1024 => assert_eq!(found.unwrap().len(), 1, "{length}"),
            2136.. => assert_eq!(found.unwrap().len(), 2, "{length}"),
            _ => {
                let error = found.unwrap_err();
                let wanted = if length < BLOCK { "is not a tar" } else { "ends within a member" };
                assert_eq!(error.problem.to_string(), wanted, "{length}");
            }
        }
    }
    let extension = member("@PaxHeader", b'x', b"");
    for rest in [&b""[..], &END] {
        assert!(walk(&[&extension[..], rest].concat()).is_err(), "an extension of nothing");
    }
}

#[test]
fn contents_need_not_be_read() {
    let bytes = [member("a", b'0', &[1; 700]), member("b", b'0', &[2; 600]), END.to_vec()].concat();
    let names = |bytes: &[u8]| -> Result<Vec<Option<Vec<u8>>>, ArchiveError> {
        let (mut archive, mut names) = (Archive::new(bytes), Vec::new());
        while let Some(placed) = archive.next_entry()? {
            names.push(placed.entry.member.map(|member| member.header.path));
            // A part of it may have been.
            if names.len() == 1 {
                assert_eq!(archive.read_content(&mut [0; 9])?, Some(Piece::Data(9)));
            }
        }
        Ok(names)
    };
    assert_eq!(names(&bytes).unwrap(), [Some(b"a".to_vec()), Some(b"b".to_vec()), None]);
    let error = names(&bytes[..1000]).unwrap_err();
    assert_eq!((error.offset, error.problem.to_string().as_str()), (1000, "ends within a member"));
}

#[test]
fn damage_is_an_error() {
    let not_a_header = [b'x'; 2 * BLOCK];
    let sparse = |map: &str| {
        let pairs = [("GNU.sparse.size", "10"), ("GNU.sparse.map", map)];
        [member("@PaxHeader", b'x', &records(&pairs)), member("s", b'0', b"abcde"), END.to_vec()].concat()
    };
    let before_data = |text: &[u8]| {
        let pairs = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")];
        [member("@PaxHeader", b'x', &records(&pairs)), member("s", b'0', text), END.to_vec()].concat()
    };
    let table: &[(Vec<u8>, &str)] = &[
        (not_a_header.to_vec(), "is not a tar"),
        ([b"\x1f\x8b".to_vec(), vec![0; 600]].concat(), "is compressed with gzip"),
        ([member("a", b'0', b""), not_a_header.to_vec()].concat(), "a member cannot be understood: "),
        (block("L", b'L', 1 << 40, |_| ()), "a member cannot be understood: an extension header"),
        (block("huge", b'0', 1 << 60, |_| ()), "ends within a member"),
        (sparse("0,4"), "the map of a sparse member"),
        (sparse("9,5"), "the map of a sparse member"),
        (sparse("4,4,0,1"), "the map of a sparse member"),
        (before_data(b"x\n"), "the map of a sparse member"),
        (before_data(b"1\n"), "the map of a sparse member"),
        (before_data(b"99999999999999\n"), "the map of a sparse member"),
    ];
    for (number, (bytes, wanted)) in table.iter().enumerate() {
        let text = walk(bytes).unwrap_err().problem.to_string();
        assert!(text.starts_with(wanted), "row {number}: {text}");
    }
    assert!(walk(&sparse("0,5")).is_ok());
}
