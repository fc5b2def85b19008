//! What a member means, however its header is written, and in what two differ.

use cstor_client::Escaped;
use cstor_client::tar::{Header, Kind, Time};

/// A member's meaning apart from its contents.
#[derive(Debug)]
pub(crate) struct Meaning {
    pub(crate) header: Header,
    /// What a type is that no file system has.
    pub(crate) typeflag: u8,
    /// Of the contents, expanded.
    pub(crate) size: u64,
}

/// A field with different values; `None` where one side has not got it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) field: String,
    pub(crate) a: Option<Value>,
    pub(crate) b: Option<Value>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(u64),
    Mode(u32),
    Name(Vec<u8>),
    Bytes(Vec<u8>),
}

impl Meaning {
    /// By what a member is found in the other tar. Global headers have names that say which process wrote them, and
    /// some writers end the names of directories in slashes.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        let path = self.header.path.as_slice();
        match self.header.kind {
            Kind::PaxGlobal => None,
            Kind::Dir => {
                let length = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
                path.get(..length)
            }
            _ => Some(path),
        }
    }

    /// In the words of eStargz's table of contents, which has none for the last two.
    pub(crate) fn kind(&self) -> String {
        let word = match (&self.header.kind, self.typeflag) {
            (Kind::File, 0 | b'0' | b'S') => "reg",
            (Kind::File, other) => return format!("type {}", Escaped(&[other])),
            (Kind::HardLink(_), _) => "hardlink",
            (Kind::Symlink(_), _) => "symlink",
            (Kind::CharDevice { .. }, _) => "char",
            (Kind::BlockDevice { .. }, _) => "block",
            (Kind::Dir, _) => "dir",
            (Kind::Fifo, _) => "fifo",
            (Kind::PaxGlobal, _) => "pax global header",
        };
        word.to_owned()
    }

    /// In what another member of the same key differs, but for its size. A global header means its contents alone.
    pub(crate) fn changes(&self, other: &Meaning) -> Vec<Change> {
        let mut changes = Vec::new();
        let (a, b) = (&self.header, &other.header);
        if self.key().is_none() {
            return changes;
        }
        let mut note = |field: &str, a: Option<Value>, b: Option<Value>| {
            if a != b {
                changes.push(Change { field: field.to_owned(), a, b });
            }
        };
        note("type", Some(Value::Text(self.kind())), Some(Value::Text(other.kind())));
        note("link", link(&a.kind), link(&b.kind));
        note("device", device(&a.kind), device(&b.kind));
        note("mode", Some(Value::Mode(a.mode)), Some(Value::Mode(b.mode)));
        note("uid", Some(Value::Number(a.uid)), Some(Value::Number(b.uid)));
        note("gid", Some(Value::Number(a.gid)), Some(Value::Number(b.gid)));
        // Some formats have no names, and no name says nothing.
        let names = [("user", &a.user_name, &b.user_name), ("group", &a.group_name, &b.group_name)];
        for (field, a, b) in names.into_iter().filter(|(_, a, b)| !a.is_empty() && !b.is_empty()) {
            note(field, Some(Value::Name(a.clone())), Some(Value::Name(b.clone())));
        }
        note("mtime", Some(Value::Text(time(a.mtime))), Some(Value::Text(time(b.mtime))));
        let value = |header: &Header, name: &[u8]| {
            let found = header.xattrs.iter().find(|xattr| xattr.name == name);
            found.map(|xattr| Value::Bytes(xattr.value.clone()))
        };
        for xattr in &a.xattrs {
            note(&format!("xattr {}", Escaped(&xattr.name)), value(a, &xattr.name), value(b, &xattr.name));
        }
        for xattr in b.xattrs.iter().filter(|xattr| value(a, &xattr.name).is_none()) {
            note(&format!("xattr {}", Escaped(&xattr.name)), None, value(b, &xattr.name));
        }
        changes
    }
}

/// RFC 3339, or seconds where that has no year for them.
pub(crate) fn time(time: Time) -> String {
    time.rfc3339().unwrap_or_else(|| format!("@{}.{:09}", time.seconds, time.nanoseconds))
}

fn link(kind: &Kind) -> Option<Value> {
    match kind {
        Kind::HardLink(target) | Kind::Symlink(target) => Some(Value::Name(target.clone())),
        _ => None,
    }
}

fn device(kind: &Kind) -> Option<Value> {
    match kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            Some(Value::Text(format!("{major}:{minor}")))
        }
        _ => None,
    }
}
