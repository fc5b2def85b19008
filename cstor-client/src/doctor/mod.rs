//! What is there for an extraction, and what is missing: one finding after another.
//!
//! Nothing here fails: what cannot be found out is a finding too. Nothing in the store is changed, and nothing but the
//! helper is started. What the findings mean is in `docs/json.md`.

mod helper;
mod kernel;
mod remains;
mod store;

use std::path::Path;

use crate::access::helper::seen;
use crate::access::helper::{HelperOptions, HelperPolicy};
use crate::base::kind::ErrorKind;
use crate::error::{Error, with_causes};
use crate::store::Location;

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// In words, or a path with everything escaped that is not fit to print.
    Text(String),
    /// How many.
    Number(u64),
    /// Whether it is so.
    Flag(bool),
    /// It cannot be known.
    Unknown,
}

/// Whether an extraction can do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It can.
    Good,
    /// It can, but something is worth knowing.
    Note,
    /// It cannot, or not always; this is how it would fail.
    Wrong(ErrorKind),
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What it is about, as `docs/json.md` lists it.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub state: State,
    /// What it is.
    pub value: Value,
    /// What to do about it.
    pub advice: Option<&'static str>,
}

impl Finding {
    fn good(name: &'static str, value: impl Into<Value>) -> Finding {
        Finding { name, state: State::Good, value: value.into(), advice: None }
    }

    fn note(name: &'static str, value: impl Into<Value>, advice: Option<&'static str>) -> Finding {
        Finding { name, state: State::Note, value: value.into(), advice }
    }

    fn wrong(name: &'static str, error: &Error) -> Finding {
        let value = Value::Text(with_causes(error));
        Finding { name, state: State::Wrong(error.kind()), value, advice: Some(error.advice()) }
    }

    /// The same where an extraction can do without it.
    fn unless(self, not_needed: bool) -> Finding {
        match self.state {
            State::Wrong(_) if not_needed => Finding { state: State::Note, ..self },
            _ => self,
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Flag(flag)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

impl From<&Path> for Value {
    fn from(path: &Path) -> Value {
        Value::Text(shown(path))
    }
}

/// Looks at the store at `location`, or at the one that podman uses, at the helper as it would be used, and at
/// `directory` as the place for a result.
pub fn examine(location: Option<Location>, helper: HelperOptions, directory: &Path) -> Vec<Finding> {
    let not_needed = match helper.policy {
        HelperPolicy::Auto => seen::reads_everything(),
        HelperPolicy::Always => false,
        HelperPolicy::Never => true,
    };
    let (mut findings, storage) = store::examine(location, helper);
    findings.extend(store::reflinks(storage.as_ref(), directory));
    findings.extend(remains::examine(directory));
    findings.extend(helper::examine(storage.as_ref(), helper, not_needed));
    findings.extend(kernel::examine());
    findings
}

fn shown(path: &Path) -> String {
    cstor_proto::Escaped(path.as_os_str().as_encoded_bytes()).to_string()
}
