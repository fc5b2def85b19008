//! How the helper ends. The client shows the code when the conversation broke off.

use std::process::ExitCode;

/// Why the helper ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// `Bye`, or the client went away between two requests.
    Done,
    /// Standard input is no `SOCK_SEQPACKET` Unix socket: nobody but cstor should start this program.
    NoChannel,
    /// More than one thread: a program called `init_if_helper` too late.
    Threads,
    /// The client broke the protocol.
    Protocol,
    /// The client spoke no known version.
    Version,
    /// A limit could not be put in place.
    Confinement,
    /// The user namespace of its own could not be made, or had no maps when `Hello` came.
    Namespace,
    /// No `Hello` came in time.
    Silence,
    /// The socket failed.
    Socket,
}

impl Exit {
    /// The exit code of the process.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::NoChannel => 64,
            Exit::Threads | Exit::Protocol | Exit::Version => 71,
            Exit::Confinement => 72,
            Exit::Silence => 73,
            Exit::Socket => 74,
            Exit::Namespace => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
