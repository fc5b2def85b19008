//! Paths of a tree, looked up as by a process whose root directory it is: symbolic links are followed, absolute ones from
//! the root of the tree, and nothing leads out of it (path_resolution(7)).

use cstor_proto::Escaped;

use super::final_tree::FinalTree;
use super::inode::{InodeId, InodeKind, TreeEntry};
use crate::base::kind::ErrorKind;
use crate::base::path::join;

/// How many symbolic links a path may lead through (`MAXSYMLINKS`, linux/namei.h).
const MAX_LINKS: usize = 40;

/// A path does not lead to what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\": {problem}", Escaped(path))]
#[non_exhaustive]
pub struct LookupError {
    /// The path, as it was asked for.
    pub path: Vec<u8>,
    /// What is wrong.
    pub problem: LookupProblem,
}

/// Why a path does not lead to what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupProblem {
    /// It, or a directory on the way, does not exist.
    #[error("no such file or directory")]
    NotFound,
    /// It leads through something that is not a directory, or a directory was asked for.
    #[error("not a directory")]
    NotADirectory,
    /// A regular file was asked for.
    #[error("not a regular file")]
    NotAFile,
    /// A symbolic link was asked for.
    #[error("not a symbolic link")]
    NotALink,
    /// It leads through too many symbolic links.
    #[error("more than {MAX_LINKS} symbolic links on the way")]
    TooManyLinks,
}

impl LookupError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self.problem {
            LookupProblem::NotFound | LookupProblem::NotADirectory | LookupProblem::TooManyLinks => ErrorKind::NotFound,
            LookupProblem::NotAFile | LookupProblem::NotALink => ErrorKind::Failure,
        }
    }

    pub(crate) fn new(path: &[u8], problem: LookupProblem) -> LookupError {
        LookupError { path: path.to_vec(), problem }
    }
}

/// Whether the last component of a path is followed where it is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Follow,
    Keep,
}

impl FinalTree {
    /// What a path leads to, through symbolic links; as stat(2). The entry has the path without links.
    ///
    /// # Errors
    /// If it leads nowhere, or through something that is not a directory.
    pub fn get(&self, path: impl AsRef<[u8]>) -> Result<TreeEntry<'_>, LookupError> {
        self.look_up(path.as_ref(), Last::Follow)
    }

    /// What is at a path, itself a symbolic link or not; as lstat(2).
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_no_follow(&self, path: impl AsRef<[u8]>) -> Result<TreeEntry<'_>, LookupError> {
        self.look_up(path.as_ref(), Last::Keep)
    }

    /// What is in a directory, in the order of the names' bytes.
    ///
    /// # Errors
    /// As [`Self::get`], and if the path leads to something that is not a directory.
    pub fn read_dir(&self, path: impl AsRef<[u8]>) -> Result<impl Iterator<Item = TreeEntry<'_>>, LookupError> {
        let path = path.as_ref();
        let dir = self.get(path)?;
        if !dir.inode.is_dir() {
            return Err(LookupError::new(path, LookupProblem::NotADirectory));
        }
        let children = self.children(InodeId::of(&dir));
        Ok(children.map(move |(name, id)| self.entry(join(&dir.path, name), id)))
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// As [`Self::get`], and if the path leads to something that is not a symbolic link.
    pub fn read_link(&self, path: impl AsRef<[u8]>) -> Result<&[u8], LookupError> {
        let path = path.as_ref();
        match self.get_no_follow(path)?.inode.kind() {
            InodeKind::Symlink(target) => Ok(target),
            _ => Err(LookupError::new(path, LookupProblem::NotALink)),
        }
    }

    /// What a path leads to and all that is below it, each directory before what is in it. Symbolic links below it are
    /// not followed.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn walk(&self, path: impl AsRef<[u8]>) -> Result<impl Iterator<Item = TreeEntry<'_>>, LookupError> {
        let top = self.get(path)?;
        Ok(self.entries_below(InodeId::of(&top), top.path))
    }

    fn look_up(&self, path: &[u8], last: Last) -> Result<TreeEntry<'_>, LookupError> {
        let error = |problem| LookupError::new(path, problem);
        // The way from the root, and what is still to be gone, the next component last.
        let mut way: Vec<(&[u8], InodeId)> = Vec::new();
        let mut left: Vec<&[u8]> = components(path).collect();
        let mut links = 0;
        while let Some(name) = left.pop() {
            let here = way.last().map_or(FinalTree::ROOT, |(_, id)| *id);
            if !self.inode(here).is_dir() {
                return Err(error(LookupProblem::NotADirectory));
            }
            match name {
                b"" | b"." => continue,
                b".." => {
                    way.pop();
                    continue;
                }
                _ => {}
            }
            let (name, id) = self.child(here, name).ok_or_else(|| error(LookupProblem::NotFound))?;
            match self.inode(id).kind() {
                InodeKind::Symlink(target) if !left.is_empty() || last == Last::Follow => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(error(LookupProblem::TooManyLinks));
                    }
                    if target.is_empty() {
                        return Err(error(LookupProblem::NotFound));
                    }
                    if target.starts_with(b"/") {
                        way.clear();
                    }
                    left.extend(components(target));
                }
                _ => way.push((name, id)),
            }
        }
        let id = way.last().map_or(FinalTree::ROOT, |(_, id)| *id);
        let names: Vec<&[u8]> = way.into_iter().map(|(name, _)| name).collect();
        Ok(self.entry(names.join(&b'/'), id))
    }
}

