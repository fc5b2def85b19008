//! Goes through the directory of a layer once, each directory before what is in it, names in the order of their bytes.
//!
//! What changes meanwhile is an error, or is seen as it was at its moment: nothing keeps a running container still.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use cstor_proto::{MAX_BATCH, Refusal, RelPath};
use rustix::fs::{Dir, FileType, Stat, fstat, major, minor, readlinkat};
use rustix::io::Errno;

use super::DiskError;
use super::attributes::{Attributes, portable_capability};
use super::marks::Marks;
use super::overridden::{self, Overridden, StoodFor};
use super::owners::Owners;
use crate::access::{Chain, DirSource, Escalating};
use crate::base::account::Charge;
use crate::base::descriptors::descriptor_limit;
use crate::base::host_xattrs::belongs_to_driver;
use crate::base::interrupt::Interrupt;
use crate::base::path::{join, split};
use crate::contents::ImageError;
use crate::contents::{ReadError, ReadProblem};
use crate::store::chain::{ChainLayer, ContentsDir};
use crate::tar::{Content, Header, Kind, Member, Time, Xattr};
use crate::tree::is_marker;

/// The name of the layer's own directory in a tar.
const ROOT: &[u8] = b"./";
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const CAPABILITY: &[u8] = b"security.capability";

/// Gives the members of a layer, from its directory, one after the other. None is kept.
pub(crate) fn walk(
    chain: &Chain,
    layer: &ChainLayer,
    source: &mut Escalating,
    take: &mut dyn FnMut(Member) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let error = |problem: DiskError| ReadError { layer: layer.record.id, name: None, problem: problem.into() };
    let Some((dir, others)) = layer.dirs.split_first() else { return Ok(()) };
    for other in others {
        // Of those that this process cannot see it is not yet known whether they are there.
        if !matches!(source.list(other, None)?, Err(Refusal::NotFound)) {
            return Err(error(DiskError::SeveralDirectories).into());
        }
    }
    let fuse = chain.store().root(dir.at.root).is_ok_and(|root| root.is_mounted_by_program());
    let mut walk = Walk {
        layer,
        dir,
        source,
        take,
        owners: Owners::of(chain, &layer.record)?,
        marks: Marks::of_store(fuse),
        masked: None,
        attributes: Attributes::new(),
        links: HashMap::new(),
        charge: chain.account().charge(),
        interrupt: chain.interrupt(),
    };
    walk.top()
}

struct Walk<'a> {
    layer: &'a ChainLayer,
    dir: &'a ContentsDir,
    source: &'a mut Escalating,
    take: &'a mut dyn FnMut(Member) -> Result<(), ImageError>,
    owners: Owners,
    marks: Marks,
    /// The attribute that metadata is in, if it is: the layer's own directory tells.
    masked: Option<&'static [u8]>,
    attributes: Attributes,
    /// The first name of files that have several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// What is charged for everything that is kept.
    charge: Charge,
    interrupt: &'a Interrupt,
}

/// A name that is still to be looked at. Siblings share the path of their directory.
struct Pending {
    dir: Rc<[u8]>,
    name: Box<[u8]>,
}

impl Pending {
    /// What is charged for one, besides the path of its directory.
    fn cost(name: usize) -> usize {
        size_of::<Pending>() + name
    }
}

