//! Conversations with other programs that have images.

mod proxy_v1;

pub use proxy_v1::{Blob, OpenImage, Pipe, ProxyManifest, ProxyOptions, ProxyV1Client, ProxyV1Error};
