//! Temporary names: `.NAME.cstor-` and 16 random hexadecimal digits, where NAME is what it will be called.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};

const MARK: &str = ".cstor-";
const DIGITS: usize = 16;
/// The longest name that the kernel takes (limits.h).
const NAME_MAX: usize = 255;

/// A temporary name for what will be called `name`, with `name` in it if that leaves room for the rest.
pub fn temporary_name(name: &OsStr) -> OsString {
    let mut temporary = OsString::new();
    if !name.is_empty() && 1 + name.len() + MARK.len() + DIGITS <= NAME_MAX {
        temporary.push(".");
        temporary.push(name);
    }
    let random = RandomState::new().build_hasher().finish();
    temporary.push(format!("{MARK}{random:016x}"));
    temporary
}

/// Whether [`temporary_name`] makes such names.
pub(crate) fn is_temporary_name(name: &[u8]) -> bool {
    base_of(name).is_some()
}

/// Whether it is a temporary name of something that will be called `name`.
pub(super) fn is_temporary_name_of(temporary: &[u8], name: &OsStr) -> bool {
    base_of(temporary).is_some_and(|base| base == name.as_encoded_bytes())
}

/// What comes before the mark, without the dot in front.
fn base_of(name: &[u8]) -> Option<&[u8]> {
    let (front, digits) = name.split_at_checked(name.len().checked_sub(DIGITS)?)?;
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let base = front.strip_suffix(MARK.as_bytes()).filter(|_| digits.iter().all(is_digit))?;
    if base.is_empty() { Some(base) } else { base.strip_prefix(b".").filter(|base| !base.is_empty()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_recognised_and_no_others() {
        let long = "n".repeat(231);
        for name in ["out", "a.b", ".hidden", "", &*long] {
            let temporary = temporary_name(OsStr::new(name));
            assert!(temporary.len() <= NAME_MAX, "{name}");
            assert!(is_temporary_name_of(temporary.as_encoded_bytes(), OsStr::new(name)), "{temporary:?}");
            assert!(!is_temporary_name_of(temporary.as_encoded_bytes(), OsStr::new("other")), "{temporary:?}");
        }
        // There is no room for this one.
        let temporary = temporary_name(OsStr::new(&"n".repeat(232)));
        assert!(is_temporary_name_of(temporary.as_encoded_bytes(), OsStr::new("")), "{temporary:?}");
        let others = [
            "",
            "out",
            ".cstor-",
            ".cstor-0123456789abcde",
            ".cstor-0123456789abcdeg",
            ".cstor-0123456789ABCDEF",
            ".cstor-0123456789abcdef0",
            "out.cstor-0123456789abcdef",
            "..cstor-0123456789abcdef",
            "cstor-0123456789abcdef",
            ".out.cstor-0123456789abcdef.bak",
        ];
        for name in others {
            assert!(!is_temporary_name(name.as_bytes()), "{name}");
        }
    }
}
