//! Streams by hand, byte for byte from the format's description, and streams at random.

use std::fs::File;
use std::io::{Seek, Write};

use proptest::prelude::*;

use super::*;

/// A regular file's header: ustar, with the fields that count.
fn header(name: &str, size: u64) -> Vec<u8> {
    let mut header = ::tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn file(contents: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(contents).unwrap();
    // Wherever it stands: it is read from its beginning.
    file.seek(std::io::SeekFrom::End(0)).unwrap();
    file
}

/// All that a reader gives, pieces of one chunk as one.
fn read_all(stream: &[u8], files: u32) -> Result<Vec<Result<Vec<u8>, u32>>, SplitFdError> {
    let mut reader = Reader::new(stream, files);
    let mut all: Vec<Result<Vec<u8>, u32>> = Vec::new();
    while let Some(piece) = reader.next()? {
        match (piece, all.last_mut()) {
            (Piece::Inline(bytes), Some(Ok(last))) => last.extend_from_slice(bytes),
            (Piece::Inline(bytes), _) => all.push(Ok(bytes.to_vec())),
            (Piece::External(number), _) => all.push(Err(number)),
        }
    }
    Ok(all)
}

#[test]
fn a_stream_byte_by_byte() {
    let golden = [
        // 0: -3, then three literal bytes
        0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, b'a', b'b', b'c', // 11: external file 0
        0, 0, 0, 0, 0, 0, 0, 0, // 19: -1, one literal byte
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, // 28: external file 258
        2, 1, 0, 0, 0, 0, 0, 0,
        // 36: the end
    ];
    let mut writer = Writer::new(Vec::new());
    writer.inline(b"ab").unwrap();
    writer.inline(b"").unwrap();
    writer.inline(b"c").unwrap();
    writer.external(0).unwrap();
    writer.inline(&[0]).unwrap();
    writer.external(258).unwrap();
    assert_eq!(writer.finish().unwrap(), golden);
    assert_eq!(read_all(&golden, 259).unwrap(), [Ok(b"abc".to_vec()), Err(0), Ok(vec![0]), Err(258)]);
    for end in (0..golden.len()).filter(|end| ![0, 11, 19, 28].contains(end)) {
        assert!(matches!(read_all(&golden[..end], 259), Err(SplitFdError::Short { .. })), "cut at {end}");
    }
}

#[test]
fn bad_chunks_are_refused() {
    let table: &[(i64, &[u8], &str)] = &[
        (i64::MIN, b"", "the prefix at 0 is the lowest number of all, which is not a length"),
        (i64::MIN + 1, b"", "the chunk at 0 has 9223372036854775807 bytes; the limit is 268435456"),
        (-(256 << 20) - 1, b"", "the chunk at 0 has 268435457 bytes; the limit is 268435456"),
        (-(256 << 20), b"ab", "ends 268435454 bytes before the end of the chunk at 0"),
        (-3, b"ab", "ends 1 bytes before the end of the chunk at 0"),
        (2, b"", "the chunk at 0 is for file 2, but there are 2"),
        (u32::MAX as i64, b"", "the chunk at 0 is for file 4294967295, but there are 2"),
        (1 << 32, b"", "the chunk at 0 is for file 4294967296; numbers have 32 bits"),
        (i64::MAX, b"", "the chunk at 0 is for file 9223372036854775807; numbers have 32 bits"),
        (1, b"\0", "ends 7 bytes before the end of the chunk at 8"),
        (1, b"\0\0\0\0\0\0\0", "ends 1 bytes before the end of the chunk at 8"),
    ];
    for (prefix, rest, message) in table {
        let stream = [&prefix.to_le_bytes()[..], rest].concat();
        let error = read_all(&stream, 2).unwrap_err().to_string();
        assert!(error.ends_with(message), "{prefix}: {error}");
    }
}

#[test]
fn a_tar_is_put_together() {
    let contents = vec![7; 5000];
    // 5000 bytes end 120 bytes before their last block does.
    let tar = [&header("f", 5000)[..], &contents, &[0; 120], &[0; 1024]].concat();
    let mut writer = Writer::new(Vec::new());
    writer.inline(&tar[..512]).unwrap();
    writer.external(0).unwrap();
    writer.inline(&tar[5512..]).unwrap();
    let stream = writer.finish().unwrap();
    let mut out = Vec::new();
    assert_eq!(reconstruct(&stream[..], &[file(&contents)][..], &mut out).unwrap(), tar.len() as u64);
    assert!(out == tar);

    let wrong = |stream: &[u8], length: usize| {
        let files = [file(&contents[..length.min(5000)])];
        if length > 5000 {
            files[0].set_len(length as u64).unwrap();
        }
        reconstruct(stream, &files[..], std::io::sink()).unwrap_err()
    };
    for found in [0, 4999, 5001] {
        let error = wrong(&stream, found);
        assert!(matches!(error, SplitFdError::Size { wanted: 5000, .. }), "{found}: {error}");
    }
    // A file where a header is due, in the middle of contents, or twice.
    for before in [&tar[..0], &tar[..511], &tar[..513], &tar[..5512], &tar] {
        let mut writer = Writer::new(Vec::new());
        writer.inline(before).unwrap();
        writer.external(0).unwrap();
        let error = wrong(&writer.finish().unwrap(), 5000);
        assert!(matches!(error, SplitFdError::Misplaced { number: 0 }), "{}: {error}", before.len());
    }
    // Ends within the header, before the contents, and within them.
    for before in [&tar[..511], &tar[..512], &tar[..600]] {
        let mut writer = Writer::new(Vec::new());
        writer.inline(before).unwrap();
        let error = wrong(&writer.finish().unwrap(), 5000);
        assert!(matches!(error, SplitFdError::CutShort { .. }), "{}: {error}", before.len());
    }
    let mut damaged = stream.clone();
    damaged[8] ^= 1;
    assert!(matches!(wrong(&damaged, 5000), SplitFdError::Header { .. }));
}

#[test]
fn more_files_than_a_consumer_holds_are_an_error() {
    let file = file(b"x");
    let mut collect = Collect::new(2);
    let mut take =
        |number| collect.take(ExternalFile { number, name: b"x", size: 1, fd: std::os::fd::AsFd::as_fd(&file) });
    take(0).unwrap();
    take(1).unwrap();
    assert!(matches!(take(2), Err(SplitFdError::TooManyFiles { limit: 2 })));
}

#[test]
fn a_directory_stream_byte_by_byte() {
    let golden = [
        // 0: metadata, 2 bytes
        &[0, 2, 0, 0, 0, b'a', b'b'][..],
        // 7: contents, 1 byte
        &[1, 1, 0, 0, 0, b'c'],
        // 13: a file of 5 bytes, in directory 1, with a name of 3
        &[2, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, b'd', b'/', b'e'],
        // 33: the end
    ]
    .concat();
    let mut writer = dir::Writer::new(Vec::new());
    writer.metadata(b"a").unwrap();
    writer.metadata(b"b").unwrap();
    writer.inline(b"c").unwrap();
    writer.file(5, 1, b"d/e").unwrap();
    assert_eq!(writer.finish().unwrap(), golden);
    let mut reader = dir::Reader::new(&golden[..], 2);
    assert_eq!(reader.next().unwrap(), Some(dir::Piece::Metadata(b"ab")));
    assert_eq!(reader.next().unwrap(), Some(dir::Piece::Inline(b"c")));
    assert_eq!(reader.next().unwrap(), Some(dir::Piece::File { size: 5, directory: 1, name: b"d/e" }));
    assert_eq!(reader.next().unwrap(), None);
}

#[test]
fn bad_directory_chunks_are_refused() {
    let named = |directory: u32, length: u32, name: &[u8]| {
        [&[2; 1][..], &5u64.to_le_bytes(), &directory.to_le_bytes(), &length.to_le_bytes(), name].concat()
    };
    let bytes = |kind: u8, length: u32| [&[kind][..], &length.to_le_bytes()].concat();
    let table = [
        (vec![3], "is of the unknown type 0x03"),
        (bytes(0, 0), "is empty"),
        (bytes(0, 5), "ends 5 bytes before the end of the chunk at 0"),
        (bytes(1, (256 << 20) + 1), "has 268435457 bytes; the limit is 268435456"),
        (vec![0, 1], "ends 3 bytes before the end of the chunk at 0"),
        (vec![2, 1], "ends 7 bytes before the end of the chunk at 0"),
        (named(1, 1, b"a"), "is for file 1, but there are 1"),
        (named(0, 0, b""), "has a name that is empty"),
        (named(0, 4097, &[b'a'; 4097]), "has a name of 4097 bytes"),
        (named(0, 2, b"/a"), "has a name that is absolute"),
        (named(0, 4, b"a/.."), "has a name that leads upwards"),
        (named(0, 3, b"a\0b"), "has a name with a zero byte"),
        (named(0, 3, b"ab"), "ends 1 bytes before the end of the chunk at 0"),
    ];
    for (stream, message) in table {
        let error = dir::Reader::new(&stream[..], 1).next().unwrap_err().to_string();
        assert!(error.ends_with(message), "{stream:?}: {error}");
    }
    // Contents may be empty.
    assert_eq!(dir::Reader::new(&bytes(1, 0)[..], 0).next().unwrap(), None);
    assert!(dir::Writer::new(Vec::new()).file(1, 0, b"../x").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(parts in proptest::collection::vec((any::<u8>(), 0usize..600_000, 0u32..4), 0..6)) {
        let mut writer = Writer::new(Vec::new());
        let mut wanted: Vec<Result<Vec<u8>, u32>> = Vec::new();
        for (byte, length, number) in parts {
            let bytes = vec![byte; length];
            writer.inline(&bytes).unwrap();
            match wanted.last_mut() {
                _ if bytes.is_empty() => {}
                Some(Ok(last)) => last.extend(bytes),
                _ => wanted.push(Ok(bytes)),
            }
            if number < 3 {
                writer.external(number).unwrap();
                wanted.push(Err(number));
            }
        }
        prop_assert_eq!(read_all(&writer.finish().unwrap(), 3).unwrap(), wanted);
    }

    #[test]
    fn garbage_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read_all(&bytes, 3);
        let files: [File; 0] = [];
        let _ = reconstruct(&bytes[..], &files[..], std::io::sink());
        let mut reader = dir::Reader::new(&bytes[..], 3);
        while let Ok(Some(_)) = reader.next() {}
    }
}
