//! One layer of a store: what layers.json says of it, and its members in the order of its tar.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cstor_proto::{Escaped, InvalidPath, LayerId, Refusal, RelPath};

use crate::chain::Chain;
use crate::digest::Digest;
use crate::entry::{AssembleError, Assembler, Entry, HeaderError};
use crate::error::{Error, ErrorKind};
use crate::source::{Escalating, FileSource};
use crate::store::{LayerPart, LayerRecord, Shared, Snapshot, Storage, StoreError};
use crate::tarsplit::{LineError, TarSplitError, TarSplitReader};

/// The shortest prefix of an id that is taken for one.
const MIN_PREFIX: usize = 3;
const MAX_CANDIDATES: usize = 5;

/// A layer, as the store described it when it was listed or found.
#[derive(Clone)]
pub struct Layer {
    shared: Arc<Shared>,
    record: Arc<LayerRecord>,
}

impl Layer {
    pub(crate) fn new(shared: &Arc<Shared>, record: &Arc<LayerRecord>) -> Layer {
        Layer { shared: Arc::clone(shared), record: Arc::clone(record) }
    }

    /// Finds a layer by its id, a prefix of it of three digits or more, or its diff id.
    pub fn open(storage: &Storage, reference: &str) -> Result<Layer, StoreError> {
        storage.layer(reference)
    }

    /// Its id.
    pub fn id(&self) -> LayerId {
        self.record.id
    }

    /// The layer below it; none for a base.
    pub fn parent(&self) -> Option<LayerId> {
        self.record.parent
    }

    /// Its names; layers rarely have one.
    pub fn names(&self) -> &[String] {
        &self.record.names
    }

    /// The digest of its tar: what an image's configuration calls the diff id.
    pub fn diff_id(&self) -> Option<Digest> {
        self.record.diff_digest
    }

    /// The size of its tar in bytes; none where only a table of contents was pulled.
    pub fn diff_size(&self) -> Option<u64> {
        self.record.diff_size
    }

    /// The digest of the compressed form in which it was pulled.
    pub fn compressed_digest(&self) -> Option<Digest> {
        self.record.compressed_digest
    }

    /// When it was stored, as RFC 3339.
    pub fn created(&self) -> Option<&str> {
        self.record.created.as_deref()
    }

    /// Its members in the order of its tar, and last what follows them. No file of its contents is opened.
    pub fn entries(&self) -> Result<Entries, Error> {
        let mut chain = self.open_alone()?;
        let mut source = Escalating::new(&self.shared);
        open_entries(&mut chain, 0, &mut source)
    }

    /// Opens one of its own files for reading; `name` means what it means in the layer's tar.
    ///
    /// ```no_run
    /// # use std::io::Read;
    /// # use cstor_client::{Layer, Storage};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let storage = Storage::discover()?;
    /// let mut passwd = String::new();
    /// Layer::open(&storage, "0f1e2d")?.open_file_std("etc/passwd")?.read_to_string(&mut passwd)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_file_std(&self, name: impl AsRef<[u8]>) -> Result<File, Error> {
        let chain = self.open_alone()?;
        let error = |problem| ReadError { layer: self.record.id, name: Some(name.as_ref().to_vec()), problem };
        let path = RelPath::clean(name.as_ref()).map_err(|invalid| error(ReadProblem::Name(invalid)))?;
        let wanted = [path];
        let mut source = Escalating::new(&self.shared);
        let opened = chain.layers().first().map(|layer| source.open_batch(layer, &wanted)).transpose()?;
        match opened.into_iter().flatten().next() {
            Some(Ok(file)) => Ok(File::from(file.fd)),
            Some(Err(refusal)) => Err(error(ReadProblem::Refused(refusal)).into()),
            None => Err(error(ReadProblem::Refused(Refusal::NotFound)).into()),
        }
    }

    /// A chain of this layer only.
    fn open_alone(&self) -> Result<Chain, StoreError> {
        Chain::open_one(&self.shared, self.record.id)
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("id", &self.record.id).finish_non_exhaustive()
    }
}

/// Finds the one layer that `reference` means.
pub(crate) fn find<'a>(snapshot: &'a Snapshot, reference: &str) -> Result<&'a Arc<LayerRecord>, StoreError> {
    let digest = reference.parse::<Digest>().ok();
    let matches = |layer: &&Arc<LayerRecord>| {
        let by_id = reference.len() >= MIN_PREFIX && layer.id.to_string().starts_with(reference);
        by_id || layer.names.iter().any(|name| name == reference) || digest.is_some() && layer.diff_digest == digest
    };
    let found: Vec<_> = snapshot.layers().filter(|layer| !layer.incomplete).filter(matches).collect();
    match found.as_slice() {
        [] => Err(StoreError::NoLayer { reference: reference.to_owned() }),
        [layer] => Ok(layer),
        several => Err(StoreError::AmbiguousLayer {
            reference: reference.to_owned(),
            candidates: several.iter().take(MAX_CANDIDATES).map(|layer| layer.id.to_string()).collect(),
        }),
    }
}

