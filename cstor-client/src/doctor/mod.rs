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

/// What keeps an extraction from something, or is worth knowing before one.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// This error, where an extraction needs what is looked at.
    Error(Box<Error>),
    /// There is no store of which the helper could open anything.
    NoStore,
    /// The store holds nothing yet.
    EmptyStore,
    /// The directory is on another file system than the store, and reflinks do not cross that border.
    OtherFileSystem,
    /// The file system has no reflinks.
    NoReflink,
    /// The directory cannot be written to.
    Unwritable,
    /// The directory cannot be searched for what killed runs have left.
    RemainsUnreadable,
    /// Left by a killed run; the next run into the directory removes it.
    RemainsRemovable,
    /// Left by a killed run, in a directory that others may write to, where no run removes anything.
    RemainsShared,
    /// Left by a killed run of another user, or open to others, so that no run of this user removes it.
    RemainsForeign,
    /// Whether the run that is making it, or made it, still goes on cannot be known.
    RemainsUnknown,
    /// /proc does not tell the kernel's release.
    ReleaseUnreadable,
    /// The kernel has Landlock, but it was not enabled at boot.
    LandlockDisabled,
    /// The kernel has no Landlock.
    LandlockMissing,
    /// No program that this process starts can get rights of its own (`no_new_privs`).
    NoNewPrivs,
}

/// One finding.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finding {
    /// What it is about, as `docs/json.md` lists it.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub state: State,
    /// What it is.
    pub value: Value,
    /// What is wrong with it, or worth knowing; never none for [`State::Wrong`].
    pub problem: Option<Problem>,
}

impl Finding {
    fn good(name: &'static str, value: impl Into<Value>) -> Finding {
        Finding { name, state: State::Good, value: value.into(), problem: None }
    }

    fn note(name: &'static str, value: impl Into<Value>, problem: Option<Problem>) -> Finding {
        Finding { name, state: State::Note, value: value.into(), problem }
    }

    fn wrong(name: &'static str, error: Error) -> Finding {
        let value = Value::Text(with_causes(&error));
        Finding { name, state: State::Wrong(error.kind()), value, problem: Some(error.into()) }
    }

    /// The same where an extraction can do without it.
    fn unless(self, not_needed: bool) -> Finding {
        match self.state {
            State::Wrong(_) if not_needed => Finding { state: State::Note, ..self },
            _ => self,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        Problem::Error(Box::new(error))
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
