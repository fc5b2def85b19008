//! `cstor doctor`: what the library found out, as lines or as JSON, and one exit code.

use std::io::Write;

use cstor_client::doctor::{self, Finding, State, Value};
use serde::{Serialize, Serializer};

use super::location;
use crate::advice;
use crate::args::{Doctor, Format, Store};
use crate::exit::{Failure, code};
use crate::ui::{json, table};

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    findings: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'static str,
    state: &'static str,
    value: Shown<'a>,
    advice: Option<&'static str>,
    exit_code: u8,
}

struct Shown<'a>(&'a Value);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Text(text) => serializer.serialize_str(text),
            Value::Number(number) => serializer.serialize_u64(*number),
            Value::Flag(flag) => serializer.serialize_bool(*flag),
            _ => serializer.serialize_none(),
        }
    }
}

pub(crate) fn run(store: &Store, args: &Doctor, out: &mut dyn Write) -> Result<(), Failure> {
    let helper = store.helper_options();
    let findings = doctor::examine(location(store), helper, &args.dir);
    match args.format {
        Format::Json => {
            let findings = findings.iter().map(row).collect();
            json::print(out, &Report { schema: json::SCHEMA, findings })?;
        }
        Format::Table => table::print(out, &findings.iter().map(line).collect::<Vec<_>>())?,
    }
    let problems: Vec<&Finding> = findings.iter().filter(|finding| matches!(finding.state, State::Wrong(_))).collect();
    match problems.first() {
        Some(Finding { name, state: State::Wrong(kind), .. }) => {
            Err(Failure::Unwell { problems: problems.len(), first: name, kind: *kind })
        }
        _ => Ok(()),
    }
}

fn row(finding: &Finding) -> Row<'_> {
    let exit_code = match finding.state {
        State::Wrong(kind) => code(kind),
        State::Good | State::Note => 0,
    };
    let Finding { name, value, .. } = finding;
    Row { name, state: state(finding), value: Shown(value), advice: advice_on(finding), exit_code }
}

fn advice_on(finding: &Finding) -> Option<&'static str> {
    finding.problem.as_ref().and_then(advice::problem)
}

fn state(finding: &Finding) -> &'static str {
    match finding.state {
        State::Good => "good",
        State::Note => "note",
        State::Wrong(_) => "wrong",
    }
}

fn line(finding: &Finding) -> [String; 3] {
    let value = match &finding.value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Flag(true) => "yes".to_owned(),
        Value::Flag(false) => "no".to_owned(),
        _ => "unknown".to_owned(),
    };
    let value = match advice_on(finding) {
        Some(advice) => format!("{value}: {advice}"),
        None => value,
    };
    // What other programs said may span lines.
    let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
    [finding.name.to_owned(), state(finding).to_owned(), value]
}
