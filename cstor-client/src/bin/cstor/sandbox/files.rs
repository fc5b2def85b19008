//! Landlock: which files may still be opened, made, renamed and removed, by descriptors, never by path.
//!
//! The kernel does not check what is open already, nor looking at metadata. The scope for signals is not used: the
//! client must be able to end the launcher of its helper, which it started before.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus,
};

/// The newest interface that this was tried with; what an older kernel lacks of it is left out.
const TESTED: ABI = ABI::V7;

/// How much of it the kernel enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    /// Everything that was asked for.
    Enforced,
    /// An older kernel does not know some kind of access.
    Partly,
    /// The kernel has no Landlock, or only its first version.
    NotEnforced,
}

pub(super) fn restrict(reads: &[BorrowedFd<'_>], writes: BorrowedFd<'_>, devices: bool) -> Result<Files, RulesetError> {
    let required = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    // Version 1 has no such access and so forbids every link and rename between directories.
    let Ok(ruleset) = required.handle_access(AccessFs::Refer) else { return Ok(Files::NotEnforced) };
    let all = AccessFs::from_all(TESTED);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut place = all & !(AccessFs::Execute | AccessFs::IoctlDev | AccessFs::MakeSock);
    if !devices {
        // Root could make the disk's, and open it.
        place &= !(AccessFs::MakeBlock | AccessFs::MakeChar);
    }
    let ruleset = ruleset.set_compatibility(CompatLevel::BestEffort).handle_access(all)?.create()?;
    let rules = reads.iter().map(|root| Ok::<_, RulesetError>(PathBeneath::new(*root, read)));
    let status = ruleset.add_rules(rules)?.add_rule(PathBeneath::new(writes, place))?.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Files::Enforced,
        RulesetStatus::PartiallyEnforced => Files::Partly,
        RulesetStatus::NotEnforced => Files::NotEnforced,
    })
}
