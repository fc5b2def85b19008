//! What came back from the helper is what was asked for: each descriptor is checked before it is used.

use std::os::fd::OwnedFd;

use cstor_proto::Refusal;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};

use super::Answers;
use super::helper::{BadDescriptor, SourceError};
use super::{By, OpenedFile};

/// Gives each answer its descriptor.
pub(super) fn pair(
    answers: Vec<Result<(), Refusal>>,
    fds: Vec<OwnedFd>,
    asked: usize,
    device: u64,
) -> Answers<OpenedFile> {
    let announced = answers.iter().filter(|answer| answer.is_ok()).count();
    if answers.len() != asked || fds.len() != announced {
        return Err(SourceError::Descriptor { what: BadDescriptor::Miscounted });
    }
    let mut fds = fds.into_iter();
    let mut files = Vec::with_capacity(asked);
    for answer in answers {
        files.push(match answer {
            Err(refusal) => Err(refusal),
            Ok(()) => {
                let fd = fds.next().ok_or(SourceError::Descriptor { what: BadDescriptor::Miscounted })?;
                Ok(OpenedFile { size: checked_size(&fd, device)?, fd, by: By::Helper })
            }
        });
    }
    Ok(files)
}

/// What is made of an answer to a question for so many files: for each of them its descriptor and size, or `None` if it
/// was refused; nothing if the answer as a whole is not taken.
#[cfg(fuzzing)]
pub fn take_answer(frame: &[u8], fds: Vec<OwnedFd>, asked: usize, device: u64) -> Option<Vec<Option<(OwnedFd, u64)>>> {
    let Ok(cstor_proto::Reply::Opened(answers)) = cstor_proto::decode(frame) else { return None };
    let files = pair(answers, fds, asked, device).ok()?;
    Some(files.into_iter().map(|file| file.ok().map(|file| (file.fd, file.size))).collect())
}

/// What a descriptor that is not for contents must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// A directory, open for reading alone.
    Directory,
    /// Anything, opened with `O_PATH`.
    Sight,
}

/// Checks a descriptor from the helper that is not for contents.
pub(super) fn checked(fd: OwnedFd, device: u64, expected: Expected) -> Result<OwnedFd, SourceError> {
    let bad = |what| SourceError::Descriptor { what };
    let flags = fcntl_getfl(&fd).map_err(|_| bad(BadDescriptor::NotReadOnly))?;
    let stat = fstat(&fd).map_err(|_| bad(BadDescriptor::NotAsAsked))?;
    let as_asked = match expected {
        Expected::Directory => {
            let read_only = !flags.contains(OFlags::PATH) && flags & OFlags::ACCMODE == OFlags::RDONLY;
            read_only && FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        }
        Expected::Sight => flags.contains(OFlags::PATH),
    };
    match (as_asked, stat.st_dev == device) {
        (false, _) => Err(bad(BadDescriptor::NotAsAsked)),
        (true, false) => Err(bad(BadDescriptor::OtherDevice)),
        (true, true) => Ok(fd),
    }
}

/// Checks a descriptor from the helper and gives the size of its file.
pub(super) fn checked_size(fd: &OwnedFd, device: u64) -> Result<u64, SourceError> {
    let bad = |what| SourceError::Descriptor { what };
    let flags = fcntl_getfl(fd).map_err(|_| bad(BadDescriptor::NotReadOnly))?;
    // O_PATH has the access mode of O_RDONLY.
    if flags.contains(OFlags::PATH) || flags & OFlags::ACCMODE != OFlags::RDONLY {
        return Err(bad(BadDescriptor::NotReadOnly));
    }
    let stat = fstat(fd).map_err(|_| bad(BadDescriptor::NotRegular))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(bad(BadDescriptor::NotRegular));
    }
    // memfds and files of /proc are regular files too, but not of this file system.
    if stat.st_dev != device {
        return Err(bad(BadDescriptor::OtherDevice));
    }
    Ok(stat.st_size.unsigned_abs())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test opens what it has made by path")]
mod tests {
    use super::*;
    use rustix::fs::{Mode, open};

    #[test]
    fn only_plain_readable_files_of_the_layer_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = |flags| open(dir.path().join("file"), flags | OFlags::CREATE, Mode::from(0o600)).unwrap();
        let device = fstat(file(OFlags::RDWR)).unwrap().st_dev;
        assert_eq!(checked_size(&file(OFlags::RDONLY), device).unwrap(), 0);
        let memfd = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::empty()).unwrap();
        let read_only_memfd =
            open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memfd)), OFlags::RDONLY, Mode::empty())
                .unwrap();
        let path_only = open(dir.path().join("file"), OFlags::PATH, Mode::empty()).unwrap();
        let pipe = rustix::pipe::pipe().unwrap().0;
        let directory = open(dir.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        let bad = [
            (file(OFlags::RDWR), BadDescriptor::NotReadOnly),
            (file(OFlags::WRONLY), BadDescriptor::NotReadOnly),
            (path_only, BadDescriptor::NotReadOnly),
            (pipe, BadDescriptor::NotRegular),
            (directory, BadDescriptor::NotRegular),
            (read_only_memfd, BadDescriptor::OtherDevice),
        ];
        for (fd, wanted) in bad {
            let refused = checked_size(&fd, device);
            assert!(
                matches!(refused, Err(SourceError::Descriptor { what }) if what == wanted),
                "{wanted}: {refused:?}"
            );
        }
        let at = |flags| open(dir.path().join("file"), flags, Mode::empty()).unwrap();
        let top = |flags| open(dir.path(), flags | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let elsewhere = |flags| open("/proc/self", flags | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let table = [
            (top(OFlags::RDONLY), Expected::Directory, None),
            (top(OFlags::PATH), Expected::Directory, Some(BadDescriptor::NotAsAsked)),
            (at(OFlags::RDONLY), Expected::Directory, Some(BadDescriptor::NotAsAsked)),
            (elsewhere(OFlags::RDONLY), Expected::Directory, Some(BadDescriptor::OtherDevice)),
            (at(OFlags::PATH), Expected::Sight, None),
            (top(OFlags::PATH), Expected::Sight, None),
            (at(OFlags::RDONLY), Expected::Sight, Some(BadDescriptor::NotAsAsked)),
            (top(OFlags::RDONLY), Expected::Sight, Some(BadDescriptor::NotAsAsked)),
            (elsewhere(OFlags::PATH), Expected::Sight, Some(BadDescriptor::OtherDevice)),
        ];
        for (fd, expected, bad) in table {
            let what = match checked(fd, device, expected) {
                Err(SourceError::Descriptor { what }) => Some(what),
                checked => checked.map(|_| None).unwrap(),
            };
            assert_eq!(what, bad, "{expected:?}");
        }
        let one = || vec![file(OFlags::RDONLY)];
        assert!(pair(vec![Ok(())], one(), 1, device).is_ok());
        assert!(pair(vec![Ok(()), Ok(())], one(), 2, device).is_err(), "fewer than announced");
        assert!(pair(vec![Err(Refusal::Denied)], one(), 1, device).is_err(), "more than announced");
        assert!(pair(vec![Ok(())], one(), 2, device).is_err(), "fewer answers than questions");
    }
}
