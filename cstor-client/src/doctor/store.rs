//! The store: where it is and why, whether its locks are free, and whether files of it can be reflinked to a directory.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ioctl_ficlone};
use rustix::io::Errno;

use super::{Finding, Problem, State, Value};
use crate::access::helper::{HelperOptions, SharedHelper};
use crate::base::ambient;
use crate::base::kind::ErrorKind;
use crate::error::Error;
use crate::storage::Storage;
use crate::store::discover::Discovery;
use crate::store::{Location, LockState, Root, StoreError, lock_state};

const LOCKS: [(&str, &str); 3] = [
    ("lock.layers", "overlay-layers/layers.lock"),
    ("lock.images", "overlay-images/images.lock"),
    ("lock.containers", "overlay-containers/containers.lock"),
];
/// Every podman takes the locks for a moment; an extraction waits longer than this.
const MOMENT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);
/// Files that a store with anything in it has.
const SAMPLES: [&str; 2] = ["overlay-layers/layers.json", "overlay-images/images.json"];

/// The store's findings, and the store itself where it can be opened.
pub(super) fn examine(location: Option<Location>, helper: HelperOptions) -> (Vec<Finding>, Option<Storage>) {
    let mut findings = Vec::new();
    // With the rights of a helper that may have any launcher; it is judged in `helper.rs`.
    let helper = SharedHelper::new(helper.require_sandbox(false));
    let located = match location {
        Some(location) => {
            findings.push(Finding::good("store.configuration", "--root"));
            Ok(location)
        }
        None => Discovery::of_this_process().map(|discovery| {
            let by = discovery.settings.root.origin.to_string();
            findings.push(Finding::good("store.configuration", by));
            discovery.settings.location()
        }),
    };
    let opened = located.and_then(|location| {
        let storage = Storage::open_at(&location).map(|storage| storage.helped_by(helper));
        storage.inspect_err(|_| findings.push(Finding::note("store.path", &*location.root, None)))
    });
    match opened {
        Err(error) => {
            findings.push(Finding::wrong("store.root", Error::Store(error)));
            (findings, None)
        }
        Ok(storage) => {
            let roots = &storage.access().store().roots;
            for (place, root) in roots.layered().iter().enumerate() {
                let name = match place {
                    0 => "store.root",
                    1 if roots.is_split() => "store.image_store",
                    _ => "store.additional",
                };
                findings.push(Finding::good(name, root.path()));
            }
            if let Some(root) = roots.first() {
                findings.push(match root.has("overlay-layers") || root.has("overlay-images") {
                    true => Finding::good("store.driver", "overlay"),
                    false => Finding::note("store.driver", Value::Unknown, Some(Problem::EmptyStore)),
                });
                findings.extend(LOCKS.map(|(name, path)| lock(root, name, path)));
            }
            (findings, Some(storage))
        }
    }
}

fn lock(root: &Root, name: &'static str, path: &str) -> Finding {
    let deadline = Instant::now() + MOMENT;
    let state = loop {
        match lock_state(root, path) {
            LockState::Held { .. } if Instant::now() < deadline => sleep(PAUSE),
            state => break state,
        }
    };
    match state {
        LockState::Free => Finding::good(name, "free"),
        LockState::Missing => Finding::good(name, "no such file, so nobody locks it"),
        LockState::Unknown { errno } => {
            let why = std::io::Error::from_raw_os_error(errno);
            Finding::note(name, format!("cannot be asked for: {why}"), None)
        }
        LockState::Held { by: holder } => {
            let error = Error::Store(StoreError::Locked { holder, path: root.path().join(path) });
            let by = holder.map_or_else(|| "held by an unknown process".to_owned(), |pid| format!("held by pid {pid}"));
            Finding { name, state: State::Wrong(ErrorKind::Busy), value: by.into(), problem: Some(error.into()) }
        }
    }
}

/// Clones a file of the store into one without a name in the directory.
pub(super) fn reflinks(storage: Option<&Storage>, directory: &Path) -> Option<Finding> {
    const NAME: &str = "reflink";
    let root = storage?.access().store().roots.first()?;
    let Some(sample) = SAMPLES.iter().find_map(|path| root.open_regular(path).ok()) else {
        return Some(Finding::note(NAME, Value::Unknown, Some(Problem::EmptyStore)));
    };
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let probe = ambient::open(directory, flags, Mode::RUSR | Mode::WUSR);
    Some(match probe.and_then(|to| ioctl_ficlone(&to, &sample)) {
        Ok(()) => Finding::good(NAME, true),
        Err(Errno::XDEV) => Finding::note(NAME, false, Some(Problem::OtherFileSystem)),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL) => Finding::note(NAME, false, Some(Problem::NoReflink)),
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
            Finding::note(NAME, Value::Unknown, Some(Problem::Unwritable))
        }
        Err(errno) => Finding::note(NAME, format!("cannot be tried: {errno}"), None),
    })
}
