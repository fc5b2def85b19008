//! The only code of cstor that runs with privileges: it opens files beneath given roots for reading and
//! passes the descriptors back.
//!
//! It parses nothing but the protocol, resolves no path from `/`, and never writes. Read it in this
//! order: `session.rs` (what may be asked when), `answer.rs` (every privileged action), `open.rs` (how a
//! name becomes a descriptor), `confine/` (what it gives up first).

mod answer;
mod confine;
mod exit;
mod layers;
pub mod open;
mod session;

pub use exit::Exit;

use cstor_proto::Channel;
use rustix::stdio::stdin;

/// Serves one client on standard input until it says `Bye` or goes away, and says how that ended.
///
/// Must run while the process has one thread: capabilities and sandboxes belong to threads.
pub fn run() -> Exit {
    if let Err(exit) = confine::check_single_thread() {
        return exit;
    }
    if let Err(exit) = confine::leave_surroundings() {
        return exit;
    }
    let channel = stdin().try_clone_to_owned().ok().and_then(|fd| Channel::from_fd(fd).ok());
    match channel {
        Some(channel) => session::serve(channel),
        None => Exit::NoChannel,
    }
}
