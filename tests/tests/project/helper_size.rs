//! The helper is small enough to be read whole, and what it is built of is known: lines of its two crates, names of its
//! dependencies. Nothing is run.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Lines of code in `cstor-helper` and `cstor-proto`: what one can read in a sitting.
const MAX_LINES: usize = 1500;

/// Lines that are neither blank, nor comments, nor tests.
fn lines_of_code(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let count = |path: &Path| {
        let text = fs::read_to_string(path).expect("a source file");
        if path.ends_with("open/tests.rs") {
            return 0;
        }
        let (mut lines, mut in_tests) = (0, false);
        // Else code could hide behind the attribute.
        let here = text.matches("#[cfg(test)]\nmod tests {\n").count();
        let beside = text.matches("#[cfg(test)]\n#[path = \"open/tests.rs\"]\nmod tests;\n").count();
        assert_eq!(text.matches("cfg(test)").count(), here + beside, "{path:?}");
        for line in text.lines() {
            in_tests |= line == "#[cfg(test)]";
            let trimmed = line.trim_start();
            lines += usize::from(!in_tests && !trimmed.is_empty() && !trimmed.starts_with("//"));
            // rustfmt puts the end of a module at the beginning of a line.
            in_tests &= line != "}";
        }
        lines
    };
    entries.map(|path| if path.is_dir() { lines_of_code(&path) } else { count(&path) }).sum()
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

#[test]
fn the_privileged_code_stays_small() {
    let lines = ["cstor-helper/src", "cstor-proto/src"].map(|dir| lines_of_code(&workspace().join(dir)));
    assert!(lines.iter().sum::<usize>() < MAX_LINES, "{lines:?}");
    // Something was counted.
    assert!(lines.iter().all(|&lines| lines > 100), "{lines:?}");
}

#[test]
fn the_helper_is_built_of_what_is_listed() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-p", "cstor-helper", "-e", "normal,no-proc-macro"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(workspace())
        .output()
        .expect("cargo tree");
    assert!(tree.status.success(), "{}", tree.stderr.escape_ascii());
    let mut names: Vec<_> = std::str::from_utf8(&tree.stdout)
        .expect("names")
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.starts_with("cstor-"))
        .collect();
    names.sort_unstable();
    names.dedup();
    let listed = fs::read_to_string(workspace().join("cstor-helper/DEPENDENCIES")).expect("the list");
    let listed: Vec<_> = listed.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(names, listed, "cstor-helper/DEPENDENCIES: a new dependency of the helper is a decision");
}
