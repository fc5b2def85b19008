//! `cstor layer splitfd`: a layer's splitfdstream as a file, and in words which files belong to it.

use std::io::{self, BufWriter, Write};

use cstor_client::error::{OutputError, SplitFdError};
#[cfg(feature = "zstd")]
use cstor_client::splitfdstream::Compressor;
use cstor_client::splitfdstream::{ExternalFile, Split};
use cstor_client::temporary::publish_all;
use cstor_client::{Escaped, Layer};

use super::{keep_stores_from, open_store};
use crate::args::{SplitFd, Store};
use crate::exit::Failure;
use crate::ui::output::{explain, new_file};

pub(crate) fn run(store: &Store, args: &SplitFd) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let layer = storage.layer(&args.layer)?;
    #[cfg(feature = "zstd")]
    let name = if args.zstd { "stream.zst" } else { "stream" };
    #[cfg(not(feature = "zstd"))]
    let name = "stream";
    let (stream, list) = if args.output.is_dir() {
        (args.output.join(name), args.output.join("files"))
    } else {
        let mut list = args.output.clone().into_os_string();
        list.push(".files");
        (args.output.clone(), list.into())
    };
    keep_stores_from(&stream, Some(&storage))?;
    keep_stores_from(&list, Some(&storage))?;
    let interrupt = storage.interrupt();
    let (stream, list) = (new_file(&stream, &interrupt)?, new_file(&list, &interrupt)?);
    let mut lines = BufWriter::new(list.writer());
    write(&layer, args, BufWriter::new(stream.writer()), &mut lines).map_err(|error| explain(&stream, error.into()))?;
    lines.flush().map_err(|error| explain(&list, unwritten(error).into()))?;
    drop(lines);
    // A program that waits for the stream finds the list beside it.
    Ok(publish_all([list, stream])?)
}

/// Writes the stream, and a line for each file; nothing is kept open.
fn write(layer: &Layer, args: &SplitFd, mut out: impl Write, lines: &mut impl Write) -> Result<Split, OutputError> {
    let describe = |file: ExternalFile<'_>| {
        writeln!(lines, "{}\t{}\t{}", file.number, file.size, Escaped(file.name)).map_err(SplitFdError::Write)
    };
    #[cfg(feature = "zstd")]
    if args.zstd {
        let mut compressor = Compressor::new(out, 0).map_err(unwritten)?;
        let split = layer.splitfdstream(&mut compressor, describe, args.inline_threshold)?;
        compressor.finish().and_then(|mut out| out.flush()).map_err(unwritten)?;
        return Ok(split);
    }
    layer.splitfdstream(&mut out, describe, args.inline_threshold)
}

fn unwritten(error: io::Error) -> OutputError {
    OutputError::Write(error)
}
