//! `cstor extract`.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cstor_client::Escaped;
use cstor_client::extract::{Extractor, Report};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::open_store;
use crate::args::{Extract, Store};
use crate::exit::Failure;
use crate::ui::progress;
use crate::ui::size;

pub(crate) fn run(store: &Store, args: &Extract) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let interrupt = storage.interrupt();
    let caught = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        let number = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_usize(signal, Arc::clone(&caught), number).map_err(Failure::Signal)?;
        signal_hook::flag::register(signal, Arc::clone(&interrupt)).map_err(Failure::Signal)?;
    }
    let image = storage.image(&args.image)?;
    let mut extractor = Extractor::new()
        .reflink(args.reflink())
        .devices(args.devices.into())
        .same_owner(!args.no_same_owner)
        .strict(args.strict)
        .verify(args.verify)
        .replace(args.replace)
        .interrupt(interrupt);
    if args.preserve_setid {
        extractor = extractor.preserve_set_id(true);
    }
    let progress = progress::choose(args.progress);
    let result = extractor.extract_with(&image, &args.dir, &*progress);
    drop(progress);
    match (result, caught.load(Ordering::Relaxed)) {
        (Ok(report), _) => {
            let name = format!("{} ({})", args.image, image.id().short());
            // The result is complete, whoever reads this.
            let _ = writeln!(io::stderr(), "{}", summary(&name, args, &report));
            Ok(())
        }
        (Err(_), signal) if signal != 0 => Err(Failure::Stopped(i32::try_from(signal).unwrap_or(SIGINT))),
        (Err(error), _) => Err(error.into()),
    }
}

fn summary(image: &str, args: &Extract, report: &Report) -> String {
    let checked =
        if report.verified { "all contents checked" } else { "reflinked contents not checked (--verify does)" };
    format!(
        "{} -> {}: {} files, {} directories, {} symlinks, {} hard links; {} reflinked, {} copied; {} files through the helper; skipped: {}; {checked}",
        Escaped(image.as_bytes()),
        Escaped(args.dir.as_os_str().as_encoded_bytes()),
        report.files,
        report.directories,
        report.symlinks,
        report.hard_links,
        size(report.reflinked_bytes),
        size(report.copied_bytes),
        report.through_helper,
        report.losses,
    )
}
