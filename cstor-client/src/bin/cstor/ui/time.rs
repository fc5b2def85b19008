//! How long ago something was, as podman says it.

use std::time::{SystemTime, UNIX_EPOCH};

/// The age of an RFC 3339 time in UTC; the text itself where it is none.
pub(crate) fn age(created: Option<&str>) -> String {
    let Some(text) = created else { return "-".to_owned() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    match seconds(text) {
        Some(then) => spoken(now.saturating_sub(then)),
        None => text.to_owned(),
    }
}

/// Seconds since 1970, zone offset included.
fn seconds(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), ..] => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let offset = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    // Days of a calendar whose years begin in March, so that leap days come last; 719,468 of them before 1970.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era_days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days = era_days + (153 * shifted_month + 2) / 5 + day - 1 - 719_468;
    u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second - offset).ok()
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
    fn times_are_read_with_their_zone() {
        let table = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-23T18:28:34.807871063Z", Some(1_795_458_514)),
            ("2024-02-29T12:00:00+01:00", Some(1_709_204_400)),
            ("0001-01-01T00:00:00Z", None),
            ("yesterday", None),
        ];
        for (text, expected) in table {
            assert_eq!(seconds(text), expected, "{text}");
        }
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
