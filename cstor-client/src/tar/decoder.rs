//! A layer's tar as it was stored or sent: plain, or compressed in a way that shows in its first bytes.
//!
//! What a manifest calls it does not count: what skopeo calls a gzip in a docker-archive is a plain tar.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::archive::compression;

const BUFFER: usize = 256 * 1024;
/// The longest magic number, that of xz.
const MAGIC: u64 = 6;

/// An input whose first bytes were looked at.
type Looked<R> = BufReader<Box<Chain<Cursor<Vec<u8>>, R>>>;

/// Undoes the compression of what it reads.
pub(crate) enum Decoder<R: Read> {
    Plain(Looked<R>),
    Gzip(Box<MultiGzDecoder<Looked<R>>>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::Decoder<'static, Looked<R>>),
}

/// Why it cannot be undone.
#[derive(Debug)]
pub(crate) enum DecoderError {
    /// The input cannot be read, or begins with damage.
    Read(io::Error),
    /// A method that is not known here, or was left out of this build.
    Method(&'static str),
}

impl<R: Read> Decoder<R> {
    pub(crate) fn open(mut input: R) -> Result<Decoder<R>, DecoderError> {
        let mut head = Vec::new();
        (&mut input).take(MAGIC).read_to_end(&mut head).map_err(DecoderError::Read)?;
        let method = compression(&head);
        let looked = BufReader::with_capacity(BUFFER, Box::new(Cursor::new(head).chain(input)));
        match method {
            None => Ok(Decoder::Plain(looked)),
            Some("gzip") => Ok(Decoder::Gzip(Box::new(MultiGzDecoder::new(looked)))),
            #[cfg(feature = "zstd")]
            Some("zstd") => Ok(Decoder::Zstd(zstd::Decoder::with_buffer(looked).map_err(DecoderError::Read)?)),
            Some(method) => Err(DecoderError::Method(method)),
        }
    }
}

#[cfg(feature = "jsonrpc")]
impl<R: Read> Decoder<R> {
    /// What it reads from.
    pub(crate) fn input(&mut self) -> &mut R {
        let looked = match self {
            Decoder::Plain(looked) => looked,
            Decoder::Gzip(decoder) => decoder.get_mut(),
            #[cfg(feature = "zstd")]
            Decoder::Zstd(decoder) => decoder.get_mut(),
        };
        looked.get_mut().get_mut().1
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(looked) => looked.read(space),
            Decoder::Gzip(decoder) => decoder.read(space),
            #[cfg(feature = "zstd")]
            Decoder::Zstd(decoder) => decoder.read(space),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_compressed_is_not_afterwards() {
        let text = b"some text\n".repeat(100);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let two = [&gzip[..], &gzip].concat();
        let mut inputs = vec![(text.clone(), text.clone()), (gzip, text.clone()), (two, text.repeat(2))];
        #[cfg(feature = "zstd")]
        inputs.push((zstd::encode_all(&text[..], 0).unwrap(), text.clone()));
        inputs.push((b"abc".to_vec(), b"abc".to_vec()));
        for (input, output) in inputs {
            let mut read = Vec::new();
            Decoder::open(&input[..]).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == output);
        }
        assert!(matches!(Decoder::open(&b"\xfd7zXZ\0..."[..]), Err(DecoderError::Method("xz"))));
    }
}
