//! What can be wrong with a member's place among the others.

use cstor_proto::{Escaped, InvalidPath, LayerId};

use crate::base::account::OverMemoryLimit;
use crate::base::kind::ErrorKind;

/// A member cannot be put into the tree.
#[derive(Debug, thiserror::Error)]
#[error("layer {layer:.12}: \"{}\": {problem}", Escaped(name))]
pub struct MergeError {
    /// The layer.
    pub layer: LayerId,
    /// The member, as its name stands in the tar.
    pub name: Vec<u8>,
    /// What is wrong.
    #[source]
    pub problem: MergeProblem,
}

/// What is wrong with a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeProblem {
    /// Its name, or the target of a hard link, cannot be one in a file system.
    #[error(transparent)]
    Name(#[from] InvalidPath),
    /// A component is longer than a file name can be.
    #[error("a component of the name has {0} bytes, more than a file name can have")]
    LongComponent(usize),
    /// Too many components.
    #[error("more than {0} directories deep")]
    TooDeep(usize),
    /// Too many members.
    #[error("more than {0} files and directories")]
    TooMany(usize),
    /// The root of the layer is not a directory.
    #[error("the root of a layer must be a directory")]
    RootKind,
    /// The same name twice in one layer.
    #[error("the layer has this name twice")]
    Duplicate,
    /// A directory of its path is something else in the same layer.
    #[error("it lies below something that is not a directory")]
    BelowNonDirectory,
    /// A symlink of its path leads nowhere.
    #[error("it lies below a symbolic link that leads nowhere")]
    Dangling,
    /// Symlinks of its path lead in a circle.
    #[error("it lies below a chain of more than {0} symbolic links")]
    LinkLoop(usize),
    /// Symlinks make the ways to members too long.
    #[error("symbolic links on the way to this and other members add more than {0} steps")]
    LinkSteps(u64),
    /// More names of attributes than a file can have.
    #[error("its hard links give it extended attributes whose names have more than {0} bytes in all")]
    Attributes(usize),
    /// More memory than the operation may use.
    #[error(transparent)]
    Memory(#[from] OverMemoryLimit),
    /// A whiteout of nothing, or of the directory itself.
    #[error("a whiteout must name a file")]
    EmptyWhiteout,
    /// A whiteout as a directory.
    #[error("a whiteout has no files below it")]
    BelowWhiteout,
    /// A hard link to what is not in the layer (yet).
    #[error("a hard link to something that is not in the layer before it")]
    LinkTarget,
    /// A hard link to a directory.
    #[error("a hard link to a directory")]
    LinkToDirectory,
}

impl MergeProblem {
    /// The class of the problem.
    pub fn kind(&self) -> ErrorKind {
        match self {
            MergeProblem::TooDeep(_)
            | MergeProblem::TooMany(_)
            | MergeProblem::LinkSteps(_)
            | MergeProblem::Attributes(_)
            | MergeProblem::Memory(_) => ErrorKind::Limit,
            _ => ErrorKind::Corrupt,
        }
    }
}

impl MergeError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.problem.kind()
    }
}
