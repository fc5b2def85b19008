//! Copies of images for other programs: an OCI layout, or an archive of it or of Docker's form. The configuration
//! stays as it is, and with it the image id; no layer is ever written that is not what the store says of it.
//!
//! ```
//! use cstor_client::Storage;
//! use cstor_client::oci::{Compression, Copier, Destination};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
#![doc = include_str!("../example_store.txt")]
//! let image = Storage::open(root)?.image("localhost/demo")?;
//! let destination = Destination::parse(format!("oci:{}:v1", rootfs.display()))?;
//! let report = Copier::new().compression(Compression::Gzip).copy(&image, &destination)?;
//! for change in &report.changes {
//!     eprintln!("{change}");
//! }
//! # Ok(())
//! # }
//! ```

mod archive;
mod blob;
mod destination;
pub(crate) mod error;
mod index;
mod layout;
mod manifest;
mod members;
mod subject;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, statat};

pub use blob::Compression;
pub use destination::{Destination, Form, InvalidDestination};
pub use manifest::{Change, Reason};

use crate::base::ambient;
use crate::base::digest::Digest;
use crate::base::temporary::{Incomplete, remove_dead};
use crate::output::OutputError;
use crate::storage::Image;
use crate::storage::Layer;
use blob::{Blob, NewBlob};
use error::CopyError;
use layout::Layout;
use subject::Subject;

/// Copies images.
#[derive(Debug, Clone, Copy, Default)]
pub struct Copier {
    compression: Compression,
}

/// What a copy did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// The tag or the names that the copy has.
    pub names: Vec<String>,
    /// The digest of its manifest; Docker's archives have none.
    pub manifest: Option<Digest>,
    /// Layers that were written; one that occurs twice is written once.
    pub written: usize,
    /// Layers that were there already.
    pub reused: usize,
    /// The size of all its layers together.
    pub bytes: u64,
    /// The digests that are others than in the store.
    pub changes: Vec<Change>,
}

impl Copier {
    /// One that compresses nothing.
    pub fn new() -> Copier {
        Copier::default()
    }

    /// How layers are compressed.
    #[must_use]
    pub fn compression(self, compression: Compression) -> Copier {
        Copier { compression }
    }

    /// Copies an image to a directory or file outside of its store, which shows nothing of it unless everything went well.
    pub fn copy(&self, image: &Image, destination: &Destination) -> Result<CopyReport, CopyError> {
        let hold = image.interrupt().hold();
        let report = self.copy_held(image, destination)?;
        hold.keep();
        Ok(report)
    }

    fn copy_held(&self, image: &Image, destination: &Destination) -> Result<CopyReport, CopyError> {
        let path = destination.path();
        image.keep_store_from(path)?;
        if destination.form() == Form::Layout {
            // Its blobs may lie elsewhere, behind a link.
            image.keep_store_from(&path.join(layout::BLOBS))?;
            return self.copy_to_layout(image, destination);
        }
        let subject = Subject::open(image)?;
        let failed = |action| {
            move |errno: rustix::io::Errno| CopyError::Write { path: path.into(), action, source: errno.into() }
        };
        let name = path.file_name().ok_or_else(|| failed("create a file")(rustix::io::Errno::ISDIR))?;
        let above = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = ambient::open(above, flags, Mode::empty()).map_err(failed("open the directory of the file"))?;
        // A file in the place of /dev/null or of a FIFO would break whatever else uses it.
        if let Ok(there) = statat(&directory, name, AtFlags::empty())
            && FileType::from_raw_mode(there.st_mode) != FileType::RegularFile
        {
            let source = std::io::Error::other("what is there is not a regular file");
            return Err(CopyError::Write { path: path.into(), action: "create a file", source });
        }
        remove_dead(directory.as_fd(), above, name, image.interrupt());
        let create = || Incomplete::create(directory.as_fd(), name).map_err(failed("create a file"));
        let file = create()?;
        let mut compressed = BTreeMap::new();
        if self.compression != Compression::None && destination.form() == Form::OciArchive {
            let unique = subject.unique();
            let layers: Vec<_> = unique.values().map(|(layer, _)| *layer).collect();
            let write_failed =
                |source| CopyError::Write { path: path.into(), action: "write a layer beside it", source };
            let blobs = blob::write_blobs(&layers, self.compression, &create, &write_failed)?;
            compressed.extend(unique.into_keys().zip(blobs));
        }
        let report = members::write(&subject, destination, self.compression, &compressed, &mut file.file());
        let report = report.map_err(|error| match error {
            CopyError::Output(OutputError::Write(source)) => {
                CopyError::Write { path: path.into(), action: "write", source }
            }
            error => error,
        })?;
        file.publish(name).map_err(failed("put the file in place"))?;
        Ok(report)
    }

