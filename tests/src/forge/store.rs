//! The description of a store, the directory it becomes, and the single changes that damage it. A change touches
//! one file; nothing else is brought in line with it.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    member::Member,
    split::{self, Line},
    trial::open_up,
    unpack,
};

/// Layers and images; an index into `layers` names a layer.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// In an order that puts parents before their children.
    pub layers: Vec<Layer>,
    /// What images.json lists.
    pub images: Vec<Image>,
}

/// One layer of the description.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The layer below.
    pub parent: Option<usize>,
    /// The archive, and `diff` as far as they are not absent from it.
    pub members: Vec<Member>,
    /// What `diff` holds beyond the archive.
    pub only_on_disk: Vec<Member>,
    /// The end of the archive: two zero blocks.
    pub tail: Vec<u8>,
    /// tar-split lines in place of those of the archive.
    pub lines: Option<Vec<Line>>,
    /// Keys to add to the record in layers.json.
    pub fields: Map<String, Value>,
}

impl Layer {
    /// A base layer.
    pub fn new(members: Vec<Member>) -> Layer {
        Layer { parent: None, members, only_on_disk: Vec::new(), tail: vec![0; 1024], lines: None, fields: Map::new() }
    }

    /// The uncompressed archive.
    pub fn tar(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        self.members.iter().for_each(|member| member.encode(&mut tar));
        tar.extend_from_slice(&self.tail);
        tar
    }
}

/// One image of the description.
#[derive(Clone, Debug)]
pub struct Image {
    /// Full names with registry and tag.
    pub names: Vec<String>,
    /// The top layer; the layers of the manifest are its chain.
    pub top: Option<usize>,
    /// Goes into the configuration, so that images of the same layers get different ids.
    pub comment: String,
    /// RFC 3339.
    pub created: String,
}

impl Image {
    /// An image of one name.
    pub fn new(name: &str, top: Option<usize>) -> Image {
        Image { names: vec![name.to_owned()], top, comment: String::new(), created: "2020-01-01T00:00:00Z".to_owned() }
    }
}

impl Store {
    /// One image over a stack of layers, base first.
    pub fn stack(name: &str, layers: impl IntoIterator<Item = Vec<Member>>) -> Store {
        let mut store = Store::default();
        for members in layers {
            let parent = store.layers.len().checked_sub(1);
            store.layers.push(Layer { parent, ..Layer::new(members) });
        }
        store.images.push(Image::new(name, store.layers.len().checked_sub(1)));
        store
    }

    /// The layers of an image, base first.
    fn chain(&self, top: Option<usize>) -> Vec<usize> {
        let mut chain: Vec<usize> = std::iter::successors(top, |&layer| self.layers[layer].parent).collect();
        chain.reverse();
        chain
    }

    /// Writes the store below `root`, which must not exist. With `rootful` owners, devices and `trusted.` markers are
    /// kept as podman run by root keeps them.
    pub fn write(&self, root: &Path, rootful: bool) -> io::Result<Forged> {
        private_dir(root)?;
        for directory in ["overlay", "overlay/l", "overlay-layers", "overlay-images", "overlay-containers"] {
            private_dir(&root.join(directory))?;
        }
        for lock in ["storage.lock", "userns.lock", "overlay-layers/layers.lock", "overlay-images/images.lock"] {
            // A 64-byte token once written; storage.lock stays empty until then.
            let token = if lock.starts_with("overlay") { Sha256::digest(lock).repeat(2) } else { Vec::new() };
            write_file(&root.join(lock), &token, 0o644)?;
        }
        let mut forged = Forged { root: root.to_owned(), layers: Vec::new(), images: Vec::new() };
        let mut records = Vec::new();
        for layer in &self.layers {
            records.push(forged.write_layer(layer, rootful)?);
        }
        write_file(&forged.layers_json(), &serde_json::to_vec(&records)?, 0o600)?;
        let mut records = Vec::new();
        for image in &self.images {
            records.push(forged.write_image(image, &self.chain(image.top))?);
        }
        write_file(&forged.images_json(), &serde_json::to_vec(&records)?, 0o600)?;
        Ok(forged)
    }
}

/// A layer as it lies in the store.
#[derive(Clone, Debug)]
pub struct ForgedLayer {
    /// By the rules of containers/storage: the diff id for a base, else hashed with the parent's id.
    pub id: String,
    /// The archive it was made of.
    pub tar: Vec<u8>,
    parent: Option<usize>,
    link: String,
}

impl ForgedLayer {
    /// SHA-256 of the archive, as `sha256:…`.
    pub fn diff_id(&self) -> String {
        digest(&self.tar)
    }
}

