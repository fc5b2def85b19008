//! What is in an archive: the files of a layout, or those of `docker save`.
//!
//! Sources: image-spec image-layout.md; Docker's "Image Specification v1.2.0", "Combined Image JSON + Filesystem
//! Changeset Format".

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::json;

use super::archive::{self, Contents, Members};
use super::blob::{Blob, Compression, NewBlob};
use super::destination::{Destination, Form};
use super::error::CopyError;
use super::subject::Subject;
use super::{CopyReport, index, manifest};
use crate::base::digest::Digest;

/// Layers that were compressed beforehand, by their diff ids.
pub(super) type Compressed<'a> = BTreeMap<Digest, (Blob, NewBlob<'a>)>;

/// Writes an archive of the form that was asked for.
pub(super) fn write(
    subject: &Subject<'_>,
    destination: &Destination,
    compression: Compression,
    compressed: &Compressed<'_>,
    out: &mut dyn Write,
) -> Result<CopyReport, CopyError> {
    let mut report = CopyReport {
        names: Vec::new(),
        manifest: None,
        written: subject.unique().len(),
        reused: 0,
        bytes: subject.layers.iter().map(|(_, tar)| tar.size).sum(),
        changes: Vec::new(),
    };
    let members = match destination.form() {
        Form::DockerArchive => docker(subject, destination, &mut report)?,
        Form::Layout | Form::OciArchive => layout(subject, destination, compression, compressed, &mut report)?,
    };
    archive::write(members, out)?;
    Ok(report)
}

fn docker<'a>(
    subject: &'a Subject<'_>,
    destination: &Destination,
    report: &mut CopyReport,
) -> Result<Members<'a>, CopyError> {
    report.names = match destination.name() {
        Some(name) => vec![name.to_owned()],
        // An archive cannot give names with a digest.
        None => subject.image.names().iter().filter(|name| !name.contains('@')).cloned().collect(),
    };
    let name_of = |tar: &Blob| format!("{}.tar", tar.digest.hex());
    let layers: Vec<_> = subject.layers.iter().map(|(_, tar)| name_of(tar)).collect();
    let config = format!("{}.json", subject.config_blob.digest.hex());
    let manifest = json!([{ "Config": config, "RepoTags": report.names, "Layers": layers }]);
    let mut members = Members::new();
    members.insert("manifest.json".to_owned(), Contents::Bytes(manifest::to_json(&manifest)?));
    members.insert(config, Contents::Bytes(subject.config.clone()));
    for (layer, tar) in &subject.layers {
        members.insert(name_of(tar), Contents::Tar(layer, *tar));
    }
    Ok(members)
}

fn layout<'a>(
    subject: &'a Subject<'_>,
    destination: &Destination,
    compression: Compression,
    compressed: &'a Compressed<'_>,
    report: &mut CopyReport,
) -> Result<Members<'a>, CopyError> {
    let name_of = |blob: Blob| format!("blobs/sha256/{}", blob.digest.hex());
    let mut members = Members::new();
    let mut described = Vec::new();
    for (layer, tar) in &subject.layers {
        let (blob, contents) = match compressed.get(&tar.digest) {
            Some((blob, file)) => (*blob, Contents::File(file.file(), blob.size)),
            None => (*tar, Contents::Tar(layer, *tar)),
        };
        described.push(blob);
        members.insert(name_of(blob), contents);
    }
    let manifest = manifest::describe(subject, &described, compression)?;
    let tag = subject.tag(destination);
    let mut index = index::empty();
    index::add(&mut index, manifest.blob, &tag)?;
    for directory in ["blobs/", "blobs/sha256/"] {
        members.insert(directory.to_owned(), Contents::Directory);
    }
    members.insert(name_of(subject.config_blob), Contents::Bytes(subject.config.clone()));
    members.insert(name_of(manifest.blob), Contents::Bytes(manifest.bytes));
    members.insert("index.json".to_owned(), Contents::Bytes(manifest::to_json(&index)?));
    members.insert("oci-layout".to_owned(), Contents::Bytes(index::marker()?));
    report.names = vec![tag];
    report.manifest = Some(manifest.blob.digest);
    report.bytes = described.iter().map(|blob| blob.size).sum();
    report.changes = manifest.changes;
    Ok(members)
}
