//! How errors become one line and one exit code.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use cstor_client::error::{
    CopyError, ExtractError, ImageError, OutputError, ProxyV1Error, StoreError, destination_kind, with_causes,
};
use cstor_client::{Error, ErrorKind, Escaped, LayerId};

use crate::advice::{self, advice};
use crate::as_owner::AsOwnerError;
use crate::ui::count;

/// How many images are named in one line.
const NAMED: usize = 5;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library says why.
    Library(Box<Error>),
    /// Standard output cannot be written.
    Output(io::Error),
    /// Standard output is a terminal, which a tar would leave in disorder.
    Terminal,
    /// Arguments that do not go together.
    Usage(&'static str),
    /// A file cannot be written.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A socket cannot be served at.
    Socket {
        /// Where it is to be, or was to come from.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something is damaged; what it is was printed.
    Damaged {
        /// How many findings.
        findings: usize,
    },
    /// Something could not be looked at; what it is was printed.
    Unchecked {
        /// How many findings.
        findings: usize,
        /// The class of the first.
        kind: ErrorKind,
    },
    /// Root cannot become the owner of the store.
    AsOwner(AsOwnerError),
    /// The sandbox cannot be entered.
    Sandbox(io::Error),
    /// `doctor` found what would make an extraction fail; it was printed.
    Unwell {
        /// How many findings.
        problems: usize,
        /// The name of the first one.
        first: &'static str,
        /// Its class.
        kind: ErrorKind,
    },
    /// A signal cannot be caught.
    Signal(io::Error),
    /// A signal asked to stop, by its number.
    Stopped(i32),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Library(Box::new(error.into()))
    }
}

impl From<ExtractError> for Failure {
    fn from(error: ExtractError) -> Failure {
        match error {
            ExtractError::Hook(source) => Failure::Sandbox(source),
            error => Failure::Library(Box::new(error.into())),
        }
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Failure {
        Error::from(error).into()
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Failure {
        Error::from(error).into()
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Failure {
        Error::from(error).into()
    }
}

impl From<ProxyV1Error> for Failure {
    fn from(error: ProxyV1Error) -> Failure {
        match error {
            ProxyV1Error::Extract(error) => error.into(),
            error => Error::from(error).into(),
        }
    }
}

impl From<AsOwnerError> for Failure {
    fn from(error: AsOwnerError) -> Failure {
        Failure::AsOwner(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Library(Box::new(error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl Failure {
    /// The layer that is damaged or cannot be read.
    pub(crate) fn layer(&self) -> Option<LayerId> {
        match self {
            Failure::Library(error) => error.layer(),
            _ => None,
        }
    }
}

/// Prints a failure and gives its exit code. `images` are those that have its layer.
pub(crate) fn report(failure: &Failure, images: &[String]) -> ExitCode {
    let (code, line) = match failure {
        // The reader of the output has seen enough.
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Failure::Output(error) => {
            (1, format!("standard output: cannot be written: {error}: {}", advice::destination(error)))
        }
        Failure::Terminal => (2, "standard output: is a terminal: name a file with -o, or pipe it".to_owned()),
        Failure::Usage(what) => (2, format!("command line: {what}: see cstor --help")),
        Failure::File { path, source } => {
            let path = Escaped(path.as_os_str().as_encoded_bytes());
            (
                code(destination_kind(source)),
                format!("{path}: cannot be written: {source}: {}", advice::destination(source)),
            )
        }
        Failure::Socket { path, source } => {
            let path = Escaped(path.as_os_str().as_encoded_bytes());
            (10, format!("{path}: cannot be served at: {source}: choose another socket"))
        }
        Failure::Damaged { findings } => {
            let findings = count(*findings as u64, "finding", "findings");
            (4, format!("the store: {findings} of damage: pull or build the images named above again"))
        }
        Failure::Unchecked { findings, kind } => {
            let findings = count(*findings as u64, "finding", "findings");
            (code(*kind), format!("the store: {findings}, none of damage: see above what kept it from being checked"))
        }
        Failure::Unwell { problems, first, kind } => {
            let problems = count(*problems as u64, "problem", "problems");
            (code(*kind), format!("{first}: {problems} found: see the advice above"))
        }
        Failure::Library(error) if is_broken_pipe(error) => return ExitCode::SUCCESS,
        Failure::AsOwner(error) => {
            let (code, advice) = error.class();
            (code, format!("{error}: {advice}"))
        }
        Failure::Sandbox(error) => {
            (1, format!("the sandbox: cannot be entered: {error}: report this, or use --no-sandbox"))
        }
        Failure::Signal(error) => (1, format!("signals: cannot be caught: {error}: report this")),
        Failure::Stopped(signal) => (
            128u8.saturating_add(u8::try_from(*signal).unwrap_or(0)),
            "interrupted: nothing was left behind".to_owned(),
        ),
        Failure::Library(error) => (code(error.kind()), describe(error, images)),
    };
    // There is nobody left to tell if this fails.
    let _ = writeln!(io::stderr(), "cstor: error: {line}");
    ExitCode::from(code)
}

fn is_broken_pipe(error: &Error) -> bool {
    matches!(error, Error::Output(error) if error.is_broken_pipe())
}

/// `<object>: <what is wrong>: <what to do>`, where what is wrong ends with the innermost cause, and with the images
/// that have the object.
pub(crate) fn describe(error: &Error, images: &[String]) -> String {
    let line = with_causes(error);
    one_line(&format!("{line}{}: {}", of_images(images), advice(error)))
}

/// ` (image localhost/app:latest, localhost/web:latest)`; nothing if there are none.
pub(crate) fn of_images(images: &[String]) -> String {
    if images.is_empty() {
        return String::new();
    }
    let names: Vec<_> = images.iter().take(NAMED).map(|name| Escaped(name.as_bytes()).to_string()).collect();
    let more = match images.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let what = if names.iter().all(|name| name.starts_with("container:")) { "" } else { "image " };
    format!(" ({what}{}{more})", names.join(", "))
}

/// Causes from other libraries may span lines.
fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The exit code of a class.
pub(crate) fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NotFound => 3,
        ErrorKind::Corrupt => 4,
        ErrorKind::Unsupported => 5,
        ErrorKind::Permission => 6,
        ErrorKind::Helper => 7,
        ErrorKind::Busy => 8,
        ErrorKind::Changed => 9,
        ErrorKind::Destination => 10,
        ErrorKind::Limit => 11,
        ErrorKind::Interrupted => 130,
        _ => 1,
    }
}

/// Prints what clap has to say: help to standard output, errors as one line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report(&Failure::Output(error), &[]),
        };
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = writeln!(io::stderr(), "cstor: error: command line: a command is missing: see cstor --help");
        return ExitCode::from(2);
    }
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let what = lines.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(what);
    // What is listed under a line that ends in a colon belongs to it.
    let details: Vec<&str> =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")).collect();
    let what = if details.is_empty() { what.to_owned() } else { format!("{what} {}", details.join(", ")) };
    let _ = writeln!(io::stderr(), "cstor: error: command line: {}: see cstor --help", Escaped(what.as_bytes()));
    ExitCode::from(2)
}
