//! Layers whose files another program provides: those of additional layer stores (overlay.go,
//! `getAdditionalLayerPath`).
//!
//! The directory of such a layer has a file `additionallayer` with the path of its place in one of the layer stores,
//! `[BASE64/]sha256:HEX`, and there are `diff` with the files and `blob` with the compressed tar. The path is not
//! followed: it only says which of the stores that are configured it is, and what to open beneath that.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cstor_helper::open::refusal_of_file;
use cstor_proto::{Refusal, StoreIndex};
use rustix::fs::{Mode, OFlags, openat2};

use super::file::BENEATH;
use super::{LayerPart, LayerRecord, Root, Store, StoreError};
use crate::base::digest::Digest;
use crate::base::kind::ErrorKind;

/// `PATH_MAX`, and the line end that somebody might add.
const MAX_POINTER: u64 = 4097;

/// The files and the tar of a layer.
pub(crate) struct AdditionalLayer {
    pub(crate) store: StoreIndex,
    /// The digest by which it is kept there: of its table of contents, or of its blob.
    pub(crate) digest: Digest,
    pub(crate) diff: OwnedFd,
    /// `None` where the store gives no tar.
    pub(crate) blob: Option<OwnedFd>,
}

/// Finds what an additional layer store has of a layer; `None` if it is not from such a store.
pub(crate) fn find(store: &Store, layer: &LayerRecord) -> Result<Option<AdditionalLayer>, StoreError> {
    let pointer = format!("overlay/{}/additionallayer", layer.id);
    let mut path = None;
    for (_, root) in store.roots.search(layer.root) {
        match root.read(&pointer, MAX_POINTER) {
            Ok(bytes) => {
                path = Some(PathBuf::from(std::ffi::OsStr::from_bytes(bytes.trim_ascii_end())));
                break;
            }
            Err(StoreError::Missing { .. }) => {}
            // A mapped layer is closed to others than its own root, and never comes from such a store.
            Err(error) if error.kind() == ErrorKind::Permission => {}
            Err(error) => return Err(error),
        }
    }
    let Some(path) = path else { return Ok(None) };
    let beneath = store.roots.layer_stores().find_map(|(index, root)| {
        let place = path.strip_prefix(root.path()).ok()?.as_os_str().to_str()?;
        Some((index, root, digest_of(place)?, place))
    });
    let Some((index, root, digest, place)) = beneath else {
        return Err(StoreError::LayerStore { layer: layer.id, path: path.clone() });
    };
    let part = |part, opened: Result<OwnedFd, Refusal>| {
        opened.map_err(|refusal| StoreError::LayerPart { layer: layer.id, part, refusal })
    };
    let diff = part(LayerPart::Diff, open(root, &format!("{place}/diff"), OFlags::PATH | OFlags::DIRECTORY))?;
    let blob = match open(root, &format!("{place}/blob"), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Err(Refusal::NotFound) => None,
        opened => Some(part(LayerPart::Blob, opened)?),
    };
    Ok(Some(AdditionalLayer { store: index, digest, diff, blob }))
}

/// The digest of a layer, from a place that it can have below a layer store.
fn digest_of(place: &str) -> Option<Digest> {
    let mut components = place.rsplit('/');
    let digest = components.next()?.parse().ok()?;
    let reference = components.next().is_none_or(|reference| STANDARD.decode(reference).is_ok());
    (reference && components.next().is_none()).then_some(digest)
}

fn open(store: &Root, path: &str, flags: OFlags) -> Result<OwnedFd, Refusal> {
    openat2(store.dir(), path, flags | OFlags::CLOEXEC, Mode::empty(), BENEATH).map_err(refusal_of_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_of_layers_are_opened() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let reference = STANDARD.encode("docker.io/library/busybox:latest");
        for place in [digest.clone(), format!("{reference}/{digest}")] {
            assert_eq!(digest_of(&place).map(|found| found.to_string()).as_ref(), Some(&digest), "{place}");
        }
        let no_places = [
            String::new(),
            "sha256:ab".to_owned(),
            format!("../{digest}"),
            format!("x/../{digest}"),
            format!("{digest}/.."),
            format!("{reference}/{reference}/{digest}"),
        ];
        for place in no_places {
            assert_eq!(digest_of(&place), None, "{place}");
        }
    }
}
