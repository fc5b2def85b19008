//! Both split streams: any bytes with any files, and streams that are written and read again.
//!
//! Input: a byte that says which in its lowest bits: a splitfdstream, or a splitdirfdstream, of any bytes; the program
//! of a tar (`tar.rs`) that is split and put together again in either form; or pieces for a writer.

#![no_main]

use std::fs::{self, File};
use std::io::Write;
use std::sync::OnceLock;

use cstor_client::tar::{Archive, Kind};
use cstor_client::{splitdirfdstream as dir, splitfdstream as fd};
use cstor_fuzz::Input;
use cstor_fuzz::scratch::scratch;
use cstor_fuzz::tar::assemble;
use libfuzzer_sys::fuzz_target;

const SIZES: [u64; 4] = [0, 1, 600, 5000];

struct Lab {
    files: Vec<File>,
    dirs: [File; 1],
    dir: tempfile::TempDir,
}

fn content(size: u64) -> Vec<u8> {
    (0..size).map(|place| place as u8).collect()
}

fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let dir = scratch("cstor-fuzz-splitfd-");
        let inside = dir.path().join("inside");
        fs::create_dir_all(inside.join("d")).expect("a directory");
        fs::write(dir.path().join("secret"), "secret").expect("a file");
        for (name, target) in [("up", "../secret"), ("s", ".."), ("abs", "/etc/passwd")] {
            std::os::unix::fs::symlink(target, inside.join(name)).expect("a link");
        }
        let files = SIZES.map(|size| {
            fs::write(inside.join(size.to_string()), content(size)).expect("a file");
            File::open(inside.join(size.to_string())).expect("a file")
        });
        let files = files.into_iter().chain([File::open(&inside).expect("a directory")]).collect();
        Lab { files, dirs: [File::open(&inside).expect("a directory")], dir }
    })
}

