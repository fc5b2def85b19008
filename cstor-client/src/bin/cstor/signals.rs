//! The signals that ask to stop: SIGINT, SIGTERM, and SIGHUP unless it is ignored.
//!
//! While a command has nothing that it must remove or end first, a signal ends the process at once, whatever it is
//! doing: also a write to a pipe that nobody reads. Otherwise it raises the interrupt, at which the work stops and
//! removes what it has made. A second signal does not wait for that, and leaves the remains to the next run.
#![allow(clippy::disallowed_methods, reason = "it reads what is ignored in /proc")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use cstor_client::interrupt::Interrupt;
use rustix::fs::{Mode, OFlags, open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Failure;

/// The exit code of a signal is its number and this, as for shells.
pub(crate) const BASE: i32 = 128;

/// What handlers and the program share.
#[derive(Debug, Default)]
struct Signals {
    /// The number of the last signal; 0 if there was none.
    caught: Arc<AtomicUsize>,
    /// Whether there was one.
    again: Arc<AtomicBool>,
    /// Whether the process may end at once, since no store is open yet.
    early: Arc<AtomicBool>,
}

static SIGNALS: OnceLock<Signals> = OnceLock::new();

/// Catches them from now on.
pub(crate) fn catch() -> Result<(), Failure> {
    let Signals { caught, again, early } = SIGNALS.get_or_init(Signals::default);
    early.store(true, Ordering::SeqCst);
    for signal in signals() {
        // In the order in which a handler looks at them.
        let number = usize::try_from(signal).unwrap_or_default();
        flag::register_conditional_shutdown(signal, BASE + signal, Arc::clone(again)).map_err(Failure::Signal)?;
        flag::register_conditional_shutdown(signal, BASE + signal, Arc::clone(early)).map_err(Failure::Signal)?;
        flag::register_usize(signal, Arc::clone(caught), number).map_err(Failure::Signal)?;
        flag::register(signal, Arc::clone(again)).map_err(Failure::Signal)?;
    }
    Ok(())
}

/// Lets them stop what has this interrupt, and end the process where nothing is left to do then.
pub(crate) fn stop(interrupt: &Interrupt) -> Result<(), Failure> {
    for signal in signals() {
        let idle = interrupt.idle_flag();
        flag::register_conditional_shutdown(signal, BASE + signal, idle).map_err(Failure::Signal)?;
    }
    finish(interrupt)
}

/// Lets them raise the interrupt, which is how a server ends.
pub(crate) fn finish(interrupt: &Interrupt) -> Result<(), Failure> {
    for signal in signals() {
        flag::register(signal, interrupt.flag()).map_err(Failure::Signal)?;
    }
    if let Some(Signals { again, early, .. }) = SIGNALS.get() {
        early.store(false, Ordering::SeqCst);
        if again.load(Ordering::SeqCst) {
            interrupt.raise();
        }
    }
    Ok(())
}

/// The signal that came, if one did: it explains any error.
pub(crate) fn caught() -> Option<i32> {
    let caught = SIGNALS.get()?.caught.load(Ordering::SeqCst);
    i32::try_from(caught).ok().filter(|&signal| signal != 0)
}

fn signals() -> impl Iterator<Item = i32> {
    // A terminal that is closed sends SIGHUP; nohup(1) has it ignored, and so it stays.
    let hangup = (!ignores_hangup()).then_some(SIGHUP);
    [SIGINT, SIGTERM].into_iter().chain(hangup)
}

/// Whether this process was started with SIGHUP ignored: bit 0 of `SigIgn` in /proc/self/status (proc_pid_status(5)).
/// Once a handler is there it is no longer ignored, and it was not before.
fn ignores_hangup() -> bool {
    let mut status = [0; 4096];
    let read = open("/proc/self/status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|fd| rustix::io::read(&fd, &mut status));
    let text = read.ok().and_then(|length| std::str::from_utf8(status.get(..length)?).ok());
    let mask = text.and_then(|text| text.lines().find_map(|line| line.strip_prefix("SigIgn:")));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}
