//! The files that hold an image's manifest and configuration, or a layer's table of contents: their names, and the
//! check of what they hold.

use std::os::fd::OwnedFd;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::images::ImageRecord;
use super::layers::LayerRecord;
use super::{Root, StoreError};
use crate::base::digest::Digest;

/// The largest manifest or configuration: containers/image refuses more than 4 MiB (internal/iolimits).
const MAX_BIG_DATA: u64 = 4 << 20;

/// The key of a layer's table of contents (pkg/chunked/storage_linux.go, `bigDataKey`).
pub(super) const TOC: &str = "zstd-chunked-manifest";

/// The file name for a key (store.go, `makeBigDataBaseName`): the key itself if every character but the
/// last is a dot, a digit or a lower-case letter, else `=` and the key in base64.
pub(super) fn file_name(key: &str) -> String {
    let plain = |c: char| c == '.' || c.is_ascii_digit() || c.is_ascii_lowercase();
    let mut all_but_last = key.chars();
    all_but_last.next_back();
    if all_but_last.all(plain) { key.to_owned() } else { format!("={}", STANDARD.encode(key)) }
}

/// Opens a layer's table of contents. Nothing in the store says what its digest is: `toc-digest` is that of the
/// compressed form.
pub(super) fn open_toc(root: &Root, layer: &LayerRecord) -> Result<OwnedFd, StoreError> {
    root.open_regular(&format!("overlay-layers/{}/{}", layer.id, file_name(TOC)))
}

/// Reads what an image keeps under a key, and checks size and digest.
pub(super) fn read(root: &Root, image: &ImageRecord, key: &str) -> Result<Vec<u8>, StoreError> {
    if !image.big_data.iter().any(|known| known == key) || key.contains('/') || key.is_empty() {
        return Err(StoreError::NoBigData { image: image.id, key: key.to_owned() });
    }
    let bytes = root.read(&format!("overlay-images/{}/{}", image.id, file_name(key)), MAX_BIG_DATA)?;
    let size_fits = image.big_data_sizes.get(key).is_none_or(|&size| usize::try_from(size) == Ok(bytes.len()));
    let digest_fits = image.big_data_digests.get(key).is_none_or(|&digest| digest == Digest::of(&bytes));
    if size_fits && digest_fits { Ok(bytes) } else { Err(StoreError::BigData { image: image.id, key: key.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names on the right were read in stores that podman 4.3.1 and 5.4.2 made.
    #[test]
    fn keys_become_the_names_that_podman_gives() {
        let table = [
            ("manifest", "manifest"),
            ("zstd-chunked-manifest", "=enN0ZC1jaHVua2VkLW1hbmlmZXN0"),
            (
                "sha256:dbe6abb6d78d6c0be348bc06708f1fec94cbc6965f2d23ef334e7a322bbb2856",
                "=c2hhMjU2OmRiZTZhYmI2ZDc4ZDZjMGJlMzQ4YmMwNjcwOGYxZmVjOTRjYmM2OTY1ZjJkMjNlZjMzNGU3YTMyMmJiYjI4NTY=",
            ),
            ("endS", "endS"),
        ];
        for (key, name) in table {
            assert_eq!(file_name(key), name);
        }
    }
}
