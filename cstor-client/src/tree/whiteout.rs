//! The names by which a layer's tar says that something of a lower layer is gone.
//!
//! OCI image-spec layer.md, "Whiteouts" and "Opaque Whiteout"; the other `.wh..wh.` names are leftovers
//! of AUFS and mean nothing.

use super::MergeProblem;

const PREFIX: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a member's name says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    /// A member like any other.
    Member,
    /// The sibling of this name is gone.
    Whiteout(&'a [u8]),
    /// Everything that lower layers have in the directory is gone.
    Opaque,
    /// Nothing.
    Ignored,
}

/// Whether a name says something of lower layers, or nothing at all, rather than be a file of its own.
pub(crate) fn is_marker(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|component| component.starts_with(PREFIX))
}

/// Classifies a name by its components, the last one apart.
pub(crate) fn classify<'a>(
    mut parents: impl Iterator<Item = &'a [u8]>,
    last: &'a [u8],
) -> Result<Meaning<'a>, MergeProblem> {
    if let Some(parent) = parents.find(|parent| parent.starts_with(PREFIX)) {
        return if parent.starts_with(AUFS) { Ok(Meaning::Ignored) } else { Err(MergeProblem::BelowWhiteout) };
    }
    match last.strip_prefix(PREFIX) {
        None => Ok(Meaning::Member),
        Some(_) if last == OPAQUE => Ok(Meaning::Opaque),
        Some(_) if last.starts_with(AUFS) => Ok(Meaning::Ignored),
        Some(b"" | b"." | b"..") => Err(MergeProblem::EmptyWhiteout),
        Some(name) => Ok(Meaning::Whiteout(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_the_specification_says() {
        let table: &[(&[&str], &str, Result<Meaning<'static>, MergeProblem>)] = &[
            (&[], "plain", Ok(Meaning::Member)),
            (&["a"], ".whatever", Ok(Meaning::Member)),
            (&["a"], ".wh.x", Ok(Meaning::Whiteout(b"x"))),
            (&[], ".wh..hidden", Ok(Meaning::Whiteout(b".hidden"))),
            (&["a"], ".wh..wh..opq", Ok(Meaning::Opaque)),
            (&[], ".wh..wh.plnk", Ok(Meaning::Ignored)),
            (&[".wh..wh.plnk"], "12.34", Ok(Meaning::Ignored)),
            (&[], ".wh.", Err(MergeProblem::EmptyWhiteout)),
            (&[], ".wh..", Err(MergeProblem::EmptyWhiteout)),
            (&[], ".wh...", Err(MergeProblem::EmptyWhiteout)),
            (&[".wh."], "x", Err(MergeProblem::BelowWhiteout)),
        ];
        for (parents, last, meaning) in table {
            let parents = parents.iter().map(|parent| parent.as_bytes());
            assert_eq!(classify(parents, last.as_bytes()), *meaning, "{last}");
        }
    }
}
