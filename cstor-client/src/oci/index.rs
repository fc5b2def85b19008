//! index.json and oci-layout: which image has which tag. What an index says beside is kept as it is.
//!
//! Sources: image-spec image-layout.md, image-index.md, annotations.md.

use oci_spec::image::{MediaType, OciLayoutBuilder};
use serde_json::{Value, json};

use super::blob::Blob;
use super::error::CopyError;
use super::manifest::{descriptor, to_json};

/// image-spec annotations.md: the tag, in an index.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// image-spec image-layout.md.
const VERSION: &str = "1.0.0";

/// The contents of the file `oci-layout`.
pub(super) fn marker() -> Result<Vec<u8>, CopyError> {
    let layout = OciLayoutBuilder::default().image_layout_version(VERSION).build();
    to_json(&layout.map_err(|error| CopyError::Describe(error.into()))?)
}

/// Whether this is the contents of a file `oci-layout` of the version that is written here.
pub(super) fn is_marker(bytes: &[u8]) -> bool {
    let layout = serde_json::from_slice::<oci_spec::image::OciLayout>(bytes);
    layout.is_ok_and(|layout| layout.image_layout_version() == VERSION)
}

/// An index without images.
pub(super) fn empty() -> Value {
    json!({ "schemaVersion": 2, "mediaType": MediaType::ImageIndex.to_string(), "manifests": [] })
}

/// Adds an image to an index, or moves the tag to it; `None` if this is no index.
pub(super) fn add(index: &mut Value, manifest: Blob, tag: &str) -> Result<Option<()>, CopyError> {
    let mut entry = descriptor(MediaType::ImageManifest, manifest)?;
    entry.set_annotations(Some([(REF_NAME.to_owned(), tag.to_owned())].into()));
    let entry = serde_json::to_value(entry).map_err(|error| CopyError::Describe(error.into()))?;
    let has_tag = |entry: &Value| entry.pointer("/annotations").and_then(|of| of.get(REF_NAME)) == Some(&json!(tag));
    let Some(entries) = index.get_mut("manifests").and_then(Value::as_array_mut) else { return Ok(None) };
    match entries.iter().position(has_tag) {
        Some(place) => {
            let mut at = 0;
            // A tag is that of one image only.
            entries.retain(|entry| {
                at += 1;
                at - 1 <= place || !has_tag(entry)
            });
            if let Some(old) = entries.get_mut(place) {
                *old = entry;
            }
        }
        None => entries.push(entry),
    }
    Ok(Some(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;

    #[test]
    fn a_tag_is_added_or_moved_and_the_rest_stays() {
        let blob = |text: &[u8]| Blob { digest: Digest::of(text), size: 1 };
        let mut index = empty();
        index["annotations"] = json!({ "kept": "yes" });
        for (manifest, tag) in [(b"a", "1"), (b"b", "2"), (b"c", "1"), (b"c", "3")] {
            assert_eq!(add(&mut index, blob(manifest), tag).unwrap(), Some(()));
        }
        let entries = index["manifests"].as_array().unwrap();
        let found: Vec<_> = entries.iter().map(|e| (&e["annotations"][REF_NAME], &e["digest"])).collect();
        let [b, c] = [b"b", b"c"].map(|text| json!(Digest::of(text).to_string()));
        assert_eq!(found, [(&json!("1"), &c), (&json!("2"), &b), (&json!("3"), &c)]);
        assert_eq!(index["annotations"]["kept"], "yes");
        assert_eq!(add(&mut json!([]), blob(b"a"), "1").unwrap(), None);
        assert!(is_marker(&marker().unwrap()) && !is_marker(b"{}"));
    }
}
