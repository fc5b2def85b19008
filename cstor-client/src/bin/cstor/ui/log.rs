//! Warnings of the library, and with -v what it does, as lines on standard error.

use std::fmt;
use std::io;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use cstor_client::Escaped;

/// Starts printing: warnings, or more.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => Level::WARN,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    // It would complain of a standard error that cannot be written on standard error, and panic.
    let lines = tracing_subscriber::fmt().log_internal_errors(false).with_writer(io::stderr).event_format(Line);
    lines.with_max_level(level).init();
}

/// `cstor: warning: what happened: key=value, …`
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = Text::default();
        event.record(&mut text);
        let kind = match *event.metadata().level() {
            Level::ERROR | Level::WARN => "warning: ",
            _ => "",
        };
        let Text { message, fields } = text;
        writeln!(out, "cstor: {kind}{message}{}{}", if fields.is_empty() { "" } else { ": " }, fields.join(", "))
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: Vec<String>,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = Escaped(format!("{value:?}").as_bytes()).to_string();
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push(format!("{name}={value}")),
        }
    }
}
