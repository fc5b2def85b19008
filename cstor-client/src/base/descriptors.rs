//! How many descriptors this process may have open; who opens many at a time takes a share of it.

use rustix::process::{Resource, getrlimit};

/// The soft limit of this moment.
pub(crate) fn descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}
