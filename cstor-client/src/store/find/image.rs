//! Which image a user means: names, short names, ids, prefixes and digests, as podman takes them.
//!
//! It knows records, not stores. What matches more than one image is an error; podman's own order
//! (libimage/runtime.go, `LookupImage`) is kept where only one matches.

use std::sync::Arc;

use crate::base::digest::{Digest, ImageId};
use crate::store::{ImageRecord, StoreError};

type Records<'a> = Vec<&'a Arc<ImageRecord>>;

/// The shortest prefix of an id that is taken for one.
const MIN_PREFIX: usize = 3;
/// How many candidates an error lists.
const MAX_CANDIDATES: usize = 5;
const DEFAULT_TAG: &str = "latest";

/// Finds the one image that `reference` means.
pub(crate) fn find<'a>(images: &'a [Arc<ImageRecord>], reference: &str) -> Result<&'a Arc<ImageRecord>, StoreError> {
    let asked = reference.strip_prefix("containers-storage:").unwrap_or(reference);
    for complete in [by_full_id, by_digest, by_exact_name] {
        let found = complete(images, asked);
        if !found.is_empty() {
            return only(found, reference);
        }
    }
    // A short name can be the beginning of another image's id as well: then neither is meant for sure.
    let mut found = by_short_name(images, asked);
    found.extend(by_id_prefix(images, asked));
    only(found, reference)
}

fn only<'a>(found: Records<'a>, reference: &str) -> Result<&'a Arc<ImageRecord>, StoreError> {
    // The same image in two stores is one image; the first store counts.
    let mut distinct: Records<'a> = Vec::new();
    for image in found {
        if !distinct.iter().any(|known| known.id == image.id) {
            distinct.push(image);
        }
    }
    match distinct.as_slice() {
        [] => Err(StoreError::NoImage { reference: reference.to_owned() }),
        [image] => Ok(image),
        several => {
            let label = |image: &&Arc<ImageRecord>| image.names.first().cloned().unwrap_or_else(|| image.id.short());
            let candidates = several.iter().take(MAX_CANDIDATES).map(label).collect();
            Err(StoreError::AmbiguousImage { reference: reference.to_owned(), candidates })
        }
    }
}

fn by_full_id<'a>(images: &'a [Arc<ImageRecord>], asked: &str) -> Records<'a> {
    let Ok(id) = asked.strip_prefix("sha256:").unwrap_or(asked).parse::<ImageId>() else { return Vec::new() };
    images.iter().filter(|image| image.id == id).collect()
}

fn by_digest<'a>(images: &'a [Arc<ImageRecord>], asked: &str) -> Records<'a> {
    let (name, digest) = match asked.split_once('@') {
        Some((name, digest)) => (Some(name), digest),
        None => (None, asked),
    };
    let Ok(digest) = digest.parse::<Digest>() else { return Vec::new() };
    let has_digest = |image: &&Arc<ImageRecord>| {
        let manifests = image.big_data_digests.iter().filter(|(key, _)| key.starts_with("manifest"));
        image.digest == Some(digest) || manifests.into_iter().any(|(_, known)| *known == digest)
    };
    let has_name = |image: &&Arc<ImageRecord>| match name {
        None => true,
        Some(name) => {
            let wanted = repository(name);
            image.names.iter().any(|known| ends_with_name(repository(known), wanted))
        }
    };
    images.iter().filter(has_digest).filter(has_name).collect()
}

/// `registry/path:tag` in full. Two images of one name are a fault of the store: the later one has it.
fn by_exact_name<'a>(images: &'a [Arc<ImageRecord>], asked: &str) -> Records<'a> {
    newest(images.iter().filter(|image| image.names.iter().any(|name| *name == with_tag(asked))).collect(), asked)
}

/// A name without its registry: `localhost/` first, as podman does, then whichever registry has it.
fn by_short_name<'a>(images: &'a [Arc<ImageRecord>], asked: &str) -> Records<'a> {
    let wanted = with_tag(asked);
    let local = by_exact_name(images, &format!("localhost/{wanted}"));
    if !local.is_empty() {
        return local;
    }
    let mut found: Vec<(&str, &'a Arc<ImageRecord>)> = Vec::new();
    for image in images {
        found
            .extend(image.names.iter().filter(|name| ends_with_name(name, &wanted)).map(|name| (name.as_str(), image)));
    }
    let same_name = found.iter().all(|(name, _)| found.first().is_some_and(|(first, _)| first == name));
    let found = found.into_iter().map(|(_, image)| image).collect();
    if same_name { newest(found, asked) } else { found }
}

