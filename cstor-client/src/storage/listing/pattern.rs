//! The patterns of `reference` and `label` filters, matched as Go's `path.Match` does (path/match.go), and the forms
//! of a name that a pattern is matched with.

/// Whether all of `text` matches: `*` is any run without a slash, `?` any character but a slash, `[a-c]` and `[^a]`
/// classes, `\` takes the next character as it is. A malformed pattern matches nothing.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Where to go on if what follows the last star does not fit: the star takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    let (mut at, mut place) = (0, 0);
    loop {
        if at == pattern.len() && place == text.len() {
            return true;
        }
        if pattern.get(at) == Some(&'*') {
            retry = Some((at + 1, place));
            at += 1;
            continue;
        }
        if let Some(next) = text.get(place).and_then(|&c| one(&pattern, at, c)) {
            (at, place) = (next, place + 1);
            continue;
        }
        match retry {
            Some((after, taken)) if text.get(taken).is_some_and(|&c| c != '/') => {
                retry = Some((after, taken + 1));
                (at, place) = (after, taken + 1);
            }
            _ => return false,
        }
    }
}

/// Where the pattern goes on after the element at `at`, if that takes the character.
fn one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match *pattern.get(at)? {
        '?' => (c != '/').then_some(at + 1),
        '[' => class(pattern, at + 1, c),
        '\\' => (*pattern.get(at + 1)? == c).then_some(at + 2),
        literal => (literal == c).then_some(at + 1),
    }
}

fn class(pattern: &[char], mut at: usize, c: char) -> Option<usize> {
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let (mut found, mut ranges) = (false, 0);
    while pattern.get(at) != Some(&']') || ranges == 0 {
        let (low, next) = bound(pattern, at)?;
        let (high, next) = if pattern.get(next) == Some(&'-') { bound(pattern, next + 1)? } else { (low, next) };
        found |= (low..=high).contains(&c);
        (at, ranges) = (next, ranges + 1);
    }
    (found != negated).then_some(at + 1)
}

fn bound(pattern: &[char], at: usize) -> Option<(char, usize)> {
    match *pattern.get(at)? {
        '-' | ']' => None,
        '\\' => Some((*pattern.get(at + 1)?, at + 2)),
        c => Some((c, at + 1)),
    }
}

/// Whether a `reference` pattern means this name: in full, without its registry, or without all its directories, each
/// with and without tag or digest (libimage/filters.go, `imageMatchesReferenceFilter`).
pub(super) fn names(pattern: &str, name: &str) -> bool {
    let last = |text: &str| text.rsplit_once('/').map_or(text, |(_, last)| last).to_owned();
    let directories = name.rfind('/').map_or(0, |slash| slash + 1);
    let suffix_at =
        name.get(directories..).and_then(|file| file.find([':', '@'])).map_or(name.len(), |at| directories + at);
    let (plain, suffix) = name.split_at(suffix_at);
    let path = plain.split_once('/').map_or(plain, |(_, path)| path);
    let forms =
        [name.to_owned(), path.to_owned(), last(name), plain.to_owned(), format!("{path}{suffix}"), last(plain)];
    forms.iter().any(|form| matches(pattern, form))
}

/// Whether a `label` filter, `key` or `key=value`, means this label; a key may have stars, and then part of a key is
/// enough (pkg/filters, `MatchLabelFilters`).
pub(super) fn labels(filter: &str, key: &str, value: &str) -> bool {
    let (wanted_key, wanted) = filter.split_once('=').unwrap_or((filter, ""));
    let within = || matches(&format!("*{wanted_key}*").replace('/', "|"), &key.replace('/', "|"));
    (wanted.is_empty() || wanted == value) && (wanted_key == key || wanted_key.contains('*') && within())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Go's path/match_test.go, but for what is malformed.
    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[", "a", false),
            ("a[", "ab", false),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_name_has_six_forms() {
        let name = "registry.example:5000/team/walk:2";
        for form in
            [name, "team/walk", "walk:2", "registry.example:5000/team/walk", "team/walk:2", "walk", "w*", "*/walk"]
        {
            assert!(names(form, name), "{form}");
        }
        for form in ["team", "alk", "registry.example:5000/*", "walk:*3", "*:5000/team/walk:3"] {
            assert!(!names(form, name), "{form}");
        }
        assert!(names("busy@sha256:*", "localhost/busy@sha256:00"));
    }

    #[test]
    fn labels_by_key_value_and_star() {
        for (filter, expected) in [
            ("org.x/walk", true),
            ("org.x/walk=2", true),
            ("org.x/walk=", true),
            ("org.x/walk=3", false),
            ("org.x", false),
            ("x/w*", true),
            ("o*k=2", true),
            ("y*", false),
        ] {
            assert_eq!(labels(filter, "org.x/walk", "2"), expected, "{filter}");
        }
    }
}
