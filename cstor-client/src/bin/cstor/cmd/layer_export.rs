//! `cstor layer export`.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use cstor_client::{Layer, Verify};

use super::{keep_stores_from, open_store};
use crate::args::{Export, Store, VerifyHow};
use crate::exit::Failure;
use crate::ui::output;

pub(crate) fn run(store: &Store, args: &Export) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let layer = storage.layer(&args.layer)?;
    match &args.output {
        Some(path) if path.as_os_str() != "-" => {
            keep_stores_from(path, Some(&storage))?;
            let file = output::new_file(path)?;
            export(&layer, args.verify, file.writer()).map_err(|failure| output::explain(&file, failure))?;
            Ok(file.publish()?)
        }
        _ if io::stdout().is_terminal() => Err(Failure::Terminal),
        _ => export(&layer, args.verify, output::stdout()?),
    }
}

fn export(layer: &Layer, verify: VerifyHow, out: impl Write + AsFd) -> Result<(), Failure> {
    match verify {
        VerifyHow::Digest => layer.export(out, Verify::Digest)?,
        VerifyHow::Crc => layer.export(out, Verify::Crc)?,
        VerifyHow::None => layer.export_unchecked(out)?,
    };
    Ok(())
}
