//! The cstor command.
fn main() {}