    /// Writes an archive to a stream, as it is made. What was written before an error is no archive.
    pub fn stream(
        &self,
        image: &Image,
        destination: &Destination,
        mut out: impl Write,
    ) -> Result<CopyReport, CopyError> {
        if destination.form() == Form::Layout {
            return Err(CopyError::Impossible("a layout is a directory: it cannot be written to a stream"));
        }
        if self.compression != Compression::None {
            return Err(CopyError::Impossible(
                "a compressed layer's size stands before it in an archive: it cannot be written to a stream",
            ));
        }
        members::write(&Subject::open(image)?, destination, self.compression, &BTreeMap::new(), &mut out)
    }

    fn copy_to_layout(&self, image: &Image, destination: &Destination) -> Result<CopyReport, CopyError> {
        Layout::check(destination.path())?;
        let subject = Subject::open(image)?;
        let layout = Layout::open(destination.path(), image.interrupt())?;
        let mut blobs: BTreeMap<_, _> = subject.unique();
        let unique = blobs.len();
        let is_there = |tar| self.compression == Compression::None && layout.has(tar);
        let (there, wanted): (Vec<_>, Vec<_>) = blobs.values().copied().partition(|(_, tar)| is_there(*tar));
        let mut files = self.write_layers(&wanted, &layout)?;
        for ((layer, tar), (blob, _)) in wanted.into_iter().zip(&files) {
            blobs.insert(tar.digest, (layer, *blob));
        }
        let described = subject.layers.iter().filter_map(|(_, tar)| blobs.get(&tar.digest));
        let described: Vec<_> = described.map(|(_, blob)| *blob).collect();
        let manifest = manifest::describe(&subject, &described, self.compression)?;
        let tag = subject.tag(destination);
        let mut publication = layout.publication()?;
        // Another copy may have failed since, and have taken its blobs away again.
        let lost: Vec<_> = there.into_iter().filter(|(_, blob)| !publication.has(*blob)).collect();
        files.extend(self.write_layers(&lost, &layout)?);
        let mut written = 0;
        for (blob, file) in files {
            written += usize::from(publication.put(file, blob)?);
        }
        publication.put_bytes(&subject.config, subject.config_blob)?;
        publication.put_bytes(&manifest.bytes, manifest.blob)?;
        publication.tag(manifest.blob, &tag)?;
        if !layout.appear()? {
            let small = [subject.config_blob, manifest.blob];
            written = join_existing(&layout, destination.path(), blobs.values().map(|(_, blob)| *blob), small, &tag)?;
        }
        Ok(CopyReport {
            names: vec![tag],
            manifest: Some(manifest.blob.digest),
            written,
            reused: unique - written,
            bytes: described.iter().map(|blob| blob.size).sum(),
            changes: manifest.changes,
        })
    }

    fn write_layers<'l>(
        &self,
        layers: &[(&Layer, Blob)],
        layout: &'l Layout,
    ) -> Result<Vec<(Blob, NewBlob<'l>)>, CopyError> {
        let layers: Vec<_> = layers.iter().map(|(layer, _)| *layer).collect();
        blob::write_blobs(&layers, self.compression, &|| layout.new_blob(), &layout.failed("write a blob"))
    }
}

/// Moves a new layout's blobs to the layout that has appeared in its place meanwhile, the last of which is the manifest;
/// gives the number of layers that were moved.
fn join_existing(
    new: &Layout,
    path: &Path,
    layers: impl Iterator<Item = Blob>,
    [config, manifest]: [Blob; 2],
    tag: &str,
) -> Result<usize, CopyError> {
    Layout::check(path)?;
    let existing = Layout::open(path, new.interrupt())?;
    let (from, mut to) = (new.publication()?, existing.publication()?);
    let mut moved = 0;
    for layer in layers {
        moved += usize::from(to.move_from(&from, layer)?);
    }
    for blob in [config, manifest] {
        to.move_from(&from, blob)?;
    }
    to.tag(manifest, tag)?;
    Ok(moved)
}
