//! What to do about a store, its layers, and the files of containers.

use cstor_client::error::{
    ContentProblem, DiskError, MergeError, MergeProblem, ReadError, ReadProblem, Refusal, StoreError,
};

use super::MEMORY;

pub(super) fn store(error: &StoreError) -> Option<&'static str> {
    Some(match error {
        StoreError::Memory(_) => "allow more memory",
        StoreError::NoHome { .. } => "set HOME, or name the store with --root",
        StoreError::ConfMissing { .. } => "correct or unset the environment variable that names it",
        StoreError::ConfRead { .. } => "make it a file that you may read, or name the store with --root",
        StoreError::ConfSyntax { .. } | StoreError::RelativeRoot { .. } => "correct it, or name the store with --root",
        StoreError::NoStore { .. } => "name the store with --root; `podman info` shows graphRoot",
        StoreError::ForeignStore { .. } => "run as that user, or with --as-owner",
        StoreError::Driver { .. } => "cstor reads overlay stores only",
        StoreError::UnknownLayout { .. } => "name the root of a store; `podman info` shows graphRoot",
        StoreError::ManifestList { .. } => "name one of the images that it lists",
        StoreError::NoImage { .. } => "`cstor image list` shows the images",
        StoreError::NoContainer { .. } => "`cstor container list` shows the containers",
        StoreError::NotAnImage { .. } => "commit it with podman first",
        StoreError::AmbiguousContainer { .. } | StoreError::AmbiguousImage { .. } => "name one of them in full",
        StoreError::LayerStore { .. } => {
            "name that store with --storage-opt additionallayerstore=DIR, or in storage.conf"
        }
        StoreError::Incomplete { .. } => "pull or build the image again",
        StoreError::Locked { .. } => "try again when it has finished",
        StoreError::Destination { .. } => "choose a destination outside of every store",
        StoreError::Unseen { .. } => "choose another destination",
        _ => return None,
    })
}

pub(super) fn read(error: &ReadError) -> Option<&'static str> {
    Some(match &error.problem {
        ReadProblem::Content(ContentProblem::Refused(Refusal::Denied)) => {
            "let the helper open it (--helper always), and check /etc/subuid and /etc/subgid"
        }
        ReadProblem::Content(ContentProblem::Refused(Refusal::Unmapped)) => {
            "extend the ranges in /etc/subuid and /etc/subgid, then `podman system migrate`"
        }
        ReadProblem::NoTar => "commit the container with podman first, or extract it",
        ReadProblem::Disk(error) => return disk(error),
        ReadProblem::TocOnly => "pull the image in full, without enable_partial_images",
        _ => return None,
    })
}

fn disk(error: &DiskError) -> Option<&'static str> {
    Some(match error {
        DiskError::List(Refusal::Denied)
        | DiskError::Look(Refusal::Denied)
        | DiskError::Attribute { refusal: Refusal::Denied, .. } => {
            "let the helper look (--helper auto), and check /etc/subuid and /etc/subgid"
        }
        DiskError::Owner { .. } => "check /etc/subuid and /etc/subgid: they must be as when the container was made",
        DiskError::Redirect | DiskError::Metacopy | DiskError::SeveralDirectories => {
            "commit the container with podman, and read the image"
        }
        DiskError::WhiteoutName => "rename it in the container",
        DiskError::Memory(_) => MEMORY,
        DiskError::LongPath => "remove what makes them in the container",
        _ => return None,
    })
}

pub(super) fn merge(error: &MergeError) -> Option<&'static str> {
    matches!(error.problem, MergeProblem::Memory(_)).then_some(MEMORY)
}
