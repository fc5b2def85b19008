//! How far the notifications of one layer have come: what may follow what, and whether it adds up.

use std::os::fd::OwnedFd;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;

use super::{Client, only};
use crate::base::digest::Digest;
use crate::jsonrpc::error::RpcError;
use crate::jsonrpc::shapes::{End, FileOf, LayerOf, Segment, Start, Success};
use crate::jsonrpc::wire::{Id, Message};

/// A layer that is being received.
#[derive(Debug)]
pub(super) struct Progress {
    id: Id,
    contents: bool,
    phase: Phase,
    /// What was announced.
    wanted_size: Option<u64>,
    /// Only where the layer was asked for by its id: of a blob it is the digest of its compressed form.
    wanted_digest: Option<Digest>,
    by_id: bool,
    size: u64,
    files: u64,
}

#[derive(Debug)]
enum Phase {
    Asked,
    Started,
    Ended,
}

/// What comes next of a layer.
#[derive(Debug)]
pub(super) enum Part {
    /// Bytes of the tar, at least one.
    Bytes(Vec<u8>),
    /// All contents of a file; the descriptor only where it was asked for.
    File { file: FileOf, fd: Option<OwnedFd> },
    /// Everything has come, and adds up. The digest that the tar has, if the server says so.
    End(Option<Digest>),
}

impl Progress {
    /// Asks for a layer.
    pub(super) fn ask(client: &mut Client, layer: &LayerOf) -> Result<Progress, RpcError> {
        let id = client.ask("GetLayerTarSplit", layer)?;
        let (contents, phase) = (layer.contents, Phase::Asked);
        let by_id = layer.layer.is_some();
        Ok(Progress { id, contents, phase, wanted_size: None, wanted_digest: None, by_id, size: 0, files: 0 })
    }

    /// Waits for the next part. After the end there is none.
    pub(super) fn next(&mut self, client: &mut Client) -> Result<Part, RpcError> {
        loop {
            let mut message = client.hear(&self.id)?;
            let files = std::mem::take(&mut message.files);
            match (&self.phase, message.method()) {
                (Phase::Asked, Some("layer.start")) => {
                    let [] = only("layer.start", files)?;
                    let start: Start = params(&message, "layer.start")?;
                    (self.wanted_size, self.phase) = (start.uncompressed_size, Phase::Started);
                    self.wanted_digest = start.digest.filter(|_| self.by_id);
                }
                (Phase::Started, Some("layer.segment")) => {
                    let [] = only("layer.segment", files)?;
                    match self.segment(&message)? {
                        bytes if bytes.is_empty() => {}
                        bytes => return Ok(Part::Bytes(bytes)),
                    }
                }
                (Phase::Started, Some("layer.file")) => return self.file(&message, files),
                (Phase::Started, Some("layer.end")) => {
                    let [] = only("layer.end", files)?;
                    let end: End = params(&message, "layer.end")?;
                    self.phase = Phase::Ended;
                    return self.end(client, &end);
                }
                (_, Some(_)) => return Err(RpcError::Unexpected { what: "a notification" }),
                (_, None) => {
                    client.in_step = false;
                    return Err(RpcError::Unexpected { what: "an answer before the end of a layer" });
                }
            }
        }
    }

    fn segment(&mut self, message: &Message) -> Result<Vec<u8>, RpcError> {
        let what = "layer.segment";
        let segment: Segment = params(message, what)?;
        let decoded = STANDARD.decode(segment.data);
        let bytes = decoded.map_err(|error| RpcError::Form { what, source: serde_json::Error::custom(error) })?;
        self.size = self.size.saturating_add(bytes.len() as u64);
        Ok(bytes)
    }

    fn file(&mut self, message: &Message, files: Vec<OwnedFd>) -> Result<Part, RpcError> {
        let file: FileOf = params(message, "layer.file")?;
        let fd = if self.contents {
            let [fd] = only("layer.file", files)?;
            Some(fd)
        } else {
            let [] = only("layer.file", files)?;
            None
        };
        self.files += 1;
        self.size = self.size.saturating_add(file.size);
        Ok(Part::File { file, fd })
    }

    /// Checks what came against what was announced, and takes the answer.
    fn end(&mut self, client: &mut Client, end: &End) -> Result<Part, RpcError> {
        let Progress { size, files, wanted_digest, .. } = *self;
        if wanted_digest.is_some_and(|wanted| end.checksum.is_some_and(|found| found != wanted)) {
            return Err(RpcError::Unexpected { what: "another digest at the end of a layer than at its beginning" });
        }
        if let Some(wanted) = end.files_sent.filter(|&wanted| wanted != files) {
            return Err(RpcError::Count { found: files, wanted });
        }
        if let Some(wanted) = self.wanted_size.filter(|&wanted| wanted != size) {
            return Err(RpcError::Size { found: size, wanted });
        }
        let answer = client.hear(&self.id)?;
        if answer.method().is_some() {
            return Err(RpcError::Unexpected { what: "a notification after the end of a layer" });
        }
        let result: Result<Success, _> = answer.result();
        match result.map_err(|source| RpcError::Form { what: "GetLayerTarSplit", source })? {
            Success { success: true } => Ok(Part::End(end.checksum.or(wanted_digest))),
            Success { success: false } => Err(RpcError::Unexpected { what: "a failure after the end of a layer" }),
        }
    }
}

fn params<T: serde::de::DeserializeOwned>(message: &Message, what: &'static str) -> Result<T, RpcError> {
    message.params().map_err(|source| RpcError::Form { what, source })
}
