//! `cstor serve`: the library's server at a socket that was made, inherited, or passed by systemd.

use std::os::fd::{AsFd, BorrowedFd};

use cstor_client::Error;
use cstor_client::jsonrpc::{RpcError, Server, WireError};

use super::{keep_stores_from, open_quietly};
use crate::args::{Serve, Store};
use crate::exit::Failure;
use crate::signals;
use crate::socket::{self, Inherited, SocketFile};

pub(crate) fn run(store: &Store, args: &Serve) -> Result<(), Failure> {
    // Becoming another user closes what was inherited.
    if store.as_owner && args.socket.is_none() {
        return Err(Failure::Usage("--as-owner needs --socket: an inherited socket does not come along"));
    }
    // Before anything of our own has a number that could be given by mistake.
    let inherited = if args.socket.is_none() { Some(socket::inherited(args.fd)?) } else { None };
    let storage = open_quietly(store)?;
    let server = Server::new(&storage).connections(args.connections).interrupt(storage.interrupt());
    // A signal is how a server ends.
    signals::finish(&storage.interrupt())?;
    let serve = |listener: BorrowedFd<'_>| if args.once { server.serve_once(listener) } else { server.serve(listener) };
    let served = match (inherited, &args.socket) {
        (Some(Inherited::Listening(listener)), _) => serve(listener.as_fd()),
        (Some(Inherited::Connected(socket)), _) => server.serve_connected(socket),
        (None, None) => Ok(()),
        (None, Some(path)) => {
            keep_stores_from(path, Some(&storage))?;
            let file = SocketFile::create(path)?;
            tracing::debug!(path = %path.display(), "listening");
            serve(file.listener())
        }
    };
    served.map_err(failure)
}

fn failure(error: WireError) -> Failure {
    Error::from(RpcError::from(error)).into()
}
