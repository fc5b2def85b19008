//! Takes the example of the README out of it, so that the one that is compiled is the one that is read.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let readme = "../../README.md";
    println!("cargo::rerun-if-changed={readme}");
    let text = fs::read_to_string(readme)?;
    let [(_, after)] =
        text.match_indices("```rust").map(|(at, mark)| text.split_at(at + mark.len())).collect::<Vec<_>>()[..]
    else {
        return Err("the README has one example in Rust".into());
    };
    let (_, body) = after.split_once('\n').ok_or("it has lines")?;
    let (example, _) = body.split_once("\n```").ok_or("it ends")?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("readme.rs"), example)?;
    Ok(())
}
