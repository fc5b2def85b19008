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

/// A directory and two files, the first sparse if it has a map.
fn with_hole(dir: &str, contents: &[u8], is_sparse: bool, sparse_first: bool) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut append = |name: &str, typeflag: u8, bytes: &[u8], map: Option<[u64; 3]>| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkflag = [typeflag];
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        if let Some([start, length, size]) = map {
            let gnu = header.as_gnu_mut().unwrap();
            gnu.sparse[0].set_offset(start);
            gnu.sparse[0].set_length(length);
            gnu.set_real_size(size);
        }
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    };
    if !sparse_first {
        append("file", b'0', b"", None);
    }
    if is_sparse {
        append("hole", b'S', &contents[5000..], Some([5000, contents.len() as u64 - 5000, contents.len() as u64]));
    } else {
        append("hole", b'0', contents, None);
    }
    if sparse_first {
        append("file", b'0', b"", None);
    }
    append(dir, b'5', b"", None);
    tar.into_inner().unwrap()
}

#[test]
fn a_hole_is_zeros_and_a_slash_after_a_directory_nothing() {
    let mut contents = vec![0; 5000];
    contents.extend([1; 9000]);
    let a = with_hole("dir", &contents, true, true);
    let meaning = |b: &[u8]| -> Vec<String> {
        let found = lines(&a, b).into_iter();
        found.filter(|line| !line.starts_with("bytes: ")).collect()
    };
    let order = "order: \"hole\": entry 1 in A, entry 2 in B".to_owned();
    assert_eq!(meaning(&with_hole("dir/", &contents, false, true)), [""; 0]);
    assert_eq!(meaning(&with_hole("dir/", &contents, false, false)), [order.as_str()]);
    contents[4999] = 1;
    let known = "content: \"hole\": first difference at byte 4999";
    let unknown = "content: \"hole\": first difference not known";
    assert_eq!(meaning(&with_hole("dir/", &contents, false, true)), [known]);
    assert_eq!(meaning(&with_hole("dir/", &contents, false, false)), [unknown, &order]);
}
