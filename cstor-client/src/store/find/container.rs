//! Which container a user means: its name, its id or the beginning of that.

use std::sync::Arc;

use crate::store::{ContainerRecord, StoreError};

/// What stands before the name of a container where an image could stand too.
pub(crate) const PREFIX: &str = "container:";
/// The shortest prefix of an id that is taken for one.
const MIN_PREFIX: usize = 3;
/// Where an image could stand too, an id has as many digits as lists show.
const SHOWN: usize = 12;
const MAX_CANDIDATES: usize = 5;

/// Whether this can only be meant as an id.
pub(crate) fn is_id(reference: &str) -> bool {
    reference.len() >= SHOWN && reference.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Finds the one container that `reference` means; a whole name or id counts more than the beginning of another id.
pub(crate) fn find(containers: Vec<Arc<ContainerRecord>>, reference: &str) -> Result<Arc<ContainerRecord>, StoreError> {
    let whole =
        |container: &ContainerRecord| container.id == reference || container.names.iter().any(|name| name == reference);
    let begins = |container: &ContainerRecord| reference.len() >= MIN_PREFIX && container.id.starts_with(reference);
    if let Some(found) = containers.iter().find(|container| whole(container)) {
        return Ok(Arc::clone(found));
    }
    let mut found: Vec<_> = containers.into_iter().filter(|container| begins(container)).collect();
    match (found.pop(), found.as_slice()) {
        (None, _) => Err(StoreError::NoContainer { reference: reference.to_owned() }),
        (Some(container), []) => Ok(container),
        (Some(last), others) => {
            let label = |container: &Arc<ContainerRecord>| {
                container.names.first().cloned().unwrap_or_else(|| container.id.chars().take(SHOWN).collect())
            };
            let candidates = others.iter().chain([&last]).take(MAX_CANDIDATES).map(label).collect();
            Err(StoreError::AmbiguousContainer { reference: reference.to_owned(), candidates })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_find_one_container() {
        let container = |id: &str, name: &str| {
            let id = format!("{id}{}", "0".repeat(64 - id.len()));
            let layer = id.parse().unwrap();
            Arc::new(ContainerRecord {
                id,
                names: vec![name.to_owned()],
                image: None,
                layer,
                created: None,
                image_name: None,
                maps: Default::default(),
            })
        };
        let all = || vec![container("abc1", "web"), container("abc2", "db"), container("bad3", "abc")];
        let full = format!("abc2{}", "0".repeat(60));
        for (reference, name) in [("web", "web"), ("abc1", "web"), ("abc20", "db"), (&full, "db"), ("abc", "abc")] {
            assert_eq!(find(all(), reference).unwrap().names, [name], "{reference}");
        }
        for reference in ["", "ab", "nothing", "we", "abc3"] {
            assert!(matches!(find(all(), reference), Err(StoreError::NoContainer { .. })), "{reference}");
        }
        let two = || vec![container("abc1", "web"), container("abc2", "db")];
        let Err(StoreError::AmbiguousContainer { candidates, .. }) = find(two(), "abc") else { panic!() };
        assert_eq!(candidates, ["web", "db"]);
        assert!(is_id("abc100000000") && !is_id("abc10000000") && !is_id("abc10000000x") && !is_id("ABC100000000"));
    }
}
