//! Privileges: CAP_DAC_READ_SEARCH stays, the other forty go from every set, and so do the caller's ids.
//!
//! The capability alone reads files of mode 0000 in directories of mode 0000 and lets nothing be written.
//! As nobody the helper does not own the user's files, which are those of id 0.

use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::io::Errno;
use rustix::thread::set_keep_capabilities;

const KEPT: Capability = Capability::CAP_DAC_READ_SEARCH;
const ALL_SETS: [CapSet; 5] =
    [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Bounding, CapSet::Ambient];

/// The last id of the first 65536, which podman maps.
const NOBODY: u32 = 65534;

/// Empties the sets from which the others can be filled again. Before the ids change: with them goes
/// CAP_SETPCAP from the effective set, and without it lowering the bounding set is EPERM.
pub(crate) fn close_the_way_back() -> Result<(), caps::errors::CapsError> {
    // Without that capability nothing can be gained through the set either once no_new_privs is set.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)
}

/// Becomes nobody, in no group, and keeps the permitted capabilities. `false` where the namespace does not
/// map the id, forbids to leave groups (user_namespaces(7), /proc/PID/setgroups), or the rights are missing.
pub(crate) fn become_nobody() -> Result<bool, Errno> {
    set_keep_capabilities(true)?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let left_groups = setgroups(&[]).is_ok();
    // Groups first: changing them takes the user's capabilities.
    let changed = setresgid(group, group, group).is_ok() && setresuid(user, user, user).is_ok();
    Ok(left_groups && changed)
}

/// Drops all but [`KEPT`] from the permitted and effective sets, and has it there only if it was held.
pub(crate) fn keep_dac_read_search() -> Result<(), caps::errors::CapsError> {
    let mut kept = CapsHashSet::new();
    if caps::has_cap(None, CapSet::Permitted, KEPT)? {
        kept.insert(KEPT);
    }
    // The effective set must shrink before the permitted one.
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

/// The effective set, and all sets together, as the kernel reports them.
pub(crate) fn held() -> Result<(u64, u64), Errno> {
    let mask = |set| -> Result<u64, Errno> {
        let held = caps::read(None, set).map_err(|_| Errno::PERM)?;
        Ok(held.iter().fold(0, |mask, cap| mask | cap.bitmask()))
    };
    let mut all = 0;
    for set in ALL_SETS {
        all |= mask(set)?;
    }
    Ok((mask(CapSet::Effective)?, all))
}
