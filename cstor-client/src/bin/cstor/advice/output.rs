//! What to do about a result and the place where it is to be, and about streams.

use cstor_client::ErrorKind;
use cstor_client::error::{CopyError, ExtractError, Obstacle, SplitFdError};

use super::{destination, image};

pub(super) fn extract(error: &ExtractError) -> Option<&'static str> {
    Some(match error {
        ExtractError::Image(error) => return image(error),
        ExtractError::Stream(error) => return split_fd(error),
        ExtractError::Destination { source, .. } => destination(source),
        ExtractError::Occupied { what, .. } => return obstacle(*what),
        ExtractError::NoReflink { .. } => {
            "extract to the file system of the store, if it can reflink, or use --reflink auto"
        }
        ExtractError::Lossy(_) => "run as root, or without --strict",
        ExtractError::Device { .. } => "use --devices skip, or --devices create as root",
        ExtractError::DevicesNeedRoot => "run as root, or use --devices skip",
        ExtractError::Owner { .. } => "use --no-same-owner",
        _ => return None,
    })
}

fn obstacle(obstacle: Obstacle) -> Option<&'static str> {
    Some(match obstacle {
        Obstacle::Nameless => "name a directory by its path, not as `.`, `..` or `/`",
        Obstacle::NotEmpty | Obstacle::Appeared => "choose a directory that does not exist, or --replace",
        Obstacle::Symlink | Obstacle::NotADirectory => "choose a directory that does not exist",
        Obstacle::MountPoint => "name a directory below it",
        Obstacle::MountBelow => "unmount it, or choose a directory that does not exist",
        Obstacle::Immutable | Obstacle::AppendOnly => "remove the attribute with chattr, or choose another destination",
        Obstacle::Foreign { .. } | Obstacle::Sticky { .. } => {
            "remove it as its owner (of a subordinate id: under `podman unshare`), or choose a directory that does \
             not exist"
        }
        Obstacle::LowerLayer => "remove it first, or choose a directory that does not exist",
        Obstacle::Locked => "try again when it has finished",
        Obstacle::Exchanged | Obstacle::Taken => "try again when nothing else uses the directory",
        _ => return None,
    })
}

pub(super) fn copy(error: &CopyError) -> Option<&'static str> {
    Some(match error {
        CopyError::NoDigest { .. } => "pull the image without partial pulls (enable_partial_images)",
        CopyError::Write { source, .. } => destination(source),
        CopyError::Impossible(_) => "choose another destination or compression",
        _ => return None,
    })
}

pub(super) fn split_fd(error: &SplitFdError) -> Option<&'static str> {
    Some(match error {
        SplitFdError::TooManyFiles { .. } => "take the files one by one, or raise the limit",
        SplitFdError::Write(error) => destination(error),
        _ if error.kind() == ErrorKind::Corrupt => "have the stream and its files made again",
        _ => return None,
    })
}
