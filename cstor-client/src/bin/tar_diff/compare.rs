//! Two tars, side by side while the names of their entries agree; the rest by an index of each.

use std::fs::File;
use std::io::BufReader;

use cstor_client::tar::{Archive, Placed};

use crate::contents::{Side, Unread, first_difference, mismatch};
use crate::exit::Trouble;
use crate::index::{self, Indexed};
use crate::input::{CHUNK, Input};
use crate::meaning::Meaning;
use crate::report::{Difference, Listed, Name, Part, Report, Sides};

type Tar = Archive<BufReader<File>>;

/// Reads both to their ends.
pub(crate) fn compare(a: &Input, b: &Input) -> Result<Report, Trouble> {
    let archives = Sides { a: a.archive()?, b: b.archive()? };
    let buffers = Sides { a: vec![0; CHUNK], b: vec![0; CHUNK] };
    let mut comparison = Comparison { a, b, archives, buffers, found: Vec::new() };
    let entries = comparison.run()?;
    Ok(Report { entries, differences: comparison.found })
}

struct Comparison<'a> {
    a: &'a Input,
    b: &'a Input,
    archives: Sides<Tar>,
    buffers: Sides<Vec<u8>>,
    found: Vec<Difference>,
}

/// What is known of two headers with the same key.
struct Headers<'a> {
    a: &'a Meaning,
    b: &'a Meaning,
    /// Whether their bytes differ, and where.
    differ: bool,
    at: Option<Sides<u64>>,
}

/// A pair whose padding comes with the next entry.
struct Padded {
    name: Vec<u8>,
    stored: Sides<u64>,
}