/// Takes everything, and remembers how much.
#[derive(Default)]
struct Counted {
    bytes: Vec<u8>,
    size: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.size += bytes.len() as u64;
        let room = (4usize << 20).saturating_sub(self.bytes.len());
        self.bytes.extend(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A stream is at least as long as what it has in itself.
fn any(bytes: &[u8]) {
    let lab = lab();
    let files = &lab.files[..];
    let mut reader = fd::Reader::new(bytes, files.len() as u32);
    let (mut inline, mut external, mut good) = (0, 0u64, false);
    loop {
        match reader.next() {
            Ok(Some(fd::Piece::Inline(piece))) => {
                assert!(!piece.is_empty());
                inline += piece.len();
            }
            Ok(Some(fd::Piece::External(number))) => {
                assert!((number as usize) < files.len());
                external += 1;
            }
            Ok(None) => {
                good = true;
                break;
            }
            Err(_) => break,
        }
    }
    assert!(inline <= bytes.len());
    let mut out = Counted::default();
    if let Ok(size) = fd::reconstruct(bytes, files, &mut out) {
        assert!(good && out.size == size && size >= inline as u64 && size <= inline as u64 + external * 5000);
    }
}

fn any_dir(bytes: &[u8]) {
    let lab = lab();
    let mut reader = dir::Reader::new(bytes, 1);
    let (mut own, mut files) = (0u64, 0u64);
    let good = loop {
        match reader.next() {
            Ok(Some(dir::Piece::Metadata(piece) | dir::Piece::Inline(piece))) => own += piece.len() as u64,
            Ok(Some(dir::Piece::File { size, directory, name })) => {
                assert!(directory == 0 && !name.starts_with(b"/") && !name.is_empty() && name.len() <= dir::MAX_NAME);
                assert!(name.split(|&byte| byte == b'/').all(|part| part != b"..") && !name.contains(&0));
                files = files.saturating_add(size);
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert!(own <= bytes.len() as u64);
    let mut out = Counted::default();
    if let Ok(size) = dir::reconstruct(bytes, &lab.dirs, &mut out) {
        assert!(good && out.size == size && size == own + files);
        assert!(
            !out.bytes.windows(6).any(|window| window == b"secret")
                || bytes.windows(6).any(|window| window == b"secret")
        );
    }
}

/// A tar, split at files of at least this size and put together again.
fn again(tar: &[u8], threshold: u64) {
    let work = lab().dir.path().join("files");
    fs::create_dir(&work).expect("a directory");
    let (mut stream, mut named, mut files) = (fd::Writer::new(Vec::new()), dir::Writer::new(Vec::new()), Vec::new());
    let (mut archive, mut at, mut whole) = (Archive::new(tar), 0, false);
    while let Ok(Some(placed)) = archive.next_entry() {
        let raw = &placed.entry.raw;
        at += raw.len();
        stream.inline(raw).expect("a vector");
        named.metadata(raw).expect("a vector");
        let Some(member) = &placed.entry.member else {
            stream.inline(&tar[at..]).expect("a vector");
            named.metadata(&tar[at..]).expect("a vector");
            whole = true;
            break;
        };
        // Streams are of what podman stores; sparse members and unknown types are refused.
        if member.sparse || !matches!(placed.typeflag, 0 | b'0'..=b'6' | b'g') {
            break;
        }
        let Some(content) = usize::try_from(placed.stored).ok().and_then(|size| tar.get(at..)?.get(..size)) else {
            break;
        };
        at += content.len();
        if member.header.kind == Kind::File && !content.is_empty() && content.len() as u64 >= threshold {
            let path = work.join(files.len().to_string());
            fs::write(&path, content).expect("a file");
            stream.external(files.len() as u32).expect("a vector");
            named.file(content.len() as u64, 0, files.len().to_string().as_bytes()).expect("a vector");
            files.push(File::open(path).expect("a file"));
        } else {
            stream.inline(content).expect("a vector");
            named.inline(content).expect("a vector");
        }
    }
    if whole {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let size =
            fd::reconstruct(&stream.finish().expect("a vector")[..], &files[..], &mut first).expect("the tar again");
        assert!(size == tar.len() as u64 && first == tar);
        let dirs = [File::open(&work).expect("a directory")];
        let size = dir::reconstruct(&named.finish().expect("a vector")[..], &dirs, &mut second).expect("the tar again");
        assert!(size == tar.len() as u64 && second == tar);
    }
    fs::remove_dir_all(work).expect("our own directory");
}

/// What is written is read: bytes as they stand in one piece, files in their places.
fn written(mut input: Input<'_>) {
    let mut writer = fd::Writer::new(Vec::new());
    let mut wanted: Vec<Result<Vec<u8>, u32>> = Vec::new();
    while let Some(head) = input.byte() {
        if head & 1 == 1 {
            writer.external(u32::from(head >> 1) & 3).expect("a vector");
            wanted.push(Err(u32::from(head >> 1) & 3));
            continue;
        }
        let bytes = input.take(usize::from(head >> 1)).repeat(if head >= 0xf0 { 4000 } else { 1 });
        writer.inline(&bytes).expect("a vector");
        match wanted.last_mut() {
            _ if bytes.is_empty() => {}
            Some(Ok(last)) => last.extend(bytes),
            _ => wanted.push(Ok(bytes)),
        }
        if wanted.len() > 64 {
            break;
        }
    }
    let stream = writer.finish().expect("a vector");
    let mut reader = fd::Reader::new(&stream[..], 4);
    let mut found: Vec<Result<Vec<u8>, u32>> = Vec::new();
    while let Some(piece) = reader.next().expect("our own stream") {
        match (piece, found.last_mut()) {
            (fd::Piece::Inline(bytes), Some(Ok(last))) => last.extend(bytes),
            (fd::Piece::Inline(bytes), _) => found.push(Ok(bytes.to_vec())),
            (fd::Piece::External(number), _) => found.push(Err(number)),
        }
    }
    assert!(found == wanted);
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, rest)) = data.split_first() else { return };
    match mode & 3 {
        0 => any(rest),
        1 => any_dir(rest),
        2 => again(&assemble(rest), u64::from(mode >> 2) * 16),
        _ => written(Input(rest)),
    }
});