/// The members of a layer, read as they are asked for.
pub struct Entries {
    layer: LayerId,
    reader: TarSplitReader<File>,
    /// None once the trailer was given or an error occurred.
    assembler: Option<Assembler>,
    diff_size: Option<u64>,
}

/// A layer's description cannot be read, or one of its members not understood.
#[derive(Debug, thiserror::Error)]
#[error("layer {layer:.12}: {}{problem}", match name { Some(name) => format!("\"{}\": ", Escaped(name)), None => String::new() })]
pub struct ReadError {
    /// The layer.
    pub layer: LayerId,
    /// The member, as its name stands in the tar.
    pub name: Option<Vec<u8>>,
    /// What is wrong.
    #[source]
    pub problem: ReadProblem,
}

/// What is wrong with a layer's description or a member.
#[derive(Debug, thiserror::Error)]
pub enum ReadProblem {
    /// The tar-split file.
    #[error(transparent)]
    TarSplit(#[from] TarSplitError),
    /// A header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A name that cannot be one in a file system.
    #[error(transparent)]
    Name(#[from] InvalidPath),
    /// The members do not add up to the size of the tar.
    #[error("its members add up to {found} bytes, layers.json says {wanted}")]
    Total {
        /// What the tar-split file describes.
        found: u64,
        /// `diff-size`.
        wanted: u64,
    },
    /// A file could not be opened.
    #[error("its contents cannot be opened: {0}")]
    Refused(Refusal),
}

impl ReadError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match &self.problem {
            ReadProblem::TarSplit(TarSplitError::LongLine { .. })
            | ReadProblem::TarSplit(TarSplitError::Line { source: LineError::LongSegment, .. })
            | ReadProblem::Header(HeaderError::LongExtension(_) | HeaderError::LongXattr { .. }) => ErrorKind::Limit,
            ReadProblem::Header(HeaderError::Type(_)) => ErrorKind::Unsupported,
            ReadProblem::Refused(refusal) => kind_of_refusal(*refusal),
            ReadProblem::TarSplit(_) | ReadProblem::Header(_) | ReadProblem::Name(_) | ReadProblem::Total { .. } => {
                ErrorKind::Corrupt
            }
        }
    }
}

/// The class of a file that could not be opened.
pub(crate) fn kind_of_refusal(refusal: Refusal) -> ErrorKind {
    match refusal {
        Refusal::NotFound | Refusal::NotRegular => ErrorKind::Corrupt,
        Refusal::Unmapped | Refusal::Denied => ErrorKind::Permission,
        Refusal::Io(errno) => crate::error::kind_of_io(&std::io::Error::from_raw_os_error(errno)),
    }
}

/// The entries of the layer at `place` of a chain.
pub(crate) fn open_entries(chain: &mut Chain, place: usize, source: &mut dyn FileSource) -> Result<Entries, Error> {
    let opened = chain.take_tar_split(place);
    let Some(layer) = chain.layers().get(place) else {
        return Err(StoreError::NoLayer { reference: String::new() }.into());
    };
    let file = match opened {
        Some(fd) => fd,
        None => source
            .open_tar_split(layer)?
            .map_err(|refusal| crate::chain::refused(chain.shared(), &layer.record, LayerPart::TarSplit, refusal))?,
    };
    Ok(Entries::new(file, &layer.record))
}

impl Entries {
    fn new(file: OwnedFd, record: &LayerRecord) -> Entries {
        Entries {
            layer: record.id,
            reader: TarSplitReader::new(File::from(file)),
            assembler: Some(Assembler::default()),
            diff_size: record.diff_size,
        }
    }

    fn advance(&mut self, assembler: &mut Assembler) -> Result<Option<Entry>, ReadError> {
        let layer = self.layer;
        loop {
            let line = self.reader.next_line();
            match line.map_err(|error| ReadError { layer, name: None, problem: error.into() })? {
                None => return Ok(None),
                Some(line) => {
                    let taken = assembler.take(line);
                    let named =
                        |AssembleError { name, source }| ReadError { layer, name: Some(name), problem: source.into() };
                    if let Some(entry) = taken.map_err(named)? {
                        return Ok(Some(entry));
                    }
                }
            }
        }
    }

    fn trailer(&self, assembler: Assembler) -> Result<Entry, ReadError> {
        let sparse = assembler.is_sparse();
        let (entry, found) = assembler.finish();
        match self.diff_size {
            // The stored form of a sparse member is not in the tar-split, so its tar cannot be summed up.
            Some(wanted) if wanted != found && !sparse => {
                Err(ReadError { layer: self.layer, name: None, problem: ReadProblem::Total { found, wanted } })
            }
            _ => Ok(entry),
        }
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut assembler = self.assembler.take()?;
        match self.advance(&mut assembler) {
            Ok(Some(entry)) => {
                self.assembler = Some(assembler);
                Some(Ok(entry))
            }
            Ok(None) => Some(self.trailer(assembler)),
            Err(error) => Some(Err(error)),
        }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("layer", &self.layer).finish_non_exhaustive()
    }
}
