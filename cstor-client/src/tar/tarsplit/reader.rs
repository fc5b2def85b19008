//! A tar-split file as a sequence of lines, out of its gzip members.
//!
//! containers/storage writes it with pgzip and reads it with Go's gzip, which takes concatenated members
//! for one stream; a reader of the first member alone would end silently.

use std::io::{self, BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;

use super::{Line, LineError};

/// The longest line: a segment of 1 MiB is 1.4 MiB of base64; headers with large PAX records are longer.
const MAX_LINE: usize = 8 << 20;
const BUFFER: usize = 128 * 1024;

/// Reads lines; the decoder checks the gzip checksums.
pub(crate) struct TarSplitReader<R: Read> {
    gzip: BufReader<MultiGzDecoder<BufReader<R>>>,
    line: Vec<u8>,
    position: u64,
}

/// Why a tar-split file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarSplitError {
    /// Damaged gzip, or an error of the file itself.
    #[error("its tar-split file is damaged or cut short")]
    Gzip(#[source] io::Error),
    /// A line that is longer than the limit.
    #[error("line {line} of its tar-split file has more than {MAX_LINE} bytes")]
    LongLine {
        /// Counted from 0.
        line: u64,
    },
    /// A line that cannot be understood.
    #[error("line {line} of its tar-split file: {source}")]
    Line {
        /// Counted from 0.
        line: u64,
        /// Why.
        source: LineError,
    },
}

impl<R: Read> TarSplitReader<R> {
    /// Reads from the compressed file.
    pub(crate) fn new(file: R) -> TarSplitReader<R> {
        let gzip = MultiGzDecoder::new(BufReader::with_capacity(BUFFER, file));
        TarSplitReader { gzip: BufReader::with_capacity(BUFFER, gzip), line: Vec::new(), position: 0 }
    }

    /// The next line; `None` at the end.
    pub(crate) fn next_line(&mut self) -> Result<Option<Line>, TarSplitError> {
        let number = self.position;
        self.line.clear();
        let limited = &mut (&mut self.gzip).take(MAX_LINE as u64 + 1);
        let length = limited.read_until(b'\n', &mut self.line).map_err(TarSplitError::Gzip)?;
        if length == 0 {
            return Ok(None);
        }
        if length > MAX_LINE {
            return Err(TarSplitError::LongLine { line: number });
        }
        let line = Line::parse(&self.line, number).map_err(|source| TarSplitError::Line { line: number, source })?;
        self.position += 1;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn count(bytes: &[u8]) -> Result<usize, TarSplitError> {
        let mut reader = TarSplitReader::new(bytes);
        let mut lines = 0;
        while reader.next_line()?.is_some() {
            lines += 1;
        }
        Ok(lines)
    }

    #[test]
    fn members_are_one_stream_and_damage_is_seen() {
        let first = gzip("{\"type\":2,\"payload\":\"AA==\",\"position\":0}\n");
        let second = gzip("{\"type\":1,\"name\":\"a\",\"payload\":null,\"position\":1}\n");
        let whole = [first.clone(), second].concat();
        assert_eq!(count(&whole).unwrap(), 2);
        for end in (0..whole.len()).filter(|&end| end != first.len()) {
            assert!(matches!(count(&whole[..end]), Err(TarSplitError::Gzip(_))), "cut at {end}");
        }
        assert!(count(&[&whole[..], b"garbage"].concat()).is_err());
        let mut wrong_sum = whole.clone();
        let at = first.len() - 8;
        wrong_sum[at] ^= 1;
        assert!(count(&wrong_sum).is_err());
    }

    #[test]
    fn endless_lines_are_refused() {
        let text = " ".repeat(MAX_LINE + 10);
        assert!(matches!(count(&gzip(&text)), Err(TarSplitError::LongLine { line: 0 })));
    }
}
