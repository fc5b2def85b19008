//! The stream of container-libs pull request 651 as a splitfdstream: the padding and the end that it leaves out are put
//! back where the headers say that they belong.

use std::collections::VecDeque;
use std::io::{self, Read};

use crate::splitfd::{Piece, Reader, SplitFdError};
use crate::tar::{Archive, ArchiveError, ArchiveProblem};

const BLOCK: u64 = 512;
/// Two blocks of zeros end a tar.
const END: [u8; 1024] = [0; 1024];
/// The headers of one member: an extension has at most a mebibyte, and there are few kinds of them.
const MAX_HEADERS: usize = 4 << 20;

/// Reads one and gives the other.
pub(super) struct Unpadded<R> {
    reader: Reader<R>,
    member: Member,
    /// Chunks to be given.
    ready: VecDeque<u8>,
    ended: bool,
}

/// Where in a member the stream is.
#[derive(Default)]
struct Member {
    /// Headers that are not complete.
    headers: Vec<u8>,
    /// Contents that are still to come, and the padding behind them.
    left: u64,
    padding: usize,
    /// The name, for errors.
    name: Vec<u8>,
}

impl<R: Read> Unpadded<R> {
    /// Of a stream that belongs to so many files.
    pub(super) fn new(stream: R, files: usize) -> Unpadded<R> {
        let files = u32::try_from(files).unwrap_or(u32::MAX);
        Unpadded { reader: Reader::new(stream, files), member: Member::default(), ready: VecDeque::new(), ended: false }
    }

    fn advance(&mut self) -> Result<(), SplitFdError> {
        let Unpadded { reader, member, ready, ended } = self;
        match reader.next()? {
            None if member.is_open() => return Err(SplitFdError::CutShort { after: std::mem::take(&mut member.name) }),
            None => {
                *ended = true;
                literal(ready, &END);
            }
            // Whether the file has the size of the contents is for its reader to check.
            Some(Piece::External(number)) if member.left > 0 => {
                ready.extend(i64::from(number).to_le_bytes());
                member.contents_came(ready);
            }
            Some(Piece::External(number)) => return Err(SplitFdError::Misplaced { number }),
            Some(Piece::Inline(bytes)) => member.take(bytes, ready)?,
        }
        Ok(())
    }
}

impl Member {
    fn is_open(&self) -> bool {
        self.left > 0 || !self.headers.is_empty()
    }

    fn take(&mut self, bytes: &[u8], ready: &mut VecDeque<u8>) -> Result<(), SplitFdError> {
        let now = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let (contents, headers) = bytes.split_at(now);
        if !contents.is_empty() {
            literal(ready, contents);
            self.left -= contents.len() as u64;
            if self.left == 0 {
                self.contents_came(ready);
            }
        }
        self.headers.extend_from_slice(headers);
        while !self.headers.is_empty() {
            let Some((length, left)) = self.parse()? else { return Ok(()) };
            let rest = self.headers.split_off(length);
            literal(ready, &self.headers);
            self.headers.clear();
            (self.left, self.padding) = (left, (left.next_multiple_of(BLOCK) - left) as usize);
            if left > 0 {
                return self.take(&rest, ready);
            }
            self.headers = rest;
        }
        Ok(())
    }

    /// The length of the headers and of the contents behind them; `None` if there must be more headers.
    fn parse(&mut self) -> Result<Option<(usize, u64)>, SplitFdError> {
        let mut archive = Archive::of_tar(self.headers.as_slice());
        match archive.next_entry() {
            Err(ArchiveError { problem: ArchiveProblem::Truncated, .. }) if self.headers.len() < MAX_HEADERS => {
                Ok(None)
            }
            Ok(Some(placed)) => {
                if let Some(member) = placed.entry.member {
                    self.name = member.header.path;
                }
                Ok(Some((usize::try_from(archive.offset()).unwrap_or(self.headers.len()), placed.stored)))
            }
            Err(ArchiveError { problem: ArchiveProblem::Header(source), .. }) => {
                Err(SplitFdError::Header { after: self.name.clone(), source })
            }
            Ok(None) | Err(_) => Err(SplitFdError::CutShort { after: self.name.clone() }),
        }
    }

    fn contents_came(&mut self, ready: &mut VecDeque<u8>) {
        self.left = 0;
        let padding = std::mem::take(&mut self.padding);
        literal(ready, END.get(..padding).unwrap_or_default());
    }
}

fn literal(ready: &mut VecDeque<u8>, bytes: &[u8]) {
    if !bytes.is_empty() {
        ready.extend((-(bytes.len() as i64)).to_le_bytes());
        ready.extend(bytes);
    }
}

impl<R: Read> Read for Unpadded<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !self.ended {
            self.advance().map_err(io::Error::other)?;
        }
        self.ready.read(space)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splitfd::{Writer, reconstruct};
    use std::io::Write;

    fn header(name: &str, size: u64, kind: tar::EntryType) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_entry_type(kind);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn file(contents: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(contents).unwrap();
        file
    }

    #[test]
    fn padding_and_end_are_put_back() {
        let mut writer = Writer::new(Vec::new());
        let mut chunk = |bytes: &[u8]| {
            writer.inline(bytes).unwrap();
            writer.end_chunk().unwrap();
        };
        chunk(&header("d/", 0, tar::EntryType::Directory));
        chunk(&header("d/inline", 3, tar::EntryType::Regular));
        chunk(b"abc");
        chunk(&header("d/whole", 512, tar::EntryType::Regular));
        chunk(&[7; 512]);
        chunk(&header("d/beside", 5, tar::EntryType::Regular));
        writer.external(0).unwrap();
        writer.inline(&header("link", 0, tar::EntryType::Regular)).unwrap();
        let stream = writer.finish().unwrap();
        let files = [file(b"12345")];
        let mut tar = Vec::new();
        reconstruct(Unpadded::new(&stream[..], 1), &files[..], &mut tar).unwrap();
        let mut wanted = tar::Builder::new(Vec::new());
        for (name, contents) in [("d/", &b""[..]), ("d/inline", b"abc"), ("d/whole", &[7; 512]), ("d/beside", b"12345")]
        {
            let kind = if name == "d/" { tar::EntryType::Directory } else { tar::EntryType::Regular };
            let bytes = header(name, contents.len() as u64, kind);
            wanted.append(tar::Header::from_byte_slice(&bytes), contents).unwrap();
        }
        wanted.append(tar::Header::from_byte_slice(&header("link", 0, tar::EntryType::Regular)), &b""[..]).unwrap();
        assert_eq!(tar, wanted.into_inner().unwrap());
    }

    #[test]
    fn what_is_cut_short_is_no_layer() {
        let regular = header("f", 5, tar::EntryType::Regular);
        type Part<'a> = &'a dyn Fn(&mut Writer<Vec<u8>>);
        let table: [(&str, &[Part<'_>]); 4] = [
            ("within a header", &[&|w| w.inline(&regular[..100]).unwrap()]),
            ("before contents", &[&|w| w.inline(&regular).unwrap()]),
            ("within contents", &[&|w| w.inline(&[&regular[..], b"abc"].concat()).unwrap()]),
            ("a file where none belongs", &[&|w| w.external(0).unwrap()]),
        ];
        for (what, parts) in table {
            let mut writer = Writer::new(Vec::new());
            parts.iter().for_each(|part| part(&mut writer));
            let stream = writer.finish().unwrap();
            let read = reconstruct(Unpadded::new(&stream[..], 1), &[file(b"12345")][..], io::sink());
            assert!(read.is_err(), "{what}");
        }
    }
}
