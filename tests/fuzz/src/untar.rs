//! Layers unpacked into real directories by podman's rules, one directory each, and the tree that they make up: the
//! reference that `tree/` is held against. The kernel resolves every name, as in a chroot; what no plain user could
//! make (devices, owners, modes) is written down by inode. docs/formats/merge.md has the rules, and where cstor
//! differs from podman by choice: those differences are here too, each with its reason.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, linkat, mkdirat, mknodat, openat, openat2, statat,
};
use rustix::io::Errno;

use crate::layers::{Member, What};
use crate::scratch::remove;

/// A layer that podman's untar, or cstor by choice, refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The same name twice.
    Twice,
    /// Anything else.
    Other(&'static str),
}

/// A layer in its directory.
pub struct Unpacked {
    dir: PathBuf,
    root: OwnedFd,
    facts: HashMap<u64, Fact>,
    /// By directory and name. podman makes a file for it; here it is written down, so that it hides nothing of its
    /// own layer, wherever it stands (OCI image-spec, "Whiteouts").
    white: HashSet<(u64, Vec<u8>)>,
    opaque: HashSet<u64>,
    /// The members that name the root, which podman ignores: an image says what its root is.
    root_fact: Option<Fact>,
    /// Whether a member was reached through a symbolic link. Then a name of the tar can come to stand for something
    /// else than the member that has it, and a second member with it is not always seen as one.
    pub through_link: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fact {
    what: What,
    mode: u32,
    uid: u64,
    size: u64,
}

const IMPLIED: Fact = Fact { what: What::Dir, mode: 0o755, uid: 0, size: 0 };
const MADE: Mode = Mode::RWXU;
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
const MAX_PATH: usize = 4095;
const MAX_DEPTH: usize = 1024;

impl Unpacked {
    /// Unpacks into a directory that does not exist. With `contents` files are written as they are.
    pub fn new(dir: &Path, members: &[Member], contents: bool) -> Result<Unpacked, (Unpacked, Refused)> {
        fs::create_dir(dir).expect("a directory");
        let root =
            openat(rustix::fs::CWD, dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("a directory");
        let mut layer = Unpacked {
            dir: dir.to_owned(),
            root,
            facts: HashMap::new(),
            white: HashSet::new(),
            opaque: HashSet::new(),
            root_fact: None,
            through_link: false,
        };
        let mut seen = HashSet::new();
        for member in members {
            if let Err(refused) = layer.add(member, &mut seen, contents) {
                return Err((layer, refused));
            }
        }
        Ok(layer)
    }

    fn add(&mut self, member: &Member, seen: &mut HashSet<Vec<u8>>, contents: bool) -> Result<(), Refused> {
        let path = clean(&member.name);
        if path.len() > MAX_PATH || path.split(|&byte| byte == b'/').count() > MAX_DEPTH {
            return Err(Refused::Other("long"));
        }
        let fact = Fact {
            what: member.what.clone(),
            mode: member.mode,
            uid: member.number,
            size: if member.what == What::File { member.number } else { 0 },
        };
        if path.is_empty() {
            // podman ignores what is no directory, or fails; a root that is none is no image.
            if member.what != What::Dir {
                return Err(Refused::Other("root"));
            }
            self.root_fact = Some(fact);
            return Ok(());
        }
        let (parent, last) = split(&path);
        if let Some(marker) = parent.split(|&byte| byte == b'/').find(|name| name.starts_with(b".wh.")) {
            // What AUFS left is partly visible with podman. Below a whiteout there is nothing.
            return if marker.starts_with(b".wh..wh.") { Ok(()) } else { Err(Refused::Other("below a whiteout")) };
        }
        if last == b".wh..wh..opq" {
            let parent = self.parents(parent)?;
            self.opaque.insert(inode(&parent));
            return Ok(());
        }
        if last.starts_with(b".wh..wh.") {
            return Ok(());
        }
        if let Some(hidden) = last.strip_prefix(b".wh.") {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(Refused::Other("whiteout of nothing"));
            }
            if self.is_white(parent) {
                return Ok(());
            }
            let parent = self.parents(parent)?;
            self.white.insert((inode(&parent), hidden.to_vec()));
            return Ok(());
        }
        // Not everything that is refused for another reason is seen before.
        let twice = !seen.insert(path.clone());
        let literal = openat2(
            &self.root,
            dot(parent),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            IN_ROOT | ResolveFlags::NO_SYMLINKS,
        );
        self.through_link |= literal.err() == Some(Errno::LOOP);
        let at = self.parents(parent)?;
        if twice {
            return Err(Refused::Twice);
        }
        self.make(member, fact, &at, last, contents).map_err(|_| Refused::Other("cannot be made"))
    }

