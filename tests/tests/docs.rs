//! What the documents say of the code: that each test which docs/known-attacks.md names is there. It does not judge
//! whether the test is a good one.

use std::fs;
use std::path::Path;

#[test]
fn tests_named_in_documents_exist() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(top.join("docs/known-attacks.md")).unwrap();
    let quoted = text.split('`').skip(1).step_by(2);
    let named: Vec<_> =
        quoted.filter_map(|quoted| quoted.split_once("::")).filter(|(file, _)| *file != "file").collect();
    assert!(named.len() > 20, "{}", named.len());
    for (file, function) in named {
        let path = if file.ends_with(".rs") { top.join(file) } else { top.join(format!("tests/tests/{file}.rs")) };
        let code = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (_, after) = code.split_once(&format!("fn {function}(")).unwrap_or_else(|| panic!("no {file}::{function}"));
        let before = &code[..code.len() - after.len()];
        assert!(
            before.rsplit("fn ").nth(1).is_none_or(|text| text.contains("#[test]")),
            "{file}::{function} is no test"
        );
    }
}
