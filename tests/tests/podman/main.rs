//! What cstor reads against what podman says of the same store: of this machine's version and of others, of every layout
//! and driver option, and while podman writes.

mod agreement;
mod beside_podman;
mod containers;
mod fuse_overlayfs;
mod layer_stores;
mod layouts;
mod shelves;
mod vanish;
