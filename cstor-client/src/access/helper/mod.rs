//! The helper, as the client sees it: how it is found, started in the user namespace, spoken to, and what can fail.

mod conversation;
mod diagnose;
mod embedded;
mod error;
mod executable;
mod launcher;
mod options;
mod patience;
mod process;
pub(crate) mod seen;
mod started;
pub(crate) mod subids;

#[cfg(test)]
pub(super) use conversation::Conversation;
pub use embedded::init_if_helper;
pub use error::{BadDescriptor, SourceError};
#[cfg(feature = "cli")]
pub(crate) use executable::Executable;
pub use executable::Replaceable;
pub(crate) use launcher::HELPER_MARK;
#[cfg(feature = "cli")]
pub(crate) use launcher::Way;
pub use options::{HelperOptions, HelperPolicy, Launcher};
#[cfg(test)]
pub(super) use patience::Patience;
pub(super) use process::HelperProcess;
pub(crate) use process::SharedHelper;
#[cfg(feature = "cli")]
pub(crate) use process::missing_layers;
#[cfg(feature = "jsonrpc")]
pub(crate) use {error::said, started::Started};
