//! How long each wait for the helper may take.
//!
//! Values of their own type, so that a test can wait for milliseconds where the program waits for a minute; the
//! program has the default and nothing else.

use std::time::Duration;

/// The waits of one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// For `Ready`: `podman unshare` takes 30 to 200 ms, but waits for as long as another podman holds a store lock.
    pub(crate) start: Duration,
    /// The same where another launcher can be tried, which takes no store lock.
    pub(crate) start_with_another: Duration,
    /// When to say that the start takes unusually long.
    pub(crate) notice: Duration,
    /// For one batch of opens; a slow network file system is the only reason to need seconds.
    pub(crate) answer: Duration,
    /// For the helper to go when the socket is closed, before its launcher is killed.
    pub(crate) end: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            start: Duration::from_secs(30),
            start_with_another: Duration::from_secs(5),
            notice: Duration::from_secs(2),
            answer: Duration::from_secs(60),
            end: Duration::from_secs(2),
        }
    }
}
