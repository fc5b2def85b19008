//! The merged tree of an image with its contents, path by path: what a flat tar and a list of digests are
//! made of.
//!
//! It opens files in windows, layer by layer; the order is that of the tree.

use std::borrow::Cow;

use cstor_helper::open::refusal_of_file;
use cstor_proto::{Refusal, RelPath};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::access::{By, Chain, Escalating, FileSource, OpenedFile};
use crate::contents::flow::{self, OpenContents};
use crate::contents::{ContentProblem, ImageError, ReadError, ReadProblem};
use crate::store::chain::ChainLayer;
use crate::tar::Content;
use crate::tree::{FinalTree, InodeKind, TreeEntry};

/// Visits every path of the tree but the root. Contents are opened if `open` is set, once for all names
/// of an inode: `visit` is told the first name for the others.
pub(crate) fn visit<E: From<ImageError>>(
    tree: &FinalTree,
    (chain, source): (&Chain, &mut Escalating),
    open: bool,
    mut visit: impl FnMut(&TreeEntry<'_>, Option<&OpenContents<'_>>) -> Result<(), E>,
) -> Result<(), E> {
    let mut seen = vec![false; tree.inodes()];
    let mut window = Vec::new();
    let most = flow::window();
    let mut entries = tree.entries().skip(1).peekable();
    while let Some(entry) = entries.next() {
        chain.interrupt().check().map_err(ImageError::from)?;
        let first = seen.get_mut(entry.inode_number as usize).is_some_and(|seen| !std::mem::replace(seen, true));
        let has_contents = matches!(entry.inode.kind(), InodeKind::File { size: 1.., .. });
        window.push((entry, open && first && has_contents));
        if window.len() == most || entries.peek().is_none() {
            deliver(&window, chain, source, &mut visit)?;
            window.clear();
        }
    }
    Ok(())
}

/// Opens the contents of one regular file of the tree.
pub(crate) fn open<'a>(
    entry: &TreeEntry<'_>,
    content: Content,
    (chain, source): (&'a Chain, &mut Escalating),
) -> Result<OpenContents<'a>, ImageError> {
    let layer = layer_of(entry, chain)?;
    let file = if layer.flat && content.size == 0 {
        // What has no contents has no digest, and so no place in a flat layer.
        let fd = memfd_create("empty", MemfdFlags::CLOEXEC);
        fd.map(|fd| OpenedFile { fd, size: 0, by: By::Direct }).map_err(refusal_of_file)
    } else {
        let places = [place(entry, layer)?];
        source.open_batch(layer, &places)?.pop().unwrap_or(Err(Refusal::NotFound))
    };
    opened(entry, entry.path.clone().into(), content, file, (chain, layer))
}

fn deliver<E: From<ImageError>>(
    window: &[(TreeEntry<'_>, bool)],
    chain: &Chain,
    source: &mut Escalating,
    visit: &mut impl FnMut(&TreeEntry<'_>, Option<&OpenContents<'_>>) -> Result<(), E>,
) -> Result<(), E> {
    let mut files: Vec<Option<Result<OpenedFile, Refusal>>> = window.iter().map(|_| None).collect();
    for (number, layer) in chain.layers().iter().enumerate() {
        let of_layer = |(entry, wanted): &(TreeEntry<'_>, bool)| *wanted && entry.inode.layer() == number;
        let places = window.iter().filter(|item| of_layer(item)).map(|(entry, _)| place(entry, layer));
        let places = places.collect::<Result<Vec<_>, ReadError>>().map_err(ImageError::from)?;
        if places.is_empty() {
            continue;
        }
        let slots = files.iter_mut().zip(window).filter(|(_, item)| of_layer(item));
        for ((slot, _), file) in slots.zip(source.open_batch(layer, &places).map_err(ImageError::from)?) {
            *slot = Some(file);
        }
    }
    for ((entry, _), file) in window.iter().zip(files) {
        let (Some(file), &InodeKind::File { size, crc, digest }) = (file, entry.inode.kind()) else {
            visit(entry, None)?;
            chain.progress().advanced(1, 0);
            continue;
        };
        let content = Content { size, crc, digest };
        let layer = layer_of(entry, chain)?;
        let contents = opened(entry, (&entry.path[..]).into(), content, file, (chain, layer))?;
        visit(entry, Some(&contents))?;
        chain.progress().advanced(1, size);
    }
    Ok(())
}

fn layer_of<'c>(entry: &TreeEntry<'_>, chain: &'c Chain) -> Result<&'c ChainLayer, ImageError> {
    chain.layers().get(entry.inode.layer()).ok_or(ImageError::Internal("a file of a layer that is not in the chain"))
}

/// Where the contents of a file lie in its layer.
fn place(entry: &TreeEntry<'_>, layer: &ChainLayer) -> Result<RelPath, ReadError> {
    let path = RelPath::from_clean(entry.path.clone());
    let path = path.map_err(|invalid| read_error(layer, &entry.path, invalid.into()))?;
    let digest = match entry.inode.kind() {
        InodeKind::File { digest, .. } => *digest,
        _ => None,
    };
    Ok(layer.place(path, digest))
}

/// The contents of a file that was opened, if it has their size.
fn opened<'a>(
    entry: &TreeEntry<'_>,
    name: Cow<'a, [u8]>,
    content: Content,
    file: Result<OpenedFile, Refusal>,
    (chain, layer): (&'a Chain, &ChainLayer),
) -> Result<OpenContents<'a>, ImageError> {
    let error = |problem: ContentProblem| ImageError::Read(read_error(layer, &entry.path, problem.into()));
    let file = file.map_err(|refusal| error(ContentProblem::unopened(chain, layer, Some(content), refusal)))?;
    OpenContents::new(file, content, layer.record.id, name, chain.interrupt()).map_err(error)
}

fn read_error(layer: &ChainLayer, path: &[u8], problem: ReadProblem) -> ReadError {
    ReadError { layer: layer.record.id, name: Some(path.to_vec()), problem }
}
