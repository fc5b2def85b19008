//! A layer as notifications: header bytes in segments, each file with its descriptor, one after the other.
//!
//! No file is opened ahead by more than a window, and none is held once it was sent: a peer that does not read stops
//! the server, and neither end needs more descriptors for a large layer than for a small one.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::failure::Stop;
use crate::base::digest::Digest;
use crate::contents::flow::{EntrySink, OpenContents};
use crate::jsonrpc::shapes::{End, FdValue, FileOf, Segment, Start};
use crate::jsonrpc::wire::{Connection, Notification};
use crate::output::splitfd::check_size;
use crate::storage::Layer;
use crate::tar::Member;

/// The most header bytes in one segment; in base64 they are a third more.
const MAX_SEGMENT: usize = 64 * 1024;

/// Sends a layer.
pub(super) struct Notify<'c> {
    connection: &'c mut Connection,
    contents: bool,
    /// What the store says the tar is.
    diff_id: Option<Digest>,
    diff_size: Option<u64>,
    started: bool,
    /// Header bytes that were not sent yet.
    segment: Vec<u8>,
    files: u64,
}

impl<'c> Notify<'c> {
    /// With descriptors beside the files if `contents` is set.
    pub(super) fn new(layer: &Layer, contents: bool, connection: &'c mut Connection) -> Notify<'c> {
        let (diff_id, diff_size) = (layer.diff_id(), layer.diff_size());
        Notify { connection, contents, diff_id, diff_size, started: false, segment: Vec::new(), files: 0 }
    }

    fn send(&mut self, method: &str, params: &impl Serialize, file: Option<&OpenContents<'_>>) -> Result<(), Stop> {
        let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
        Ok(self.connection.send(&Notification::new(method, params, files.len()), &files)?)
    }

    /// The first notification goes out when the layer's description could be read.
    fn start(&mut self) -> Result<(), Stop> {
        if !std::mem::replace(&mut self.started, true) {
            self.send("layer.start", &Start { digest: self.diff_id, uncompressed_size: self.diff_size }, None)?;
        }
        Ok(())
    }

    fn append(&mut self, raw: &[u8]) -> Result<(), Stop> {
        self.start()?;
        self.segment.extend_from_slice(raw);
        if self.segment.len() >= MAX_SEGMENT { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let segment = std::mem::take(&mut self.segment);
        for piece in segment.chunks(MAX_SEGMENT) {
            self.send("layer.segment", &Segment { data: STANDARD.encode(piece) }, None)?;
        }
        Ok(())
    }
}

impl EntrySink for Notify<'_> {
    type Output = ();
    type Error = Stop;
    const EXACT: bool = true;

    fn opens_contents(&self) -> bool {
        self.contents
    }

    fn member(&mut self, raw: &[u8], member: &Member, contents: Option<&OpenContents<'_>>) -> Result<(), Stop> {
        self.append(raw)?;
        let Some(content) = member.content else { return Ok(()) };
        self.flush()?;
        contents.map_or(Ok(()), check_size)?;
        let header = &member.header;
        let fd = match contents {
            Some(_) => [("__jsonrpc_fd__", FdValue::IsOne(true)), ("index", FdValue::Index(0))].into(),
            None => BTreeMap::new(),
        };
        let file = FileOf {
            name: crate::output::toc::text(&header.path),
            size: content.size,
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            fd,
        };
        self.files += 1;
        self.send("layer.file", &file, contents)
    }

    fn trailer(&mut self, raw: &[u8]) -> Result<(), Stop> {
        self.append(raw)
    }

    fn finish(mut self) -> Result<(), Stop> {
        self.start()?;
        self.flush()?;
        self.send("layer.end", &End { checksum: self.diff_id, files_sent: Some(self.files) }, None)
    }
}
