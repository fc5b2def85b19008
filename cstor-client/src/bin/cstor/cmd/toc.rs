//! `cstor image toc` and `cstor layer toc`.

use std::io::{BufWriter, Write};

use cstor_client::toc::Toc;

use super::{find, open_store};
use crate::args::{ImageToc, LayerToc, Store};
use crate::exit::Failure;

pub(crate) fn run_image(store: &Store, args: &ImageToc, out: &mut dyn Write) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let target = find(&storage, &args.image)?;
    print(&target.toc(args.how.digests)?, args.how.pretty, out)
}

pub(crate) fn run_layer(store: &Store, args: &LayerToc, out: &mut dyn Write) -> Result<(), Failure> {
    let toc = open_store(store)?.layer(&args.layer)?.toc(args.how.digests)?;
    let toc = if args.keep_whiteouts { toc } else { toc.without_whiteouts() };
    print(&toc, args.how.pretty, out)
}

fn print(toc: &Toc, pretty: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut out = BufWriter::new(out);
    let written =
        if pretty { serde_json::to_writer_pretty(&mut out, toc) } else { serde_json::to_writer(&mut out, toc) };
    written.map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}
