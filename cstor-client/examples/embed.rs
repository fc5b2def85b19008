//! `embed STORE IMAGE DIR`: extracts an image as a plain user, as a program does that embeds the library.
//!
//! It installs one file: where files of the image belong to other ids, it starts itself again as the helper. Its
//! options and errors are the library's; it adds none of its own.

#![allow(clippy::print_stdout, reason = "that is what it has to say")]

use std::env;
use std::error::Error;

use cstor_client::extract::Extractor;
use cstor_client::helper::HelperOptions;
use cstor_client::{Storage, init_if_helper};

fn main() -> Result<(), Box<dyn Error>> {
    // First, while there is one thread: in the helper this does not return.
    init_if_helper();

    let arguments: Vec<String> = env::args().skip(1).collect();
    let [store, image, directory] = arguments.as_slice() else { return Err("usage: embed STORE IMAGE DIR".into()) };
    // `Storage::discover` finds the store that podman uses.
    let storage = Storage::open(store)?.with_helper(HelperOptions::new());
    let report = Extractor::new().extract(&storage.image(image)?, directory)?;
    println!("{} files, {} of them through the helper", report.files, report.through_helper);
    Ok(())
}
