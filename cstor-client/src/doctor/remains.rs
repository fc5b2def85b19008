//! What killed runs have left in the directory that a result would be made in.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{Finding, Value, shown};
use crate::base::temporary::{Remains, list};

const NAME: &str = "remains";

/// A finding for each of them, or one that there are no remains.
pub(super) fn examine(directory: &Path) -> Vec<Finding> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = openat(CWD, directory, flags, Mode::empty()).and_then(|opened| list(opened.as_fd()));
    match listed {
        Err(errno) => {
            let advice = "name a directory that you can read";
            vec![Finding::note(NAME, format!("cannot be looked for: {errno}"), Some(advice))]
        }
        Ok(list) if list.is_empty() => vec![Finding::good(NAME, Value::Text("nothing".into()))],
        Ok(list) => list
            .into_iter()
            .map(|(name, remains)| {
                let advice = match remains {
                    Remains::Removable => "left by a run that was killed: the next one that writes there removes it",
                    Remains::Shared => {
                        "left by a run that was killed: remove it; cstor does not, since others may write there"
                    }
                    Remains::Foreign => {
                        "left by a run that was killed: its owner can remove it; cstor does not, since it belongs to \
                         another user, or others may look into it"
                    }
                    Remains::Unknown => "its maker may still be running: its owner can remove it if it is not",
                };
                Finding::note(NAME, shown(&directory.join(name)), Some(advice))
            })
            .collect(),
    }
}
