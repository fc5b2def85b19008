//! Tars out of bytes that libFuzzer can change without breaking every checksum, and tar-split lines of them.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Input;
use crate::layers::{Member, What};

pub const BLOCK: usize = 512;
/// The longest piece that a program repeats.
const MAX_REPEATED: usize = 2 << 20;

/// What a piece of a program becomes.
pub const RAW: u8 = 0;
/// A header block, as long as one, with the right checksum.
pub const SEALED: u8 = 1;
/// A PAX header of the records in the lines, each with its length.
pub const PAX: u8 = 2;
/// A GNU long name.
pub const NAME: u8 = 3;
/// A GNU long link.
pub const LINK: u8 = 4;
/// Contents, up to whole blocks.
pub const CONTENT: u8 = 5;
/// With any of these: the first byte says how often (a power of 2) the others are repeated.
pub const REPEATED: u8 = 0x80;

/// The tar that a program makes: pieces of one byte for the kind, two for the length (little-endian), and the bytes.
pub fn assemble(program: &[u8]) -> Vec<u8> {
    let mut input = Input(program);
    let mut tar = Vec::new();
    while let Some(kind) = input.byte() {
        let length = [input.byte().unwrap_or_default(), input.byte().unwrap_or_default()];
        let mut piece = input.take(u16::from_le_bytes(length).into()).to_vec();
        if kind & REPEATED != 0 && !piece.is_empty() {
            let times = 1usize << (piece.remove(0) % 16);
            if piece.len() * times + tar.len() <= MAX_REPEATED {
                piece = piece.repeat(times);
            }
        }
        match kind & 7 {
            SEALED => {
                piece.resize(BLOCK, 0);
                seal(&mut piece);
                tar.extend(piece);
            }
            PAX => {
                let lines = piece.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
                let records: Vec<u8> = lines.flat_map(record).collect();
                extension(b'x', &records, &mut tar);
            }
            NAME => extension(b'L', &piece, &mut tar),
            LINK => extension(b'K', &piece, &mut tar),
            CONTENT => {
                tar.extend(piece);
                tar.resize(tar.len().next_multiple_of(BLOCK), 0);
            }
            _ => tar.extend(piece),
        }
    }
    tar
}

/// A piece of a program, for seeds.
pub fn piece(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(bytes.len()).expect("a short piece").to_le_bytes(), bytes].concat()
}

/// A PAX record of a keyword, `=` and a value; its length counts itself.
pub fn record(line: &[u8]) -> Vec<u8> {
    let rest = line.len() + 2;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", line, b"\n"].concat()
}

fn extension(typeflag: u8, content: &[u8], tar: &mut Vec<u8>) {
    let mut block = header(typeflag, b"././@LongLink", b"", content.len() as u64);
    seal(&mut block);
    tar.extend(block);
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}

/// A ustar header without its checksum.
pub fn header(typeflag: u8, name: &[u8], link: &[u8], size: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut put = |place: usize, bytes: &[u8], room: usize| {
        let length = bytes.len().min(room);
        block[place..place + length].copy_from_slice(&bytes[..length]);
    };
    put(0, name, 100);
    put(100, b"0000644", 8);
    put(108, b"0000000", 8);
    put(116, b"0000000", 8);
    put(124, format!("{size:011o}").as_bytes(), 12);
    put(136, b"07346545000", 12);
    put(156, &[typeflag], 1);
    put(157, link, 100);
    put(257, b"ustar\x0000", 8);
    block
}

/// Fills in the checksum.
pub fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// The header bytes of a member of a layer.
pub fn member(member: &Member) -> Vec<u8> {
    let (typeflag, link): (u8, &[u8]) = match &member.what {
        What::File => (b'0', b""),
        What::HardLink(target) => (b'1', target),
        What::Symlink(target) => (b'2', target),
        What::CharDevice => (b'3', b""),
        What::BlockDevice => (b'4', b""),
        What::Dir => (b'5', b""),
        What::Fifo => (b'6', b""),
    };
    let mut bytes = Vec::new();
    let long = |text: &[u8]| text.len() > 100;
    for (key, text) in [(&b"path="[..], &member.name[..]), (b"linkpath=", link)] {
        if long(text) {
            extension(b'x', &record(&[key, text].concat()), &mut bytes);
        }
    }
    // Two extension headers of one kind replace each other.
    if long(&member.name) && long(link) {
        bytes.clear();
        let both = [record(&[b"path=", &member.name[..]].concat()), record(&[b"linkpath=", link].concat())];
        extension(b'x', &both.concat(), &mut bytes);
    }
    let size = if member.what == What::File { member.content().len() as u64 } else { 0 };
    let mut block = header(typeflag, &member.name, link, size);
    block[100..107].copy_from_slice(format!("{:07o}", member.mode).as_bytes());
    block[108..115].copy_from_slice(format!("{:07o}", member.number).as_bytes());
    let device: &[u8] = if member.what == What::BlockDevice { b"0000010" } else { b"0000001" };
    block[329..336].copy_from_slice(device);
    block[337..344].copy_from_slice(b"0000003");
    seal(&mut block);
    bytes.extend(block);
    bytes
}

/// The tar-split lines of a layer.
pub fn split(members: &[Member]) -> Vec<u8> {
    let (mut lines, mut pending) = (Lines::default(), Vec::new());
    for each in members {
        pending.extend(member(each));
        lines.segment(&std::mem::take(&mut pending));
        let content = if each.what == What::File { each.content() } else { Vec::new() };
        lines.file(&each.name, content.len() as u64, Some(crc64(&content)).filter(|_| !content.is_empty()));
        pending.resize(content.len().next_multiple_of(BLOCK) - content.len(), 0);
    }
    pending.extend([0; 2 * BLOCK]);
    lines.segment(&pending);
    lines.text
}

/// The text of a tar-split file that is being written.
#[derive(Debug, Default)]
pub struct Lines {
    pub text: Vec<u8>,
    position: u64,
}

impl Lines {
    pub fn segment(&mut self, bytes: &[u8]) {
        self.line(format_args!(r#""type":2,"payload":"{}""#, STANDARD.encode(bytes)));
    }

    pub fn file(&mut self, name: &[u8], size: u64, crc: Option<u64>) {
        let name = STANDARD.encode(name);
        match crc.map(|crc| STANDARD.encode(crc.to_be_bytes())) {
            Some(crc) => self.line(format_args!(r#""type":1,"name_raw":"{name}","size":{size},"payload":"{crc}""#)),
            None => self.line(format_args!(r#""type":1,"name_raw":"{name}","payload":null"#)),
        }
    }

    fn line(&mut self, fields: std::fmt::Arguments<'_>) {
        writeln!(self.text, r#"{{{fields},"position":{}}}"#, self.position).expect("a vector takes everything");
        self.position += 1;
    }
}

/// One gzip member, hardly compressed: time goes into what reads it.
pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

/// CRC-64/GO-ISO, bit by bit.
pub fn crc64(bytes: &[u8]) -> u64 {
    let sum = bytes.iter().fold(u64::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u64::from(byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0xd800_0000_0000_0000 } else { 0 })
    });
    !sum
}
