//! The rest of a tar from where its entries are not those of the other: what is needed to find each of them there,
//! and which of those that both have are in another order. It grows with the number of entries, not with contents.

use std::collections::{HashMap, VecDeque};
use std::io::Read;

use cstor_client::tar::{Archive, ArchiveError, Placed};
use sha2::{Digest, Sha256};

use crate::contents::{Sum, sum};
use crate::input::{CHUNK, Range};
use crate::meaning::Meaning;

#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) meaning: Meaning,
    /// Counted from 1.
    pub(crate) entry: u64,
    pub(crate) header: Range,
    pub(crate) header_sum: Sum,
    /// Where the contents are stored; a sparse member's are not what they mean.
    pub(crate) stored: Range,
    pub(crate) sparse: bool,
    pub(crate) content_sum: Sum,
    pub(crate) padding_at: u64,
    pub(crate) padding: Vec<u8>,
}

/// Reads from an entry on to the end of the archive, which is given back as what it begins with.
pub(crate) fn read<R: Read>(
    archive: &mut Archive<R>,
    first: Placed,
    entry: u64,
) -> Result<(Vec<Indexed>, Placed), ArchiveError> {
    let (mut found, mut entry, mut placed) = (Vec::new(), entry, first);
    let mut buffer = vec![0; CHUNK];
    loop {
        let header = header(&placed);
        let header_sum = Sha256::digest(placed.entry.raw.get(placed.padding..).unwrap_or_default()).into();
        let stored = Range { offset: header.offset.saturating_add(header.length), length: placed.stored };
        let Some(member) = placed.entry.member.take() else { return Ok((found, placed)) };
        let size = member.content.map_or(0, |content| content.size);
        let meaning = Meaning { header: member.header, typeflag: placed.typeflag, size };
        let content_sum = sum(archive, &mut buffer)?;
        // An entry without a member comes before none does.
        let Some(next) = archive.next_entry()? else { return Ok((found, placed)) };
        placed = next;
        let padding = padding(&placed).to_vec();
        found.push(Indexed {
            meaning,
            entry,
            header,
            header_sum,
            stored,
            sparse: member.sparse,
            content_sum,
            padding_at: placed.offset,
            padding,
        });
        entry += 1;
    }
}

/// Where an entry's header is, without the padding before it.
pub(crate) fn header(placed: &Placed) -> Range {
    let padding = padding(placed).len() as u64;
    Range { offset: placed.offset + padding, length: placed.entry.raw.len() as u64 - padding }
}

/// What pads the member before an entry.
pub(crate) fn padding(placed: &Placed) -> &[u8] {
    placed.entry.raw.get(..placed.padding).unwrap_or_default()
}

/// Pairs of the places that the same entry has in both, in the order of A; then those that only A and only B has.
/// Of entries with the same name the first is paired with the first.
pub(crate) fn pair(a: &[Indexed], b: &[Indexed]) -> (Vec<(usize, usize)>, Vec<usize>, Vec<usize>) {
    let mut places: HashMap<Option<&[u8]>, VecDeque<usize>> = HashMap::new();
    for (place, indexed) in b.iter().enumerate() {
        places.entry(indexed.meaning.key()).or_default().push_back(place);
    }
    let (mut pairs, mut only_a) = (Vec::new(), Vec::new());
    for (place, indexed) in a.iter().enumerate() {
        match places.get_mut(&indexed.meaning.key()).and_then(VecDeque::pop_front) {
            Some(other) => pairs.push((place, other)),
            None => only_a.push(place),
        }
    }
    let mut only_b: Vec<usize> = places.into_values().flatten().collect();
    only_b.sort_unstable();
    (pairs, only_a, only_b)
}

/// The fewest pairs without which the others are in the same order in A and B.
pub(crate) fn out_of_order(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // The longest increasing subsequence by patience sorting: how long the longest is that ends at each pair.
    let mut smallest: Vec<usize> = Vec::new();
    let mut lengths = Vec::with_capacity(pairs.len());
    for &(_, place) in pairs {
        let length = smallest.partition_point(|&end| end < place);
        match smallest.get_mut(length) {
            Some(end) => *end = place,
            None => smallest.push(place),
        }
        lengths.push(length + 1);
    }
    let (mut wanted, mut limit, mut moved) = (smallest.len(), usize::MAX, Vec::new());
    for (&pair, length) in pairs.iter().zip(lengths).rev() {
        if length == wanted && pair.1 < limit {
            (wanted, limit) = (wanted - 1, pair.1);
        } else {
            moved.push(pair);
        }
    }
    moved.reverse();
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_few_as_possible_are_out_of_order() {
        let table: &[(&[usize], &[usize])] = &[
            (&[], &[]),
            (&[0, 1, 2, 5], &[]),
            (&[1, 2, 3, 0], &[0]),
            (&[3, 0, 1, 2], &[3]),
            (&[0, 2, 1, 3], &[2]),
            (&[2, 1, 0], &[2, 1]),
            (&[0, 5, 6, 1, 2, 3, 7], &[5, 6]),
        ];
        for (places, moved) in table {
            let pairs: Vec<(usize, usize)> = places.iter().copied().enumerate().collect();
            let found: Vec<usize> = out_of_order(&pairs).into_iter().map(|(_, place)| place).collect();
            assert_eq!(found, *moved, "{places:?}");
        }
    }
}
