//! Where in a tar one is: takes its bytes piece by piece and says whose contents come next.
//!
//! It keeps headers until they are complete, never contents. It is for streams in which contents are
//! replaced by something else, such as a reference to a file; nothing is said of what members mean together.

use super::HeaderError;
use super::assemble::{After, MAX_GNU_NAME, MAX_PAX, parse};
use super::header::Kind;
use super::ustar::{self, BLOCK};

/// All headers of one member: a PAX one, two GNU names and the padding of each, several times over.
const MAX_HEADERS: usize = 4 << 20;

/// Follows a tar.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    /// The headers of the next member, as far as they are known.
    headers: Vec<u8>,
    /// The name of the last member.
    name: Vec<u8>,
    padded: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// In headers, until there are so many bytes of them.
    Headers(usize),
    Contents {
        size: u64,
        left: u64,
    },
    /// In bytes that mean nothing.
    Padding(u64),
    /// Behind the end mark.
    End,
}

/// Why a tar cannot be followed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Header(HeaderError),
    /// A sparse member: what is stored of it is not what its size says.
    Sparse,
}

impl Scanner {
    /// With `padded`, contents fill up their last block, as in every tar.
    pub(crate) fn new(padded: bool) -> Scanner {
        Scanner { state: State::Headers(BLOCK), headers: Vec::new(), name: Vec::new(), padded }
    }

    /// Takes what comes next in the tar.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        while !bytes.is_empty() {
            match self.state {
                State::Headers(wanted) => {
                    let missing = wanted.saturating_sub(self.headers.len());
                    let (now, later) = bytes.split_at(missing.min(bytes.len()));
                    self.headers.extend_from_slice(now);
                    bytes = later;
                    if self.headers.len() == wanted {
                        self.state = self.complete()?;
                    }
                }
                State::Contents { size, left } => {
                    let (rest, left) = skip(bytes, left);
                    bytes = rest;
                    self.state = if left > 0 { State::Contents { size, left } } else { self.after(size) };
                }
                State::Padding(left) => {
                    let (rest, left) = skip(bytes, left);
                    bytes = rest;
                    self.state = if left > 0 { State::Padding(left) } else { State::Headers(BLOCK) };
                }
                State::End => return Ok(()),
            }
        }
        Ok(())
    }

    /// Takes all contents of a member at once, and gives their size; none where no contents begin.
    pub(crate) fn take_contents(&mut self) -> Option<u64> {
        match self.state {
            State::Contents { size, left } if left == size => {
                self.state = self.after(size);
                Some(size)
            }
            _ => None,
        }
    }

    /// The name of the last member.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether the tar may end here.
    pub(crate) fn may_end(&self) -> bool {
        match self.state {
            State::Headers(_) => self.headers.is_empty(),
            State::Contents { .. } => false,
            // Go's reader does not ask for the padding of the last member.
            State::Padding(_) | State::End => true,
        }
    }

    /// Looks at headers that have all the bytes that were asked for.
    fn complete(&mut self) -> Result<State, Stop> {
        if self.headers.len() > MAX_HEADERS {
            return Err(Stop::Header(HeaderError::LongExtension(MAX_HEADERS as u64)));
        }
        // The last block is the one to look at: before it is what it was already asked about.
        let Some(block) = self.headers.last_chunk::<BLOCK>() else { return Err(Stop::Header(HeaderError::Short)) };
        if self.headers.len() == BLOCK && block.iter().all(|&byte| byte == 0) {
            return Ok(State::End);
        }
        let fields = ustar::parse(block).map_err(Stop::Header)?;
        let limit = match fields.typeflag {
            b'x' | b'g' => MAX_PAX,
            b'L' | b'K' => MAX_GNU_NAME,
            _ => return self.member(),
        };
        if fields.size > limit {
            return Err(Stop::Header(HeaderError::LongExtension(limit)));
        }
        let blocks = fields.size.next_multiple_of(BLOCK as u64);
        if fields.typeflag == b'g' {
            self.headers.clear();
            return Ok(if blocks > 0 { State::Padding(blocks) } else { State::Headers(BLOCK) });
        }
        Ok(State::Headers(self.headers.len() + blocks as usize + BLOCK))
    }

    fn member(&mut self) -> Result<State, Stop> {
        let parsed = parse(&self.headers).map_err(Stop::Header)?;
        self.headers.clear();
        self.name = parsed.header.path;
        match (parsed.header.kind, parsed.after) {
            (Kind::File, After::Padding(0)) => Ok(State::Headers(BLOCK)),
            (Kind::File, After::Padding(size)) => Ok(State::Contents { size, left: size }),
            (Kind::File, After::Nothing) => Err(Stop::Sparse),
            _ => Ok(State::Headers(BLOCK)),
        }
    }

    fn after(&self, size: u64) -> State {
        match (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64 {
            padding if padding > 0 && self.padded => State::Padding(padding),
            _ => State::Headers(BLOCK),
        }
    }
}

/// What is left of both after as many bytes as there are.
fn skip(bytes: &[u8], left: u64) -> (&[u8], u64) {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (bytes.get(length..).unwrap_or_default(), left - length as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let long = "d/".repeat(100) + "file";
        for (name, length) in [("empty", 0), ("small", 3), ("block", 512), (&*long, 1000)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(length);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, &vec![7; length as usize][..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn pieces_of_any_size_are_the_same_tar() {
        let tar = tar();
        for length in [1, 7, 511, 512, 513, 4096] {
            let mut scanner = Scanner::new(true);
            tar.chunks(length).for_each(|piece| scanner.take(piece).unwrap());
            assert!(scanner.may_end(), "pieces of {length}");
            assert!(scanner.name().ends_with(b"d/file"), "pieces of {length}");
        }
    }

    #[test]
    fn it_may_end_only_between_members() {
        let tar = tar();
        // empty: 0..512. small: header to 1024, contents to 1027, padding to 1536.
        for (end, may) in [(0, true), (1, false), (512, true), (1024, false), (1026, false), (1027, true), (1536, true)]
        {
            let mut scanner = Scanner::new(true);
            scanner.take(&tar[..end]).unwrap();
            assert_eq!(scanner.may_end(), may, "after {end} bytes");
            assert_eq!(scanner.take_contents(), (end == 1024).then_some(3), "after {end} bytes");
        }
    }

    #[test]
    fn what_is_no_tar_is_refused() {
        let mut tar = tar();
        tar[0] ^= 1;
        assert_eq!(Scanner::new(true).take(&tar), Err(Stop::Header(HeaderError::Checksum)));
    }
}
