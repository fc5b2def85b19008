//! What people see: tables, JSON, progress, warnings, and numbers in their units.

pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod stdout;
pub(crate) mod table;
mod time;

pub(crate) use time::age;

/// An id as podman shows it, or in full.
pub(crate) fn short(id: &str, whole: bool) -> &str {
    if whole { id } else { id.get(..12).unwrap_or(id) }
}

/// A path as text, escaped where it is not UTF-8.
pub(crate) fn shown(path: &std::path::Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => cstor_client::Escaped(path.as_os_str().as_encoded_bytes()).to_string(),
    }
}

/// A number of things.
pub(crate) fn count(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// A number of bytes in decimal units with three digits, as podman has them (go-units `HumanSize`).
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    while value >= 999.5 {
        let Some(next) = units.next() else { break };
        value /= 1000.0;
        unit = next;
    }
    // At most three significant digits, and no zeros at the end.
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_podmans() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 kB"),
            (1500, "1.5 kB"),
            (12345, "12.3 kB"),
            (999_999, "1 MB"),
            (3_145_745, "3.15 MB"),
            (1_860_000_000, "1.86 GB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text);
        }
    }
}
