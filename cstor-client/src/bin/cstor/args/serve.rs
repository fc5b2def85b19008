//! What `cstor serve` takes.

use std::path::PathBuf;

use clap::Args as Group;

#[derive(Debug, Group)]
pub(crate) struct Serve {
    /// The socket to make, for its owner alone. One that nobody listens at any more is replaced; it is removed at the
    /// end. Without it and --fd, systemd must have passed a socket (socket activation).
    #[arg(long, value_name = "PATH", conflicts_with = "fd")]
    pub(crate) socket: Option<PathBuf>,
    /// A socket that was inherited under this number: one that listens, or one that is connected to the only client.
    #[arg(long, value_name = "N")]
    pub(crate) fd: Option<u32>,
    /// Serve one client, and end with it.
    #[arg(long)]
    pub(crate) once: bool,
    /// How many clients may be connected at a time.
    #[arg(long, value_name = "COUNT", default_value_t = 32)]
    pub(crate) connections: usize,
}