    fn make(
        &mut self,
        member: &Member,
        mut fact: Fact,
        at: &OwnedFd,
        last: &[u8],
        contents: bool,
    ) -> rustix::io::Result<()> {
        let is_dir = member.what == What::Dir;
        let known = statat(at, last, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match known {
            Ok(FileType::Directory) if is_dir => {}
            Ok(_) => remove_at(at, last)?,
            Err(_) => {}
        }
        match &member.what {
            What::Dir if known == Ok(FileType::Directory) => {}
            What::Dir => mkdirat(at, last, MADE)?,
            What::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let mut file = File::from(openat(at, last, flags, Mode::RUSR | Mode::WUSR)?);
                if contents {
                    file.write_all(&member.content()).expect("room in memory");
                }
            }
            What::Symlink(target) => rustix::fs::symlinkat(&target[..], at, last)?,
            What::HardLink(target) => {
                let target = clean(target);
                let (parent, name) = split(&target);
                if target.is_empty() {
                    return Err(Errno::PERM);
                }
                let from = openat2(
                    &self.root,
                    dot(parent),
                    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                    IN_ROOT,
                )?;
                linkat(from, name, at, last, AtFlags::empty())?;
            }
            What::Fifo | What::CharDevice | What::BlockDevice => mknodat(at, last, FileType::Fifo, MADE, 0)?,
        }
        let number = statat(at, last, AtFlags::SYMLINK_NOFOLLOW)?.st_ino;
        if let (What::HardLink(_), Some(inode)) = (&member.what, self.facts.get(&number)) {
            // The header of a link sets what is set by name, but not the mode of a symbolic link.
            fact.what = inode.what.clone();
            fact.size = inode.size;
            if matches!(fact.what, What::Symlink(_)) {
                fact.mode = inode.mode;
            }
        }
        self.facts.insert(number, fact);
        Ok(())
    }

    /// The directory at a path, made where it is missing.
    fn parents(&mut self, path: &[u8]) -> Result<OwnedFd, Refused> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        match openat2(&self.root, dot(path), flags, Mode::empty(), IN_ROOT) {
            Ok(found) => Ok(found),
            Err(Errno::NOENT) => {
                let (above, name) = split(path);
                let above = self.parents(above)?;
                // A link that leads nowhere is in the way.
                mkdirat(&above, name, MADE).map_err(|_| Refused::Other("parent"))?;
                let made = openat(&above, name, flags | OFlags::NOFOLLOW, Mode::empty()).expect("our own directory");
                self.facts.insert(inode(&made), IMPLIED);
                Ok(made)
            }
            Err(_) => Err(Refused::Other("parent")),
        }
    }

