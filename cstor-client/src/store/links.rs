//! The short names of layers: `overlay/l/<26 characters>` is a symlink to `../<layer>/diff`.
//!
//! The driver makes them so that mount options stay short (overlay.go, `idLength`); nothing else here
//! relies on them.

use cstor_proto::LayerId;

use super::{Root, StoreError};

const LENGTH: usize = 26;

/// Whether a text has the form of a link id: base32 without padding.
pub(crate) fn is_link_id(text: &str) -> bool {
    text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte))
}

/// The layer that a link stands for; `None` if there is no such link.
pub(crate) fn resolve(root: &Root, link: &str) -> Result<Option<LayerId>, StoreError> {
    let Some(target) = root.read_link(&format!("overlay/l/{link}"))? else { return Ok(None) };
    let text = std::str::from_utf8(&target).unwrap_or_default();
    let id = text.strip_prefix("../").and_then(|rest| rest.strip_suffix("/diff")).unwrap_or(text);
    let path = root.path().join("overlay/l").join(link);
    id.parse().map(Some).map_err(|source| StoreError::Id { path, id: id.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_ids_are_told_from_layer_ids() {
        // The first was made by podman 4.3.1.
        assert!(is_link_id("7BSFIVDDCRAMQJ7ZVZXY5ZBHQL"));
        for text in ["", "7bsfivddcramqj7zvzxy5zbhql", "7BSFIVDDCRAMQJ7ZVZXY5ZBHQ1", "../../../../../../../../../"] {
            assert!(!is_link_id(text), "{text}");
        }
    }
}
