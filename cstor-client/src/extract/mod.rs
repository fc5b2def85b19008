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

use std::io;
use std::num::NonZero;
use std::path::Path;
use std::thread::available_parallelism;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{getegid, geteuid};

pub use clone::Reflink;
pub use error::{ExtractError, Obstacle};
pub use hook::Reach;
pub use report::{Losses, Progress, Report, Silent};

use crate::access::Escalating;
use crate::base::account::Account;
use crate::base::descriptors::descriptor_limit;
use crate::base::interrupt::Interrupt;
use crate::contents::merged::{self, Merging};
use crate::storage::Layer;
use crate::storage::Target;
use crate::store::chain::Chain;
use crate::store::{StoreError, Territory};
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
/// # use cstor_client::{ProxiedStorage, extract::Extractor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # cstor_client::init_if_helper();
#[doc = include_str!("../example_store.txt")]
/// let storage = ProxiedStorage::open(root)?;
/// let report = Extractor::new().verify(true).extract(&storage.image("localhost/demo")?, rootfs)?;
/// println!("{} files, {} bytes reflinked", report.files, report.reflinked_bytes);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Extractor {
    options: Options,
    interrupt: Option<Interrupt>,
    memory_limit: Option<u64>,
    before_placing: Option<Hook>,
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
        Extractor { options, interrupt: None, memory_limit: None, before_placing: None }
    }

    /// Whether contents are cloned; by default where the file system can.
    pub fn reflink(mut self, reflink: Reflink) -> Extractor {
        self.options.reflink = reflink;
        self
    }

    /// What to do with device nodes; by default they are left out.
    pub fn devices(mut self, devices: Devices) -> Extractor {
        self.options.devices = devices;
        self
    }

    /// Whether set-user-id and set-group-id bits are kept; by default only for root.
    pub fn preserve_set_id(mut self, preserve: bool) -> Extractor {
        self.options.preserve_set_id = Some(preserve);
        self
    }

    /// Whether root sets the owners of the image; by default it does. Others cannot.
    pub fn same_owner(mut self, same: bool) -> Extractor {
        self.options.same_owner = same;
        self
    }

    /// Whether losing anything (see [`Losses`]) is an error, before anything is written.
    pub fn strict(mut self, strict: bool) -> Extractor {
        self.options.strict = strict;
        self
    }

    /// Whether the contents of cloned files are read and held against their checksums. Copied ones always are.
    pub fn verify(mut self, verify: bool) -> Extractor {
        self.options.verify = verify;
        self
    }

    /// Whether a destination that is not empty is replaced, in one step, when the result is complete. What it cannot
    /// remove, it refuses before anything is placed; see also [`Report::remainder`].
    pub fn replace(mut self, replace: bool) -> Extractor {
        self.options.replace = replace;
        self
    }

    /// What stops the extraction; by default the interrupt of the store ([`Storage::interrupt`](crate::Storage::interrupt)),
    /// to which waits for the store's locks and for the helper listen in any case.
    pub fn interrupt(mut self, interrupt: Interrupt) -> Extractor {
        self.interrupt = Some(interrupt);
        self
    }

    /// How many bytes the extraction may keep in memory of what an image chooses; by default as
    /// [`Storage::limit_memory`](crate::Storage::limit_memory) says.
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
    pub fn before_placing(
        mut self,
        action: impl Fn(&Reach<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Extractor {
        self.before_placing = Some(Hook::new(action));
        self
    }

    /// Extracts an image or a container to a directory that does not exist or is empty, and neither lies in a directory
    /// of the store that is read nor holds one.
    pub fn extract(&self, target: impl Into<Target>, destination: impl AsRef<Path>) -> Result<Report, ExtractError> {
        self.extract_with(target, destination.as_ref(), &Silent)
    }

    /// Extracts what one layer has of its own, without those below it; its whiteouts leave nothing.
    pub fn extract_layer(&self, layer: &Layer, destination: impl AsRef<Path>) -> Result<Report, ExtractError> {
        self.extract_chain(layer.open_alone()?, destination.as_ref(), &Silent)
    }

    /// Extracts an image or a container, telling `progress` how it comes along.
    pub fn extract_with(
        &self,
        target: impl Into<Target>,
        destination: &Path,
        progress: &dyn Progress,
    ) -> Result<Report, ExtractError> {
        self.extract_chain(target.into().open_chain()?, destination, progress)
    }

    fn extract_chain(
        &self,
        mut chain: Chain,
        destination: &Path,
        progress: &dyn Progress,
    ) -> Result<Report, ExtractError> {
        let account = self.memory_limit.map(|limit| Account::open(Some(limit))).transpose();
        chain.run_under(self.interrupt.as_ref(), account.map_err(StoreError::from)?);
        let (layers, policy) = (chain.layers().len(), self.policy());
        let merging = Merging {
            keep: &|name| policy.keeps(name),
            progress: &mut |done, entries| progress.layer_read(done, layers, entries),
        };
        let tree = merged::merge_with(&mut chain, merging)?;
        self.place(&chain, &tree, policy, destination, progress)
    }

    fn place(
        &self,
        chain: &Chain,
        tree: &FinalTree,
        policy: Policy,
        destination: &Path,
        progress: &dyn Progress,
    ) -> Result<Report, ExtractError> {
        let plan = self.plan(tree, &policy, chain.interrupt())?;
        let territory = Territory::of_roots(&chain.shared().roots)?;
        let staging = Staging::create(destination, self.options.replace, &territory, chain.interrupt())?;
        let mut source = Escalating::new(chain.shared());
        // Looks at control groups, which a sandbox may hide.
        let threads = threads();
        match (&self.before_placing, source.proxied()) {
            (Some(hook), _) => hook.run(chain, &plan, &staging, &mut source)?,
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
            contents.probe_clone(&mut source, destination)?;
        }
        placer.place(|| contents.place_files(&mut source, threads))?;
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
    let mut status = [0; 4096];
    let read = open("/proc/self/status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|fd| rustix::io::read(&fd, &mut status));
    let text = read.ok().and_then(|length| std::str::from_utf8(status.get(..length)?).ok());
    let line = text.and_then(|text| text.lines().find_map(|line| line.strip_prefix("Umask:")));
    // Unknown: every mode is set after creation.
    line.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok()).unwrap_or(0o777)
}
