//! What can be wrong with a store, or with what was asked of it.

mod kind;
mod part;

use std::io;
use std::path::PathBuf;

use cstor_proto::{Escaped, InvalidId, LayerId, Refusal};
use rustix::io::Errno;

use crate::base::account::NoMemory;
use crate::base::digest::{Digest, ImageId, InvalidDigest};
use crate::base::interrupt::Interrupted;
use crate::store::settings::Origin;

pub use part::{LayerPart, Overlap};

/// A store could not be found, opened or read, or does not hold what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The caller asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// There is too little memory to begin.
    #[error(transparent)]
    Memory(#[from] NoMemory),
    /// The user has no home directory that a default could be derived from.
    #[error("uid {uid}: no HOME and no entry in the user database")]
    NoHome {
        /// The user.
        uid: u32,
    },
    /// A storage.conf that was named explicitly does not exist.
    #[error("{}: no such configuration file", path.display())]
    ConfMissing {
        /// The file.
        path: PathBuf,
    },
    /// A storage.conf cannot be read.
    #[error("{}: cannot be read", path.display())]
    ConfRead {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A storage.conf is not TOML.
    #[error("{}: not a valid storage.conf", path.display())]
    ConfSyntax {
        /// The file.
        path: PathBuf,
        /// Where.
        source: toml::de::Error,
    },
    /// The configured root is not an absolute path: it would mean another store in each working directory. podman
    /// refuses it as well.
    #[error("{origin}: the root of the store is not an absolute path: {:?}", path.display())]
    RelativeRoot {
        /// The path, its variables replaced.
        path: PathBuf,
        /// Who says so.
        origin: Origin,
    },
    /// There is no directory at the root.
    #[error("{}: no container store here", path.display())]
    NoStore {
        /// The root.
        path: PathBuf,
    },
    /// More additional stores than the helper takes roots.
    #[error("{}: more than {limit} stores", path.display())]
    TooManyStores {
        /// The first of them.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// The store was made with another driver.
    #[error("{}: a store of the {} driver", path.display(), Escaped(driver.as_bytes()))]
    Driver {
        /// The root.
        path: PathBuf,
        /// The driver found.
        driver: String,
    },
    /// A directory with something else in it.
    #[error("{}: neither a store nor empty: it holds {}", path.display(), list(found))]
    UnknownLayout {
        /// The root.
        path: PathBuf,
        /// Some of what is there.
        found: Vec<String>,
    },
    /// Root was pointed at a store of another user.
    #[error("{}: the store belongs to uid {owner}", path.display())]
    ForeignStore {
        /// The root.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A file or directory cannot be opened or read.
    #[error("{}: cannot be read", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that must be there is not.
    #[error("{}: missing", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A link, directory, FIFO or device stands where a file belongs.
    #[error("{}: not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// A file is larger than this reader accepts.
    #[error("{}: larger than the limit of {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// In bytes.
        limit: u64,
    },
    /// A JSON file is damaged.
    #[error("{}: damaged JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// A malformed id in a JSON file.
    #[error("{}: \"{}\" is not a valid id", path.display(), Escaped(id.as_bytes()))]
    Id {
        /// The file.
        path: PathBuf,
        /// What stands there.
        id: String,
        /// Why it is malformed.
        source: InvalidId,
    },
    /// A writer holds a lock.
    #[error("{}: locked by {}", path.display(), match holder { Some(pid) => format!("process {pid}"), None => "another process".into() })]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, if the kernel tells.
        holder: Option<i32>,
    },
    /// The store changed at every try to read it.
    #[error("{}: changes faster than it can be read", path.display())]
    Restless {
        /// The root.
        path: PathBuf,
    },
    /// No image matches.
    #[error("{}: no such image", Escaped(reference.as_bytes()))]
    NoImage {
        /// What was asked for.
        reference: String,
    },
    /// Several images match.
    #[error("{}: matches several images: {}", Escaped(reference.as_bytes()), list(candidates))]
    AmbiguousImage {
        /// What was asked for.
        reference: String,
        /// Some of them, by name or id.
        candidates: Vec<String>,
    },
    /// No container matches.
    #[error("{}: no such container", Escaped(reference.as_bytes()))]
    NoContainer {
        /// What was asked for.
        reference: String,
    },
    /// Several containers match.
    #[error("{}: matches several containers: {}", Escaped(reference.as_bytes()), list(candidates))]
    AmbiguousContainer {
        /// What was asked for.
        reference: String,
        /// Some of them.
        candidates: Vec<String>,
    },
    /// A container where only an image will do.
    #[error("{}: is a container, which has no manifest and no configuration", Escaped(reference.as_bytes()))]
    NotAnImage {
        /// What was asked for.
        reference: String,
    },
    /// No layer matches.
    #[error("{}: no such layer", Escaped(reference.as_bytes()))]
    NoLayer {
        /// What was asked for.
        reference: String,
    },
    /// Several layers match.
    #[error("{}: matches several layers: {}", Escaped(reference.as_bytes()), list(candidates))]
    AmbiguousLayer {
        /// What was asked for.
        reference: String,
        /// Some of them, by id.
        candidates: Vec<String>,
    },
    /// The image's top layer, or a layer's parent, is not in the store.
    #[error("layer {layer}: missing from the store, but {} needs it", match child { Some(child) => format!("layer {child:.12}"), None => "the image".into() })]
    LayerMissing {
        /// The layer.
        layer: LayerId,
        /// Its child; `None` for the image itself.
        child: Option<LayerId>,
    },
    /// A layer is its own ancestor.
    #[error("layer {layer}: its chain of parents is a cycle")]
    Cycle {
        /// The layer.
        layer: LayerId,
    },
    /// More layers than overlayfs can stack.
    #[error("layer {layer}: more than {limit} ancestors")]
    TooDeep {
        /// The top layer.
        layer: LayerId,
        /// The limit.
        limit: usize,
    },
    /// A layer was never written completely.
    #[error("layer {layer}: marked incomplete: a pull or build was interrupted")]
    Incomplete {
        /// The layer.
        layer: LayerId,
    },
    /// A directory or file of a layer cannot be opened.
    #[error("layer {layer}: its {part} cannot be opened: {refusal}")]
    LayerPart {
        /// The layer.
        layer: LayerId,
        /// Which part of it.
        part: LayerPart,
        /// Why.
        refusal: Refusal,
    },
    /// A layer whose files another program provides, in a store that is not configured.
    #[error("layer {layer}: its files are in the additional layer store at {}", path.display())]
    LayerStore {
        /// The layer.
        layer: LayerId,
        /// Its place there.
        path: PathBuf,
    },
    /// A layer disappeared while it was read.
    #[error("layer {layer}: removed while it was read")]
    Vanished {
        /// The layer.
        layer: LayerId,
    },
    /// An image disappeared while it was read.
    #[error("image {image:.12}: removed while it was read")]
    ImageVanished {
        /// The image.
        image: ImageId,
    },
    /// The layers are not the ones that the configuration names.
    #[error("image {image:.12}: the configuration names {config} layers, the store has {chain}")]
    LayerCount {
        /// The image.
        image: ImageId,
        /// In the configuration.
        config: usize,
        /// In the store.
        chain: usize,
    },
    /// A layer is not the one that the configuration names.
    #[error("image {image:.12}: layer {layer:.12} has the diff id {found}, the configuration says {wanted}")]
    DiffId {
        /// The image.
        image: ImageId,
        /// The layer.
        layer: LayerId,
        /// In layers.json.
        found: Digest,
        /// In the configuration.
        wanted: Digest,
    },
    /// A list of manifests, as `podman manifest create` makes it, is stored as an image without files.
    #[error("image {image:.12}: it is a list of images and has no files of its own")]
    ManifestList {
        /// The image.
        image: ImageId,
    },
    /// An image has no manifest or configuration under this key.
    #[error("image {image:.12}: no data under the key \"{}\"", Escaped(key.as_bytes()))]
    NoBigData {
        /// The image.
        image: ImageId,
        /// The key.
        key: String,
    },
    /// Data of an image has another size or digest than images.json says.
    #[error("image {image:.12}: the data under the key \"{}\" does not match its size or digest", Escaped(key.as_bytes()))]
    BigData {
        /// The image.
        image: ImageId,
        /// The key.
        key: String,
    },
    /// A manifest or configuration names no valid digest.
    #[error("image {image:.12}: \"{}\" in its manifest or configuration is not a valid digest", Escaped(text.as_bytes()))]
    BadDigest {
        /// The image.
        image: ImageId,
        /// What stands there.
        text: String,
        /// Why it is malformed.
        source: InvalidDigest,
    },
    /// Something is to be written where a store is.
    #[error("{}: {overlap} {}, a directory of a container store", Escaped(path.as_os_str().as_encoded_bytes()),
        Escaped(root.as_os_str().as_encoded_bytes()))]
    Destination {
        /// Where it is to be written.
        path: PathBuf,
        /// The directory of the store.
        root: PathBuf,
        /// How the one lies to the other.
        overlap: Overlap,
    },
    /// It cannot be found out whether something would be written where a store is.
    #[error("{}: cannot be looked at", Escaped(path.as_os_str().as_encoded_bytes()))]
    Unseen {
        /// Where it is to be written, or the directory of a store.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn list(candidates: &[String]) -> String {
    let escaped: Vec<String> = candidates.iter().map(|name| Escaped(name.as_bytes()).to_string()).collect();
    escaped.join(", ")
}

impl StoreError {
    pub(super) fn read(path: PathBuf, errno: Errno) -> StoreError {
        StoreError::Open { path, source: errno.into() }
    }
}
