//! Layers for programs that are not Rust, or not on this side of a boundary: JSON-RPC 2.0 over a Unix socket, with open
//! files beside the messages.
//!
//! [`Server`] serves a store, [`Client`] reads from one, and [`ProxyV2Client`] from whatever else speaks the protocol
//! that was proposed for skopeo's image proxy; [`ProxyV1Client`] speaks the one that is released. `docs/jsonrpc.md` lists
//! methods and errors. Nothing here needs a runtime.

mod client;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod proxy_v1;
mod proxy_v2;
mod server;
mod shapes;
mod wire;

pub use client::{Client, LayerStream, Rebuilt, SplitLayer};
pub use error::RpcError;
pub use proxy_v1::{Blob, OpenImage, Pipe, ProxyManifest, ProxyOptions, ProxyV1Client, ProxyV1Error};
pub use proxy_v2::ProxyV2Client;
pub use server::Server;
pub use shapes::{OpenedImage, RemoteImage, RemoteLayer};
pub use wire::{Patience, WireError};
