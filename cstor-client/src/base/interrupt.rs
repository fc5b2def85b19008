//! The wish to stop, as one value that everything which takes time looks at: waits for locks and launchers, parsing,
//! merging, walking, hashing and copying.
//!
//! Who raises it, a signal handler or another thread, is not decided here, and neither is what becomes of what was begun:
//! an operation that finds it raised ends with an error, and removes what it has made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a wait goes on without looking.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// Stops operations when it is raised. Clones are the same value.
///
/// ```
/// use cstor_client::interrupt::Interrupt;
///
/// let interrupt = Interrupt::new();
/// let other = interrupt.clone();
/// assert!(interrupt.check().is_ok());
/// std::thread::spawn(move || other.raise()).join().unwrap();
/// assert!(interrupt.check().is_err());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<State>);

#[derive(Debug)]
struct State {
    raised: Arc<AtomicBool>,
    looks: AtomicU64,
    holds: AtomicUsize,
    idle: Arc<AtomicBool>,
}

impl Default for State {
    fn default() -> State {
        State {
            raised: Arc::default(),
            looks: AtomicU64::new(0),
            holds: AtomicUsize::new(0),
            idle: Arc::new(AtomicBool::new(true)),
        }
    }
}

/// An operation ended because its [`Interrupt`] was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Interrupt {
    /// One that is not raised.
    pub fn new() -> Interrupt {
        Interrupt::default()
    }

    /// Asks all operations that have it to stop.
    pub fn raise(&self) {
        self.0.raised.store(true, Ordering::Relaxed);
    }

    /// Takes the wish back, for operations that begin later.
    pub fn lower(&self) {
        self.0.raised.store(false, Ordering::Relaxed);
    }

    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.0.looks.fetch_add(1, Ordering::Relaxed);
        self.0.raised.load(Ordering::Relaxed)
    }

    /// An error if it is raised.
    ///
    /// # Errors
    /// [`Interrupted`], and nothing else.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.is_raised() { Err(Interrupted) } else { Ok(()) }
    }

    /// How often operations have looked at it, by which a test can tell that they do.
    pub fn looks(&self) -> u64 {
        self.0.looks.load(Ordering::Relaxed)
    }

    /// What [`Self::raise`] sets, for a signal handler.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.raised)
    }

    /// True while no operation has anything that it must remove or end before the process does: no incomplete result
    /// under a name, no other program that it has started. A signal handler may then end the process at once.
    pub fn idle_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.idle)
    }

    /// Says that something must be removed or ended before the process does. Taken before it is made.
    pub fn hold(&self) -> Hold {
        self.0.holds.fetch_add(1, Ordering::SeqCst);
        self.0.idle.store(false, Ordering::SeqCst);
        Hold { interrupt: self.clone() }
    }

    /// Waits for as long, or until it is raised.
    pub(crate) fn sleep(&self, wait: Duration) -> Result<(), Interrupted> {
        let end = Instant::now() + wait;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(SLICE));
        }
    }
}

/// Something that must be removed or ended; see [`Interrupt::hold`]. Dropping it says that this is done.
#[derive(Debug)]
pub struct Hold {
    interrupt: Interrupt,
}

impl Hold {
    /// For what has become a result: from now on the operation has succeeded, and no signal may make it look as if it
    /// had not.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let State { holds, idle, .. } = &*self.interrupt.0;
        if holds.fetch_sub(1, Ordering::SeqCst) == 1 {
            idle.store(true, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hold_makes_it_idle_again() {
        let interrupt = Interrupt::new();
        let idle = interrupt.idle_flag();
        let is_idle = || idle.load(Ordering::SeqCst);
        assert!(is_idle());
        let (first, second) = (interrupt.hold(), interrupt.clone().hold());
        drop(first);
        assert!(!is_idle());
        drop(second);
        assert!(is_idle());
        interrupt.hold().keep();
        drop(interrupt.hold());
        assert!(!is_idle(), "a result stays one");
    }

    #[test]
    fn a_wait_ends_when_it_is_raised() {
        let interrupt = Interrupt::new();
        assert_eq!(interrupt.sleep(Duration::ZERO), Ok(()));
        let other = interrupt.clone();
        let raiser = std::thread::spawn(move || other.raise());
        assert_eq!(interrupt.sleep(Duration::from_secs(3600)), Err(Interrupted));
        raiser.join().unwrap();
        let looks = interrupt.looks();
        assert!(interrupt.is_raised() && interrupt.looks() == looks + 1);
        interrupt.lower();
        assert_eq!(interrupt.check(), Ok(()));
    }
}
