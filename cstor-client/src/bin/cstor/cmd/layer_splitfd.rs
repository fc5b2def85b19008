//! `cstor layer splitfd`: a layer's splitfdstream as a file, and in words which files belong to it.

use std::io::{BufWriter, Write};

use cstor_client::Escaped;
use cstor_client::error::SplitFdError;
use cstor_client::splitfdstream::ExternalFile;

use super::open_store;
use crate::args::{SplitFd, Store};
use crate::exit::Failure;
use crate::ui::output::NewFile;

pub(crate) fn run(store: &Store, args: &SplitFd) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let layer = storage.layer(&args.layer)?;
    let (stream, list) = if args.output.is_dir() {
        (args.output.join("stream"), args.output.join("files"))
    } else {
        let mut list = args.output.clone().into_os_string();
        list.push(".files");
        (args.output.clone(), list.into())
    };
    let (stream, list) = (NewFile::create(&stream)?, NewFile::create(&list)?);
    let mut lines = BufWriter::new(list.writer());
    // One file, one line; nothing is kept open.
    let describe = |file: ExternalFile<'_>| {
        writeln!(lines, "{}\t{}\t{}", file.number, file.size, Escaped(file.name)).map_err(SplitFdError::Write)
    };
    let split = layer.splitfdstream(BufWriter::new(stream.writer()), describe, args.inline_threshold);
    split.map_err(|error| stream.explain(error.into()))?;
    lines.flush().map_err(|error| list.explain(cstor_client::Error::from(SplitFdError::Write(error)).into()))?;
    drop(lines);
    stream.publish()?;
    list.publish()
}
