//! The library is a house with floors: a folder may use only those below it (docs/architecture.md has the column).
//!
//! Every path in the code counts, however it is spelled: in a `use`, in the middle of an expression or a macro, through
//! `super`, or through a name that `lib.rs` re-exports. Unit tests are left out.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The floors from the ground up. Folders of one floor do not use each other.
const FLOORS: &[&[&str]] = &[
    &["base"],
    &["tar", "store"],
    &["splitfd", "tree"],
    &["access"],
    &["contents"],
    &["output"],
    &["storage"],
    &["extract", "oci"],
];

/// Above all floors: these may use everything, each other too.
const ROOF: &[&str] = &["doctor", "error", "fuzzing", "jsonrpc"];

/// A module: its path in the crate and its code.
struct Module {
    path: Vec<String>,
    code: TokenStream,
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cstor-client/src")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).expect("a readable tree").map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The modules of the library by file, without those that only tests have.
fn modules() -> BTreeMap<String, Module> {
    let (top, mut modules) = (sources(), BTreeMap::new());
    for found in files(&top) {
        let file = found.strip_prefix(&top).expect("below the top").to_str().expect("plain names").to_owned();
        let Some(name) = file.strip_suffix(".rs").filter(|_| !file.starts_with("bin/")) else { continue };
        let mut path: Vec<String> = name.split('/').map(str::to_owned).collect();
        if path.last().is_some_and(|last| ["mod", "lib"].contains(&last.as_str())) {
            path.pop();
        }
        let code = fs::read_to_string(&found).unwrap().parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        modules.insert(file, Module { path, code });
    }
    let only_tests: Vec<Vec<String>> =
        modules.values().flat_map(|module| test_modules(&module.code, &module.path)).collect();
    modules.retain(|_, module| !only_tests.iter().any(|tests| module.path.starts_with(tests)));
    modules
}

/// The modules that are declared with `#[cfg(test)]`.
fn test_modules(code: &TokenStream, path: &[String]) -> Vec<Vec<String>> {
    let tokens: Vec<String> = without_docs(code).iter().map(ToString::to_string).collect();
    let declared = tokens.windows(5).filter(|window| is_test(&window[1]) && window[2] == "mod" && window[4] == ";");
    declared.map(|window| [path, &window[3..4]].concat()).collect()
}

fn is_test(attribute: &str) -> bool {
    attribute.replace(' ', "") == "[cfg(test)]"
}

/// The tokens without documentation.
fn without_docs(code: &TokenStream) -> Vec<TokenTree> {
    let tokens: Vec<TokenTree> = code.clone().into_iter().collect();
    let is_doc = |token: &TokenTree| matches!(token, TokenTree::Group(group) if group.to_string().starts_with("[doc"));
    let kept = tokens.iter().enumerate().filter(|(place, token)| {
        let next_is_doc = || tokens.get(place + 1).is_some_and(&is_doc) || tokens.get(place + 2).is_some_and(&is_doc);
        !is_doc(token) && !((token.to_string() == "#" || token.to_string() == "!") && next_is_doc())
    });
    kept.map(|(_, token)| token.clone()).collect()
}

/// The tokens without documentation, and without what only tests have.
fn without_tests(code: &TokenStream) -> Vec<TokenTree> {
    let is_end = |token: &TokenTree| {
        matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace) || token.to_string() == ";"
    };
    let (mut kept, mut in_test) = (Vec::new(), false);
    for token in without_docs(code) {
        in_test |= is_test(&token.to_string());
        if in_test {
            // What follows the attribute ends with its body or a semicolon.
            in_test = !is_end(&token);
        } else {
            kept.push(token);
        }
    }
    kept
}

