//! No changed byte is overlooked, and no change makes the comparison panic.

use std::io::Write;
use std::os::unix::fs::FileExt;

use tempfile::NamedTempFile;

use crate::compare::compare;
use crate::exit::Trouble;
use crate::input::Input;
use crate::report::Difference;

fn archive(names: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_ustar();
        header.set_size(name.len() as u64);
        header.set_mode(0o644);
        if *name == "pax" {
            tar.append_pax_extensions([("mtime", &b"1.5"[..]), ("SCHILY.xattr.user.a", b"b")]).unwrap();
        }
        tar.append_data(&mut header, name, name.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn differences(a: &NamedTempFile, b: &NamedTempFile) -> Result<Vec<Difference>, Trouble> {
    let (a, b) = (Input::open(a.path())?, Input::open(b.path())?);
    Ok(compare(&a, &b)?.differences)
}

fn lines(a: &[u8], b: &[u8]) -> Vec<String> {
    differences(&file(a), &file(b)).unwrap().iter().map(Difference::to_string).collect()
}

#[test]
fn every_byte_counts() {
    // The second order is compared by an index of each.
    let base = archive(&["a", "pax", "c"]);
    let a = file(&base);
    for names in [["a", "pax", "c"], ["c", "pax", "a"]] {
        let bytes = archive(&names);
        let b = file(&bytes);
        let known = differences(&a, &b).unwrap().len();
        for (place, byte) in bytes.iter().enumerate() {
            // Digits become other digits, or no digits.
            let mask = if place % 2 == 0 { 1 } else { 0x80 };
            b.as_file().write_all_at(&[byte ^ mask], place as u64).unwrap();
            if let Ok(found) = differences(&a, &b) {
                assert!(found.len() > known, "byte {place} of {names:?}: {found:?}");
            }
            b.as_file().write_all_at(&[*byte], place as u64).unwrap();
        }
        for length in (0..bytes.len()).step_by(7) {
            b.as_file().set_len(length as u64).unwrap();
            if let Ok(found) = differences(&a, &b) {
                assert!(found.len() > usize::from(known > 0), "{length} bytes of {names:?}");
            }
            b.as_file().write_all_at(&bytes, 0).unwrap();
        }
    }
}

#[test]
fn entries_are_found_wherever_they_are() {
    let base = archive(&["a", "b", "c", "b"]);
    let table: &[(&[&str], &[&str])] = &[
        (&["a", "b", "c", "b"], &[]),
        (&["a", "b", "c"], &["missing: \"b\""]),
        (&["b", "c", "b"], &["missing: \"a\""]),
        (&["a", "x", "b", "c", "b"], &["extra: \"x\""]),
        (&["b", "c", "b", "a"], &["order: \"a\": entry 1 in A, entry 4 in B"]),
        (&["a", "b", "b", "c"], &["order: \"c\": entry 3 in A, entry 4 in B"]),
        (&["a", "b", "d", "b"], &["missing: \"c\"", "extra: \"d\""]),
    ];
    for (names, wanted) in table {
        assert_eq!(lines(&base, &archive(names)), *wanted, "{names:?}");
    }
}
