//! `cstor-lab-helper [WITHOUT...]`: the helper less the layers of its sandbox that are named, so that the tests see what
//! the others hold without them. Without arguments it is `cstor-helper`.

#![forbid(unsafe_code)]

use cstor_helper::{Measures, UNSHARE, run_with};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut measures = Measures::ALL;
    for layer in std::env::args().skip(1) {
        match layer.as_str() {
            "privileges" => measures.privileges = false,
            "landlock" => measures.landlock = false,
            "seccomp" => measures.seccomp = false,
            UNSHARE => {}
            other => panic!("no layer {other}"),
        }
    }
    run_with(measures).into()
}
