//! `proxied STORE`: the images of a store as an unprivileged process lists them, which its helper would serve.

use cstor_client::{ProxiedStorage, init_if_helper};
use std::error::Error;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

async fn extract_image(store: &Path) -> Result<(), Box<dyn Error>> {
    // Automatically uses IPC proxy if running unprivileged
    let storage = ProxiedStorage::open_with_proxy(store).await?;

    if storage.is_proxied() {
        println!("Using userns helper for privileged access");
    }

    // Operations work transparently in both modes
    for image in storage.list_images()? {
        println!("{}", image.id());
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    // Required: call early in main() for userns helper support
    init_if_helper();

    let store = std::env::args().nth(1).ok_or("usage: proxied STORE")?;
    // No runtime is needed: the future is ready when it is first asked.
    match pin!(extract_image(store.as_ref())).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err("it waited".into()),
    }
}
