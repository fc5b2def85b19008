//! The document of a table of contents, read row by row, so that it is charged and interrupted while it is read.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::ChunkedError;
use super::row::Row;
use crate::base::account::Charge;
use crate::base::interrupt::Interrupt;

/// The document while it is read.
pub(super) struct Table<'a> {
    pub(super) charge: Charge,
    /// Why it was not read on, which the parser cannot pass on.
    pub(super) failed: &'a mut Option<ChunkedError>,
    pub(super) interrupt: &'a Interrupt,
}

/// What was in it.
pub(super) struct Parsed {
    pub(super) version: Option<i64>,
    pub(super) rows: Vec<Row>,
    pub(super) charge: Charge,
    pub(super) has_tar_split: bool,
}

impl<'de> DeserializeSeed<'de> for Table<'_> {
    type Value = Parsed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Table<'_> {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of contents")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Parsed, A::Error> {
        let (mut version, mut rows, mut has_tar_split) = (None, None, false);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "version" => version = Some(map.next_value()?),
                "entries" if rows.is_some() => return Err(A::Error::duplicate_field("entries")),
                "entries" => rows = Some(map.next_value_seed(Rows(&mut self))?),
                "tarSplitDigest" => has_tar_split = map.next_value::<Option<String>>()?.is_some(),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let rows = rows.ok_or_else(|| A::Error::missing_field("entries"))?;
        Ok(Parsed { version, rows, charge: self.charge, has_tar_split })
    }
}

/// The list of rows while it is read; those of chunks are left out.
struct Rows<'t, 'a>(&'t mut Table<'a>);

impl<'de> DeserializeSeed<'de> for Rows<'_, '_> {
    type Value = Vec<Row>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Row>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_> {
    type Value = Vec<Row>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Row>, A::Error> {
        let Table { charge, failed, interrupt } = self.0;
        let mut rows = Vec::new();
        while let Some(row) = list.next_element::<Row>()? {
            let checked = interrupt.check().map_err(ChunkedError::from);
            let kept = row.kind != "chunk";
            let charged = checked.and_then(|()| if kept { Ok(charge.add(row.size_in_memory())?) } else { Ok(()) });
            if let Err(error) = charged {
                **failed = Some(error);
                return Err(A::Error::custom("not read on"));
            }
            if kept {
                rows.push(row);
            }
        }
        Ok(rows)
    }
}
