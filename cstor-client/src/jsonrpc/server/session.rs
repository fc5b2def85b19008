//! One connection: requests are taken one after the other, and each is answered before the next is read. What they are
//! about is in `images.rs` and `layers.rs`.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::budget::Budget;
use super::failure::{Failure, Stop};
use crate::jsonrpc::wire::{Connection, Id, Message, Rejection, Reply, WireError};
use crate::storage::Image;
use crate::storage::Storage;

/// Conversation with one client.
pub(super) struct Session<'s> {
    pub(super) storage: &'s Storage,
    pub(super) budget: &'s Budget,
    /// How many descriptors the peer may have, if that is known.
    pub(super) peer_limit: Option<usize>,
    pub(super) connection: Connection,
    /// Images that are open, by their handles.
    pub(super) images: BTreeMap<u64, Image>,
    pub(super) last_handle: u64,
}

impl<'s> Session<'s> {
    pub(super) fn new(
        storage: &'s Storage,
        budget: &'s Budget,
        peer_limit: Option<usize>,
        connection: Connection,
    ) -> Session<'s> {
        Session { storage, budget, peer_limit, connection, images: BTreeMap::new(), last_handle: 0 }
    }

    /// Serves until the client has gone, asks for the end, or breaks the protocol.
    pub(super) fn serve(mut self) -> Result<(), WireError> {
        loop {
            let message = match self.connection.receive() {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(error) => {
                    if let Some(failure) = Failure::of_wire(&error) {
                        // Whoever breaks the protocol may have gone already.
                        let _ = self.connection.send(&Rejection::new(&failure, &Id::Null, 0), &[]);
                    }
                    return Err(error);
                }
            };
            if message.method() == Some("shutdown") && message.is_version_2() {
                return match message.id() {
                    Some(id) => self.connection.send(&Reply::new(&(), id, 0), &[]),
                    None => Ok(()),
                };
            }
            self.take(&message)?;
        }
    }

    fn take(&mut self, message: &Message) -> Result<(), WireError> {
        let id = match (message.method(), message.id()) {
            // Notifications are never answered, and none but the one above means anything here.
            (Some(_), None) if message.is_version_2() => return Ok(()),
            (_, id) => id.unwrap_or(&Id::Null),
        };
        let answered = match message.method() {
            Some(method) if message.is_version_2() => self.answer(method, message, id),
            _ => Err(Failure::no_request("no request of JSON-RPC 2.0").into()),
        };
        match answered {
            Ok(()) => Ok(()),
            Err(Stop::Broken(error)) => Err(error),
            Err(Stop::Refused(failure)) => self.connection.send(&Rejection::new(&failure, id, 0), &[]),
        }
    }

    fn answer(&mut self, method: &str, message: &Message, id: &Id) -> Result<(), Stop> {
        tracing::debug!(method, "request");
        match method {
            "Initialize" => self.initialize(id, &params(message)?),
            "ListImages" => self.list_images(id),
            "GetImage" => self.get_image(id, &params(message)?),
            "OpenImage" => self.open_image(id, &params(message)?),
            "CloseImage" => self.close_image(id, params(message)?),
            "GetManifest" => self.get_manifest(id, params(message)?),
            "GetFullConfig" => self.get_full_config(id, params(message)?),
            "GetLayerSplitfdstream" => self.get_layer_splitfdstream(id, &params(message)?),
            "GetSplitFDStream" => self.get_split_fd_stream(id, &params(message)?),
            "GetLayerTarSplit" => self.get_layer_tar_split(id, &params(message)?),
            "GetMeta" => self.get_meta(id, &params(message)?),
            _ => Err(Failure::no_method(method).into()),
        }
    }

    /// Answers a request.
    pub(super) fn reply(&mut self, id: &Id, result: &impl Serialize, files: &[BorrowedFd<'_>]) -> Result<(), Stop> {
        Ok(self.connection.send(&Reply::new(result, id, files.len()), files)?)
    }
}

fn params<T: DeserializeOwned>(message: &Message) -> Result<T, Failure> {
    message.params().map_err(Failure::params)
}
