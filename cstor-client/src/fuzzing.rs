//! The door for `tests/fuzz` into what is private: each parser of hostile bytes as one function from bytes to plain
//! values. It exists only under `cfg(fuzzing)` and decides nothing.

use std::path::Path;
use std::sync::Arc;

use cstor_proto::StoreIndex;

use crate::base::account::Account;
use crate::base::digest::Digest;
use crate::base::interrupt::{Interrupt, Interrupted};
use crate::store::find;
use crate::store::{StoreError, parse_containers, parse_images, parse_layers};
use crate::tar::tarsplit::{Line, TarSplitReader};
use crate::tar::{Assembler, Chunked, Entry, Member, Time};
use crate::tree::{FinalTree, MergeProblem};

pub use crate::access::take_answer;
#[cfg(feature = "jsonrpc")]
pub use crate::jsonrpc::fuzzing as jsonrpc;
pub use crate::store::discover::fuzzing as discover;

/// What a line of a tar-split file says.
#[derive(Debug, PartialEq, Eq)]
pub enum SplitLine {
    /// Bytes of the tar.
    Segment(Vec<u8>),
    /// A file: its name, its size, its checksum.
    File(Vec<u8>, u64, Option<u64>),
}

/// `tar/tarsplit/line.rs`: one line, which must have this position.
pub fn tar_split_line(bytes: &[u8], position: u64) -> Option<SplitLine> {
    Some(match Line::parse(bytes, position).ok()? {
        Line::Segment(bytes) => SplitLine::Segment(bytes),
        Line::File { name, size, crc } => SplitLine::File(name, size, crc),
    })
}

/// What a tar-split file describes.
#[derive(Debug)]
pub struct SplitLayer {
    /// The members, then what follows the last one.
    pub entries: Vec<Entry>,
    /// The size of the tar.
    pub total: u64,
    /// Whether a member is sparse, so that the tar cannot be put together.
    pub sparse: bool,
}

/// `tar/tarsplit/reader.rs` and `tar/assemble.rs`: a compressed tar-split file.
pub fn tar_split(file: &[u8]) -> Option<SplitLayer> {
    let mut lines = TarSplitReader::new(file);
    let (mut assembler, mut entries) = (Assembler::new(Account::ample().charge()), Vec::new());
    while let Some(line) = lines.next_line().ok()? {
        entries.extend(assembler.take(line).ok()?);
    }
    let sparse = assembler.is_sparse();
    let (trailer, total) = assembler.finish();
    entries.push(trailer);
    Some(SplitLayer { entries, total, sparse })
}

/// `tar/chunked.rs`: the rows of a table of contents; for a damaged row its name.
pub fn chunked(bytes: &[u8]) -> Option<Vec<Result<Entry, Vec<u8>>>> {
    let mut toc = Chunked::read(bytes, Account::ample().charge(), &Interrupt::new()).ok()?;
    Some(std::iter::from_fn(|| toc.next_entry()).map(|entry| entry.map_err(|(name, _)| name)).collect())
}

/// The digest under which a table of contents has the file of this name.
pub fn chunked_digest(bytes: &[u8], name: &[u8]) -> Option<Digest> {
    Chunked::read(bytes, Account::ample().charge(), &Interrupt::new()).ok()?.digests().of(name).ok()
}

/// `tar/header.rs`: a time as RFC 3339 has it.
pub fn parse_time(text: &str) -> Option<Time> {
    Time::parse_rfc3339(text)
}

/// One record of layers.json, images.json or containers.json.
#[derive(Debug, PartialEq, Eq)]
pub struct StoreRecord {
    /// Its id.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Other ids in it: of the layer below, of the top layer, of the image.
    pub others: Vec<String>,
    /// When it was made, as it says.
    pub created: Option<String>,
}

/// `store/layers.rs`; fails only where the whole file is refused.
pub fn layers_json(bytes: &[u8]) -> Option<Vec<StoreRecord>> {
    let records = parse_layers(bytes, StoreIndex(0), Path::new("/layers.json"), &Interrupt::new()).ok()?;
    let record = |record: &Arc<_>| {
        let record: &crate::store::LayerRecord = record;
        StoreRecord {
            id: record.id.to_string(),
            names: record.names.clone(),
            others: record.parent.iter().map(ToString::to_string).collect(),
            created: record.created.clone(),
        }
    };
    Some(records.iter().map(record).collect())
}

/// `store/images.rs`.
pub fn images_json(bytes: &[u8]) -> Option<Vec<StoreRecord>> {
    let records = parse_images(bytes, StoreIndex(0), Path::new("/images.json"), &Interrupt::new()).ok()?;
    let record = |record: &Arc<_>| {
        let record: &crate::store::ImageRecord = record;
        StoreRecord {
            id: record.id.to_string(),
            names: record.names.clone(),
            others: record.layer.iter().chain(&record.mapped_layers).map(ToString::to_string).collect(),
            created: record.created.clone(),
        }
    };
    Some(records.iter().map(record).collect())
}

/// `store/containers.rs`.
pub fn containers_json(bytes: &[u8]) -> Option<Vec<StoreRecord>> {
    let records = parse_containers(bytes, Path::new("/containers.json"), &Interrupt::new()).ok()?;
    let record = |record: &Arc<_>| {
        let record: &crate::store::ContainerRecord = record;
        StoreRecord {
            id: record.id.clone(),
            names: record.names.clone(),
            others: record.image.iter().map(ToString::to_string).chain([record.layer.to_string()]).collect(),
            created: record.created.clone(),
        }
    };
    Some(records.iter().map(record).collect())
}

/// `store/find/image.rs`: the id of the image that is meant, or how many candidates are named; `images` is an
/// images.json.
pub fn find_image(images: &[u8], asked: &str) -> Option<Result<String, usize>> {
    let images = parse_images(images, StoreIndex(0), Path::new("/images.json"), &Interrupt::new()).ok()?;
    Some(match find::image::find(&images, asked) {
        Ok(image) => Ok(image.id.to_string()),
        Err(StoreError::AmbiguousImage { candidates, .. }) => Err(candidates.len()),
        Err(_) => Err(0),
    })
}

/// Why a merge ended.
enum Stop {
    Problem(MergeProblem),
    Interrupted,
}

impl From<Interrupted> for Stop {
    fn from(_: Interrupted) -> Stop {
        Stop::Interrupted
    }
}

/// `tree/`: layers laid over each other, the base first.
#[allow(clippy::panic, reason = "nothing raises the interrupt")]
pub fn merge(layers: &[Vec<Member>]) -> Result<FinalTree, MergeProblem> {
    let (mut tree, interrupt) = (FinalTree::new(&Account::ample()), Interrupt::new());
    for (number, members) in layers.iter().enumerate() {
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        let laid = tree.lay(number, &|_| true, &interrupt, |upper| {
            members.iter().try_for_each(|member| upper.add(member).map(drop).map_err(Stop::Problem))
        });
        match laid {
            Ok(()) => {}
            Err(Stop::Problem(problem)) => return Err(problem),
            Err(Stop::Interrupted) => panic!("an interrupt that nothing raised"),
        }
    }
    Ok(tree)
}
