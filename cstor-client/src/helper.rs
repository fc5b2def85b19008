//! What can be said about the helper: when it is used, what carries it into the user namespace, and what it must have
//! given up. See `docs/protocol.md` for what it does.

pub use crate::source::{HelperOptions, HelperPolicy, Launcher};
