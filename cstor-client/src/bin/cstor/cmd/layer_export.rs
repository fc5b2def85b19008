//! `cstor layer export`.

use std::io::{self, IsTerminal};

use cstor_client::Verify;

use super::{keep_stores_from, open_store};
use crate::args::{Export, Store};
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
            let written = match args.verify {
                Verify::Structure => layer.export_unchecked(file.writer()),
                level => layer.export(file.writer(), level),
            };
            written.map_err(|error| output::explain(&file, error.into()))?;
            Ok(file.publish()?)
        }
        _ if io::stdout().is_terminal() => Err(Failure::Terminal),
        _ => {
            match args.verify {
                Verify::Structure => layer.export_unchecked(Inherited::open()?)?,
                level => layer.export(Stdout::open(storage.interrupt())?, level)?,
            };
            Ok(())
        }
    }
}
