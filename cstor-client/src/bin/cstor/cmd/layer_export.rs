//! `cstor layer export`.

use std::io::{self, IsTerminal};

use cstor_client::Verify;

use super::{keep_stores_from, open_store};
use crate::args::{Export, Store, VerifyHow};
use crate::exit::Failure;
use crate::ui::output;
use crate::ui::stdout::{Inherited, Stdout};

pub(crate) fn run(store: &Store, args: &Export) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let layer = storage.layer(&args.layer)?;
    match &args.output {
        Some(path) if path.as_os_str() != "-" => {
            keep_stores_from(path, Some(&storage))?;
            let file = output::new_file(path, &storage.interrupt())?;
            let written = match checked(args.verify) {
                Some(verify) => layer.export(file.writer(), verify),
                None => layer.export_unchecked(file.writer()),
            };
            written.map_err(|error| output::explain(&file, error.into()))?;
            Ok(file.publish()?)
        }
        _ if io::stdout().is_terminal() => Err(Failure::Terminal),
        _ => {
            match checked(args.verify) {
                Some(verify) => layer.export(Stdout::open(storage.interrupt())?, verify)?,
                None => layer.export_unchecked(Inherited::open()?)?,
            };
            Ok(())
        }
    }
}

/// How far it is to be checked, if it is.
fn checked(how: VerifyHow) -> Option<Verify> {
    match how {
        VerifyHow::Digest => Some(Verify::Digest),
        VerifyHow::Crc => Some(Verify::Crc),
        VerifyHow::None => None,
    }
}
