//! What the kernel allows.

use std::path::Path;

use landlock::{ABI, Access, AccessFs, LandlockStatus, Ruleset, RulesetAttr, RulesetError};

use super::{Finding, Problem, Value};
use crate::access::helper::SourceError;
use crate::access::helper::seen::Seen;
use crate::access::helper::subids;
use crate::base::small_file::read_small;
use crate::error::Error;

pub(super) fn examine() -> Vec<Finding> {
    let seen = Seen::now();
    let release = read_small(Path::new("/proc/sys/kernel/osrelease"));
    let release = match release.as_ref().map(|text| text.as_deref().and_then(|text| std::str::from_utf8(text).ok())) {
        Ok(Some(release)) => Finding::good("kernel.release", release.trim()),
        Ok(None) | Err(_) => Finding::note("kernel.release", Value::Unknown, Some(Problem::ReleaseUnreadable)),
    };
    let landlock = landlock();
    let namespaces = match seen.forbidden_by {
        None => Finding::good("kernel.user_namespaces", true),
        Some(switch) => {
            let error = Error::Source(SourceError::NoUserNamespaces { switch });
            Finding::note("kernel.user_namespaces", false, Some(error.into()))
        }
    };
    let apparmor = if seen.apparmor {
        let error = Error::Source(SourceError::AppArmor);
        Finding::note("kernel.apparmor_restriction", true, Some(error.into()))
    } else {
        Finding::good("kernel.apparmor_restriction", false)
    };
    let privileges = if seen.no_new_privs {
        Finding::note("process.no_new_privs", true, Some(Problem::NoNewPrivs))
    } else {
        Finding::good("process.no_new_privs", false)
    };
    let user = Finding::good("process.user", subids::Owner::of_this_process().to_string());
    vec![release, landlock, namespaces, apparmor, privileges, user]
}

/// The version of Landlock's interface. The crate tells it only to a thread that it restricts, so a thread is started for that, and ends.
fn landlock() -> Finding {
    const NAME: &str = "kernel.landlock_abi";
    let restricted = || -> Result<LandlockStatus, RulesetError> {
        let ruleset = Ruleset::default().handle_access(AccessFs::from_all(ABI::V1))?;
        Ok(ruleset.create()?.restrict_self()?.landlock)
    };
    let status = std::thread::Builder::new().spawn(restricted).map(std::thread::JoinHandle::join);
    match status {
        Ok(Ok(Ok(LandlockStatus::Available { effective_abi, kernel_abi }))) => {
            let abi = kernel_abi.unwrap_or(effective_abi as i32);
            Finding::good(NAME, u64::try_from(abi).unwrap_or(0))
        }
        Ok(Ok(Ok(LandlockStatus::NotEnabled))) => Finding::note(NAME, 0, Some(Problem::LandlockDisabled)),
        Ok(Ok(Ok(LandlockStatus::NotImplemented))) => Finding::note(NAME, 0, Some(Problem::LandlockMissing)),
        Ok(Ok(Err(_)) | Err(_)) | Err(_) => Finding::note(NAME, Value::Unknown, None),
    }
}
