//! `cstor image export`.

use std::io::{self, IsTerminal};

use super::{find, keep_stores_from, open_store};
use crate::args::{ExportImage, Store};
use crate::exit::Failure;
use crate::ui::output;
use crate::ui::stdout::Stdout;

pub(crate) fn run(store: &Store, args: &ExportImage) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let target = find(&storage, &args.image)?;
    match &args.output {
        Some(path) if path.as_os_str() != "-" => {
            keep_stores_from(path, Some(&storage))?;
            let file = output::new_file(path, &storage.interrupt())?;
            target.rootfs()?.export(file.writer()).map_err(|error| output::explain(&file, error.into()))?;
            Ok(file.publish()?)
        }
        _ if io::stdout().is_terminal() => Err(Failure::Terminal),
        _ => {
            target.rootfs()?.export(Stdout::open(storage.interrupt())?)?;
            Ok(())
        }
    }
}
