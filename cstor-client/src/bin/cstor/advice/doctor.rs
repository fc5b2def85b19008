//! What to do about the findings of `cstor doctor`.

use cstor_client::doctor::Problem;

use super::advice;

/// What to do about what a finding is about.
pub(crate) fn problem(problem: &Problem) -> Option<&'static str> {
    Some(match problem {
        Problem::Error(error) => advice(error),
        Problem::NoStore => "without a store there is nothing to open",
        Problem::EmptyStore => "the store is empty: pull an image",
        Problem::OtherFileSystem => "extract to the file system of the store, else files are copied",
        Problem::NoReflink => "files are copied; a store and a destination on one btrfs or XFS can share them",
        Problem::Unwritable => "run it in a directory that you can write to",
        Problem::RemainsUnreadable => "name a directory that you can read",
        Problem::RemainsRemovable => "left by a run that was killed: the next one that writes there removes it",
        Problem::RemainsShared => {
            "left by a run that was killed: remove it; cstor does not, since others may write there"
        }
        Problem::RemainsForeign => {
            "left by a run that was killed: its owner can remove it; cstor does not, since it belongs to another \
             user, or others may look into it"
        }
        Problem::RemainsUnknown => "its maker may still be running: its owner can remove it if it is not",
        Problem::ReleaseUnreadable => "mount /proc",
        Problem::LandlockDisabled => "enable Landlock with the boot parameter lsm=",
        Problem::LandlockMissing => "run Linux 5.13 or later, built with Landlock",
        Problem::NoNewPrivs => "newuidmap gets no rights under it; podman needs its pause process",
        _ => return None,
    })
}
