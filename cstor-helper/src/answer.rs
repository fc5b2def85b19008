//! The answers to requests: `grep 'fn answer_'` lists every privileged action there is.
//!
//! Whether a request may come now is decided in `session.rs`; how a name is opened, in `open.rs`.

use cstor_proto::{Fault, LayerDir, LayerHandle, LayerId, MAX_BATCH, RelPath, Reply, StoreIndex};
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

/// Closes a layer directory.
pub(crate) fn answer_close_layer(layers: &mut Layers, layer: LayerHandle) -> Answer {
    layers.remove(layer).ok_or(Fault::Unknown)?;
    Ok((Reply::Closed, Vec::new()))
}