/// Of several images with one name: that of the first store, and in one store the newest.
fn newest<'a>(mut found: Records<'a>, asked: &str) -> Records<'a> {
    if let Some(first) = found.first().map(|image| image.root) {
        found.retain(|image| image.root == first);
    }
    if found.len() > 1
        && found.iter().any(|image| found.first().is_some_and(|first| first.root == image.root && first.id != image.id))
    {
        tracing::warn!(name = asked, "two images have this name; the newest counts");
        // RFC 3339 in UTC sorts as text.
        found.sort_by(|a, b| b.created.cmp(&a.created));
        found.truncate(1);
    }
    found
}

fn by_id_prefix<'a>(images: &'a [Arc<ImageRecord>], asked: &str) -> Records<'a> {
    images.iter().filter(|image| has_id_prefix(image, asked)).collect()
}

fn has_id_prefix(image: &ImageRecord, asked: &str) -> bool {
    let prefix = asked.strip_prefix("sha256:").unwrap_or(asked);
    prefix.len() >= MIN_PREFIX && image.id.to_string().starts_with(prefix)
}

/// The name with `:latest` where it has no tag.
fn with_tag(name: &str) -> String {
    if tag_at(name).is_some() { name.to_owned() } else { format!("{name}:{DEFAULT_TAG}") }
}

/// Where the tag's colon is: one behind the last slash, since a registry may have a port.
fn tag_at(name: &str) -> Option<usize> {
    let colon = name.rfind(':')?;
    name.rfind('/').is_none_or(|slash| slash < colon).then_some(colon)
}

fn repository(name: &str) -> &str {
    name.get(..tag_at(name).unwrap_or(name.len())).unwrap_or(name)
}

/// Whether `wanted` is all of `name`, or its end after a slash.
fn ends_with_name(name: &str, wanted: &str) -> bool {
    name.strip_suffix(wanted).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cstor_proto::StoreIndex;

    fn image(id: &str, names: &[&str], created: &str) -> Arc<ImageRecord> {
        let id = format!("{id}{}", "0".repeat(64 - id.len()));
        Arc::new(ImageRecord {
            digest: format!("sha256:{}", id.replace('a', "d")).parse().ok(),
            id: id.parse().unwrap(),
            root: StoreIndex(0),
            names: names.iter().map(|name| name.to_string()).collect(),
            layer: None,
            mapped_layers: Vec::new(),
            created: Some(created.to_owned()),
            big_data: Vec::new(),
            big_data_sizes: Default::default(),
            big_data_digests: Default::default(),
        })
    }

    #[test]
    fn references_find_what_podman_finds() {
        let images = [
            image("aaa1", &["localhost/app:latest", "localhost/app:v1"], "1"),
            image("aaa2", &["quay.io/org/app:latest"], "2"),
            image("abc3", &["docker.io/library/busybox:1.36", "127.0.0.1:5000/tool:latest"], "3"),
            image("abd4", &["quay.io/x/dup:latest"], "4"),
            image("abe5", &["ghcr.io/x/dup:latest"], "5"),
            image("fee6", &["localhost/abd4:latest"], "6"),
            image("bad7", &["localhost/twice:latest"], "7"),
            image("bad8", &["localhost/twice:latest"], "8"),
        ];
        let found: &[(&str, &str)] = &[
            ("app", "aaa1"),
            ("app:v1", "aaa1"),
            ("localhost/app", "aaa1"),
            ("containers-storage:localhost/app", "aaa1"),
            ("org/app", "aaa2"),
            ("quay.io/org/app:latest", "aaa2"),
            ("busybox:1.36", "abc3"),
            ("127.0.0.1:5000/tool", "abc3"),
            ("tool", "abc3"),
            ("abc", "abc3"),
            ("sha256:abc3", "abc3"),
            (&images[2].id.to_string(), "abc3"),
            (&format!("sha256:{}", images[2].id), "abc3"),
            (&images[1].digest.unwrap().to_string(), "aaa2"),
            (&format!("quay.io/org/app@{}", images[1].digest.unwrap()), "aaa2"),
            (&format!("app@{}", images[1].digest.unwrap()), "aaa2"),
            ("twice", "bad8"),
        ];
        for (reference, id) in found {
            let image = find(&images, reference).unwrap_or_else(|error| panic!("{reference}: {error}"));
            assert!(image.id.to_string().starts_with(id), "{reference} found {}", image.id);
        }
        for reference in ["nothing", "", "ab", "app:v2", "pp", "x/app", "busybox", "sha256:../x", "ABC3"] {
            assert!(matches!(find(&images, reference), Err(StoreError::NoImage { .. })), "{reference}");
        }
        for reference in ["dup", "x/dup", "aaa", "abd4"] {
            assert!(matches!(find(&images, reference), Err(StoreError::AmbiguousImage { .. })), "{reference}");
        }
        let Err(StoreError::AmbiguousImage { candidates, .. }) = find(&images, "dup") else { panic!() };
        assert_eq!(candidates, ["quay.io/x/dup:latest", "ghcr.io/x/dup:latest"]);
    }
}
