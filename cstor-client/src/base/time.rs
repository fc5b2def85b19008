//! Points in time, and the one form in which JSON has them.

use jiff::Timestamp;

/// A point in time with nanoseconds; the latter count forward also before 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Time {
    /// As RFC 3339 in UTC; `None` for years that do not have four digits.
    pub fn rfc3339(self) -> Option<String> {
        let time = Timestamp::new(self.seconds, i32::try_from(self.nanoseconds).ok()?).ok()?;
        // Years before 0 have a sign and more digits.
        Some(time.to_string()).filter(|text| text.as_bytes().first().is_some_and(u8::is_ascii_digit))
    }

    /// The time that RFC 3339 says, in any zone, as Go reads it: without leap seconds; `None` for anything else.
    pub fn parse_rfc3339(text: &str) -> Option<Time> {
        // jiff takes more: dates without dashes, zones with names.
        let (time, rest) = text.split_at_checked("0000-00-00T00:00:00".len())?;
        let zone = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
        let is_strict = has_shape(time, "0000-00-00T00:00:00") && (zone == "Z" || has_shape(zone.get(1..)?, "00:00"));
        if !is_strict || time.ends_with(":60") {
            return None;
        }
        let time: Timestamp = text.parse().ok()?;
        // Both parts have the sign of the time.
        let (seconds, nanoseconds) = (time.as_second(), time.subsec_nanosecond());
        let before = i64::from(nanoseconds < 0);
        let nanoseconds = nanoseconds + if before == 1 { 1_000_000_000 } else { 0 };
        Some(Time { seconds: seconds - before, nanoseconds: nanoseconds.unsigned_abs() })
    }
}

/// Whether a text has digits where `shape` has zeros, and the same characters elsewhere.
fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(byte, wanted): (u8, u8)| if wanted == b'0' { byte.is_ascii_digit() } else { byte == wanted };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_as_rfc_3339() {
        // The texts are what `date -u --iso-8601=ns` says.
        let table = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, 123_456_789, "2023-11-14T22:13:20.123456789Z"),
            (951_782_400, 500_000_000, "2000-02-29T00:00:00.5Z"),
            (-86_400, 0, "1969-12-31T00:00:00Z"),
            (-1, 750_000_000, "1969-12-31T23:59:59.75Z"),
            (-62_135_596_800, 0, "0001-01-01T00:00:00Z"),
            (4_102_444_800, 0, "2100-01-01T00:00:00Z"),
        ];
        for (seconds, nanoseconds, text) in table {
            assert_eq!(Time { seconds, nanoseconds }.rfc3339().unwrap(), text);
            assert_eq!(Time::parse_rfc3339(text), Some(Time { seconds, nanoseconds }));
        }
        for seconds in [i64::MAX, i64::MIN, -62_200_000_000] {
            assert_eq!(Time { seconds, nanoseconds: 0 }.rfc3339(), None, "{seconds}");
        }
        let zoned = Time { seconds: 1_709_204_400, nanoseconds: 250_000_000 };
        assert_eq!(Time::parse_rfc3339("2024-02-29T12:00:00.25+01:00"), Some(zoned));
        for text in [
            "",
            "yesterday",
            "2024-02-29",
            "2024-13-01T00:00:00Z",
            "2026-02-31T00:00:00Z",
            "2024-02-29T12:00:00",
            "2024-02-29T12:00:00.2.5Z",
            "x024-02-29T12:00:00Z",
            "2024-02-29T12:00:00+1:00",
            "2024-02-29T12:00:00+0100",
            "2024-02-29T12:00:00x01:00",
            "2024-02-29T12:00:00Z[UTC]",
            "2024-02-29 12:00:00Z",
            "20240229T120000Z",
            "2024-02-29T23:59:60Z",
        ] {
            assert_eq!(Time::parse_rfc3339(text), None, "{text}");
        }
    }
}
