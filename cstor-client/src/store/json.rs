//! What the JSON files of a store have in common: a list, or `null`, of objects with ids.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use cstor_proto::LayerId;
use serde::de::{DeserializeOwned, Deserializer, Error as _, SeqAccess, Visitor};

use super::StoreError;
use crate::base::interrupt::Interrupt;

/// Parses a list, and makes a record of each object before the next one is read: a list can have a million.
/// `null` is an empty list, as for Go.
pub(super) fn parse_list<T: DeserializeOwned, R>(
    bytes: &[u8],
    path: &Path,
    interrupt: &Interrupt,
    record: impl FnMut(T) -> Result<R, StoreError>,
) -> Result<Vec<R>, StoreError> {
    let (mut records, mut refused) = (Vec::new(), None);
    let list = List { record, records: &mut records, refused: &mut refused, interrupt, of: PhantomData };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = deserializer.deserialize_option(list).and_then(|()| deserializer.end());
    match (refused, parsed) {
        (Some(error), _) => Err(error),
        (None, Err(source)) => Err(StoreError::Json { path: path.into(), source }),
        (None, Ok(())) => Ok(records),
    }
}

struct List<'a, T, R, F> {
    record: F,
    records: &'a mut Vec<R>,
    /// Why no record could be made, which the parser cannot pass on.
    refused: &'a mut Option<StoreError>,
    interrupt: &'a Interrupt,
    of: PhantomData<T>,
}

impl<'de, T: DeserializeOwned, R, F: FnMut(T) -> Result<R, StoreError>> Visitor<'de> for List<'_, T, R, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(object) = list.next_element()? {
            match self.interrupt.check().map_err(StoreError::from).and_then(|()| (self.record)(object)) {
                Ok(record) => self.records.push(record),
                Err(error) => {
                    *self.refused = Some(error);
                    return Err(A::Error::custom("refused"));
                }
            }
        }
        Ok(())
    }
}

/// Checks an id before anything is made of it.
pub(super) fn parse_id(id: String, path: &Path) -> Result<LayerId, StoreError> {
    id.parse().map_err(|source| StoreError::Id { path: path.into(), id, source })
}
