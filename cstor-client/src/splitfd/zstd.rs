//! A stream in zstd, as [`super::MEDIA_TYPE_ZSTD`] says.

use std::io::{self, BufReader, Read, Write};

/// Compresses what is written to it.
pub struct Compressor<W: Write>(zstd::Encoder<'static, W>);

/// Decompresses what it reads; frames that follow one another are one stream.
pub struct Decompressor<R: Read>(zstd::Decoder<'static, BufReader<R>>);

impl<W: Write> Compressor<W> {
    /// Writes to `out` at one of zstd's levels; 0 is its default.
    pub fn new(out: W, level: i32) -> io::Result<Compressor<W>> {
        let mut encoder = zstd::Encoder::new(out, level)?;
        encoder.include_checksum(true)?;
        Ok(Compressor(encoder))
    }

    /// Completes the frame; without it the output is cut short.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<R: Read> Decompressor<R> {
    /// Reads from `stream`.
    pub fn new(stream: R) -> io::Result<Decompressor<R>> {
        Ok(Decompressor(zstd::Decoder::new(stream)?))
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.0.read(space)
    }
}

impl<W: Write> std::fmt::Debug for Compressor<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl<R: Read> std::fmt::Debug for Decompressor<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splitfd::{Piece, Reader, Writer};

    #[test]
    fn a_compressed_stream_is_zstd_and_the_same_again() {
        let mut writer = Writer::new(Compressor::new(Vec::new(), 0).unwrap());
        writer.inline(&[7; 100_000]).unwrap();
        writer.external(0).unwrap();
        let bytes = writer.finish().unwrap().finish().unwrap();
        // RFC 8878, 3.1.1: the magic number of a frame.
        assert_eq!(bytes[..4], [0x28, 0xb5, 0x2f, 0xfd]);
        let mut reader = Reader::new(Decompressor::new(&bytes[..]).unwrap(), 1);
        assert_eq!(reader.next().unwrap(), Some(Piece::Inline(&[7; 100_000])));
        assert_eq!(reader.next().unwrap(), Some(Piece::External(0)));
        assert_eq!(reader.next().unwrap(), None);
        let mut cut = Reader::new(Decompressor::new(&bytes[..bytes.len() - 3]).unwrap(), 1);
        while let Ok(Some(_)) = cut.next() {}
        assert!(cut.next().is_err() || cut.next().is_err());
    }
}
