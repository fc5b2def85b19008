//! The server: connections of one user, each with a thread of its own and a share of the descriptors.
//!
//! Where the socket comes from, and who may reach it, is the caller's concern; a connection of another user is refused
//! whatever the mode of the socket is.

mod budget;
mod failure;
mod header_stream;
mod images;
mod layers;
mod memory;
mod notify;
mod peer;
mod session;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::sync_channel;
use std::thread::{self, sleep};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::wire::{Connection, Id, Limits, Patience, Rejection, WireError};
use crate::base::interrupt::Interrupt;
use crate::contents::flow;
use crate::storage::Storage;
use budget::{Budget, Share};
use failure::Failure;
pub(super) use failure::kind;
use peer::Peer;
use session::Session;

/// The longest request. No request has more than a few names in it.
const MAX_REQUEST: usize = 1 << 20;
/// No request comes with descriptors.
const LIMITS: Limits = Limits { message: MAX_REQUEST, files: 0 };
/// Connections at a time, unless told otherwise. Each is a thread.
const MAX_CONNECTIONS: usize = 32;
/// What a connection has open beside a window of contents: its socket, a layer and the helper's answers.
const BESIDE_WINDOW: usize = 16;
/// How often waiting for a connection looks whether to stop.
const SLICE: Duration = Duration::from_millis(100);

/// Serves images and layers of a store to other programs of the same user.
///
/// ```
/// # use cstor_client::{Storage, jsonrpc::{Client, Server}};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("../../example_store.txt")]
/// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
/// let server = Server::new(&Storage::open(root)?);
/// let serving = std::thread::spawn(move || server.serve_connected(theirs));
/// let mut client = Client::over(ours);
/// let image = client.open_image("localhost/demo")?;
/// for layer in &image.layers {
///     let tar = client.layer(&layer.id)?.rebuild(std::io::sink())?;
///     assert_eq!(Some(tar.digest), layer.diff_id);
/// }
/// client.shutdown()?;
/// # serving.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Server {
    storage: Storage,
    patience: Patience,
    connections: usize,
    interrupt: Interrupt,
}

impl Server {
    /// Serves this store, with its helper if it has one ([`Storage::with_helper`]).
    pub fn new(storage: &Storage) -> Server {
        let (storage, interrupt) = (storage.clone(), storage.interrupt());
        Server { storage, patience: Patience::default(), connections: MAX_CONNECTIONS, interrupt }
    }

    /// How long to wait for clients.
    #[must_use]
    pub fn patience(self, patience: Patience) -> Server {
        Server { patience, ..self }
    }

    /// How many connections there may be at a time; more are told so and closed. There are fewer where the descriptor
    /// limit does not let each read a layer.
    #[must_use]
    pub fn connections(self, connections: usize) -> Server {
        Server { connections, ..self }
    }

    /// A flag that ends the server when it is set, with what it sends at that moment cut short.
    #[must_use]
    pub fn interrupt(self, interrupt: Interrupt) -> Server {
        Server { interrupt, ..self }
    }

    /// Takes connections until it is interrupted. What is wrong with one of them concerns no other.
    pub fn serve(&self, listener: impl AsFd) -> Result<(), WireError> {
        let budget = Budget::of_this_process();
        let places = Budget::new(self.connections);
        thread::scope(|scope| {
            while let Some((socket, peer)) = self.accept(&listener)? {
                let (Some(share), Some(place)) = (budget.take(per_connection()), places.take(1)) else {
                    let limit = self.connections.min(budget.whole() / per_connection());
                    self.refuse(socket, &Failure::limit("too many connections", limit));
                    continue;
                };
                let budget = &budget;
                // The socket follows the thread: where there is no thread, it is needed for saying so.
                let (hand_over, handed_over) = sync_channel(1);
                let serve = move || {
                    let _held: [Share<'_>; 2] = [share, place];
                    let Ok(socket) = handed_over.recv() else { return };
                    if let Err(error) = self.serve_one(socket, Some(peer), budget) {
                        tracing::debug!(%error, "a connection has ended");
                    }
                };
                match thread::Builder::new().name("connection".to_owned()).spawn_scoped(scope, serve) {
                    // It waits for nothing else, so it takes it.
                    Ok(_) => drop(hand_over.send(socket)),
                    Err(error) => {
                        tracing::warn!(%error, "the kernel allows no thread for a connection");
                        self.refuse(socket, &Failure::no_thread(places.whole() - places.free()));
                    }
                }
            }
            Ok(())
        })
    }

    /// Takes one connection, serves it and returns.
    pub fn serve_once(&self, listener: impl AsFd) -> Result<(), WireError> {
        match self.accept(&listener)? {
            Some((socket, peer)) => self.serve_alone(socket, Some(peer)),
            None => Ok(()),
        }
    }

    /// Serves a socket that is connected. Whoever connected it chose this server: the peer's user is not looked at.
    pub fn serve_connected(&self, socket: impl Into<OwnedFd>) -> Result<(), WireError> {
        let socket = socket.into();
        let peer = Peer::of(&socket).ok();
        self.serve_alone(socket, peer)
    }

    fn serve_alone(&self, socket: OwnedFd, peer: Option<Peer>) -> Result<(), WireError> {
        let budget = Budget::of_this_process();
        // Where there are not as many, a window is smaller too.
        let _share = budget.take(per_connection());
        self.serve_one(socket, peer, &budget)
    }

    fn serve_one(&self, socket: OwnedFd, peer: Option<Peer>, budget: &Budget) -> Result<(), WireError> {
        let connection = self.connection(socket);
        let ended = Session::new(&self.storage, budget, peer.and_then(Peer::descriptor_limit), connection).serve();
        match ended {
            // An interrupt is how a server ends.
            Err(WireError::Interrupted(_)) => Ok(()),
            ended => ended,
        }
    }

    fn connection(&self, socket: OwnedFd) -> Connection {
        Connection::new(socket, LIMITS, self.patience, self.interrupt.clone())
    }

    /// The next connection of this user; `None` when interrupted.
    fn accept(&self, listener: &impl AsFd) -> Result<Option<(OwnedFd, Peer)>, WireError> {
        let failed = |errno: Errno| WireError::Socket(errno.into());
        // Where others accept at the same socket, one of them may be faster.
        fcntl_getfl(listener).and_then(|flags| fcntl_setfl(listener, flags | OFlags::NONBLOCK)).map_err(failed)?;
        let slice = Timespec { tv_sec: 0, tv_nsec: i64::from(SLICE.subsec_nanos()) };
        while !self.interrupt.is_raised() {
            let mut watched = [PollFd::new(listener, PollFlags::IN)];
            match poll(&mut watched, Some(&slice)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let socket = match accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => continue,
                // Connections that end give theirs back.
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    sleep(SLICE);
                    continue;
                }
                Err(errno) => return Err(failed(errno)),
            };
            let peer = Peer::of(&socket).map_err(failed)?;
            if peer.is_same_user() {
                return Ok(Some((socket, peer)));
            }
            tracing::warn!(uid = peer.uid(), "a connection of another user was refused");
            self.refuse(socket, &Failure::no_request("this server is for another user"));
        }
        Ok(None)
    }

    fn refuse(&self, socket: OwnedFd, failure: &Failure) {
        // There is room in a new socket; a peer that has gone need not be told.
        let _ = self.connection(socket).send(&Rejection::new(failure, &Id::Null, 0), &[]);
    }
}

/// What a connection may have open at a time.
fn per_connection() -> usize {
    flow::window() + BESIDE_WINDOW
}
