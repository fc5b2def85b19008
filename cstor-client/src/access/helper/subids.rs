//! Which subordinate ids a user has: /etc/subuid and /etc/subgid (subuid(5)).
//!
//! It parses and decides nothing. Ranges that come from elsewhere (`subid:` in nsswitch.conf) are not seen; podman
//! and newuidmap see them.

use std::fmt;
use std::path::Path;

use rustix::process::getuid;

use super::SourceError;
use crate::base::small_file::read_small;

/// The kernel takes at most 340 lines of a map (user_namespaces(7)), one of them for the user's own id.
const MAX_RANGES: usize = 339;

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    User,
    Group,
}

impl Ids {
    pub(crate) fn file(self) -> &'static str {
        match self {
            Ids::User => "/etc/subuid",
            Ids::Group => "/etc/subgid",
        }
    }
}

/// Consecutive ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, u64::from(self.first) + u64::from(self.count) - 1)
    }
}

/// Who runs this process, as the two files may name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    /// `None` for a uid without an entry in the user database.
    pub(crate) name: Option<String>,
}

impl Owner {
    pub(crate) fn of_this_process() -> Owner {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid());
        Owner { uid: getuid().as_raw(), name: user.ok().flatten().map(|user| user.name) }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

/// The ranges of the user of this process; an empty list if there are no ranges.
pub(crate) fn own(ids: Ids) -> Result<Vec<Range>, SourceError> {
    let file = ids.file();
    let text = match read_small(Path::new(file)) {
        Ok(text) => text.unwrap_or_default(),
        Err(source) => return Err(SourceError::SubordinateFile { file, source }),
    };
    parse(&text, &Owner::of_this_process()).map_err(|line| SourceError::SubordinateLine { file, line })
}

/// The ranges of one user in the order of their ids, or the number of a line of theirs that means nothing. Lines of
/// others are not looked at: they are not this user's to correct.
fn parse(text: &[u8], owner: &Owner) -> Result<Vec<Range>, usize> {
    let uid = owner.uid.to_string();
    let mut ranges: Vec<Range> = Vec::new();
    for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let mut fields = line.split(|&byte| byte == b':');
        let whose = fields.next().unwrap_or_default();
        if whose != uid.as_bytes() && owner.name.as_ref().is_none_or(|name| whose != name.as_bytes()) {
            continue;
        }
        let mut id = || -> Option<u32> { std::str::from_utf8(fields.next()?).ok()?.trim().parse().ok() };
        let range = id().zip(id()).map(|(first, count)| Range { first, count });
        // The last number is not an id: it stands for "no id" in chown(2) and setresuid(2).
        let sensible = |range: &Range| range.count > 0 && range.first.checked_add(range.count).is_some();
        let range = range.filter(sensible).filter(|_| fields.next().is_none()).ok_or(number + 1)?;
        // The kernel takes no map in which an id occurs twice.
        let apart = |other: &Range| {
            range.first >= other.first.saturating_add(other.count) || other.first >= range.first + range.count
        };
        if ranges.contains(&range) {
            continue;
        }
        if !ranges.iter().all(apart) || ranges.len() == MAX_RANGES {
            return Err(number + 1);
        }
        ranges.push(range);
    }
    // As podman maps them (containers/storage pkg/idtools, `createIDMap`).
    ranges.sort_unstable();
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let alice = Owner { uid: 1000, name: Some("alice".to_owned()) };
        let nameless = Owner { uid: 1000, name: None };
        let range = |first, count| Range { first, count };
        let table = [
            ("", &alice, Ok(vec![])),
            ("alice:100000:65536\n", &alice, Ok(vec![range(100_000, 65_536)])),
            ("alice:100000:65536", &alice, Ok(vec![range(100_000, 65_536)])),
            ("1000:100000:1\n", &alice, Ok(vec![range(100_000, 1)])),
            ("1000:100000:1\nalice:5:6\n", &alice, Ok(vec![range(5, 6), range(100_000, 1)])),
            ("1000:100000:1\nalice:5:6\n", &nameless, Ok(vec![range(100_000, 1)])),
            ("alice:5:6\nalice:5:6\n", &alice, Ok(vec![range(5, 6)])),
            ("alicex:5:6\nbob:1:1\nal:1:1\n10000:1:1\n", &alice, Ok(vec![])),
            ("# alice:1:1\n\nbob:nonsense\nbob::\n:::\n", &alice, Ok(vec![])),
            ("alice:4294967294:1\n", &alice, Ok(vec![range(4_294_967_294, 1)])),
            ("alice:5:0\n", &alice, Err(1)),
            ("bob:1:1\nalice:5\n", &alice, Err(2)),
            ("alice\n", &alice, Err(1)),
            ("alice:5:6:7\n", &alice, Err(1)),
            ("alice:-5:6\n", &alice, Err(1)),
            ("alice:x:6\n", &alice, Err(1)),
            ("alice:4294967295:1\n", &alice, Err(1)),
            ("alice:1:4294967295\n", &alice, Err(1)),
            ("alice:100:10\nalice:105:1\n", &alice, Err(2)),
        ];
        for (text, owner, expected) in table {
            assert_eq!(parse(text.as_bytes(), owner), expected, "{text:?} {owner:?}");
        }
        let many: String = (0..340).map(|n| format!("alice:{}:1\n", 1000 + n)).collect();
        assert_eq!(parse(many.as_bytes(), &alice), Err(340));
        assert_eq!(range(100, 10).to_string(), "100-109");
    }
}
