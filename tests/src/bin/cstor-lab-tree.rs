//! `cstor-lab-tree DIR`: prints what DIR holds as lines of JSON. An executable of its own so that it can run where the
//! tests cannot look: inside the user namespace, on podman's mount of an image. It compares nothing.

#![forbid(unsafe_code)]

use cstor_tests::tree;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let top = std::env::args_os().nth(1).ok_or("usage: cstor-lab-tree DIR")?;
    print!("{}", tree::print(&tree::list(Path::new(&top))?)?);
    Ok(())
}
