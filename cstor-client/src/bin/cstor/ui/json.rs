//! The JSON output: a contract, described in docs/json.md. Keys are added, never changed or removed.

use std::io::{self, Write};

use serde::Serialize;

/// The version of the contract.
pub(crate) const SCHEMA: u32 = 1;

/// Prints one document.
pub(crate) fn print(out: &mut dyn Write, document: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(document)?;
    text.push(b'\n');
    out.write_all(&text)
}
