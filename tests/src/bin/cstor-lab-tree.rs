//! `cstor-lab-tree DIR`: prints what DIR holds as lines of JSON. An executable of its own so that it can run where the
//! tests cannot look: inside the user namespace, on podman's mount of an image, or in the tree of another Debian.
//! `cstor-lab-tree DIR TRUTH all|plain`: holds DIR against such lines, as root or as a plain user has it.

#![forbid(unsafe_code)]

use cstor_tests::tree::{self, Sight, assert_same};
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [top] => print!("{}", tree::print(&tree::list(Path::new(top))?)?),
        [top, truth, sight @ ("all" | "plain")] => {
            let sight = if sight == "all" { Sight::ALL } else { Sight::PLAIN };
            let truth = tree::parse(&fs::read_to_string(truth)?)?;
            assert_same(&truth, &tree::list(Path::new(top))?, sight.with_clock(), top);
        }
        _ => return Err("usage: cstor-lab-tree DIR [TRUTH all|plain]".into()),
    }
    Ok(())
}
