//! A reader or writer that takes the SHA-256 digest and the size of what passes through it.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use super::digest::Digest;

/// What passes through `inner` is hashed and counted.
#[derive(Debug)]
pub(crate) struct Hashed<T> {
    pub(crate) inner: T,
    hash: Sha256,
    size: u64,
}

impl<T> Hashed<T> {
    pub(crate) fn new(inner: T) -> Hashed<T> {
        Hashed { inner, hash: Sha256::new(), size: 0 }
    }

    /// The digest of what has passed through so far.
    pub(crate) fn digest(&self) -> Digest {
        Digest::from_bytes(self.hash.clone().finalize().into())
    }

    /// How many bytes have passed through so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Takes bytes that have passed in another way.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size = self.size.saturating_add(bytes.len() as u64);
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(space)?;
        self.update(space.get(..length).unwrap_or_default());
        Ok(length)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.update(bytes.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_summed_up() {
        let mut written = Hashed::new([0; 5]);
        let mut into = Hashed::new(&mut written.inner[..]);
        assert_eq!(into.write(b"longer than that").unwrap(), 5, "only what was taken counts");
        assert_eq!((into.digest(), into.size()), (Digest::of(b"longe"), 5));
        let mut from = Hashed::new(&b"text"[..]);
        assert_eq!(from.read(&mut [0; 3]).unwrap(), 3);
        assert_eq!((from.digest(), from.size()), (Digest::of(b"tex"), 3));
    }
}
