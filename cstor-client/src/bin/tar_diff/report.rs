//! What was found, as lines and as JSON. The JSON is a contract: keys are added, never changed or removed.

use std::fmt;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cstor_client::Escaped;
use serde::{Serialize, Serializer};

use crate::meaning::{Change, Meaning, Value, time};

/// The version of the contract.
const SCHEMA: u32 = 1;
/// What a line shows of an extended attribute.
const SHOWN: usize = 64;

#[derive(Debug)]
pub(crate) struct Report {
    /// How many entries there are.
    pub(crate) entries: Sides<u64>,
    pub(crate) differences: Vec<Difference>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Sides<T> {
    pub(crate) a: T,
    pub(crate) b: T,
}

/// Entries are counted from 1, bytes from 0.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Difference {
    /// In A alone.
    Missing(Listed),
    /// In B alone.
    Extra(Listed),
    Metadata {
        name: Name,
        changes: Vec<Change>,
    },
    /// Other contents; where, unless they stand at different places of a pipe.
    Content {
        name: Name,
        size: Sides<u64>,
        at: Option<u64>,
    },
    Order {
        name: Name,
        entry: Sides<u64>,
    },
    /// The same meaning in other bytes; where in the archives, likewise.
    Bytes {
        part: Part,
        name: Option<Name>,
        at: Option<Sides<u64>>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    Header,
    Padding,
    End,
}

/// An entry that has no other.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    name: Name,
    entry: u64,
    r#type: String,
    size: u64,
    mode: u32,
    uid: u64,
    gid: u64,
    mtime: String,
}

impl Listed {
    pub(crate) fn new(meaning: &Meaning, entry: u64) -> Listed {
        let header = &meaning.header;
        let (mode, uid, gid, mtime) = (header.mode, header.uid, header.gid, time(header.mtime));
        Listed {
            name: Name(header.path.clone()),
            entry,
            r#type: meaning.kind(),
            size: meaning.size,
            mode,
            uid,
            gid,
            mtime,
        }
    }
}

/// Shown with escapes, also in JSON: a name need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) Vec<u8>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Escaped(&self.0))
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Escaped(&self.0))
    }
}

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            field: &'a str,
            a: Option<&'a Value>,
            b: Option<&'a Value>,
        }
        Fields { field: &self.field, a: self.a.as_ref(), b: self.b.as_ref() }.serialize(serializer)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Text(text) => serializer.serialize_str(text),
            Value::Number(number) => serializer.serialize_u64(*number),
            Value::Mode(mode) => serializer.serialize_u32(*mode),
            Value::Name(name) => serializer.collect_str(&Escaped(name)),
            Value::Bytes(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Number(number) => write!(f, "{number}"),
            Value::Mode(mode) => write!(f, "{mode:04o}"),
            Value::Name(name) => write!(f, "\"{}\"", Escaped(name)),
            Value::Bytes(bytes) => match bytes.get(..SHOWN) {
                Some(shown) if bytes.len() > SHOWN => {
                    write!(f, "\"{}\" and {} bytes", Escaped(shown), bytes.len() - SHOWN)
                }
                _ => write!(f, "\"{}\"", Escaped(bytes)),
            },
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| value.as_ref().map_or_else(|| "none".to_owned(), Value::to_string);
        write!(f, "{} {} -> {}", self.field, show(&self.a), show(&self.b))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing(listed) => write!(f, "missing: {}", listed.name),
            Difference::Extra(listed) => write!(f, "extra: {}", listed.name),
            Difference::Metadata { name, changes } => {
                let changes: Vec<String> = changes.iter().map(Change::to_string).collect();
                write!(f, "metadata: {name}: {}", changes.join(", "))
            }
            Difference::Content { name, size: Sides { a, b }, at } => {
                let sizes = if a == b { String::new() } else { format!("{a} bytes in A, {b} in B, ") };
                match at {
                    Some(at) => write!(f, "content: {name}: {sizes}first difference at byte {at}"),
                    None => write!(f, "content: {name}: {sizes}first difference not known"),
                }
            }
            Difference::Order { name, entry } => {
                write!(f, "order: {name}: entry {} in A, entry {} in B", entry.a, entry.b)
            }
            Difference::Bytes { part, name, at } => {
                match (part, name) {
                    (Part::Header, Some(name)) => write!(f, "bytes: header of {name} differs")?,
                    (Part::Padding, Some(name)) => write!(f, "bytes: padding of {name} differs")?,
                    _ => f.write_str("bytes: end of archive differs")?,
                }
                match at {
                    Some(Sides { a, b }) if a == b => write!(f, " at archive offset {a}"),
                    Some(Sides { a, b }) => write!(f, " at archive offset {a} in A, {b} in B"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// A line for each difference, and one for all; nothing if there is none.
pub(crate) fn text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for difference in &report.differences {
        writeln!(out, "{difference}")?;
    }
    let count = report.differences.len();
    if count > 0 {
        let noun = if count == 1 { "difference" } else { "differences" };
        writeln!(out, "differ: {count} {noun}, {} entries in A, {} in B", report.entries.a, report.entries.b)?;
    }
    out.flush()
}

/// One document.
pub(crate) fn json(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        schema: u32,
        same: bool,
        entries: Sides<u64>,
        differences: &'a [Difference],
    }
    let Report { entries, differences } = report;
    let document = Document { schema: SCHEMA, same: differences.is_empty(), entries: *entries, differences };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    out.write_all(b"\n")?;
    out.flush()
}
