//! `cstor image toc` and `cstor layer toc`.

use std::io::Write;

use cstor_client::error::OutputError;

use super::{find, open_store};
use crate::args::{ImageToc, LayerToc, Store};
use crate::exit::Failure;

pub(crate) fn run_image(store: &Store, args: &ImageToc, out: &mut dyn Write) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let target = find(&storage, &args.image)?;
    target.rootfs()?.write_toc(out, args.how.digests, args.how.pretty).map_err(unwritten)
}

pub(crate) fn run_layer(store: &Store, args: &LayerToc, out: &mut dyn Write) -> Result<(), Failure> {
    let layer = open_store(store)?.layer(&args.layer)?;
    layer.write_toc(out, args.how.digests, args.keep_whiteouts, args.how.pretty).map_err(unwritten)
}

/// A table goes to standard output.
fn unwritten(error: OutputError) -> Failure {
    match error {
        OutputError::Write(error) => Failure::Output(error),
        error => error.into(),
    }
}
