//! An image or a chain of layers as a directory tree: planned from the headers, then placed.
//!
//! `plan.rs` decides what there is to do, `destination.rs` where it grows, `place.rs` does it, with contents from a
//! store (`from_chain.rs`) or from streams (`from_streams.rs`); `clone.rs` and `meta.rs` are about one file. Nothing is ever overwritten, and nothing is left after an error.

mod aside;
mod clone;
mod destination;
mod error;
mod from_chain;
pub(crate) mod from_streams;
mod hook;
mod meta;
mod node;
mod place;
mod plan;
mod report;
mod survey;

use std::fmt;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;

use rustix::process::{getegid, geteuid};

pub use clone::Reflink;
pub use error::{ExtractError, Obstacle};
pub use hook::Reach;
pub use report::{Losses, Report};

use crate::access::{Access, Chain, Escalating};
use crate::base::ambient;
use crate::base::descriptors::descriptor_limit;
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::contents::merged;
use crate::storage::{Rootfs, Target};
use crate::store::Territory;
use crate::tree::FinalTree;
use destination::Staging;
use from_chain::FromChain;
use hook::Hook;
use meta::Policy;
use place::Placer;
use plan::Plan;
use report::Counters;

/// More threads only wait for the same file system.
const MAX_THREADS: usize = 4;
/// A thread needs about 16 descriptors; below this limit there is one.
const MIN_DESCRIPTORS_FOR_THREADS: usize = 256;

/// What to do with device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Devices {
    /// Leave them out and count them.
    #[default]
    Skip,
    /// Create them, which takes root. A device 0:0, which overlayfs takes for a whiteout, is left out all the same.
    Create,
    /// Refuse the image.
    Fail,
}

#[derive(Debug, Clone, Copy)]
struct Options {
    reflink: Reflink,
    devices: Devices,
    preserve_set_id: Option<bool>,
    same_owner: bool,
    strict: bool,
    verify: bool,
    replace: bool,
}

/// Extracts images.
///
/// ```
/// # use cstor_client::{Storage, extract::Extractor, helper::HelperOptions};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # cstor_client::init_if_helper();
#[doc = include_str!("../example_store.txt")]
/// let storage = Storage::open(root)?.with_helper(HelperOptions::new());
/// let report = Extractor::new().verify(true).extract(&storage.image("localhost/demo")?, rootfs)?;
/// println!("{} files, {} bytes reflinked", report.files, report.reflinked_bytes);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Extractor {
    options: Options,
    interrupt: Option<Interrupt>,
    progress: Option<Arc<dyn Progress>>,
    memory_limit: Option<u64>,
    before_placing: Option<Hook>,
}

impl fmt::Debug for Extractor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extractor").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Default for Extractor {
    fn default() -> Extractor {
        Extractor::new()
    }
}

impl Extractor {
    /// With the defaults of `cstor extract`.
    pub fn new() -> Extractor {
        let options = Options {
            reflink: Reflink::Auto,
            devices: Devices::Skip,
            preserve_set_id: None,
            same_owner: true,
            strict: false,
            verify: false,
            replace: false,
        };
        Extractor { options, interrupt: None, progress: None, memory_limit: None, before_placing: None }
    }

    /// Whether contents are cloned; by default where the file system can.
    #[must_use]
    pub fn reflink(mut self, reflink: Reflink) -> Extractor {
        self.options.reflink = reflink;
        self
    }

    /// What to do with device nodes; by default they are left out.
    #[must_use]
    pub fn devices(mut self, devices: Devices) -> Extractor {
        self.options.devices = devices;
        self
    }

    /// Whether set-user-id and set-group-id bits are kept; by default only for root.
    #[must_use]
    pub fn preserve_set_id(mut self, preserve: bool) -> Extractor {
        self.options.preserve_set_id = Some(preserve);
        self
    }

    /// Whether root sets the owners of the image; by default it does. Others cannot.
    #[must_use]
    pub fn same_owner(mut self, same: bool) -> Extractor {
        self.options.same_owner = same;
        self
    }