/// A store on disk.
#[derive(Clone, Debug)]
pub struct Forged {
    /// The graph root.
    pub root: PathBuf,
    /// In the order of the description.
    pub layers: Vec<ForgedLayer>,
    /// Image ids, in the order of the description.
    pub images: Vec<String>,
}

impl Forged {
    fn write_layer(&mut self, layer: &Layer, rootful: bool) -> io::Result<Value> {
        let tar = layer.tar();
        let diff_id = digest(&tar);
        let parent = layer.parent.map(|parent| &self.layers[parent]);
        let id = match parent {
            None => diff_id["sha256:".len()..].to_owned(),
            Some(parent) => digest(format!("{}+{}", parent.id, &diff_id["sha256:".len()..]).as_bytes())[7..].to_owned(),
        };
        let overlay = self.root.join("overlay").join(&id);
        private_dir(&overlay)?;
        for directory in ["diff", "work", "merged"].into_iter().chain(parent.is_none().then_some("empty")) {
            private_dir(&overlay.join(directory))?;
        }
        let link: String = Sha256::digest(&id)
            .iter()
            .take(26)
            .map(|byte| b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[*byte as usize % 32] as char)
            .collect();
        write_file(&overlay.join("link"), link.as_bytes(), 0o644)?;
        std::os::unix::fs::symlink(format!("../{id}/diff"), self.root.join("overlay/l").join(&link))?;
        let ancestors: Vec<String> = std::iter::successors(layer.parent, |&layer| self.layers[layer].parent)
            .map(|layer| format!("l/{}", self.layers[layer].link))
            .collect();
        if !ancestors.is_empty() {
            write_file(&overlay.join("lower"), ancestors.join(":").as_bytes(), 0o644)?;
        }

        let members: Vec<Member> = layer.members.iter().chain(&layer.only_on_disk).cloned().collect();
        let diff = File::open(overlay.join("diff"))?;
        unpack::unpack(diff.as_fd(), &members, rootful)?;
        rustix::fs::futimens(&diff, &unpack::default_times())?;

        let lines = layer.lines.clone().unwrap_or_else(|| split::disassemble(&tar));
        let mut record = json!({
            "id": id,
            "created": "2020-01-01T00:00:00Z",
            "compressed-diff-digest": diff_id,
            "compressed-size": tar.len(),
            "diff-digest": diff_id,
            "diff-size": tar.len(),
            "uidset": [0],
            "gidset": [0],
        });
        if let Some(parent) = parent {
            record["parent"] = json!(parent.id);
        }
        for (key, value) in &layer.fields {
            record[key] = value.clone();
        }
        self.layers.push(ForgedLayer { id, tar, parent: layer.parent, link });
        let tar_split = self.tar_split(self.layers.len() - 1);
        write_file(&tar_split, &split::gzip(&split::text(&lines)), 0o600)?;
        Ok(record)
    }

