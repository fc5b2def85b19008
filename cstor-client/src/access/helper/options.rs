//! What a caller may say about the helper: when it is used, how it gets into the user namespace, what it must
//! have given up. It says nothing about which files need one.

/// When the helper is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HelperPolicy {
    /// For what this process may not open itself.
    #[default]
    Auto,
    /// For every file.
    Always,
    /// For none; what is refused is an error.
    Never,
}

/// What carries the helper into the user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Launcher {
    /// `None` for root; else `podman unshare`, and our own way where podman is missing, does not answer in time, or
    /// gives the helper no capability.
    #[default]
    Auto,
    /// `podman unshare`.
    Podman,
    /// `buildah unshare`.
    Buildah,
    /// Our own: the helper makes the namespace, and newuidmap and newgidmap map all ranges of /etc/subuid and
    /// /etc/subgid. No store lock is taken.
    NewUidMap,
    /// Nothing: this process has the rights already.
    None,
}

/// Everything about the helper in one place; the default suits most programs.
///
/// ```
/// use cstor_client::Storage;
/// use cstor_client::helper::{HelperOptions, Launcher};
///
/// let options = HelperOptions::new().launcher(Launcher::NewUidMap).require_sandbox(true);
/// # let open = || {
/// let storage = Storage::discover()?.with_helper(options);
/// # Ok::<_, cstor_client::Error>(storage) };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HelperOptions {
    pub(crate) policy: HelperPolicy,
    pub(crate) launcher: Launcher,
    pub(crate) require_sandbox: bool,
}

impl HelperOptions {
    /// The default.
    pub fn new() -> HelperOptions {
        HelperOptions::default()
    }

    /// When the helper is used.
    #[must_use]
    pub fn policy(mut self, policy: HelperPolicy) -> HelperOptions {
        self.policy = policy;
        self
    }

    /// What carries it into the user namespace.
    #[must_use]
    pub fn launcher(mut self, launcher: Launcher) -> HelperOptions {
        self.launcher = launcher;
        self
    }

    /// Refuses a helper that is not confined by every layer of its sandbox.
    #[must_use]
    pub fn require_sandbox(mut self, require: bool) -> HelperOptions {
        self.require_sandbox = require;
        self
    }
}
