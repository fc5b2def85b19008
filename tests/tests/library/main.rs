//! The library as a program calls it, and the formats by which programs get layers from it: streams with descriptors,
//! and JSON-RPC.

mod api;
mod embed;
mod jsonrpc;
mod jsonrpc_interop;
mod jsonrpc_peers;
mod splitfd;
mod splitfd_extract;