/// All paths from `crate`, as written or through `super`.
fn paths(code: &TokenStream, module: &[String], found: &mut BTreeSet<Vec<String>>) {
    let tokens = without_tests(code);
    let mut place = 0;
    while place < tokens.len() {
        if let TokenTree::Group(group) = &tokens[place] {
            paths(&group.stream(), module, found);
        } else if let Some(start) = start(&tokens[place..], module) {
            follow(&tokens[place..], start, found);
        } else if tokens[place].to_string() == "mod"
            && let (Some(name), Some(TokenTree::Group(body))) = (tokens.get(place + 1), tokens.get(place + 2))
        {
            paths(&body.stream(), &[module, &[name.to_string()]].concat(), found);
            place += 2;
        }
        place += 1;
    }
}

/// Where a path begins that starts here: at the top of the crate, or above this module.
fn start(tokens: &[TokenTree], module: &[String]) -> Option<Vec<String>> {
    match tokens[0].to_string().as_str() {
        "crate" => Some(Vec::new()),
        "super" => Some(module[..module.len().saturating_sub(1)].to_vec()),
        _ => None,
    }
}

/// Follows a path from its first word on, into every branch of a `use` with braces.
fn follow(tokens: &[TokenTree], at: Vec<String>, found: &mut BTreeSet<Vec<String>>) {
    let is_colon = |place: usize| tokens.get(place).is_some_and(|token| token.to_string() == ":");
    if !(is_colon(1) && is_colon(2)) {
        found.insert(at);
        return;
    }
    match tokens.get(3) {
        Some(TokenTree::Ident(name)) if name == "super" => {
            follow(&tokens[3..], at[..at.len().saturating_sub(1)].to_vec(), found);
        }
        Some(TokenTree::Ident(name)) => follow(&tokens[3..], [at, vec![name.to_string()]].concat(), found),
        Some(TokenTree::Group(group)) => {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            for branch in inner.split(|token| token.to_string() == ",").filter(|branch| !branch.is_empty()) {
                match &branch[0] {
                    TokenTree::Ident(name) if name == "self" => drop(found.insert(at.clone())),
                    TokenTree::Ident(name) => follow(branch, [at.clone(), vec![name.to_string()]].concat(), found),
                    _ => drop(found.insert(at.clone())),
                }
            }
        }
        // `*`
        _ => drop(found.insert(at)),
    }
}

/// What the names at the top of the crate stand for: the folders, and what `lib.rs` re-exports of them.
fn names_at_the_top(lib: &Module) -> BTreeMap<String, String> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let code = lib.code.to_string();
    for statement in code.split(';').filter_map(|statement| statement.split_once("pub use ")) {
        let (path, last) = (statement.1.replace(' ', ""), statement.1.rsplit(" as ").next().unwrap_or_default());
        let folder = path.split("::").next().unwrap_or_default().to_owned();
        let branches = path.split_once("::").map_or("", |(_, rest)| rest).trim_matches(['{', '}']);
        for branch in branches.split(',') {
            let name = branch.rsplit("::").next().unwrap_or_default();
            names.insert(name.trim_matches(['{', '}']).to_owned(), folder.clone());
        }
        names.insert(last.trim().to_owned(), folder);
    }
    names
}

fn floor(folder: &str) -> Option<usize> {
    let roof = ROOF.contains(&folder).then_some(FLOORS.len());
    FLOORS.iter().position(|floor| floor.contains(&folder)).or(roof)
}

/// The arrows that point up, or to another folder of the same floor.
fn upward(modules: &BTreeMap<String, Module>) -> BTreeSet<(String, String)> {
    let names = names_at_the_top(&modules["lib.rs"]);
    let mut upward = BTreeSet::new();
    for (file, module) in modules.iter().filter(|(file, _)| *file != "lib.rs") {
        let own = &module.path[0];
        let from = floor(own).unwrap_or_else(|| panic!("{file}: no floor has a folder {own:?}"));
        let mut found = BTreeSet::new();
        paths(&module.code, &module.path, &mut found);
        for path in found.iter().filter_map(|path| path.first()) {
            let to = names.get(path).filter(|_| floor(path).is_none()).unwrap_or(path);
            // A name of `lib.rs` itself is above all floors.
            let is_up = floor(to).is_none_or(|to| to >= from && from < FLOORS.len());
            if to != own && is_up {
                upward.insert((file.clone(), to.clone()));
            }
        }
    }
    upward
}

