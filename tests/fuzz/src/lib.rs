//! What the fuzz targets share: layers out of bytes, as a tar, as tar-split lines and as real directories, and the
//! naive references that the parsers are held against. Nothing here calls what it is to check.

pub mod layers;
pub mod scratch;
pub mod seeds;
pub mod store;
pub mod tar;
pub mod untar;

/// The bytes of an input, taken from the front.
#[derive(Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// The next bytes, fewer at the end.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The bytes as JSON. What a parser took need not be: strings and numbers in fields that nobody reads are passed over.
pub fn json(bytes: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(bytes).ok()
}
