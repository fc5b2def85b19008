//! Capabilities: CAP_DAC_READ_SEARCH stays, the other forty go from every set.
//!
//! It alone reads files of mode 0000 in directories of mode 0000 and lets nothing be written.

use caps::{CapSet, Capability, CapsHashSet};
use rustix::io::Errno;

const KEPT: Capability = Capability::CAP_DAC_READ_SEARCH;
const ALL_SETS: [CapSet; 5] =
    [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Bounding, CapSet::Ambient];

/// Empties every set but for [`KEPT`] in the permitted and effective ones, and there only if it was held.
pub(crate) fn keep_dac_read_search() -> Result<(), caps::errors::CapsError> {
    // The bounding set first: lowering it needs CAP_SETPCAP. Without that capability nothing can be
    // gained through it either once no_new_privs is set.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
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