/// The components of a path, the last one first. After a slash at its end comes an empty one, which only a directory
/// has.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.rsplit(|&byte| byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::account::Account;
    use crate::base::interrupt::{Interrupt, Interrupted};
    use crate::tar::{Header, Kind, Member, Time};

    fn tree(members: &[(&str, Kind)]) -> FinalTree {
        let mut tree = FinalTree::new(&Account::of(1 << 30));
        let laid = tree.lay(0, &|_| true, &Interrupt::new(), |layer| -> Result<(), Interrupted> {
            for (path, kind) in members {
                let header = Header {
                    path: path.as_bytes().to_vec(),
                    kind: kind.clone(),
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                    user_name: Vec::new(),
                    group_name: Vec::new(),
                    mtime: Time::default(),
                    xattrs: Vec::new(),
                };
                layer.add(&Member { header, content: None, sparse: false }).unwrap();
            }
            Ok(())
        });
        laid.unwrap();
        tree
    }

    fn link(target: &str) -> Kind {
        Kind::Symlink(target.as_bytes().to_vec())
    }

    #[test]
    fn paths_lead_where_the_kernel_would_go_below_this_root() {
        let tree = tree(&[
            ("usr/lib/os-release", Kind::File),
            ("etc/os-release", link("../usr/lib/os-release")),
            ("lib", link("/usr/lib")),
            ("up", link("../../../etc")),
            ("loop", link("loop")),
            ("empty", link("")),
            ("dangling", link("nowhere")),
        ]);
        let real = |path: &str| tree.get(path).map(|entry| String::from_utf8(entry.path).unwrap());
        let problem = |path: &str| real(path).map_err(|error| error.problem);
        for (path, leads_to) in [
            ("", ""),
            ("/", ""),
            ("/..", ""),
            ("usr/../etc/.//", "etc"),
            ("/etc/os-release", "usr/lib/os-release"),
            ("lib/os-release", "usr/lib/os-release"),
            ("lib/..", "usr"),
            ("up/os-release", "usr/lib/os-release"),
        ] {
            assert_eq!(real(path).as_deref(), Ok(leads_to), "{path}");
        }
        for (path, wanted) in [
            ("nothing", LookupProblem::NotFound),
            ("nothing/..", LookupProblem::NotFound),
            ("dangling", LookupProblem::NotFound),
            ("empty", LookupProblem::NotFound),
            ("loop", LookupProblem::TooManyLinks),
            ("etc/os-release/", LookupProblem::NotADirectory),
            ("etc/os-release/..", LookupProblem::NotADirectory),
            ("usr/lib/os-release/x", LookupProblem::NotADirectory),
        ] {
            assert_eq!(problem(path), Err(wanted), "{path}");
        }
    }

    #[test]
    fn a_last_link_is_kept_where_it_is_asked_for() {
        let tree = tree(&[("d/file", Kind::File), ("to", link("d")), ("loop", link("loop"))]);
        assert_eq!(tree.read_link("to").unwrap(), b"d");
        assert_eq!(tree.read_link("/loop").unwrap(), b"loop");
        assert_eq!(tree.get_no_follow("to").unwrap().path, b"to");
        assert_eq!(tree.get_no_follow("to/").unwrap().path, b"d", "a slash follows it");
        assert_eq!(tree.read_link("d").unwrap_err().problem, LookupProblem::NotALink);
        let paths = |entries: Vec<TreeEntry<'_>>| -> Vec<Vec<u8>> { entries.into_iter().map(|e| e.path).collect() };
        assert_eq!(paths(tree.read_dir("to").unwrap().collect()), [b"d/file".to_vec()]);
        assert_eq!(paths(tree.walk("to").unwrap().collect()), [b"d".to_vec(), b"d/file".to_vec()]);
        assert_eq!(tree.read_dir("d/file").err().unwrap().problem, LookupProblem::NotADirectory);
        assert_eq!(tree.read_dir("").unwrap().count(), 3);
    }
}