    fn write_image(&mut self, image: &Image, chain: &[usize]) -> io::Result<Value> {
        let diff_ids: Vec<String> = chain.iter().map(|&layer| self.layers[layer].diff_id()).collect();
        let config = serde_json::to_vec(&json!({
            "created": image.created,
            "architecture": "amd64",
            "os": "linux",
            "comment": image.comment,
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": chain.iter().map(|layer| json!({ "created_by": format!("layer {layer}") })).collect::<Vec<_>>(),
        }))?;
        let config_digest = digest(&config);
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest,
                "size": config.len(),
            },
            "layers": chain.iter().map(|&layer| json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": self.layers[layer].diff_id(),
                "size": self.layers[layer].tar.len(),
            })).collect::<Vec<_>>(),
        }))?;
        let manifest_digest = digest(&manifest);
        let id = config_digest["sha256:".len()..].to_owned();
        let index = self.images.len();
        self.images.push(id.clone());
        private_dir(&self.root.join("overlay-images").join(&id))?;
        let big_data = [
            (config_digest.clone(), &config),
            (format!("manifest-{manifest_digest}"), &manifest),
            ("manifest".to_owned(), &manifest),
        ];
        let (mut sizes, mut digests) = (Map::new(), Map::new());
        for (key, data) in &big_data {
            write_file(&self.big_data(index, key), data, 0o600)?;
            sizes.insert(key.clone(), json!(data.len()));
            digests.insert(key.clone(), json!(digest(data)));
        }
        let mut record = json!({
            "id": id,
            "digest": manifest_digest,
            "names": image.names,
            "names-history": image.names,
            "metadata": "{}",
            "big-data-names": big_data.iter().map(|(key, _)| key).collect::<Vec<_>>(),
            "big-data-sizes": sizes,
            "big-data-digests": digests,
            "created": image.created,
        });
        if let Some(&top) = chain.last() {
            record["layer"] = json!(self.layers[top].id);
        }
        Ok(record)
    }

    /// `overlay-layers/layers.json`.
    pub fn layers_json(&self) -> PathBuf {
        self.root.join("overlay-layers/layers.json")
    }

    /// `overlay-images/images.json`.
    pub fn images_json(&self) -> PathBuf {
        self.root.join("overlay-images/images.json")
    }

    /// A layer's tar-split file.
    pub fn tar_split(&self, layer: usize) -> PathBuf {
        self.root.join(format!("overlay-layers/{}.tar-split.gz", self.layers[layer].id))
    }

    /// A layer's directory in `overlay`.
    pub fn overlay(&self, layer: usize) -> PathBuf {
        self.root.join("overlay").join(&self.layers[layer].id)
    }

    /// A path below a layer's `diff`.
    pub fn diff(&self, layer: usize, path: &str) -> PathBuf {
        self.overlay(layer).join("diff").join(path)
    }

    /// The file of an image's big data; Go's `makeBigDataBaseName` gives its name.
    pub fn big_data(&self, image: usize, key: &str) -> PathBuf {
        let plain = |byte: u8| matches!(byte, b'.' | b'0'..=b'9' | b'a'..=b'z');
        let verbatim = key.bytes().rev().skip(1).all(plain);
        let name = if verbatim { key.to_owned() } else { format!("={}", BASE64.encode(key)) };
        self.root.join("overlay-images").join(&self.images[image]).join(name)
    }

    /// Changes a JSON file.
    pub fn json(&self, path: &Path, change: impl FnOnce(&mut Value)) {
        self.bytes(path, |bytes| {
            let mut value = serde_json::from_slice(bytes).expect("JSON of our own");
            change(&mut value);
            *bytes = serde_json::to_vec(&value).expect("JSON");
        });
    }

    /// Changes the lines of a layer's tar-split; their positions stay as they are.
    pub fn lines(&self, layer: usize, change: impl FnOnce(&mut Vec<Line>)) {
        self.split_text(layer, |text| {
            let mut lines = split::parse(text);
            change(&mut lines);
            *text = split::text(&lines);
        });
    }

    /// Changes the line of one file.
    pub fn line(&self, layer: usize, name: &str, change: impl FnOnce(&mut Line)) {
        self.lines(layer, |lines| {
            let line = lines.iter_mut().find(|line| line.name.as_deref() == Some(name));
            change(line.unwrap_or_else(|| panic!("no line of {name}")));
        });
    }

    /// Changes the uncompressed text of a layer's tar-split.
    pub fn split_text(&self, layer: usize, change: impl FnOnce(&mut Vec<u8>)) {
        self.bytes(&self.tar_split(layer), |bytes| {
            let mut text = split::gunzip(bytes);
            change(&mut text);
            *bytes = split::gzip(&text);
        });
    }

    /// Changes the bytes of a file in place: same inode, mode and times of its directory.
    pub fn bytes(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        change(&mut bytes);
        let file = OpenOptions::new().write(true).truncate(true).open(path);
        file.and_then(|mut file| file.write_all(&bytes)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Removes a file or a tree.
    pub fn remove(&self, path: &Path) {
        writable(path, || match path.symlink_metadata()?.is_dir() {
            true => open_up(path).and_then(|()| std::fs::remove_dir_all(path)),
            false => std::fs::remove_file(path),
        });
    }

    /// Puts a FIFO where a file is.
    pub fn fifo(&self, path: &Path) {
        self.remove(path);
        writable(path, || {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            Ok(rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)?)
        });
    }

    /// Puts a directory where a file is.
    pub fn directory(&self, path: &Path) {
        self.remove(path);
        writable(path, || private_dir(path));
    }

    /// Puts a symlink where a file or a tree is.
    pub fn symlink(&self, path: &Path, target: impl AsRef<Path>) {
        self.remove(path);
        writable(path, || std::os::unix::fs::symlink(&target, path));
    }

    /// Moves a file or a tree away and leaves a symlink to it in its place.
    pub fn moved(&self, path: &Path, to: &Path) {
        // A directory that moves has its `..` rewritten, which takes the right to write into it.
        let mode = path.symlink_metadata().expect("our own file").permissions();
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            self.mode(path, 0o700);
        }
        writable(path, || std::fs::rename(path, to));
        self.mode(to, mode.mode() & 0o7777);
        writable(path, || std::os::unix::fs::symlink(to, path));
    }

    /// Sets a mode.
    pub fn mode(&self, path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Runs a change in a directory that may be 0555, and gives the mode back afterwards.
fn writable(path: &Path, change: impl FnOnce() -> io::Result<()>) {
    let attempt = || {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let mode = parent.metadata()?.permissions();
        std::fs::set_permissions(parent, Permissions::from_mode(mode.mode() | 0o700))?;
        change()?;
        std::fs::set_permissions(parent, mode)
    };
    attempt().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(bytes)
}
