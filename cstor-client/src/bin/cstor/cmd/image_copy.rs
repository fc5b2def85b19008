//! `cstor image copy`.

use std::io::{self, IsTerminal, Write};

use cstor_client::oci::{Compression, Copier, CopyReport, Form};
use cstor_client::{Escaped, Image};

use super::{find_image, keep_stores_from, open_store};
use crate::args::{CopyImage, Store};
use crate::exit::Failure;
use crate::ui::stdout::Stdout;
use crate::ui::{count, size};

pub(crate) fn run(store: &Store, args: &CopyImage) -> Result<(), Failure> {
    let compression = Compression::from(args.compress);
    if compression != Compression::None {
        if args.destination.form() == Form::DockerArchive {
            return Err(Failure::Usage("--compress: the layers of a docker-archive are not compressed"));
        }
        if args.destination.is_stream() {
            return Err(Failure::Usage(
                "--compress: the size of a compressed layer is not known before it is written, so an archive of them \
                 needs a file, not standard output",
            ));
        }
    }
    if args.destination.is_stream() && io::stdout().is_terminal() {
        return Err(Failure::Terminal);
    }
    let storage = open_store(store)?;
    let image = find_image(&storage, &args.image)?;
    let copier = Copier::new().compression(compression);
    let report = if args.destination.is_stream() {
        copier.stream(&image, &args.destination, Stdout::open(storage.interrupt())?)?
    } else {
        keep_stores_from(args.destination.path(), Some(&storage))?;
        copier.copy(&image, &args.destination)?
    };
    // The copy is complete whether this can be written or not.
    let _ = summarize(args, &image, &report, &mut io::stderr());
    Ok(())
}

fn summarize(args: &CopyImage, image: &Image, report: &CopyReport, out: &mut dyn Write) -> io::Result<()> {
    for change in &report.changes {
        writeln!(out, "{change}")?;
    }
    let there = if report.reused == 0 { String::new() } else { format!(", {} there already", report.reused) };
    writeln!(
        out,
        "{} ({}) -> {}: {}; {} written{there}; {}",
        Escaped(args.image.as_bytes()),
        image.id().short(),
        Escaped(args.destination.path().as_os_str().as_encoded_bytes()),
        Escaped(report.names.join(", ").as_bytes()),
        count(report.written as u64, "layer", "layers"),
        size(report.bytes),
    )
}
