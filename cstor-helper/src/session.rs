//! One conversation: which request is allowed when, and what ends it.
//!
//! There are two phases, before and after `Hello`. Whatever is undecodable, out of phase or over a limit
//! ends the helper; a file that cannot be opened ends nothing.

use std::time::Duration;

use cstor_proto::{
    Channel, ChannelError, Confinement, Fault, MAGIC, MAX_ROOTS, Ready, Reply, Request, VERSION, VersionRange,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use crate::answer::{
    Answer, answer_close_layer, answer_list, answer_look, answer_open, answer_open_layer, answer_open_tar_split,
    answer_user_xattr,
};
use crate::exit::Exit;
use crate::layers::Layers;

/// How long a client may take to say `Hello`: it does so before it waits for anything.
const HELLO_WAIT: Duration = Duration::from_secs(30);

/// What this build speaks.
const VERSIONS: VersionRange = VersionRange { min: VERSION, max: VERSION };

/// Serves one client. `confine` is called between `Hello`, which brings the roots, and `Ready`, which reports it.
pub(crate) fn serve(mut channel: Channel, confine: impl Confine) -> Exit {
    match converse(&mut channel, confine) {
        Err(Stop::Fault(fault)) => {
            // The peer may be gone already; the exit code says the same.
            let _ = channel.send(&Reply::Fault(fault), &[]);
            Exit::Protocol
        }
        Err(Stop::Exit(exit)) | Ok(exit) => exit,
    }
}

/// Why a conversation stops early.
enum Stop {
    Fault(Fault),
    Exit(Exit),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

impl From<ChannelError> for Stop {
    fn from(error: ChannelError) -> Stop {
        match error {
            ChannelError::Closed => Stop::Exit(Exit::Done),
            ChannelError::Truncated | ChannelError::DescriptorsLost | ChannelError::Codec(_) => {
                Stop::Fault(Fault::Malformed)
            }
            ChannelError::NotAChannel | ChannelError::Short | ChannelError::Io(_) => Stop::Exit(Exit::Socket),
        }
    }
}

/// Gives up privileges for good.
pub(crate) trait Confine: FnOnce(&Channel, &[OwnedFd]) -> Result<Confinement, Exit> {}

impl<F: FnOnce(&Channel, &[OwnedFd]) -> Result<Confinement, Exit>> Confine for F {}

fn converse(channel: &mut Channel, confine: impl Confine) -> Result<Exit, Stop> {
    let roots = greet(channel)?;
    let confinement = confine(channel, &roots).map_err(Stop::Exit)?;
    channel.send(&Reply::Ready(Ready { version: VERSION, confinement }), &[])?;
    let mut layers = Layers::default();
    loop {
        // No room for descriptors: the kernel drops what a client sends from here on.
        let (request, _) = channel.receive(0)?;
        let answer = match request {
            Request::OpenLayer { root, id, dir } => answer_open_layer(&roots, &mut layers, root, id, dir),
            Request::OpenTarSplit { root, id } => answer_open_tar_split(&roots, root, id),
            Request::Open { layer, names } => answer_open(&layers, layer, &names),
            Request::CloseLayer { layer } => answer_close_layer(&mut layers, layer),
            Request::List { layer, name } => answer_list(&layers, layer, name.as_ref()),
            Request::Look { layer, names } => answer_look(&layers, layer, &names),
            Request::UserXattr { layer, name, key } => answer_user_xattr(&layers, layer, name.as_ref(), &key),
            Request::Bye => return Ok(Exit::Done),
            Request::Hello { .. } => Err(Fault::OutOfPhase),
        };
        send(channel, answer)?;
    }
}

fn send(channel: &Channel, answer: Answer) -> Result<(), Stop> {
    let (reply, fds) = answer?;
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    match channel.send(&reply, &borrowed) {
        // The filter has no call to wait with, so the client does.
        Err(ChannelError::Io(Errno::TOOMANYREFS)) => Ok(channel.send(&reply.busy(), &[])?),
        sent => Ok(sent?),
    }
}

/// Takes `Hello` and the roots.
fn greet(channel: &mut Channel) -> Result<Vec<OwnedFd>, Stop> {
    let wait = Timespec { tv_sec: HELLO_WAIT.as_secs() as i64, tv_nsec: 0 };
    match poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&wait)) {
        Ok(0) => return Err(Stop::Exit(Exit::Silence)),
        Ok(_) => {}
        Err(_) => return Err(Stop::Exit(Exit::Socket)),
    }
    let (request, roots) = channel.receive(MAX_ROOTS)?;
    let Request::Hello { magic, versions, roots: announced } = request else {
        return Err(Fault::OutOfPhase.into());
    };
    let directory = |fd: &OwnedFd| fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
    if magic != MAGIC || roots.is_empty() || roots.len() != usize::from(announced) || !roots.iter().all(directory) {
        return Err(Fault::BadHello.into());
    }
    if versions.min > VERSIONS.max || versions.max < VERSIONS.min {
        channel.send(&Reply::Rejected(VERSIONS), &[])?;
        return Err(Stop::Exit(Exit::Version));
    }
    Ok(roots)
}
