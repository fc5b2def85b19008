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

/// The argument that makes the helper start in a user namespace of its own. The client waits until it is
/// there, writes its maps by newuidmap(1) and newgidmap(1), and only then says `Hello`.
pub const UNSHARE: &str = "--unshare";

/// Serves one client on standard input until it says `Bye` or goes away, and says how that ended.
///
/// Must run while the process has one thread: capabilities and sandboxes belong to threads. The only
/// argument of the process that counts is [`UNSHARE`].
pub fn run() -> Exit {
    enter_and_serve().unwrap_or_else(|exit| exit)
}

fn enter_and_serve() -> Result<Exit, Exit> {
    let own_namespace = std::env::args_os().any(|argument| argument == UNSHARE);
    confine::check_single_thread()?;
    if own_namespace {
        confine::enter_namespace()?;
    }
    confine::leave_surroundings()?;
    let channel = stdin().try_clone_to_owned().ok().and_then(|fd| Channel::from_fd(fd).ok());
    Ok(session::serve(channel.ok_or(Exit::NoChannel)?, |channel, roots| {
        if own_namespace {
            confine::check_namespace()?;
        }
        confine::confine(channel, roots)
    }))
}

/// Serves one client with all the rights of this process, which goes on afterwards.
#[cfg(fuzzing)]
pub fn serve_unconfined(channel: Channel) -> Exit {
    session::serve(channel, |_, _| confine::report(false).map_err(|_| Exit::Confinement))
}