#[test]
fn no_arrow_points_up() {
    let found = upward(&modules());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn an_arrow_is_seen_however_it_is_spelled() {
    let upward_of = |path: &str, code: &str| {
        let lib = "mod base; pub use storage::{Storage, layer::Layer}; pub use base::temporary as output_of;";
        let module = |path: &str, code: &str| Module {
            path: path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            code: code.parse().expect("Rust"),
        };
        let modules = [("lib.rs", module("", lib)), ("file.rs", module(path, code))];
        upward(&modules.map(|(file, module)| (file.to_owned(), module)).into())
    };
    let up = [
        "use crate::storage::Image;",
        "use crate::{base::kind, storage::Image};",
        "use crate::{base::{kind, path}, extract};",
        "pub(crate) use crate::storage::*;",
        "fn f() { crate::storage::open() }",
        "fn f() { format!(\"{}\", crate::storage::open()) }",
        "use super::super::storage::Image;",
        "use super::super::super::store::super::storage::Image;",
        "fn f() { super::super::oci::copy() }",
        "mod inner { use super::super::super::storage::Image; }",
        "use crate::Storage;",
        "use crate::Layer as Other;",
        "impl crate::Layer {}",
        "use crate::splitfdstream;",
        "#[cfg(test)] mod tests { use super::*; } use crate::storage::Image;",
        "#[cfg(test)] use crate::base::kind; use crate::storage::Image;",
    ];
    for code in up {
        assert_eq!(upward_of("tree::overlay", code).len(), 1, "{code}");
    }
    let down = [
        "use crate::base::kind; use super::final_tree::Tree; use crate::tar::Header;",
        "use crate::{base::kind, store, tree};",
        "/// [`crate::storage`]\nfn f() {}",
        "//! [`crate::storage`]\nfn f() { let text = \"crate::storage\"; }",
        "#[cfg(test)] mod tests { use crate::storage::Image; }",
        "#[cfg(test)] mod tests;",
        "use crate::output_of::NewFile;",
        "mod inner { use super::super::final_tree::Tree; }",
    ];
    for code in down {
        assert_eq!(upward_of("tree::overlay", code), BTreeSet::new(), "{code}");
    }
    // Folders of one floor do not use each other.
    assert_eq!(upward_of("tree::overlay", "use crate::splitfd::Reader;").len(), 1);
}

/// Files that may use paths of their own beside `base/ambient.rs`, each with its reason.
const AMBIENT: &[(&str, &str)] = &[
    ("cstor-client/src/base/ambient.rs", "this is the place"),
    (
        "cstor-client/src/bin/cstor/as_owner.rs",
        "looks who owns the store that the user names, before anything is opened",
    ),
    ("cstor-client/src/bin/cstor/socket.rs", "makes the socket that the user names"),
    ("cstor-client/src/bin/tar_diff/input.rs", "opens the files that the user names"),
    ("cstor-helper/src/open.rs", "opens once more what it has looked at, through its link in /proc"),
];

/// `CWD` is what makes a path mean something without a descriptor; clippy cannot forbid a constant.
#[test]
fn paths_without_a_descriptor_are_used_in_few_places() {
    fn uses_it(code: &TokenStream) -> bool {
        without_tests(code).iter().any(|token| match token {
            TokenTree::Group(group) => uses_it(&group.stream()),
            token => token.to_string() == "CWD",
        })
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let crates = ["cstor-client/src", "cstor-helper/src", "cstor-proto/src"];
    let all = crates.iter().flat_map(|path| files(&top.join(path)));
    let found: BTreeSet<String> = all
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter(|path| !path.ends_with("tests.rs") && !path.iter().any(|part| part == "hostile"))
        .filter(|path| uses_it(&fs::read_to_string(path).unwrap().parse().unwrap()))
        .map(|path| path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned())
        .collect();
    let named: BTreeSet<String> = AMBIENT.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(found, named);
}
