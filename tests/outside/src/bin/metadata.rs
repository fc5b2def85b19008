//! `metadata [STORE [LAYER]]`: what a store says of its images and of one layer, without a helper.

use cstor_client::{Layer, Storage};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let storage = match arguments.next() {
        // Discover storage from default locations
        None => Storage::discover()?,
        // Or open at a specific path
        Some(path) => Storage::open(path)?,
    };

    // List images
    for image in storage.list_images()? {
        println!("{}: {:?}", image.id(), image.names());
    }

    // Open and inspect a layer
    if let Some(layer) = arguments.next() {
        let layer = Layer::open(&storage, &layer)?;
        println!("Layer size: {:?}", layer.diff_size());
    }
    Ok(())
}
