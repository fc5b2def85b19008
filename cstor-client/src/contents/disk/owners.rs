//! From the owners that this process sees to ids of the container.
//!
//! Two maps lie between them: that of the user namespace that the store was made in, unless this process is in it, and
//! that of a container with ids of its own. The layer has that one where podman gave the files of its image to those ids;
//! where the kernel shifts ids at the mount, only the container has it (store.go, `CreateContainer`).

use rustix::process::{getegid, geteuid};

use super::DiskError;
use crate::access::Chain;
use crate::access::helper::SourceError;
use crate::access::helper::subids::{self, Ids, Range};
use crate::contents::ImageError;
use crate::store::{IdMap, IdMaps, LayerRecord};

/// Both maps, for users and for groups.
#[derive(Debug)]
pub(super) struct Owners {
    users: Maps,
    groups: Maps,
}

#[derive(Debug)]
struct Maps {
    /// `None` where this process sees the ids of the namespace.
    namespace: Option<Vec<IdMap>>,
    /// Empty where the container has all ids of the namespace.
    container: Vec<IdMap>,
}

impl Owners {
    pub(super) fn of(chain: &Chain, layer: &LayerRecord) -> Result<Owners, ImageError> {
        let namespace = |own: u32, ids: Ids| -> Result<Option<Vec<IdMap>>, SourceError> {
            // Root is in the namespace of its own stores: the first one, or podman's.
            if geteuid().is_root() { Ok(None) } else { Ok(Some(as_podman_maps(own, &subids::own(ids)?))) }
        };
        let maps = match layer.is_mapped() {
            true => Some(layer.maps.clone()),
            false => chain.store().id_maps_of_container(layer.id, chain.interrupt())?,
        };
        let IdMaps { users, groups } = maps.unwrap_or_default();
        Ok(Owners {
            users: Maps { namespace: namespace(geteuid().as_raw(), Ids::User)?, container: users },
            groups: Maps { namespace: namespace(getegid().as_raw(), Ids::Group)?, container: groups },
        })
    }

    /// The ids of the container that stand for an owner and a group.
    pub(super) fn container_ids(&self, uid: u32, gid: u32) -> Result<(u32, u32), DiskError> {
        let ids = self.users.container_id(uid).zip(self.groups.container_id(gid));
        ids.ok_or(DiskError::Owner { uid, gid })
    }

    /// Whether a user is the container's root.
    pub(super) fn is_root(&self, uid: u32) -> bool {
        self.users.container_id(uid) == Some(0)
    }
}

impl Maps {
    fn container_id(&self, seen: u32) -> Option<u32> {
        let id = match &self.namespace {
            Some(map) => inside(map, seen)?,
            None => seen,
        };
        if self.container.is_empty() { Some(id) } else { inside(&self.container, id) }
    }
}

fn inside(map: &[IdMap], outside: u32) -> Option<u32> {
    map.iter().find_map(|range| {
        let offset = outside.checked_sub(range.host).filter(|offset| *offset < range.size)?;
        range.container.checked_add(offset)
    })
}

/// The user is 0, and the subordinate ids follow (containers/storage pkg/idtools, `createIDMap`; libpod's rootless).
fn as_podman_maps(own: u32, ranges: &[Range]) -> Vec<IdMap> {
    let mut map = vec![IdMap { container: 0, host: own, size: 1 }];
    let mut next = 1_u32;
    for range in ranges {
        map.push(IdMap { container: next, host: range.first, size: range.count });
        next = next.saturating_add(range.count);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_go_through_both_maps() {
        let ranges = [Range { first: 100_000, count: 65_536 }, Range { first: 300_000, count: 10 }];
        let rootless = || Some(as_podman_maps(1000, &ranges));
        // A container that has 1 to 1000 of the namespace as 0 to 999.
        let own = || vec![IdMap { container: 0, host: 1, size: 1000 }];
        type Row = (Option<Vec<IdMap>>, Vec<IdMap>, u32, Option<u32>);
        let table: &[Row] = &[
            (None, vec![], 4711, Some(4711)),
            (None, own(), 1, Some(0)),
            (None, own(), 1000, Some(999)),
            (None, own(), 0, None),
            (None, own(), 1001, None),
            (rootless(), vec![], 1000, Some(0)),
            (rootless(), vec![], 100_000, Some(1)),
            (rootless(), vec![], 165_535, Some(65_536)),
            (rootless(), vec![], 300_000, Some(65_537)),
            (rootless(), vec![], 300_010, None),
            (rootless(), vec![], 0, None),
            (rootless(), own(), 100_000, Some(0)),
            (rootless(), own(), 1000, None),
        ];
        for (namespace, container, seen, expected) in table {
            let maps = Maps { namespace: namespace.clone(), container: container.clone() };
            assert_eq!(maps.container_id(*seen), *expected, "{seen} {maps:?}");
        }
    }
}
