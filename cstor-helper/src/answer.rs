//! The answers to requests: `grep 'fn answer_'` lists every privileged action there is.
//!
//! Whether a request may come now is decided in `session.rs`; how a name is opened, in `open.rs`.

use cstor_proto::{Fault, LayerDir, LayerHandle, LayerId, MAX_BATCH, MAX_XATTR_NAME, RelPath, Reply, StoreIndex};
use rustix::fd::OwnedFd;

use crate::layers::Layers;
use crate::open;

/// A reply and the descriptors that go with it.
pub(crate) type Answer = Result<(Reply, Vec<OwnedFd>), Fault>;

/// Opens a layer directory and keeps it under a handle.
pub(crate) fn answer_open_layer(
    roots: &[OwnedFd],
    layers: &mut Layers,
    root: StoreIndex,
    id: LayerId,
    dir: LayerDir,
) -> Answer {
    let root = roots.get(usize::from(root.0)).ok_or(Fault::Unknown)?;
    let handle = layers.free_handle().ok_or(Fault::OverLimit)?;
    let opened = open::layer_dir(root, id, dir).map(|fd| {
        layers.insert(handle, fd);
        handle
    });
    Ok((Reply::Layer(opened), Vec::new()))
}

/// Opens the tar-split file of a layer and passes it back.
pub(crate) fn answer_open_tar_split(roots: &[OwnedFd], root: StoreIndex, id: LayerId) -> Answer {
    let root = roots.get(usize::from(root.0)).ok_or(Fault::Unknown)?;
    Ok(match open::tar_split(root, id) {
        Ok(fd) => (Reply::TarSplit(Ok(())), vec![fd]),
        Err(refusal) => (Reply::TarSplit(Err(refusal)), Vec::new()),
    })
}

/// Opens files of a layer and passes them back.
pub(crate) fn answer_open(layers: &Layers, layer: LayerHandle, names: &[RelPath]) -> Answer {
    if names.is_empty() || names.len() > MAX_BATCH {
        return Err(Fault::OverLimit);
    }
    let dir = layers.get(layer).ok_or(Fault::Unknown)?;
    let mut fds = Vec::with_capacity(names.len());
    let results = names.iter().map(|name| open::regular_file(dir, name).map(|fd| fds.push(fd))).collect();
    Ok((Reply::Opened(results), fds))
}

/// Opens a directory of a layer for reading its names, and passes it back.
pub(crate) fn answer_list(layers: &Layers, layer: LayerHandle, name: Option<&RelPath>) -> Answer {
    let dir = layers.get(layer).ok_or(Fault::Unknown)?;
    Ok(match open::listing(dir, path_of(name)) {
        Ok(fd) => (Reply::Listed(Ok(())), vec![fd]),
        Err(refusal) => (Reply::Listed(Err(refusal)), Vec::new()),
    })
}

fn path_of(name: Option<&RelPath>) -> &[u8] {
    name.map_or(b".", RelPath::as_bytes)
}

/// Opens anything in a layer for a look at it alone, and passes it back.
pub(crate) fn answer_look(layers: &Layers, layer: LayerHandle, names: &[RelPath]) -> Answer {
    if names.is_empty() || names.len() > MAX_BATCH {
        return Err(Fault::OverLimit);
    }
    let dir = layers.get(layer).ok_or(Fault::Unknown)?;
    let mut fds = Vec::with_capacity(names.len());
    let results = names.iter().map(|name| open::sight(dir, name.as_bytes()).map(|fd| fds.push(fd))).collect();
    Ok((Reply::Seen(results), fds))
}

/// Reads an attribute of a file in the `user` namespace.
pub(crate) fn answer_user_xattr(layers: &Layers, layer: LayerHandle, name: Option<&RelPath>, key: &[u8]) -> Answer {
    let dir = layers.get(layer).ok_or(Fault::Unknown)?;
    if key.is_empty() || key.len() > MAX_XATTR_NAME || key.contains(&0) {
        return Err(Fault::OverLimit);
    }
    Ok((Reply::UserXattr(open::user_xattr(dir, path_of(name), key)), Vec::new()))
}

/// Closes a layer directory.
pub(crate) fn answer_close_layer(layers: &mut Layers, layer: LayerHandle) -> Answer {
    layers.remove(layer).ok_or(Fault::Unknown)?;
    Ok((Reply::Closed, Vec::new()))
}
