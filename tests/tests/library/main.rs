//! The library as a program calls it, and the formats by which programs get layers from it: streams with descriptors,
//! and JSON-RPC.

mod again;
mod against_podman;
mod discovery;
mod embed;
mod errors;
mod extractor;
mod jsonrpc;
mod jsonrpc_interop;
mod jsonrpc_peers;
mod layer;
mod locks;
mod place;
mod proxied;
mod rootfs;
mod splitfd;
mod splitfd_extract;
mod storage;
