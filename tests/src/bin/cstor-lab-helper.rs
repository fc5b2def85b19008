//! `cstor-lab-helper [WITHOUT...]`: the helper less the layers of its sandbox that are named, so that the tests see what
//! the others hold without them. Without arguments it does what `cstor-helper` does.
//!
//! It is made of the helper's own source files and differs in the order below alone; the helper itself has no way to
//! leave a layer out.

#![forbid(unsafe_code)]

#[path = "../../../cstor-helper/src/answer.rs"]
mod answer;
#[allow(dead_code, reason = "it confines itself in its own way")]
#[path = "../../../cstor-helper/src/confine/mod.rs"]
mod confine;
#[path = "../../../cstor-helper/src/exit.rs"]
mod exit;
#[path = "../../../cstor-helper/src/layers.rs"]
mod layers;
#[allow(dead_code, reason = "some of it is the client's")]
#[path = "../../../cstor-helper/src/open.rs"]
mod open;
#[path = "../../../cstor-helper/src/session.rs"]
mod session;

use confine::{caps, landlock, limits, seccomp};
use cstor_helper::UNSHARE;
use cstor_proto::{Channel, Confinement};
use exit::Exit;
use rustix::fd::OwnedFd;
use rustix::stdio::stdin;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for layer in &arguments {
        assert!(["privileges", "landlock", "seccomp", UNSHARE].contains(&layer.as_str()), "no layer {layer}");
    }
    serve(&arguments).unwrap_or_else(|exit| exit).into()
}

/// As the helper's `run`.
fn serve(arguments: &[String]) -> Result<Exit, Exit> {
    let own_namespace = arguments.iter().any(|argument| argument == UNSHARE);
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
        confine_but(arguments, channel, roots)
    }))
}

/// As the helper's `confine`, but for the layers that are named.
fn confine_but(without: &[String], channel: &Channel, roots: &[OwnedFd]) -> Result<Confinement, Exit> {
    let has = |layer: &str| !without.iter().any(|without| without == layer);

    limits::lower().map_err(|_| Exit::Confinement)?;
    let mut nobody = false;
    if has("privileges") {
        caps::close_the_way_back().map_err(|_| Exit::Confinement)?;
        nobody = caps::become_nobody().map_err(|_| Exit::Confinement)?;
        caps::keep_dac_read_search().map_err(|_| Exit::Confinement)?;
    }
    confine::end_with_launcher(channel)?;
    let mut report = confine::report(nobody).map_err(|_| Exit::Confinement)?;
    if has("landlock") {
        report.landlock = landlock::close_in(roots).map_err(|_| Exit::Confinement)?;
    }
    if has("seccomp") {
        report.seccomp = seccomp::install().map_err(|_| Exit::Confinement)?;
    }
    Ok(report)
}