    /// Whether a whiteout stands on the way with nothing in its place: podman's would be in the way of every other
    /// member, but what is gone has nothing below it.
    fn is_white(&self, path: &[u8]) -> bool {
        let mut above = self.root.try_clone().expect("a descriptor");
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            match openat(&above, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Ok(below) => above = below,
                Err(Errno::NOENT) => return self.white.contains(&(inode(&above), name.to_vec())),
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

/// What is at a path of the final tree, comparable however it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub what: What,
    pub mode: u32,
    pub uid: u64,
    /// That of the member that the contents are from.
    pub size: u64,
    /// The layer; of a directory, which many have, none.
    pub layer: Option<usize>,
    /// The first path of this inode.
    pub first: Vec<u8>,
}

enum Node {
    Dir(Fact, BTreeMap<Vec<u8>, Node>),
    Other(Fact, usize, u64),
}

/// The tree of layers, the base first.
#[derive(Default)]
pub struct Combined(Option<Node>);

impl Combined {
    /// Lays one more layer over it, as overlayfs shows it.
    pub fn lay(&mut self, number: usize, upper: &Unpacked) {
        let (fact, below) = match self.0.take() {
            Some(Node::Dir(fact, below)) => (fact, below),
            _ => (IMPLIED, BTreeMap::new()),
        };
        // podman ignores what the members say of the root, and overlayfs a mark that it is opaque.
        let fact = upper.root_fact.clone().unwrap_or(fact);
        self.0 = Some(Node::Dir(fact, combine(below, upper, &upper.dir, number)));
    }

    /// All paths but that of the root, and what is there.
    pub fn seen(&self) -> BTreeMap<Vec<u8>, Seen> {
        let mut seen = BTreeMap::new();
        let mut firsts = HashMap::new();
        if let Some(Node::Dir(fact, names)) = &self.0 {
            let first = Vec::new();
            seen.insert(
                Vec::new(),
                Seen { what: What::Dir, mode: fact.mode, uid: fact.uid, size: 0, layer: None, first },
            );
            list(&[], names, &mut firsts, &mut seen);
        }
        seen
    }
}

fn list(
    above: &[u8],
    names: &BTreeMap<Vec<u8>, Node>,
    firsts: &mut HashMap<(usize, u64), Vec<u8>>,
    seen: &mut BTreeMap<Vec<u8>, Seen>,
) {
    for (name, node) in names {
        let path = if above.is_empty() { name.clone() } else { [above, b"/", name].concat() };
        let (fact, layer, first) = match node {
            Node::Dir(fact, _) => (fact, None, path.clone()),
            Node::Other(fact, layer, inode) => {
                (fact, Some(*layer), firsts.entry((*layer, *inode)).or_insert_with(|| path.clone()).clone())
            }
        };
        let Fact { what, mode, uid, size } = fact.clone();
        seen.insert(path.clone(), Seen { what, mode, uid, size, layer, first });
        if let Node::Dir(_, names) = node {
            list(&path, names, firsts, seen);
        }
    }
}

fn combine(mut lower: BTreeMap<Vec<u8>, Node>, upper: &Unpacked, dir: &Path, layer: usize) -> BTreeMap<Vec<u8>, Node> {
    use std::os::unix::fs::MetadataExt;
    let number = dir.symlink_metadata().expect("our own directory").ino();
    if upper.opaque.contains(&number) {
        lower.clear();
    }
    // A whiteout hides what is below, whether or not its own layer has something there.
    lower.retain(|name, _| !upper.white.contains(&(number, name.clone())));
    for entry in fs::read_dir(dir).expect("our own directory") {
        let entry = entry.expect("a name");
        let name = entry.file_name().as_bytes().to_vec();
        let number = entry.path().symlink_metadata().expect("our own file").ino();
        let fact = upper.facts.get(&number).expect("a member or a directory on the way").clone();
        let node = if fact.what == What::Dir {
            let below = match lower.remove(&name) {
                Some(Node::Dir(_, below)) => below,
                _ => BTreeMap::new(),
            };
            Node::Dir(fact, combine(below, upper, &entry.path(), layer))
        } else {
            Node::Other(fact, layer, number)
        };
        lower.insert(name, node);
    }
    lower
}

/// Go's `filepath.Clean("/" + name)`, by its documentation: replace, again and again, until nothing is left to do.
pub fn clean(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> =
        name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    while let Some(place) = parts.iter().position(|part| *part == b"..") {
        parts.drain(place.saturating_sub(1)..=place);
    }
    parts.join(&b'/')
}

pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

pub fn dot(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

fn inode(fd: impl AsFd) -> u64 {
    fstat(fd).expect("a descriptor").st_ino
}

fn remove_at(at: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd;
    let path = Path::new("/proc/self/fd").join(at.as_raw_fd().to_string());
    remove(&path.join(std::ffi::OsStr::from_bytes(name)));
    Ok(())
}
