//! How long ago something was, as podman says it.

use cstor_client::tar::Time;
use std::time::{SystemTime, UNIX_EPOCH};

/// The age of an RFC 3339 time in UTC; the text itself where it is not a time.
pub(crate) fn age(created: Option<&str>) -> String {
    let Some(text) = created else { return "-".to_owned() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    match Time::parse_rfc3339(text) {
        Some(then) if then.seconds >= 0 => spoken(now.saturating_sub(then.seconds.unsigned_abs())),
        _ => text.to_owned(),
    }
}

fn spoken(seconds: u64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (7 * 86_400, "week"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    // As go-units: two of a unit before it is used, but for the small ones.
    let unit =
        UNITS.iter().find(|(length, name)| seconds >= length * if matches!(*name, "hour" | "minute") { 1 } else { 2 });
    let (count, name) = unit.map_or((seconds, "second"), |(length, name)| (seconds / length, name));
    format!("{count} {name}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_podmans() {
        for (seconds, text) in [
            (1, "1 second ago"),
            (90, "1 minute ago"),
            (7200, "2 hours ago"),
            (90_000, "25 hours ago"),
            (400 * 86_400, "13 months ago"),
        ] {
            assert_eq!(spoken(seconds), text);
        }
    }
}