impl Walk<'_> {
    fn top(&mut self) -> Result<(), ImageError> {
        let root = self.list(None)?;
        let names = self.attributes.names(&root).map_err(|errno| self.metadata(ROOT, "attributes", errno))?;
        // A store has `force_mask` only with a mount program (overlay.go, `Init`); elsewhere a container's root can have
        // put the attribute there.
        let masks = overridden::NAMES.into_iter().filter(|_| self.marks.fuse);
        self.masked = masks.into_iter().find(|name| names.iter().any(|own| own == name));
        self.member(b"", None, &root)?;
        let mut pending = Vec::new();
        self.below(root, b"", &mut pending)?;
        // Each is open while it is looked at.
        let together = (descriptor_limit() / 4).clamp(1, MAX_BATCH);
        while !pending.is_empty() {
            let siblings = self.siblings(&mut pending, together)?;
            let seen = self.source.look(self.dir, &siblings)?;
            let mut directories = Vec::new();
            for (path, seen) in siblings.into_iter().zip(seen) {
                self.interrupt.check()?;
                let seen = seen.map_err(|refusal| self.error(path.as_bytes(), DiskError::Look(refusal)))?;
                if self.member(path.as_bytes(), Some(&path), &seen)? {
                    directories.push(path);
                }
            }
            for path in directories.into_iter().rev() {
                let listed = self.list(Some(&path))?;
                self.below(listed, path.as_bytes(), &mut pending)?;
            }
        }
        Ok(())
    }

    /// Takes the next names, all of one directory, which are looked at together.
    fn siblings(&mut self, pending: &mut Vec<Pending>, most: usize) -> Result<Vec<RelPath>, ImageError> {
        let mut siblings = Vec::new();
        let mut of: Option<Rc<[u8]>> = None;
        while siblings.len() < most
            && let Some(next) = pending.pop_if(|next| of.as_ref().is_none_or(|dir| Rc::ptr_eq(dir, &next.dir)))
        {
            let path = join(&next.dir, &next.name);
            self.charge.sub(Pending::cost(next.name.len()));
            let start = path.get(..64).unwrap_or(&path).to_vec();
            // A name of a directory has nothing else that could be wrong with it.
            siblings.push(RelPath::from_clean(path).map_err(|_| self.error(&start, DiskError::LongPath))?);
            of = Some(next.dir);
        }
        if let Some(dir) = of.filter(|dir| Rc::strong_count(dir) == 1) {
            self.charge.sub(dir.len());
        }
        Ok(siblings)
    }

    fn list(&mut self, name: Option<&RelPath>) -> Result<OwnedFd, ImageError> {
        let listed = self.source.list(self.dir, name)?;
        let path = name.map_or(ROOT, RelPath::as_bytes);
        Ok(listed.map_err(|refusal| self.error(path, DiskError::List(refusal)))?)
    }

    /// Appends the names in a directory, the last one first.
    fn below(&mut self, listed: OwnedFd, path: &[u8], pending: &mut Vec<Pending>) -> Result<(), ImageError> {
        let dir: Rc<[u8]> = path.into();
        let first = pending.len();
        for entry in Dir::new(listed).map_err(|errno| self.metadata(path, "names", errno))? {
            self.interrupt.check()?;
            let entry = entry.map_err(|errno| self.metadata(path, "names", errno))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.charge(Pending::cost(name.len()))?;
                pending.push(Pending { dir: Rc::clone(&dir), name: name.into() });
            }
        }
        if let Some(new) = pending.get_mut(first..).filter(|new| !new.is_empty()) {
            new.sort_unstable_by(|a, b| b.name.cmp(&a.name));
            self.charge(dir.len())?;
        }
        Ok(())
    }

    /// Adds what a tar would have for one file; whether it is a directory to go into.
    fn member(&mut self, path: &[u8], at: Option<&RelPath>, seen: &OwnedFd) -> Result<bool, ImageError> {
        let stat = fstat(seen).map_err(|errno| self.metadata(path, "metadata", errno))?;
        let names = self.attributes.names(seen).map_err(|errno| self.metadata(path, "attributes", errno))?;
        let (file_type, (parent, last)) = (FileType::from_raw_mode(stat.st_mode), split(path));
        let empty_file = file_type == FileType::RegularFile && stat.st_size == 0;
        if file_type == FileType::CharacterDevice && stat.st_rdev == 0 || empty_file && self.marks.is_whiteout(&names) {
            (self.take)(marker(&join(parent, &[WHITEOUT, last].concat()), &stat))?;
            return Ok(false);
        }
        let problem = match file_type {
            // fuse-overlayfs means it as the tar does.
            _ if is_marker(last) && self.marks.fuse => {
                (self.take)(marker(path, &stat))?;
                return Ok(false);
            }
            _ if is_marker(last) => Some(DiskError::WhiteoutName),
            FileType::Directory if self.marks.is_redirected(&names) => Some(DiskError::Redirect),
            FileType::RegularFile if self.marks.is_metacopy(&names) => Some(DiskError::Metacopy),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(self.error(path, problem).into());
        }
        let overridden = self.overridden(path, at, seen, &names, file_type == FileType::Directory)?;
        let Some(kind) = self.kind(path, seen, &stat, overridden)? else { return Ok(false) };
        let (uid, gid, mode) = match overridden {
            Some(Overridden { uid, gid, mode, .. }) => (uid, gid, mode),
            None => {
                let (uid, gid) = match (self.owners.container_ids(stat.st_uid, stat.st_gid), at) {
                    // `podman mount` gives the top of a layer to the namespace's root, whoever is root in the container.
                    (Err(_), None) => (0, 0),
                    (ids, _) => ids.map_err(|problem| self.error(path, problem))?,
                };
                (uid, gid, stat.st_mode & 0o7777)
            }
        };
        let size = if kind == Kind::File { stat.st_size.unsigned_abs() } else { 0 };
        let is_dir = kind == Kind::Dir;
        // Those of a hard link came with its first name.
        let xattrs = match kind {
            Kind::HardLink(_) => Vec::new(),
            _ => self.carried(path, at, seen, &names)?,
        };
        let header = Header {
            path: if path.is_empty() { ROOT.to_vec() } else { path.to_vec() },
            kind,
            mode,
            uid: uid.into(),
            gid: gid.into(),
            user_name: Vec::new(),
            group_name: Vec::new(),
            mtime: time(&stat),
            xattrs,
        };
        let content = (size > 0).then_some(Content { size, crc: None, digest: None });
        (self.take)(Member { header, content, sparse: false })?;
        // overlayfs does not look whether the top of a layer is opaque.
        if is_dir && at.is_some() && self.is_opaque(path, at, seen, &names)? {
            (self.take)(marker(&join(path, OPAQUE), &stat))?;
        }
        Ok(is_dir)
    }

    /// What a file is in a tar; `None` for a socket, which is nothing there.
    fn kind(
        &mut self,
        path: &[u8],
        seen: &OwnedFd,
        stat: &Stat,
        overridden: Option<Overridden>,
    ) -> Result<Option<Kind>, ImageError> {
        let device = (major(stat.st_rdev), minor(stat.st_rdev));
        Ok(Some(match (overridden.and_then(|overridden| overridden.kind), FileType::from_raw_mode(stat.st_mode)) {
            (Some(StoodFor::Fifo), _) | (None, FileType::Fifo) => Kind::Fifo,
            (Some(StoodFor::Block(major, minor)), _) => Kind::BlockDevice { major, minor },
            (Some(StoodFor::Char(major, minor)), _) => Kind::CharDevice { major, minor },
            (None, FileType::BlockDevice) => Kind::BlockDevice { major: device.0, minor: device.1 },
            (None, FileType::CharacterDevice) => Kind::CharDevice { major: device.0, minor: device.1 },
            (None, FileType::Directory) => Kind::Dir,
            (None, FileType::Symlink) => {
                let target = readlinkat(seen, "", Vec::new()).map_err(|errno| self.metadata(path, "target", errno))?;
                Kind::Symlink(target.into_bytes())
            }
            (None, FileType::RegularFile) => match self.first_name(path, stat)? {
                Some(first) => Kind::HardLink(first),
                None => Kind::File,
            },
            (Some(StoodFor::Socket), _) | (None, FileType::Socket | FileType::Unknown) => {
                tracing::debug!(path = %cstor_proto::Escaped(path), "a socket is left out");
                return Ok(None);
            }
        }))
    }

    /// The name under which a file was met before; `None` the first time.
    fn first_name(&mut self, path: &[u8], stat: &Stat) -> Result<Option<Vec<u8>>, ImageError> {
        if stat.st_nlink < 2 {
            return Ok(None);
        }
        let inode = (stat.st_dev, stat.st_ino);
        let first = self.links.get(&inode).cloned();
        if first.is_none() {
            self.charge(size_of::<((u64, u64), Vec<u8>)>() + path.len())?;
            self.links.insert(inode, path.to_vec());
        }
        Ok(first)
    }

    fn charge(&mut self, bytes: usize) -> Result<(), ImageError> {
        let charged = self.charge.add(bytes);
        Ok(charged.map_err(|limit| self.error(b"", DiskError::Memory(limit)))?)
    }

    fn overridden(
        &mut self,
        path: &[u8],
        at: Option<&RelPath>,
        seen: &OwnedFd,
        names: &[Vec<u8>],
        is_dir: bool,
    ) -> Result<Option<Overridden>, ImageError> {
        let Some(name) = self.masked.filter(|name| names.iter().any(|own| own == name)) else { return Ok(None) };
        let value = self.value(path, at, seen, name)?;
        let parsed = Overridden::parse(&value, is_dir).ok_or_else(|| self.error(path, DiskError::Override(name)))?;
        Ok(Some(parsed))
    }

    fn is_opaque(
        &mut self,
        path: &[u8],
        at: Option<&RelPath>,
        seen: &OwnedFd,
        names: &[Vec<u8>],
    ) -> Result<bool, ImageError> {
        let marks = self.marks;
        for name in names.iter().filter(|name| marks.may_be_opaque(name)) {
            if self.value(path, at, seen, name)? == b"y" {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The attributes that a tar of podman's would have.
    fn carried(
        &mut self,
        path: &[u8],
        at: Option<&RelPath>,
        seen: &OwnedFd,
        names: &[Vec<u8>],
    ) -> Result<Vec<Xattr>, ImageError> {
        let mut carried = Vec::new();
        // The names are few, but there can be 64 KiB to each.
        let mut charge = self.charge.account().charge();
        for name in names {
            if name == CAPABILITY {
                let value = self.value(path, at, seen, name)?;
                let owners = &self.owners;
                let value = portable_capability(&value, |uid| owners.is_root(uid));
                carried.extend(value.map(|value| Xattr { name: name.clone(), value }));
            } else if name.starts_with(b"user.") && !belongs_to_driver(name) {
                let value = self.value(path, at, seen, name)?;
                charge.add(value.len()).map_err(|limit| self.error(path, DiskError::Memory(limit)))?;
                carried.push(Xattr { name: name.clone(), value });
            }
        }
        carried.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(carried)
    }

    /// The value of an attribute, read by the helper where this process may not.
    fn value(&mut self, path: &[u8], at: Option<&RelPath>, seen: &OwnedFd, name: &[u8]) -> Result<Vec<u8>, ImageError> {
        let value = match (self.attributes.value(seen, name), name.strip_prefix(b"user.")) {
            (Err(Refusal::Denied), Some(key)) => self.source.user_xattr(self.dir, at, key)?,
            (value, _) => value,
        };
        Ok(value.map_err(|refusal| self.error(path, DiskError::Attribute { name: name.to_vec(), refusal }))?)
    }

    fn metadata(&self, path: &[u8], what: &'static str, errno: Errno) -> ReadError {
        self.error(path, DiskError::Metadata { what, source: errno.into() })
    }

    fn error(&self, path: &[u8], problem: DiskError) -> ReadError {
        let path = if path.is_empty() { ROOT } else { path };
        ReadError { layer: self.layer.record.id, name: Some(path.to_vec()), problem: ReadProblem::Disk(problem) }
    }
}

/// A member that stands for nothing but its name.
fn marker(path: &[u8], stat: &Stat) -> Member {
    let header = Header {
        path: path.to_vec(),
        kind: Kind::File,
        mode: 0,
        uid: 0,
        gid: 0,
        user_name: Vec::new(),
        group_name: Vec::new(),
        mtime: time(stat),
        xattrs: Vec::new(),
    };
    Member { header, content: None, sparse: false }
}

fn time(stat: &Stat) -> Time {
    Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() }
}