impl Comparison<'_> {
    fn run(&mut self) -> Result<Sides<u64>, Trouble> {
        let mut before: Option<Padded> = None;
        let mut entry = 0;
        while let Some(a) = self.archives.a.next_entry().map_err(|error| self.a.trouble(error))? {
            let Some(b) = self.archives.b.next_entry().map_err(|error| self.b.trouble(error))? else { break };
            if let Some(before) = before.take() {
                let at = Sides { a: a.offset, b: b.offset };
                self.padding(before.name, before.stored, at, index::padding(&a), index::padding(&b));
            }
            entry += 1;
            match (meaning(&a), meaning(&b)) {
                (Some(meaning_a), Some(meaning_b)) if meaning_a.key() == meaning_b.key() => {
                    let place = header_difference(&a, &b);
                    let headers = Headers { a: &meaning_a, b: &meaning_b, differ: place.is_some(), at: place };
                    if self.headers(&headers) {
                        let at = self.contents()?;
                        self.content(&headers, at.is_some(), at);
                    }
                    before = Some(Padded { name: meaning_a.header.path, stored: Sides { a: a.stored, b: b.stored } });
                }
                _ => return self.rest(a, b, entry),
            }
        }
        Ok(Sides { a: entry, b: entry })
    }

    /// From where their names differ, or one ends. `entry` is the number of the first of them.
    fn rest(&mut self, a: Placed, b: Placed, entry: u64) -> Result<Sides<u64>, Trouble> {
        let (in_a, end_a) = index::read(&mut self.archives.a, a, entry).map_err(|error| self.a.trouble(error))?;
        let (in_b, end_b) = index::read(&mut self.archives.b, b, entry).map_err(|error| self.b.trouble(error))?;
        let (pairs, only_a, only_b) = index::pair(&in_a, &in_b);
        let listed = |indexed: &Indexed| Listed::new(&indexed.meaning, indexed.entry);
        self.found.extend(only_a.iter().filter_map(|&place| in_a.get(place)).map(listed).map(Difference::Missing));
        self.found.extend(only_b.iter().filter_map(|&place| in_b.get(place)).map(listed).map(Difference::Extra));
        let entries = |&(a, b): &(usize, usize)| Some((in_a.get(a)?, in_b.get(b)?));
        for (a, b) in pairs.iter().filter_map(entries) {
            self.indexed(a, b);
        }
        for (a, b) in index::out_of_order(&pairs).iter().filter_map(entries) {
            let name = Name(a.meaning.header.path.clone());
            self.found.push(Difference::Order { name, entry: Sides { a: a.entry, b: b.entry } });
        }
        self.end(&end_a, &end_b)?;
        let count = |rest: usize| entry - 1 + rest as u64;
        Ok(Sides { a: count(in_a.len()), b: count(in_b.len()) })
    }

    /// An entry that is at different places.
    fn indexed(&mut self, a: &Indexed, b: &Indexed) {
        let differ = a.header_sum != b.header_sum;
        let place = if differ { self.a.first_difference(a.header, self.b, b.header) } else { None };
        let at = place.map(|place| Sides { a: a.header.offset + place, b: b.header.offset + place });
        let headers = Headers { a: &a.meaning, b: &b.meaning, differ, at };
        if self.headers(&headers) {
            let differ = a.content_sum != b.content_sum;
            let place = if differ && !a.sparse && !b.sparse {
                self.a.first_difference(a.stored, self.b, b.stored)
            } else {
                None
            };
            self.content(&headers, differ, place);
        }
        let stored = Sides { a: a.stored.length, b: b.stored.length };
        let at = Sides { a: a.padding_at, b: b.padding_at };
        self.padding(a.meaning.header.path.clone(), stored, at, &a.padding, &b.padding);
    }

    /// Reports what differs in headers; whether their contents are comparable.
    fn headers(&mut self, headers: &Headers<'_>) -> bool {
        let (a, b) = (headers.a, headers.b);
        let changes = a.changes(b);
        let comparable = a.kind() == b.kind();
        let name = || Name(a.header.path.clone());
        if !changes.is_empty() {
            self.found.push(Difference::Metadata { name: name(), changes });
        } else if headers.differ && a.size == b.size {
            self.found.push(Difference::Bytes { part: Part::Header, name: Some(name()), at: headers.at });
        }
        comparable
    }

    fn content(&mut self, headers: &Headers<'_>, differ: bool, at: Option<u64>) {
        let (a, b) = (headers.a, headers.b);
        if differ {
            let (name, size) = (Name(a.header.path.clone()), Sides { a: a.size, b: b.size });
            self.found.push(Difference::Content { name, size, at });
        }
    }

    fn padding(&mut self, name: Vec<u8>, stored: Sides<u64>, at: Sides<u64>, a: &[u8], b: &[u8]) {
        // Contents of other lengths have other paddings, but zeros in any case.
        let differ =
            if stored.a == stored.b { a != b } else { [a, b].iter().any(|bytes| bytes.iter().any(|&byte| byte != 0)) };
        if differ {
            let place = a.iter().zip(b).take_while(|(a, b)| a == b).count() as u64;
            let at = Some(Sides { a: at.a + place, b: at.b + place });
            self.found.push(Difference::Bytes { part: Part::Padding, name: Some(Name(name)), at });
        }
    }

    /// What follows the last members.
    fn end(&mut self, a: &Placed, b: &Placed) -> Result<(), Trouble> {
        let begin = Sides { a: self.archives.a.offset(), b: self.archives.b.offset() };
        let at = match header_difference(a, b) {
            Some(at) => Some(at),
            None => self.contents()?.map(|place| Sides { a: begin.a + place, b: begin.b + place }),
        };
        if at.is_some() {
            self.found.push(Difference::Bytes { part: Part::End, name: None, at });
        }
        Ok(())
    }

    /// Where the contents of the current entries differ first.
    fn contents(&mut self) -> Result<Option<u64>, Trouble> {
        let (mut a, mut b) = (
            Side::new(&mut self.archives.a, &mut self.buffers.a),
            Side::new(&mut self.archives.b, &mut self.buffers.b),
        );
        first_difference(&mut a, &mut b).map_err(|unread| match unread {
            Unread::A(error) => self.a.trouble(error),
            Unread::B(error) => self.b.trouble(error),
        })
    }
}

fn meaning(placed: &Placed) -> Option<Meaning> {
    let member = placed.entry.member.as_ref()?;
    let size = member.content.map_or(0, |content| content.size);
    Some(Meaning { header: member.header.clone(), typeflag: placed.typeflag, size })
}

/// Where the bytes of two headers differ first, the paddings before them left aside.
fn header_difference(a: &Placed, b: &Placed) -> Option<Sides<u64>> {
    let [bytes_a, bytes_b] = [a, b].map(|placed| placed.entry.raw.get(placed.padding..).unwrap_or_default());
    let length = bytes_a.len().min(bytes_b.len());
    let common = mismatch(bytes_a.get(..length)?, bytes_b.get(..length)?);
    let place = common.or_else(|| (bytes_a.len() != bytes_b.len()).then_some(length))? as u64;
    Some(Sides { a: index::header(a).offset + place, b: index::header(b).offset + place })
}
