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

/// Which files are still in reach, by directories.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    /// May be read beneath.
    pub(crate) reads: &'a [BorrowedFd<'a>],
    /// Anything may be made beneath it.
    pub(crate) grows: BorrowedFd<'a>,
    /// Directories may be made, renamed and removed beneath it, but no files.
    pub(crate) beside: BorrowedFd<'a>,
    /// Everything beneath it may be removed.
    pub(crate) goes: Option<BorrowedFd<'a>>,
    /// Whether devices may be made.
    pub(crate) devices: bool,
}

/// How much of it the kernel enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Everything that was asked for.
    Enforced,
    /// An older kernel does not know some kind of access.
    Partly,
    /// The kernel has no Landlock, or only its first version.
    NotEnforced,
}

pub(super) fn restrict(files: &Files<'_>) -> Result<Held, RulesetError> {
    let required = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    // Version 1 has no such access and so forbids every link and rename between directories.
    let Ok(ruleset) = required.handle_access(AccessFs::Refer) else { return Ok(Held::NotEnforced) };
    let all = AccessFs::from_all(TESTED);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let rename = AccessFs::MakeDir | AccessFs::RemoveDir;
    let remove = AccessFs::ReadDir | AccessFs::RemoveDir | AccessFs::RemoveFile;
    let mut make = all & !(AccessFs::Execute | AccessFs::IoctlDev | AccessFs::MakeSock);
    if !files.devices {
        // Root could make the disk's, and open it.
        make &= !(AccessFs::MakeBlock | AccessFs::MakeChar);
    }
    let ruleset = ruleset.set_compatibility(CompatLevel::BestEffort).handle_access(all)?.create()?;
    let status = ruleset
        .add_rules(files.reads.iter().map(|root| PathBeneath::new(*root, read)).map(Ok::<_, RulesetError>))?
        .add_rules(files.goes.map(|directory| Ok::<_, RulesetError>(PathBeneath::new(directory, remove))))?
        .add_rule(PathBeneath::new(files.beside, rename))?
        .add_rule(PathBeneath::new(files.grows, make))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Held::Enforced,
        RulesetStatus::PartiallyEnforced => Held::Partly,
        RulesetStatus::NotEnforced => Held::NotEnforced,
    })
}
