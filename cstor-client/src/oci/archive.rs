//! A layout, or Docker's form of an image, as one tar: members in the order of their names, all times 0. Contents of
//! known size and digest go from the store straight into it.
//!
//! Sources: image-spec image-layout.md; Docker's "Image Specification v1.2.0" (manifest.json).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};

use super::blob::{self, Blob};
use super::error::CopyError;
use crate::output::OutputError;
use crate::storage::Layer;

const BLOCK: u64 = 512;
/// POSIX.1-2024, pax: two blocks of zeros end an archive.
const END: [u8; 1024] = [0; 1024];

/// What a member holds.
pub(super) enum Contents<'a> {
    Directory,
    Bytes(Vec<u8>),
    /// A layer's tar as it is.
    Tar(&'a Layer, Blob),
    /// A file, from its beginning.
    File(&'a File, u64),
}

/// The members by their names.
pub(super) type Members<'a> = BTreeMap<String, Contents<'a>>;

/// Writes them all.
pub(super) fn write(members: Members<'_>, out: &mut dyn Write) -> Result<(), CopyError> {
    for (name, contents) in members {
        let size = match &contents {
            Contents::Directory => 0,
            Contents::Bytes(bytes) => bytes.len() as u64,
            Contents::Tar(_, blob) => blob.size,
            Contents::File(_, size) => *size,
        };
        let header = header(&name, size, matches!(contents, Contents::Directory)).map_err(OutputError::Write)?;
        out.write_all(&header).map_err(OutputError::Write)?;
        match contents {
            Contents::Directory => {}
            Contents::Bytes(bytes) => out.write_all(&bytes).map_err(OutputError::Write)?,
            Contents::Tar(layer, blob) => blob::write_tar(layer, blob, &mut *out)?,
            Contents::File(file, size) => copy(file, size, out).map_err(OutputError::Write)?,
        }
        let padding = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or_default();
        out.write_all(END.get(..padding).unwrap_or_default()).map_err(OutputError::Write)?;
    }
    out.write_all(&END).and_then(|()| out.flush()).map_err(OutputError::Write)?;
    Ok(())
}

fn copy(mut file: &File, size: u64, out: &mut dyn Write) -> io::Result<()> {
    file.rewind()?;
    let copied = io::copy(&mut file.take(size), out)?;
    if copied == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn header(name: &str, size: u64, is_directory: bool) -> io::Result<[u8; BLOCK as usize]> {
    // GNU's form has sizes beyond 8 GiB without a header of their own.
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(if is_directory { 0o755 } else { 0o644 });
    header.set_entry_type(if is_directory { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(*header.as_bytes())
}
