//! `cstor extract`, of images and of layers.

use std::io::{self, Write};
use std::path::Path;

use cstor_client::extract::{Extractor, Reach, Report};
use cstor_client::interrupt::Interrupt;
use cstor_client::jsonrpc::{ProxyOptions, ProxyV1Client};
use cstor_client::{Error, Escaped};

use super::{find, keep_stores_from, open_store, short_id};
use crate::args::{DeviceNodes, Extract, ExtractHow, ExtractLayer, ProxyCommand, Store};
use crate::exit::Failure;
use crate::sandbox::{self, Files, Held};
use crate::signals;
use crate::ui::{count, progress, size};

pub(crate) fn run(store: &Store, args: &Extract) -> Result<(), Failure> {
    if let Some(command) = &args.via {
        if store.is_meant() {
            return Err(Failure::Usage("with --via there is no store and no helper: leave out the flags about them"));
        }
        return run_via(command, store.memory_limit, args);
    }
    let storage = open_store(store)?;
    keep_stores_from(&args.dir, Some(&storage))?;
    let target = find(&storage, &args.image)?;
    let report = extractor(&args.how).progress(progress::choose(args.progress)).extract(&target, &args.dir)?;
    print_summary(&format!("{} ({})", args.image, short_id(&target)), &args.dir, &report);
    Ok(())
}

/// `cstor extract --via`: the image comes from another program, and no store is read.
fn run_via(command: &ProxyCommand, memory_limit: Option<u64>, args: &Extract) -> Result<(), Failure> {
    keep_stores_from(&args.dir, None)?;
    let interrupt = Interrupt::new();
    signals::stop(&interrupt)?;
    let options = ProxyOptions::new().interrupt(interrupt.clone());
    let extractor = extractor(&args.how).progress(progress::choose(args.progress)).interrupt(interrupt);
    let extractor = memory_limit.into_iter().fold(extractor, Extractor::memory_limit);
    let proxy = ProxyV1Client::start(&command.0, options).map_err(Error::from)?;
    let result = proxy.extract(&args.image, &args.dir, &extractor);
    // A bar goes before what comes next.
    drop(extractor);
    let report = result?;
    print_summary(&args.image, &args.dir, &report);
    Ok(())
}

/// `cstor layer extract`.
pub(crate) fn run_layer(store: &Store, args: &ExtractLayer) -> Result<(), Failure> {
    let storage = open_store(store)?;
    keep_stores_from(&args.dir, Some(&storage))?;
    let layer = storage.layer(&args.layer)?;
    let report = extractor(&args.how).extract(&layer, &args.dir)?;
    print_summary(&format!("layer {:.12}", layer.id()), &args.dir, &report);
    Ok(())
}

fn extractor(how: &ExtractHow) -> Extractor {
    let extractor = Extractor::new()
        .reflink(how.reflink())
        .devices(how.devices.into())
        .same_owner(!how.no_same_owner)
        .strict(how.strict)
        .verify(how.verify)
        .replace(how.replace);
    let extractor = if how.preserve_setid { extractor.preserve_set_id(true) } else { extractor };
    let devices = matches!(how.devices, DeviceNodes::Create);
    if how.no_sandbox { extractor } else { extractor.before_placing(move |reach| enter_sandbox(reach, devices)) }
}

/// The helper is up if the plan needs it, and nothing has been started beside it.
fn enter_sandbox(reach: &Reach<'_>, devices: bool) -> io::Result<()> {
    let files = Files { reads: &reach.reads, grows: reach.grows, beside: reach.beside, goes: reach.goes, devices };
    let Held { landlock, seccomp } = sandbox::enter(&files).map_err(io::Error::other)?;
    tracing::debug!(?landlock, seccomp, "in the sandbox");
    Ok(())
}

fn print_summary(what: &str, dir: &Path, report: &Report) {
    // The result is complete whether this can be written or not.
    let _ = writeln!(io::stderr(), "{}", summary(what, dir, report));
}

fn summary(what: &str, dir: &Path, report: &Report) -> String {
    let checked = match (report.verified, report.without_checksum) {
        (true, _) => "all contents checked".to_owned(),
        (false, 0) => "reflinked contents not checked (--verify does)".to_owned(),
        (false, files) => format!("{} of the container's own not checked", count(files, "file", "files")),
    };
    let contents = [
        count(report.files, "file", "files"),
        count(report.directories, "directory", "directories"),
        count(report.symlinks, "symlink", "symlinks"),
        count(report.hard_links, "hard link", "hard links"),
    ];
    format!(
        "{} -> {}: {}; {} reflinked, {} copied; {} through the helper; skipped: {}; {checked}",
        Escaped(what.as_bytes()),
        Escaped(dir.as_os_str().as_encoded_bytes()),
        contents.join(", "),
        size(report.reflinked_bytes),
        size(report.copied_bytes),
        count(report.through_helper, "file", "files"),
        report.losses,
    )
}
