//! `tar-diff`: whether two tars are the same, and if not, in what.
//!
//! Both are read once from beginning to end, side by side as long as their entries have the same names
//! (`compare.rs`), and each for itself from where they have not (`index.rs`).

mod args;
mod compare;
mod contents;
mod exit;
mod index;
mod input;
mod meaning;
mod report;
#[cfg(test)]
mod tests;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use args::{Args, Format};
use exit::Trouble;
use input::Input;

fn main() -> ExitCode {
    // Over the limit of file sizes a write is to fail, not to end the process; see `cstor`.
    if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()) {
        return exit::report(&Trouble::Signal(error));
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(trouble) => exit::report(&trouble),
    }
}

/// Whether they are the same.
fn run(args: &Args) -> Result<bool, Trouble> {
    if args.a.as_os_str() == "-" && args.b.as_os_str() == "-" {
        return Err(Trouble::BothStdin);
    }
    let (a, b) = (Input::open(&args.a)?, Input::open(&args.b)?);
    let report = compare::compare(&a, &b)?;
    let out = &mut io::BufWriter::new(io::stdout());
    match args.format {
        _ if args.quiet => {}
        Format::Text => report::text(&report, out)?,
        Format::Json => report::json(&report, out)?,
    }
    Ok(report.differences.is_empty())
}
