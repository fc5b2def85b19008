//! `cstor extract`, of images and of layers.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cstor_client::error::ExtractError;
use cstor_client::extract::{Extractor, Reach, Report};
use cstor_client::jsonrpc::{ProxyOptions, ProxyV1Client};
use cstor_client::{Error, Escaped};
use rustix::fs::{Mode, OFlags, open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{find, keep_stores_from, open_store, short_id};
use crate::args::{DeviceNodes, Extract, ExtractHow, ExtractLayer, ProxyCommand, Store};
use crate::exit::Failure;
use crate::sandbox::{self, Files, Held};
use crate::ui::{count, progress, size};

pub(crate) fn run(store: &Store, args: &Extract) -> Result<(), Failure> {
    if let Some(command) = &args.via {
        if store.is_meant() {
            return Err(Failure::Usage("with --via there is no store and no helper: leave out the flags about them"));
        }
        return run_via(command, args);
    }
    let storage = open_store(store)?;
    keep_stores_from(&args.dir, Some(&storage))?;
    let stop = Stop::on_signals(&storage.interrupt())?;
    let target = find(&storage, &args.image)?;
    let progress = progress::choose(args.progress);
    let result = extractor(&args.how, storage.interrupt()).extract_with(&target, &args.dir, &*progress);
    drop(progress);
    let report = result.map_err(|error| stop.or(error))?;
    print_summary(&format!("{} ({})", args.image, short_id(&target)), &args.dir, &report);
    Ok(())
}

/// `cstor extract --via`: the image comes from another program, and no store is read.
fn run_via(command: &ProxyCommand, args: &Extract) -> Result<(), Failure> {
    keep_stores_from(&args.dir, None)?;
    let interrupt = Arc::default();
    let stop = Stop::on_signals(&interrupt)?;
    let options = ProxyOptions::new().interrupt(Arc::clone(&interrupt));
    let progress = progress::choose(args.progress);
    let extractor = extractor(&args.how, interrupt);
    let proxy = ProxyV1Client::start(&command.0, options).map_err(|error| stop.or(Error::from(error).into()))?;
    let result = proxy.extract(&args.image, &args.dir, &extractor, &*progress);
    drop(progress);
    let report = result.map_err(|error| stop.or(error))?;
    print_summary(&args.image, &args.dir, &report);
    Ok(())
}

/// `cstor layer extract`.
pub(crate) fn run_layer(store: &Store, args: &ExtractLayer) -> Result<(), Failure> {
    let storage = open_store(store)?;
    keep_stores_from(&args.dir, Some(&storage))?;
    let stop = Stop::on_signals(&storage.interrupt())?;
    let layer = storage.layer(&args.layer)?;
    let result = extractor(&args.how, storage.interrupt()).extract_layer(&layer, &args.dir);
    let report = result.map_err(|error| stop.or(error))?;
    print_summary(&format!("layer {:.12}", layer.id()), &args.dir, &report);
    Ok(())
}

fn extractor(how: &ExtractHow, interrupt: Arc<AtomicBool>) -> Extractor {
    let extractor = Extractor::new()
        .reflink(how.reflink())
        .devices(how.devices.into())
        .same_owner(!how.no_same_owner)
        .strict(how.strict)
        .verify(how.verify)
        .replace(how.replace)
        .interrupt(interrupt);
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

/// The signals that ask to stop, and whether one came.
pub(super) struct Stop(Arc<AtomicUsize>);

impl Stop {
    pub(super) fn on_signals(interrupt: &Arc<AtomicBool>) -> Result<Stop, Failure> {
        let caught = Arc::new(AtomicUsize::new(0));
        // A terminal that is closed sends SIGHUP; nohup(1) has it ignored, and so it stays.
        let hangup = (!ignores_hangup()).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
            let number = usize::try_from(signal).unwrap_or_default();
            signal_hook::flag::register_usize(signal, Arc::clone(&caught), number).map_err(Failure::Signal)?;
            signal_hook::flag::register(signal, Arc::clone(interrupt)).map_err(Failure::Signal)?;
        }
        Ok(Stop(caught))
    }

    /// The signal, if there was one: it explains any other error.
    fn or(&self, error: ExtractError) -> Failure {
        match self.0.load(Ordering::Relaxed) {
            0 => match error {
                ExtractError::Hook(source) => Failure::Sandbox(source),
                error => error.into(),
            },
            signal => Failure::Stopped(i32::try_from(signal).unwrap_or(SIGINT)),
        }
    }
}

/// Whether this process was started with SIGHUP ignored: bit 0 of `SigIgn` in /proc/self/status (proc_pid_status(5)).
fn ignores_hangup() -> bool {
    let mut status = [0; 4096];
    let read = open("/proc/self/status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|fd| rustix::io::read(&fd, &mut status));
    let text = read.ok().and_then(|length| std::str::from_utf8(status.get(..length)?).ok());
    let mask = text.and_then(|text| text.lines().find_map(|line| line.strip_prefix("SigIgn:")));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

fn print_summary(what: &str, dir: &Path, report: &Report) {
    // The result is complete, whoever reads this.
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
