//! The command line, as it is typed.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Compare two tars, entry by entry and byte by byte.
///
/// Exit codes: 0 if they are the same to the last byte, 1 if they differ, 2 if they cannot be compared.
#[derive(Debug, Parser)]
#[command(name = "tar-diff", version, max_term_width = 100)]
pub(crate) struct Args {
    /// One tar, not compressed; `-` is standard input.
    pub(crate) a: PathBuf,
    /// The other; what it lacks is missing, what it has beside is extra.
    pub(crate) b: PathBuf,
    /// Lines for people, or JSON for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// Print nothing: the exit code tells.
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}
