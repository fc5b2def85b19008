//! Landlock: what lies beneath the roots can be read, and nothing else of the file system can be reached.
//!
//! Reading of a directory is reading of its names: layers that containers write to are described by nothing else.
//!
//! This is what makes "read-only" true: seccomp cannot look into the flags that openat2 takes through a
//! pointer. Lookups and `O_PATH` opens are not restricted (landlock(7)); they are needed for layer
//! directories and give no contents.

use cstor_proto::Enforced;
use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, PathBeneath, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::fd::{AsFd, OwnedFd};

use crate::open::layers_dir;

/// What is asked for: everything that this version of the crate can deny. The kernel takes what it knows.
const ASKED: ABI = ABI::V10;
/// From here on (Linux 6.12) every access to files, TCP, abstract sockets and signals is denied. Later
/// ones add UDP and sockets with a path, which take `socket`, and seccomp denies that.
const WHOLE: ABI = ABI::V6;

/// Closes this thread in and says how much of it the kernel enforces.
pub(crate) fn close_in(roots: &[OwnedFd]) -> Result<Enforced, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(ASKED))?
        .handle_access(AccessNet::from_all(ASKED))?
        .scope(Scope::from_all(ASKED))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    for root in roots {
        rules = rules.add_rule(PathBeneath::new(root.as_fd(), read))?;
        if let Some(layers) = layers_dir(root) {
            rules = rules.add_rule(PathBeneath::new(layers, read))?;
        }
    }
    Ok(match rules.restrict_self()? {
        RestrictionStatus { ruleset: RulesetStatus::NotEnforced, .. } => Enforced::Not,
        RestrictionStatus { landlock: LandlockStatus::Available { effective_abi, .. }, .. }
            if effective_abi >= WHOLE =>
        {
            Enforced::Fully
        }
        _ => Enforced::Partly,
    })
}
