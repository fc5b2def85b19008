//! `cstor`: reads container images straight out of podman's store.
//!
//! What was typed (`args/`) becomes one call of a command (`cmd/`); results go to standard output,
//! everything else to standard error (`ui/`), and every error to one exit code (`exit.rs`).
#![allow(rustdoc::broken_intra_doc_links, reason = "the texts of arguments are for clap, where [:TAG] is optional")]

mod advice;
mod args;
mod as_owner;
mod cmd;
mod exit;
mod sandbox;
mod signals;
mod socket;
mod ui;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use args::{Args, Command, ContainerCommand, ImageCommand, LayerCommand};
use exit::Failure;

fn main() -> ExitCode {
    if let Err(failure) = signals::catch() {
        return exit::report(&failure, &[]);
    }
    if let Err(error) = outlive_file_size_limit() {
        return exit::report(&Failure::Signal(error), &[]);
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    ui::log::start(args.verbose);
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let failure = signals::caught().map_or(failure, Failure::Stopped);
            let images = failure.layer().map(|layer| cmd::whose::images_of_failure(&args, layer));
            exit::report(&failure, &images.unwrap_or_default())
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    if args.store.as_owner {
        as_owner::become_owner(&args.store)?;
    }
    raise_descriptor_limit();
    if !args.command.is_planned() {
        // Which files need the helper shows while they are read, and a sandbox would not let it start.
        tracing::debug!("no sandbox for this command");
    }
    match &args.command {
        Command::Extract(extract) => cmd::extract::run(&args.store, extract),
        Command::Layer { command: LayerCommand::List(list) } => {
            cmd::layer_list::run(&args.store, list, &mut io::stdout())
        }
        Command::Layer { command: LayerCommand::Inspect(inspect) } => {
            cmd::layer_inspect::run(&args.store, inspect, &mut io::stdout())
        }
        Command::Layer { command: LayerCommand::Export(export) } => cmd::layer_export::run(&args.store, export),
        Command::Layer { command: LayerCommand::Splitfd(split) } => cmd::layer_splitfd::run(&args.store, split),
        Command::Layer { command: LayerCommand::Toc(toc) } => cmd::toc::run_layer(&args.store, toc, &mut io::stdout()),
        Command::Image { command: ImageCommand::Toc(toc) } => cmd::toc::run_image(&args.store, toc, &mut io::stdout()),
        Command::Image { command: ImageCommand::Copy(copy) } => cmd::image_copy::run(&args.store, copy),
        Command::Image { command: ImageCommand::Export(export) } => cmd::image_export::run(&args.store, export),
        Command::Layer { command: LayerCommand::Extract(extract) } => cmd::extract::run_layer(&args.store, extract),
        Command::Container { command: ContainerCommand::List(list) } => {
            cmd::container_list::run(&args.store, list, &mut io::stdout())
        }
        Command::Container { command: ContainerCommand::Diff(diff) } => {
            cmd::container_diff::run(&args.store, diff, &mut io::stdout())
        }
        Command::ResolveLink(link) => cmd::resolve_link::run(&args.store, link, &mut io::stdout()),
        Command::Doctor(doctor) => cmd::doctor::run(&args.store, doctor, &mut io::stdout()),
        Command::Info(info) => cmd::info::run(&args.store, info, &mut io::stdout()),
        Command::Serve(serve) => cmd::serve::run(&args.store, serve),
        Command::Verify(check) => cmd::verify::run(&args.store, check, &mut io::stdout()),
        Command::Image { command: ImageCommand::Extract(extract) } => cmd::extract::run(&args.store, extract),
        Command::Image { command: ImageCommand::List(list) } => {
            cmd::image_list::run(&args.store, list, &mut io::stdout())
        }
        Command::Image { command: ImageCommand::Inspect(inspect) } => {
            cmd::image_inspect::run(&args.store, inspect, &mut io::stdout())
        }
        Command::Image { command: ImageCommand::Layers(layers) } => {
            cmd::image_layers::run(&args.store, layers, &mut io::stdout())
        }
    }
}

/// A write over the limit of file sizes (ulimit -f) sends SIGXFSZ, which ends a process before it can remove what it has
/// begun. Where the signal is caught, and nothing done about it, the write fails with EFBIG, as other writes fail. A
/// handler, unlike an ignored signal, is not inherited by the programs that are started (execve(2)).
fn outlive_file_size_limit() -> io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).map(drop)
}

/// Batches of descriptors are in flight; the soft limit of 1024 is for programs that use select(2).
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Not worth an error: less is used where less is allowed.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}
