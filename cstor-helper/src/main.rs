//! `cstor-helper`: started inside the user namespace with a socket as standard input. See `cstor_helper::run`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cstor_helper::run().into()
}
