//! How trouble becomes one line and an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use cstor_client::Escaped;
use cstor_client::tar::{ArchiveError, ArchiveProblem};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// An argument cannot be opened.
    Open { name: Vec<u8>, error: io::Error },
    /// It cannot be read as a tar.
    Archive { name: Vec<u8>, error: ArchiveError },
    /// Both are standard input.
    BothStdin,
    /// Standard output cannot be written.
    Output(io::Error),
    /// A signal cannot be caught.
    Signal(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Output(error)
    }
}

/// Prints trouble and gives its exit code.
pub(crate) fn report(trouble: &Trouble) -> ExitCode {
    let line = match trouble {
        // The reader of the output has seen enough.
        Trouble::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Trouble::Output(error) => format!("standard output: cannot be written: {error}: write it elsewhere"),
        Trouble::Signal(error) => format!("signals: cannot be caught: {error}: report this"),
        Trouble::BothStdin => "command line: both tars are -: name one of them".to_owned(),
        Trouble::Open { name, error } => {
            format!("{}: cannot be opened: {error}: name a file that you may read", Escaped(name))
        }
        Trouble::Archive { name, error } => format!("{}: {error}: {}", Escaped(name), advice(&error.problem)),
    };
    fail(&line)
}

fn advice(problem: &ArchiveProblem) -> &'static str {
    match problem {
        ArchiveProblem::Read(_) => "name a file that can be read to its end",
        ArchiveProblem::Compressed(_) => "decompress it first",
        ArchiveProblem::NotTar => "name a tar",
        ArchiveProblem::Truncated => "get all of it",
        ArchiveProblem::Header(_) | ArchiveProblem::SparseMap => "compare it with cmp",
    }
}

/// Prints what clap has to say: help to standard output, errors as one line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report(&Trouble::Output(error)),
        };
    }
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with("Usage:")).collect();
    let what = lines.join(" ");
    fail(&format!("command line: {}: see tar-diff --help", what.strip_prefix("error: ").unwrap_or(&what)))
}

fn fail(line: &str) -> ExitCode {
    // There is nobody left to tell if this fails.
    let _ = writeln!(io::stderr(), "tar-diff: error: {line}");
    ExitCode::from(2)
}
