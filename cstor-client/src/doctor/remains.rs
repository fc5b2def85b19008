//! What killed runs have left in the directory that a result would be made in.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::{Finding, Problem, Value, shown};
use crate::base::ambient;
use crate::base::temporary::{Remains, list};

const NAME: &str = "remains";

/// A finding for each of them, or one that there are no remains.
pub(super) fn examine(directory: &Path) -> Vec<Finding> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = ambient::open(directory, flags, Mode::empty()).and_then(|opened| list(opened.as_fd()));
    match listed {
        Err(errno) => {
            let value = format!("cannot be looked for: {errno}");
            vec![Finding::note(NAME, value, Some(Problem::RemainsUnreadable))]
        }
        Ok(list) if list.is_empty() => vec![Finding::good(NAME, Value::Text("nothing".into()))],
        Ok(list) => list
            .into_iter()
            .map(|(name, remains)| {
                let problem = match remains {
                    Remains::Removable => Problem::RemainsRemovable,
                    Remains::Shared => Problem::RemainsShared,
                    Remains::Foreign => Problem::RemainsForeign,
                    Remains::Unknown => Problem::RemainsUnknown,
                };
                Finding::note(NAME, shown(&directory.join(name)), Some(problem))
            })
            .collect(),
    }
}