    /// Whether losing anything (see [`Losses`]) is an error, before anything is written.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Extractor {
        self.options.strict = strict;
        self
    }

    /// Whether the contents of cloned files are read and checked against their checksums. Copied ones always are.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Extractor {
        self.options.verify = verify;
        self
    }

    /// Whether a destination that is not empty is replaced, in one step, when the result is complete. What it cannot
    /// remove, it refuses before anything is placed; see also [`Report::remainder`].
    #[must_use]
    pub fn replace(mut self, replace: bool) -> Extractor {
        self.options.replace = replace;
        self
    }

    /// What stops the extraction; by default the interrupt of the store ([`Storage::interrupt`](crate::Storage::interrupt)).
    #[must_use]
    pub fn interrupt(mut self, interrupt: Interrupt) -> Extractor {
        self.interrupt = Some(interrupt);
        self
    }

    /// Who is told how the extraction comes along; by default the listener of the store
    /// ([`Storage::with_progress`](crate::Storage::with_progress)).
    #[must_use]
    pub fn progress(mut self, progress: impl Progress + 'static) -> Extractor {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// How many bytes the extraction may keep in memory of what an image chooses; by default as
    /// [`Storage::with_memory_limit`](crate::Storage::with_memory_limit) says.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Extractor {
        self.memory_limit = Some(bytes);
        self
    }

    /// What to do once the plan stands, the helper is ready if the plan needs it, and the destination is open,
    /// but no thread has been started and nothing placed: the moment to confine the process. An error of it ends
    /// the extraction.
    ///
    /// From then on no helper is started for this store, also not for a file that is refused against expectation. An
    /// extraction that has its image from another program says itself when that moment is.
    #[must_use]
    pub fn before_placing(
        mut self,
        action: impl Fn(&Reach<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Extractor {
        self.before_placing = Some(Hook::new(action));
        self
    }

    /// Extracts an image, a container or one layer to a directory that does not exist or is empty, and neither lies in
    /// a directory of the store that is read nor holds one.
    ///
    /// # Errors
    /// [`ExtractError`] says what cannot be read or written. Nothing is left then.
    pub fn extract(&self, target: impl Into<Target>, destination: impl AsRef<Path>) -> Result<Report, ExtractError> {
        let mut chain = target.into().open_chain_under(|access| self.apply(access))?;
        let (mut source, policy) = (chain.source(), self.policy());
        let tree = merged::merge(&mut chain, &mut source, &|name| policy.keeps(name))?;
        self.place((&chain, &mut source), &tree, policy, destination.as_ref())
    }

    /// The access of the extraction: that of the store, but for what was said of this one.
    fn apply(&self, access: Access) -> Access {
        let access = match &self.interrupt {
            Some(interrupt) => access.interrupted_by(interrupt.clone()),
            None => access,
        };
        let access = match &self.progress {
            Some(progress) => access.reporting_to(Arc::clone(progress)),
            None => access,
        };
        match self.memory_limit {
            Some(bytes) => access.limited_to(bytes),
            None => access,
        }
    }

    fn place(
        &self,
        (chain, source): (&Chain, &mut Escalating),
        tree: &FinalTree,
        policy: Policy,
        destination: &Path,
    ) -> Result<Report, ExtractError> {
        let progress = chain.progress();
        let plan = self.plan(tree, &policy, chain.interrupt())?;
        let territory = Territory::of_roots(&chain.store().roots)?;
        let staging = Staging::create(destination, self.options.replace, &territory, chain.interrupt())?;
        // Looks at control groups, which a sandbox may hide.
        let threads = threads();
        match (&self.before_placing, source.proxied()) {
            (Some(hook), _) => hook.run(chain, &plan, &staging, source)?,
            (None, Some(proxied)) if plan.needs_helper => proxied.start_early(),
            (None, _) => {}
        }
        progress.planned(plan.files, plan.bytes);
        let counters = Counters::default();
        let placer = Placer {
            tree,
            plan: &plan,
            options: &self.options,
            policy,
            root: staging.root(),
            counters: &counters,
            progress,
            interrupt: chain.interrupt(),
        };
        let contents = FromChain::new(&placer, chain);
        if self.options.reflink == Reflink::Always {
            contents.probe_clone(source, destination)?;
        }
        placer.place(|| contents.place_files(source, threads))?;
        let remainder = staging.publish()?;
        let verified =
            plan.without_checksum == 0 && (self.options.verify || Counters::get(&counters.reflinked_bytes) == 0);
        Ok(Report { remainder, ..report(&plan, &counters, verified) })
    }

    fn plan<'t>(&self, tree: &'t FinalTree, policy: &Policy, interrupt: &Interrupt) -> Result<Plan<'t>, ExtractError> {
        let plan = Plan::of(tree, policy, self.options.devices, interrupt)?;
        if self.options.strict && !plan.losses.is_empty() {
            return Err(ExtractError::Lossy(plan.losses));
        }
        Ok(plan)
    }

    fn policy(&self) -> Policy {
        let root = geteuid().is_root();
        Policy {
            owners: root && self.options.same_owner,
            set_id: self.options.preserve_set_id.unwrap_or(root),
            root,
            umask: umask(),
            own_ids: (geteuid().as_raw(), getegid().as_raw()),
        }
    }
}

impl Rootfs {
    /// Extracts the files to a directory, as [`Extractor::extract`] does, without reading the layers again. The
    /// interrupt, the progress and the memory limit are those of the store that it was read from.
    ///
    /// # Errors
    /// As [`Extractor::extract`].
    pub fn extract(&self, destination: impl AsRef<Path>, extractor: &Extractor) -> Result<Report, ExtractError> {
        let source = &mut self.source();
        extractor.place((self.chain(), source), self.tree(), extractor.policy(), destination.as_ref())
    }
}

fn report(plan: &Plan<'_>, counters: &Counters, verified: bool) -> Report {
    Report {
        files: plan.files,
        directories: plan.dirs.len() as u64,
        symlinks: plan.symlinks,
        hard_links: plan.hard_links,
        reflinked_bytes: Counters::get(&counters.reflinked_bytes),
        copied_bytes: Counters::get(&counters.copied_bytes),
        through_helper: Counters::get(&counters.through_helper),
        without_checksum: plan.without_checksum,
        verified,
        losses: plan.losses,
        remainder: None,
    }
}

fn threads() -> usize {
    if descriptor_limit() < MIN_DESCRIPTORS_FOR_THREADS {
        return 1;
    }
    available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS)
}

/// The umask, without changing it: a library must not, even for a moment, while other threads create files.
fn umask() -> u32 {
    // Unknown: every mode is set after creation.
    ambient::status("Umask").and_then(|digits| u32::from_str_radix(&digits, 8).ok()).unwrap_or(0o777)
}
