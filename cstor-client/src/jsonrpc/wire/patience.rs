//! How long each wait for a peer may take. A server and a client have the default unless they are told otherwise.

use std::time::Duration;

/// The waits of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    pub(crate) idle: Duration,
    pub(crate) message: Duration,
    pub(crate) write: Duration,
    pub(crate) answer: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            idle: Duration::from_secs(600),
            message: Duration::from_secs(30),
            write: Duration::from_secs(120),
            answer: Duration::from_secs(300),
        }
    }
}

impl Patience {
    /// How long a server waits for the next request; ten minutes by default. The place of a client that fell asleep is
    /// for others then.
    #[must_use]
    pub fn idle(self, idle: Duration) -> Patience {
        Patience { idle, ..self }
    }

    /// How long a message may take from its first byte to its last descriptor; half a minute by default.
    #[must_use]
    pub fn message(self, message: Duration) -> Patience {
        Patience { message, ..self }
    }

    /// How long a peer may take nothing while there is something for it; two minutes by default, in which a client can
    /// copy a large file.
    #[must_use]
    pub fn write(self, write: Duration) -> Patience {
        Patience { write, ..self }
    }

    /// How long a client waits for the next message of the server; five minutes by default, in which a server can
    /// compress a large layer.
    #[must_use]
    pub fn answer(self, answer: Duration) -> Patience {
        Patience { answer, ..self }
    }
}
