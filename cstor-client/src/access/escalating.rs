//! Direct first; what is refused goes to the helper, if there may be one.

use std::os::fd::OwnedFd;

use cstor_proto::{Refusal, RelPath};

use super::helper::HelperPolicy;
use super::{Access, DirSource, Direct, FileSource, OpenedFile, Proxied, ask_again};
use super::{Answer, Answers};
use crate::store::chain::{ChainLayer, ContentsDir};

/// Opens files directly where it can and through the helper where it must.
pub(crate) struct Escalating {
    /// `None` where everything goes through the helper.
    direct: Option<Direct>,
    /// `None` where nothing does.
    proxied: Option<Proxied>,
}

impl Escalating {
    pub(super) fn new(access: &Access) -> Escalating {
        let policy = access.helper.as_ref().map_or(HelperPolicy::Never, |helper| helper.policy());
        Escalating {
            direct: (policy != HelperPolicy::Always).then(|| Direct::new(&access.store)),
            proxied: if policy == HelperPolicy::Never { None } else { Proxied::new(access) },
        }
    }

    /// Another direct source, for a worker thread; `None` where nothing is opened directly.
    pub(crate) fn direct(&self) -> Option<Direct> {
        self.direct.as_ref().map(Direct::another)
    }

    /// Whether every file goes through the helper.
    pub(crate) fn all_proxied(&self) -> bool {
        self.direct.is_none()
    }

    /// The helper's answer where this process's own is refused and the helper could do better.
    fn escalate<T>(
        &mut self,
        direct: Option<Result<T, Refusal>>,
        ask: impl FnOnce(&mut Proxied) -> Answer<T>,
    ) -> Answer<T> {
        let direct = direct.unwrap_or(Err(Refusal::Denied));
        match (direct, self.proxied.as_mut().filter(|proxied| proxied.can_help())) {
            (Err(refusal), Some(proxied)) if worth_asking(refusal) => ask(proxied),
            (direct, _) => Ok(direct),
        }
    }

    /// The value of an attribute `user.<key>` that this process may not read itself.
    pub(crate) fn user_xattr(&mut self, dir: &ContentsDir, name: Option<&RelPath>, key: &[u8]) -> Answer<Vec<u8>> {
        self.escalate(None, |proxied| proxied.user_xattr(dir, name, key))
    }

    /// The way through the helper.
    pub(crate) fn proxied(&mut self) -> Option<&mut Proxied> {
        self.proxied.as_mut()
    }
}

/// Whether the helper could do better.
pub(crate) fn worth_asking(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::Denied | Refusal::Unmapped)
}

impl FileSource for Escalating {
    fn open_in(&mut self, dir: &ContentsDir, wanted: &[RelPath]) -> Answers<OpenedFile> {
        let mut results = match &mut self.direct {
            Some(direct) => direct.open_in(dir, wanted)?,
            None => wanted.iter().map(|_| Err(Refusal::Denied)).collect(),
        };
        if let Some(proxied) = self.proxied.as_mut().filter(|proxied| proxied.can_help()) {
            ask_again(&mut results, wanted, worth_asking, |names| proxied.open_in(dir, names))?;
        }
        Ok(results)
    }

    fn open_tar_split(&mut self, layer: &ChainLayer) -> Answer<OwnedFd> {
        let direct = self.direct.as_mut().map(|direct| direct.open_tar_split(layer)).transpose()?;
        self.escalate(direct, |proxied| proxied.open_tar_split(layer))
    }
}

impl DirSource for Escalating {
    fn list(&mut self, dir: &ContentsDir, name: Option<&RelPath>) -> Answer<OwnedFd> {
        let direct = self.direct.as_mut().map(|direct| direct.list(dir, name)).transpose()?;
        self.escalate(direct, |proxied| proxied.list(dir, name))
    }

    fn look(&mut self, dir: &ContentsDir, names: &[RelPath]) -> Answers<OwnedFd> {
        let mut results = match &mut self.direct {
            Some(direct) => direct.look(dir, names)?,
            None => names.iter().map(|_| Err(Refusal::Denied)).collect(),
        };
        if let Some(proxied) = self.proxied.as_mut().filter(|proxied| proxied.can_help()) {
            ask_again(&mut results, names, worth_asking, |names| proxied.look(dir, names))?;
        }
        Ok(results)
    }
}
