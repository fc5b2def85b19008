//! For programs that embed the library: a store whose protected files come through a helper, and the
//! call that lets such a program be its own helper.

use std::env;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Dir, Mode, OFlags, open};

use crate::base::interrupt::Interrupt;
use crate::source::{self, HELPER_MARK, HelperOptions, HelperPolicy, SharedHelper, SourceError};
use crate::store::{Location, Storage, StoreError};

/// How many threads ran when [`init_if_helper`] was called; 0 if it was not.
static THREADS_AT_INIT: AtomicUsize = AtomicUsize::new(0);

/// Must be the first thing that `main` does in a program that uses [`ProxiedStorage`].
///
/// When the program was started to be the helper, this serves and does not return; otherwise it does
/// nothing. A helper must have one thread: in an async program, `main` itself must be a plain function
/// that calls this before it starts the runtime.
pub fn init_if_helper() {
    THREADS_AT_INIT.store(threads().max(1), Ordering::Relaxed);
    if is_marked() {
        std::process::exit(cstor_helper::run().code().into());
    }
}

/// Whether this process was started to be a helper.
fn is_marked() -> bool {
    let mut arguments = env::args_os().skip(1);
    arguments.next().is_some_and(|first| first == HELPER_MARK)
        && arguments.next().is_none_or(|second| second == cstor_helper::UNSHARE)
        && arguments.next().is_none()
}

/// Whether the program can be its own helper.
pub(crate) fn is_prepared() -> Result<bool, SourceError> {
    match THREADS_AT_INIT.load(Ordering::Relaxed) {
        // A helper that starts a helper, without end, is what forgetting the call must not lead to.
        0 if is_marked() => Err(SourceError::NotInitialised),
        0 => Ok(false),
        1 => Ok(true),
        threads => Err(SourceError::TooManyThreads { threads }),
    }
}

fn threads() -> usize {
    let tasks = open("/proc/self/task", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let numbers = tasks.and_then(Dir::new).map(|dir| {
        dir.filter_map(Result::ok).filter(|entry| entry.file_name().to_bytes().first().is_some_and(u8::is_ascii_digit))
    });
    numbers.map_or(0, Iterator::count)
}

/// A [`Storage`] whose files open also where they belong to another user of the user namespace.
///
/// A process without the rights starts a helper, at most one, and only when a file is refused; by default
/// through `podman unshare` ([`crate::helper::Launcher`]). Root, and a process inside the namespace, needs none.
///
/// ```no_run
/// # use cstor_client::{ProxiedStorage, init_if_helper};
/// fn main() { init_if_helper(); /* … */ }
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut storage = ProxiedStorage::open_with_proxy("/path/to/storage").await?;
/// if storage.is_proxied() { println!("Using userns helper for privileged access"); }
/// for image in storage.list_images()? { println!("{}", image.id()); }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ProxiedStorage {
    storage: Storage,
    proxied: bool,
}

impl ProxiedStorage {
    /// Opens the store at this root, with a helper if this process lacks the rights. Nothing in it
    /// waits, so it needs no runtime.
    #[allow(clippy::unused_async, reason = "callers await it")]
    pub async fn open_with_proxy(root: impl AsRef<Path>) -> Result<ProxiedStorage, StoreError> {
        ProxiedStorage::open(root)
    }

    /// The same without `async`.
    pub fn open(root: impl AsRef<Path>) -> Result<ProxiedStorage, StoreError> {
        ProxiedStorage::open_at(&Location::new(root.as_ref()), HelperOptions::default())
    }

    /// Opens a store whose parts lie in several places, as [`Storage::open_at`] does, with a helper as the options say.
    pub fn open_at(location: &Location, helper: HelperOptions) -> Result<ProxiedStorage, StoreError> {
        ProxiedStorage::build(helper, |helper| Storage::open_with(location, helper))
    }

    /// Opens the store that podman would use for this user, with a helper as the options say.
    pub fn discover(helper: HelperOptions) -> Result<ProxiedStorage, StoreError> {
        ProxiedStorage::build(helper, Storage::discover_with)
    }

    /// Opens the store at this root with additional image stores, named as for
    /// [`Storage::open_with_options`], and with a helper as its options say.
    pub fn open_with_options(
        root: impl AsRef<Path>,
        options: &[impl AsRef<str>],
        helper: HelperOptions,
    ) -> Result<ProxiedStorage, StoreError> {
        let location = Location::new(root.as_ref()).additional(Storage::stores_in_options(options));
        ProxiedStorage::open_at(&location, helper)
    }

    fn build(
        options: HelperOptions,
        open: impl FnOnce(Option<SharedHelper>) -> Result<Storage, StoreError>,
    ) -> Result<ProxiedStorage, StoreError> {
        let proxied = match options.policy {
            HelperPolicy::Auto => !source::seen::reads_everything(),
            HelperPolicy::Always => true,
            HelperPolicy::Never => false,
        };
        let helper = proxied.then(|| SharedHelper::new(options, Interrupt::new()));
        Ok(ProxiedStorage { storage: open(helper)?, proxied })
    }

    /// Whether files that this process may not open go through a helper. It says nothing about whether
    /// one is running: that takes a file that was refused.
    pub fn is_proxied(&self) -> bool {
        self.proxied
    }
}

impl Deref for ProxiedStorage {
    type Target = Storage;

    fn deref(&self) -> &Storage {
        &self.storage
    }
}
