//! What the documents say of the code: that each test which they name is there, that each claim about security names one,
//! and that each cell of the matrix of compatibility names one or says that there is none. It does not judge whether the test is a good one.

use std::fs;
use std::path::{Path, PathBuf};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn document(name: &str) -> String {
    fs::read_to_string(top().join("docs").join(name)).unwrap()
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The tests that are named: file and function.
fn tests(text: &str) -> Vec<(&str, &str)> {
    quoted(text).filter_map(|quoted| quoted.split_once("::")).filter(|(file, _)| *file != "file").collect()
}

/// The scripts that run tests.
fn scripts(text: &str) -> Vec<&str> {
    quoted(text).filter(|quoted| quoted.starts_with("tests/") && quoted.ends_with(".sh")).collect()
}

/// The file of a module of tests, in whichever group it is. No two groups have one of the same name.
fn module(name: &str) -> PathBuf {
    let groups = fs::read_dir(top().join("tests/tests")).unwrap().map(|group| group.unwrap().path());
    let mut files: Vec<_> =
        groups.map(|group| group.join(name).with_extension("rs")).filter(|file| file.is_file()).collect();
    assert_eq!(files.len(), 1, "{name}: {files:?}");
    files.remove(0)
}

fn is_test(file: &str, function: &str) {
    let path = if file.ends_with(".rs") { top().join(file) } else { module(file) };
    let code = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (_, after) = code.split_once(&format!("fn {function}(")).unwrap_or_else(|| panic!("no {file}::{function}"));
    let before = &code[..code.len() - after.len()];
    assert!(before.rsplit("fn ").nth(1).is_none_or(|text| text.contains("#[test]")), "{file}::{function} is no test");
}

#[test]
fn tests_named_in_documents_exist() {
    for (name, at_least) in [("known-attacks.md", 20), ("security.md", 30), ("compatibility.md", 40)] {
        let text = document(name);
        let named = tests(&text);
        assert!(named.len() > at_least, "{name}: {}", named.len());
        named.into_iter().for_each(|(file, function)| is_test(file, function));
        scripts(&text).into_iter().for_each(|script| assert!(top().join(script).is_file(), "{name}: {script}"));
    }
}

#[test]
fn every_cell_of_the_matrix_names_a_test_or_says_that_there_is_none() {
    let text = document("compatibility.md");
    let (matrix, _) = text.split_once("\n## Where podman does something else").unwrap();
    let rows = matrix.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |"));
    let mut cells = 0;
    for row in rows {
        // The first cell says what the row is about.
        for cell in row.trim_matches('|').split(" | ").skip(1) {
            assert!(
                cell.contains("not tested") || !tests(cell).is_empty() || !scripts(cell).is_empty(),
                "{row}: {cell}"
            );
            cells += 1;
        }
    }
    assert!(cells > 60, "{cells}");
}

/// The rows of all tables whose last column is headed `test`, as cells.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let mut rows = Vec::new();
    let mut within = false;
    for line in text.lines() {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        within = line.starts_with('|') && (within || cells.last() == Some(&"test"));
        if within && cells.last() != Some(&"test") && !line.starts_with("|--") {
            rows.push(cells);
        }
    }
    rows
}

#[test]
fn every_claim_names_a_test() {
    for (name, at_least) in [("known-attacks.md", 20), ("security.md", 25)] {
        let text = document(name);
        let rows = rows(&text);
        assert!(rows.len() >= at_least, "{name}: {}", rows.len());
        for row in rows {
            assert!(row.last().is_some_and(|cell| !tests(cell).is_empty()), "{name}: no test: {row:?}");
        }
    }
    // Every section of what is claimed is in the table: a new one needs a test too.
    let text = document("security.md");
    let (claims, table) = text.split_once("\n## What proves it\n").unwrap();
    for heading in claims.lines().filter_map(|line| line.strip_prefix("## ")).skip(1) {
        let kept = |char: &char| char.is_alphanumeric() || matches!(char, ' ' | '-');
        let anchor: String = heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
        assert!(table.contains(&format!("](#{anchor})")), "{heading}: no row links to #{anchor}");
    }
}
