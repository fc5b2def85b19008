//! Progress on standard error: a bar where somebody watches, lines where they are asked for.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use cstor_client::progress::{Progress, Silent};
use indicatif::{ProgressBar, ProgressStyle};

use super::size;
use crate::args::ProgressHow;

/// The progress that was asked for.
pub(crate) fn choose(how: ProgressHow) -> Arc<dyn Progress> {
    match how {
        ProgressHow::Auto if io::stderr().is_terminal() => Arc::new(Bar::new()),
        ProgressHow::Auto | ProgressHow::Never => Arc::new(Silent),
        ProgressHow::Plain => Arc::new(Lines),
    }
}

/// A bar that is gone when the extraction is.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Bar {
        let bar = ProgressBar::new(0);
        bar.set_style(style("{spinner} {msg}"));
        bar.set_message("reading layers");
        Bar(bar)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Bar {
    fn layer_read(&self, layer: usize, layers: usize, _: u64) {
        self.0.set_message(format!("reading layer {layer} of {layers}"));
        self.0.tick();
    }

    fn planned(&self, files: u64, bytes: u64) {
        self.0.set_length(files);
        self.0.set_style(style("{bar:40} {pos}/{len} files of {msg}, {eta} left"));
        self.0.set_message(size(bytes));
    }

    fn advanced(&self, files: u64, _: u64) {
        self.0.inc(files);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A line for each layer, and one for the plan.
struct Lines;

impl Progress for Lines {
    fn layer_read(&self, layer: usize, layers: usize, entries: u64) {
        let _ = writeln!(io::stderr(), "cstor: layer {layer} of {layers}: {entries} entries");
    }

    fn planned(&self, files: u64, bytes: u64) {
        let _ = writeln!(io::stderr(), "cstor: placing {files} files, {}", size(bytes));
    }
}
