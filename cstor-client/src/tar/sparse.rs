//! Where the stored data of a sparse member belongs: the maps in old GNU headers and in PAX 0.0, 0.1 and 1.0
//! (GNU tar manual, "Storing Sparse Files"). It takes bytes apart and reads no archive.

use tar::GnuSparseHeader;

use super::pax::{decimal, split_record};

/// A run of data in a sparse file; what is between two is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// What PAX records say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PaxMap {
    /// Nothing: the member is not sparse.
    None,
    /// 0.0 and 0.1: the records hold the map.
    Records(Vec<Extent>),
    /// 1.0: the map precedes the data.
    BeforeData,
}

/// Extents of an old GNU header, or of a block that continues it.
pub(super) fn gnu(entries: &[u8], extents: &mut Vec<Extent>) -> Option<()> {
    for entry in entries.chunks_exact(24) {
        let (offset, rest) = entry.split_first_chunk()?;
        let numbytes = *rest.first_chunk()?;
        let entry = GnuSparseHeader { offset: *offset, numbytes };
        if numbytes.first() == Some(&0) {
            return Some(());
        }
        extents.push(Extent { start: entry.offset().ok()?, length: entry.length().ok()? });
    }
    Some(())
}

/// The map, or where it is, by the contents of a PAX header.
pub(super) fn pax(mut records: &[u8]) -> Option<PaxMap> {
    let (mut major, mut minor, mut numbers, mut is_sparse) = (0, 0, Vec::new(), false);
    while !records.is_empty() {
        let (keyword, value, rest) = split_record(records)?;
        match keyword {
            b"GNU.sparse.major" => major = decimal(value).ok()?,
            b"GNU.sparse.minor" => minor = decimal(value).ok()?,
            b"GNU.sparse.size" => is_sparse = true,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                // They alternate.
                let is_second = numbers.len() % 2 == 1;
                if is_second != (keyword == b"GNU.sparse.numbytes") {
                    return None;
                }
                numbers.push(decimal(value).ok()?);
            }
            b"GNU.sparse.map" => {
                let list = value.split(|&byte| byte == b',').filter(|number| !number.is_empty());
                numbers = list.map(|number| decimal(number).ok()).collect::<Option<_>>()?;
            }
            _ => {}
        }
        records = rest;
    }
    match (major, minor) {
        (1, 0) => Some(PaxMap::BeforeData),
        (0, 0 | 1) if is_sparse || !numbers.is_empty() => pairs(&numbers).map(PaxMap::Records),
        (0, 0) => Some(PaxMap::None),
        _ => None,
    }
}

/// How many lines the map before the data has, once its first line is there.
pub(super) fn lines(text: &[u8]) -> Option<u64> {
    let count = text.split(|&byte| byte == b'\n').next()?;
    decimal(count).ok()?.checked_mul(2)?.checked_add(1)
}

/// The map before the data: the number of extents and their numbers, one a line.
pub(super) fn text(text: &[u8]) -> Option<Vec<Extent>> {
    let count = usize::try_from(lines(text)?).ok()?;
    let lines = text.split(|&byte| byte == b'\n').take(count).skip(1);
    let numbers = lines.map(|line| decimal(line).ok()).collect::<Option<Vec<_>>>()?;
    pairs(&numbers)
}

fn pairs(numbers: &[u64]) -> Option<Vec<Extent>> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|&[start, length]| Extent { start, length }).collect())
}

/// Whether extents follow each other, end within the size, and are what is stored.
pub(super) fn fits(extents: &[Extent], size: u64, stored: u64) -> bool {
    let (mut end, mut data) = (0u64, 0u64);
    for extent in extents {
        let Some(next) = extent.start.checked_add(extent.length).filter(|&next| extent.start >= end && next <= size)
        else {
            return false;
        };
        end = next;
        data = data.saturating_add(extent.length);
    }
    data == stored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(pairs: &[(u64, u64)]) -> Vec<Extent> {
        pairs.iter().map(|&(start, length)| Extent { start, length }).collect()
    }

    #[test]
    fn records_hold_maps_in_three_ways() {
        let table: &[(&[u8], Option<PaxMap>)] = &[
            (b"8 path=x\n".get(..0).unwrap(), Some(PaxMap::None)),
            (b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n", Some(PaxMap::BeforeData)),
            (b"22 GNU.sparse.major=2\n", None),
            (b"28 GNU.sparse.map=1,2,10,20\n", Some(PaxMap::Records(extents(&[(1, 2), (10, 20)])))),
            (b"24 GNU.sparse.map=1,2,3\n", None),
            (b"22 GNU.sparse.size=10\n", Some(PaxMap::Records(Vec::new()))),
            (b"23 GNU.sparse.offset=4\n25 GNU.sparse.numbytes=5\n", Some(PaxMap::Records(extents(&[(4, 5)])))),
            (b"25 GNU.sparse.numbytes=5\n23 GNU.sparse.offset=4\n", None),
            // An even number of records, so that only their order gives them away.
            (b"25 GNU.sparse.numbytes=5\n25 GNU.sparse.numbytes=5\n", None),
            (b"23 GNU.sparse.offset=4\n23 GNU.sparse.offset=4\n", None),
        ];
        for (records, map) in table {
            assert_eq!(&pax(records), map, "{records:?}");
        }
    }

    #[test]
    fn text_is_a_count_and_pairs() {
        assert_eq!(text(b"2\n0\n5\n512\n7\n\0\0"), Some(extents(&[(0, 5), (512, 7)])));
        assert_eq!(text(b"0\n\0"), Some(Vec::new()));
        for damaged in [&b""[..], b"x\n", b"1\n5\n", b"1\n5\n-1\n", b"18446744073709551615\n"] {
            assert_eq!(text(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn extents_are_in_order_and_complete() {
        let table: &[(&[(u64, u64)], bool)] = &[
            (&[(0, 4), (8, 2)], true),
            (&[(0, 4), (6, 2), (10, 0)], true),
            (&[(8, 2), (0, 4)], false),
            (&[(0, 4), (3, 2)], false),
            (&[(0, 4), (9, 2)], false),
            (&[(0, 5)], false),
            (&[(u64::MAX, 6)], false),
        ];
        for (pairs, fit) in table {
            assert_eq!(fits(&extents(pairs), 10, 6), *fit, "{pairs:?}");
        }
    }
}
