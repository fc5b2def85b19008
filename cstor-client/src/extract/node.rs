//! What has a name but no contents of its own: hard links, symbolic links, FIFOs and devices.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, chmodat, linkat, makedev, mknodat, symlinkat};
use rustix::io::Errno;

use super::error::ExtractError;
use super::place::Placer;
use super::plan::Step;
use crate::tree::Inode;

impl Placer<'_> {
    /// Symbolic links come after all files: nothing that is created can be reached through one.
    pub(super) fn place_links(&self) -> Result<(), ExtractError> {
        for (place, dir) in self.plan.dirs.iter().enumerate() {
            let mut fd: Option<OwnedFd> = None;
            for (name, id) in self.tree.children(dir.inode) {
                let inode = self.tree.inode(id);
                let step = self.plan.step(inode, id, place, name, self.options.devices);
                if matches!(step, Step::Dir | Step::File | Step::Skip) {
                    continue;
                }
                self.check_interrupt()?;
                let parent = match &fd {
                    Some(parent) => parent,
                    None => fd.insert(self.open(place)?),
                };
                self.place_link(parent.as_fd(), place, name, inode, step)?;
            }
        }
        Ok(())
    }

    fn place_link(
        &self,
        parent: BorrowedFd<'_>,
        place: usize,
        name: &[u8],
        inode: &Inode,
        step: Step<'_>,
    ) -> Result<(), ExtractError> {
        let failed = |action, errno| self.failed_at(place, name, action, errno);
        match step {
            Step::Dir | Step::File | Step::Skip => return Ok(()),
            Step::Link(first) => {
                let from = self.open(first.dir)?;
                return linkat(&from, first.name, parent, name, AtFlags::empty())
                    .map_err(|errno| failed("create a hard link", errno));
            }
            Step::Symlink(target) => {
                symlinkat(target, parent, name).map_err(|errno| failed("create a symbolic link", errno))?;
            }
            Step::Fifo => self
                .make_node(parent, name, FileType::Fifo, inode, 0)
                .map_err(|errno| failed("create a FIFO", errno))?,
            Step::Device { block, major, minor } => {
                let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
                let made = self.make_node(parent, name, kind, inode, makedev(major, minor));
                made.map_err(|errno| failed("create a device node", errno))?;
            }
        }
        self.policy.apply_at(parent, name, inode.meta()).map_err(|(action, errno)| failed(action, errno))
    }

    fn make_node(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        kind: FileType,
        inode: &Inode,
        device: u64,
    ) -> Result<(), Errno> {
        let mode = Mode::from(self.policy.mode(inode.meta()));
        mknodat(parent, name, kind, mode, device)?;
        // The umask took bits; the name is new and in a directory that nobody else reaches.
        chmodat(parent, name, mode, AtFlags::empty())
    }
}
