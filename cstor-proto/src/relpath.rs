//! A path below a layer's root, and the way names are shown to people.
//!
//! Names are bytes: a tar name need not be UTF-8. Cleaning is lexical only; which file a name means is
//! decided by the kernel when it is opened.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest path that the kernel takes, without the final NUL (`PATH_MAX` − 1, linux/limits.h).
pub const MAX_PATH: usize = 4095;

/// A cleaned path below a layer's root: not empty, no leading slash, no `.`, `..` or empty
/// component, no NUL, at most [`MAX_PATH`] bytes. Also when it was decoded from the wire.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelPath(Box<[u8]>);

/// Why bytes are no [`RelPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// The name is the layer's root itself.
    #[error("the name is the root of the layer")]
    Root,
    /// A NUL byte, which no file name can hold.
    #[error("the name contains a NUL byte")]
    Nul,
    /// More than [`MAX_PATH`] bytes.
    #[error("the name has {0} bytes, more than the {MAX_PATH} the kernel takes")]
    TooLong(usize),
    /// A component that cleaning would have removed.
    #[error("the name is not in its cleaned form")]
    NotClean,
}

impl RelPath {
    /// Cleans `name` lexically, as `filepath.Clean("/" + name)` of Go does before containers/storage
    /// creates the file (container-libs storage/pkg/archive/archive.go, `Unpack`): `..` stops at the root.
    pub fn clean(name: &[u8]) -> Result<RelPath, InvalidPath> {
        if name.contains(&0) {
            return Err(InvalidPath::Nul);
        }
        let mut kept: Vec<&[u8]> = Vec::new();
        for component in name.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    kept.pop();
                }
                other => kept.push(other),
            }
        }
        RelPath::checked(kept.join(&b'/'))
    }

    fn checked(bytes: Vec<u8>) -> Result<RelPath, InvalidPath> {
        match bytes.len() {
            0 => Err(InvalidPath::Root),
            length if length > MAX_PATH => Err(InvalidPath::TooLong(length)),
            _ => Ok(RelPath(bytes.into_boxed_slice())),
        }
    }

    /// Takes bytes that are clean already.
    pub fn from_clean(bytes: Vec<u8>) -> Result<RelPath, InvalidPath> {
        if bytes.contains(&0) {
            return Err(InvalidPath::Nul);
        }
        let unclean = |component: &[u8]| matches!(component, b"" | b"." | b"..");
        if !bytes.is_empty() && bytes.split(|&byte| byte == b'/').any(unclean) {
            return Err(InvalidPath::NotClean);
        }
        RelPath::checked(bytes)
    }

    /// The path's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory part, empty for a name at the root, and the last component.
    pub fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => {
                let (parent, rest) = self.0.split_at(slash);
                (parent, rest.get(1..).unwrap_or_default())
            }
            None => (b"", &self.0),
        }
    }

    /// The components from the root down.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/')
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Escaped(&self.0))
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RelPath, D::Error> {
        struct PathBytes;
        impl Visitor<'_> for PathBytes {
            type Value = RelPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a cleaned relative path")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<RelPath, E> {
                RelPath::from_clean(bytes.to_vec()).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(PathBytes)
    }
}

/// Shows a name so that it can do nothing to a terminal: control characters, bidirectional and
/// zero-width marks, backslashes and bytes that are not UTF-8 become escapes (CVE-2023-28486). What is
/// longer than any name of a real file is cut.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..MAX_SHOWN).unwrap_or(self.0);
        for chunk in shown.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\t' => f.write_str("\\t")?,
                    c if c.is_control() || acts_on_display(c) => write!(f, "{}", c.escape_unicode())?,
                    c => write!(f, "{c}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        match self.0.len() {
            length if length > MAX_SHOWN => write!(f, "… ({length} bytes)"),
            _ => Ok(()),
        }
    }
}

/// How many bytes of a name are shown.
const MAX_SHOWN: usize = 1024;

/// Zero-width characters, line separators, bidirectional controls and the byte order mark.
fn acts_on_display(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_as_go_does() {
        // The right-hand sides are what Go 1.22's filepath.Clean("/" + name) prints, less the slash.
        let table: &[(&[u8], &[u8])] = &[
            (b"etc/passwd", b"etc/passwd"),
            (b"./etc//passwd/", b"etc/passwd"),
            (b"/abs/x", b"abs/x"),
            (b"../x", b"x"),
            (b"y/../../z", b"z"),
            (b"a/./b/../c", b"a/c"),
            (b"latin1-\xe9", b"latin1-\xe9"),
            (b"...", b"..."),
        ];
        for (name, clean) in table {
            assert_eq!(RelPath::clean(name).unwrap().as_bytes(), *clean, "{name:?}");
        }
        for root in [&b""[..], b".", b"/", b"./", b"a/.."] {
            assert_eq!(RelPath::clean(root), Err(InvalidPath::Root));
        }
        assert_eq!(RelPath::clean(b"a\0b"), Err(InvalidPath::Nul));
        assert_eq!(RelPath::clean(&[b'n'; 4096]), Err(InvalidPath::TooLong(4096)));
        assert!(RelPath::clean(&[b'n'; 4095]).is_ok());
    }

    #[test]
    fn the_wire_cannot_bring_an_unclean_path() {
        for bytes in [&b""[..], b"/etc/shadow", b"..", b"a/../b", b"a//b", b"a/", b"./a", b"a\0"] {
            let wire = postcard::to_stdvec(bytes).unwrap();
            assert!(postcard::from_bytes::<RelPath>(&wire).is_err(), "{bytes:?}");
        }
        let long = postcard::to_stdvec(&vec![b'n'; 4096]).unwrap();
        assert!(postcard::from_bytes::<RelPath>(&long).is_err());
    }

    #[test]
    fn a_path_gives_its_parts() {
        for (path, parent, name) in [("a", "", "a"), ("a/b", "a", "b"), ("a/b/c", "a/b", "c")] {
            let path = RelPath::clean(path.as_bytes()).unwrap();
            assert_eq!(path.split(), (parent.as_bytes(), name.as_bytes()));
        }
        let path = RelPath::clean(b"a/b/\xff").unwrap();
        assert!(path.components().eq([&b"a"[..], b"b", b"\xff"]));
        assert_eq!((path.to_string(), format!("{path:?}")), ("a/b/\\xff".to_owned(), "\"a/b/\\xff\"".to_owned()));
    }

    #[test]
    fn shown_names_cannot_act_on_a_terminal() {
        let table: &[(&[u8], &str)] = &[
            (b"plain", "plain"),
            ("üml".as_bytes(), "üml"),
            (b"new\nline", "new\\nline"),
            (b"esc\x1b[31m", "esc\\u{1b}[31m"),
            (b"bytes\xe9\xff", "bytes\\xe9\\xff"),
            ("rtl\u{202e}".as_bytes(), "rtl\\u{202e}"),
            (b"back\\slash", "back\\\\slash"),
        ];
        for (name, shown) in table {
            assert_eq!(Escaped(name).to_string(), *shown);
        }
        assert_eq!(Escaped(&[b'n'; 1024]).to_string(), "n".repeat(1024));
        assert!(Escaped(&[b'n'; 5000]).to_string().ends_with("n… (5000 bytes)"));
    }
}
