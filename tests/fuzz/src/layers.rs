//! Layers as lists of members, in few bytes each: names are put together from a small vocabulary, so that members meet
//! each other often.
//!
//! A member is a head byte (kind in the lowest three bits, mode in the next three), a byte with the number of
//! components of its name (low half) and of its target (high half), and a byte for each component: the word in the
//! lowest five bits, how often it is repeated in the others.

use cstor_client::tar::{Content, Header, Kind, Member as Parsed, Time};

use crate::Input;

/// Words that names are made of.
const WORDS: [&[u8]; 32] = [
    b"a",
    b"b",
    b"d",
    b"e",
    b"x",
    b"s",
    b"l",
    b"..",
    b".",
    b"",
    b".wh.a",
    b".wh.b",
    b".wh.d",
    b".wh.x",
    b".wh.s",
    b".wh..wh..opq",
    b".wh..wh.plnk",
    b".wh.",
    b".wh..",
    b".wh...",
    b"...",
    b"f",
    b"g",
    b"h",
    b"A",
    b"\xff",
    b"lib",
    b"usr",
    b"\n",
    b"etc",
    b"canary",
    b".wh.l",
];
const MODES: [u32; 8] = [0o755, 0o644, 0o700, 0o4755, 0, 0o1777, 0o555, 0o2711];
/// Layers of one input, and members of all of them: more takes time and finds nothing else.
const MAX_LAYERS: usize = 4;
const MAX_MEMBERS: usize = 64;
/// Words of one input that are repetitions: enough for 41 links and little more, since the reference makes a real
/// directory of each.
const MAX_REPEATED: usize = 128;

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Dir,
    File,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    CharDevice,
    BlockDevice,
}

/// A member of a layer.
#[derive(Debug, Clone)]
pub struct Member {
    pub name: Vec<u8>,
    pub what: What,
    pub mode: u32,
    /// Its number among all members: no two have the same contents and owner.
    pub number: u64,
}

/// The layers that an input describes, the base first.
pub fn decode(bytes: &[u8]) -> Vec<Vec<Member>> {
    let mut input = Input(bytes);
    let (mut layers, mut number, mut repeated) = (vec![Vec::new()], 0, 0);
    while let Some(head) = input.byte() {
        if head & 7 == 7 {
            if layers.len() == MAX_LAYERS {
                break;
            }
            layers.push(Vec::new());
            continue;
        }
        let lengths = input.byte().unwrap_or_default();
        let name = words(&mut input, lengths & 15, &mut repeated);
        let target = words(&mut input, lengths >> 4, &mut repeated);
        // The kernel knows no empty target; `tar/` refuses it.
        let link = if target.is_empty() { b"/".to_vec() } else { target.clone() };
        let what = match head & 7 {
            0 => What::Dir,
            1 => What::File,
            2 => What::Symlink(link),
            3 => What::HardLink(target),
            4 => What::Fifo,
            5 => What::CharDevice,
            _ => What::BlockDevice,
        };
        number += 1;
        let mode = MODES[usize::from(head >> 3 & 7)];
        layers.last_mut().expect("a layer").push(Member { name, what, mode, number });
        if number as usize == MAX_MEMBERS {
            break;
        }
    }
    layers
}

fn words(input: &mut Input<'_>, count: u8, repeated: &mut usize) -> Vec<u8> {
    let mut words: Vec<&[u8]> = Vec::new();
    for &byte in input.take(count.into()) {
        let times = match byte >> 5 {
            7 => 48,
            6 => 12,
            _ => 1,
        };
        let times = if *repeated + times > MAX_REPEATED { 1 } else { times };
        *repeated += times - 1;
        words.extend(std::iter::repeat_n(WORDS[usize::from(byte & 31)], times));
    }
    words.join(&b'/')
}

/// The bytes of layers in words, for seeds: `d a/b`, `f a`, `l a target`, `h a target`, `p a`, `c a`, `b a`, each with
/// `@N` behind its kind for the Nth mode, and `--` between layers. A component `*w` is `w` 48 times.
pub fn encode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.split(';').map(str::trim).filter(|line| !line.is_empty()) {
        let mut fields = line.split(' ');
        let kind = fields.next().expect("a kind");
        if kind == "--" {
            bytes.push(7);
            continue;
        }
        let (kind, mode) = kind.split_once('@').unwrap_or((kind, "0"));
        let place = "dflhpcb".find(kind).expect("a known kind") as u8;
        let component = |name: &str| {
            let (name, repeat) = name.strip_prefix('*').map_or((name, 0), |name| (name, 7 << 5));
            repeat | WORDS.iter().position(|word| *word == name.as_bytes()).expect(name) as u8
        };
        let components = |name: &str| -> Vec<u8> {
            if name.is_empty() { Vec::new() } else { name.split('/').map(component).collect() }
        };
        let (name, target) = (components(fields.next().unwrap_or("")), components(fields.next().unwrap_or("")));
        bytes.extend([place | mode.parse::<u8>().expect("a mode") << 3, (name.len() | target.len() << 4) as u8]);
        bytes.extend(name.into_iter().chain(target));
    }
    bytes
}

impl Member {
    /// The contents of a file: of many sizes, and each its own.
    pub fn content(&self) -> Vec<u8> {
        let size = if self.number % 16 == 7 { 70_000 } else { self.number as usize * 173 % 1500 };
        (0..size).map(|place| (place as u64 * 31 + self.number) as u8).collect()
    }

    /// As a reader of headers gives it. The contents of a file have the member's number as their size.
    pub fn parsed(&self) -> Parsed {
        let kind = match &self.what {
            What::Dir => Kind::Dir,
            What::File => Kind::File,
            What::Symlink(target) => Kind::Symlink(target.clone()),
            What::HardLink(target) => Kind::HardLink(target.clone()),
            What::Fifo => Kind::Fifo,
            What::CharDevice => Kind::CharDevice { major: 1, minor: 3 },
            What::BlockDevice => Kind::BlockDevice { major: 8, minor: 0 },
        };
        let content = (kind == Kind::File).then_some(Content { size: self.number, crc: Some(0), digest: None });
        let header = Header {
            path: self.name.clone(),
            kind,
            mode: self.mode,
            uid: self.number,
            gid: 0,
            user_name: Vec::new(),
            group_name: Vec::new(),
            mtime: Time::default(),
            xattrs: Vec::new(),
        };
        Parsed { header, content, sparse: false }
    }
}
