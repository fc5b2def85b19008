//! What to do about the helper, and what carries it into the user namespace.

use cstor_client::error::SourceError;

pub(super) fn helper(error: &SourceError) -> Option<&'static str> {
    Some(match error {
        SourceError::NoHelper { .. } => "install cstor-helper beside cstor, or set CSTOR_HELPER",
        SourceError::NamedHelper { .. } => "correct or unset CSTOR_HELPER",
        SourceError::UnsafeHelper { .. } => "install one that only root or you can write to",
        SourceError::NotInitialised | SourceError::TooManyThreads { .. } => {
            "call init_if_helper() first in main, before any thread is started"
        }
        SourceError::NoLauncher { launcher: "podman" } => {
            "install podman, which enters the user namespace, or try --launcher newuidmap"
        }
        SourceError::NoLauncher { .. } => "install it, or choose another --launcher",
        SourceError::Silent { launcher: "podman" | "buildah", .. } => {
            "another podman may hold the storage lock; see `podman unshare true`, or use --launcher newuidmap"
        }
        SourceError::Stuck { .. } => "see whether it was stopped, or the file system of the store does not answer",
        SourceError::NoUserNamespaces { .. } => "set it to a larger number (sysctl), or run as root",
        SourceError::AppArmor => "use --launcher podman, which has a profile, or give cstor-helper one",
        SourceError::NoMapper { .. } => "install uidmap (shadow-utils)",
        SourceError::PowerlessMapper { .. } => "install uidmap (shadow-utils) again, on a file system without nosuid",
        SourceError::NoNewPrivs { launcher: "podman" | "buildah", .. } => {
            "run `podman unshare true` once outside, so that its pause process exists, or do without no_new_privs"
        }
        SourceError::NoNewPrivs { .. } => "do without no_new_privs (NoNewPrivileges=), or use --launcher podman",
        SourceError::NoSubordinateIds { .. } => {
            "add one (usermod --add-subuids, --add-subgids), then `podman system migrate`"
        }
        SourceError::SubordinateLine { .. } => "correct it: NAME:FIRST:COUNT, without overlaps",
        SourceError::Unmappable { .. } => "check /etc/subuid and /etc/subgid, or use --launcher podman",
        SourceError::NoNamespace { .. } | SourceError::Version { .. } => {
            "install cstor and cstor-helper of the same release"
        }
        SourceError::Unconfined { .. } => "run a kernel with Landlock and seccomp, or without --require-sandbox",
        SourceError::Powerless { .. } => {
            "check /etc/subuid and /etc/subgid, then `podman system migrate`, or use another --launcher"
        }
        SourceError::DescriptorsLost => "raise the descriptor limit (ulimit -n), or see whether SELinux denies them",
        _ => return None,
    })
}
