//! The merged tree of an image with its contents, path by path: what a flat tar and a list of digests are
//! made of.
//!
//! It opens files in windows, layer by layer; the order is that of the tree.

use cstor_proto::{Refusal, RelPath};

use crate::access::{Escalating, FileSource, OpenedFile};
use crate::contents::flow::{self, OpenContents};
use crate::contents::{ContentProblem, ImageError, ReadError};
use crate::store::chain::Chain;
use crate::tar::Content;
use crate::tree::{FinalTree, InodeKind, TreeEntry};

/// Visits every path of the tree but the root. Contents are opened if `open` is set, once for all names
/// of an inode: `visit` is told the first name for the others.
pub(crate) fn visit<E: From<ImageError>>(
    tree: &FinalTree,
    chain: &Chain,
    open: bool,
    mut visit: impl FnMut(&TreeEntry<'_>, Option<&OpenContents<'_>>) -> Result<(), E>,
) -> Result<(), E> {
    let mut source = Escalating::new(chain.shared());
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
            deliver(&window, chain, &mut source, &mut visit)?;
            window.clear();
        }
    }
    Ok(())
}

fn deliver<E: From<ImageError>>(
    window: &[(TreeEntry<'_>, bool)],
    chain: &Chain,
    source: &mut Escalating,
    visit: &mut impl FnMut(&TreeEntry<'_>, Option<&OpenContents<'_>>) -> Result<(), E>,
) -> Result<(), E> {
    let mut opened: Vec<Option<Result<OpenedFile, Refusal>>> = window.iter().map(|_| None).collect();
    for place in 0..chain.layers().len() {
        let Some(layer) = chain.layers().get(place) else { continue };
        let of_layer = |(entry, wanted): &(TreeEntry<'_>, bool)| *wanted && entry.inode.layer() == place;
        let names = window.iter().filter(|item| of_layer(item)).map(|(entry, _)| {
            let error = |invalid: cstor_proto::InvalidPath| read_error(layer.record.id, &entry.path, invalid.into());
            let path = RelPath::from_clean(entry.path.clone()).map_err(error)?;
            let digest = match entry.inode.kind() {
                InodeKind::File { digest, .. } => *digest,
                _ => None,
            };
            Ok(layer.place(path, digest))
        });
        let names = names.collect::<Result<Vec<_>, ReadError>>().map_err(ImageError::from)?;
        if names.is_empty() {
            continue;
        }
        let slots = opened.iter_mut().zip(window).filter(|(_, item)| of_layer(item));
        for ((slot, _), file) in slots.zip(source.open_batch(layer, &names).map_err(ImageError::from)?) {
            *slot = Some(file);
        }
    }
    for ((entry, _), file) in window.iter().zip(opened) {
        let (Some(file), Some(layer), &InodeKind::File { size, crc, digest }) =
            (file, chain.layers().get(entry.inode.layer()), entry.inode.kind())
        else {
            visit(entry, None)?;
            continue;
        };
        let error =
            |problem: ContentProblem| ImageError::Read(read_error(layer.record.id, &entry.path, problem.into()));
        let content = Content { size, crc, digest };
        let file = file.map_err(|refusal| error(ContentProblem::unopened(chain, layer, Some(content), refusal)))?;
        let contents =
            OpenContents::new(file, content, layer.record.id, &entry.path, chain.interrupt()).map_err(error)?;
        visit(entry, Some(&contents))?;
    }
    Ok(())
}

fn read_error(layer: cstor_proto::LayerId, path: &[u8], problem: crate::contents::ReadProblem) -> ReadError {
    ReadError { layer, name: Some(path.to_vec()), problem }
}
