//! Times of RFC 3339 as numbers, so that they can be ordered whatever their zone and number of digits.

/// Seconds since 1970, which may be negative, and nanoseconds; none for what is no time.
pub fn moment(text: &str) -> Option<(i64, u32)> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let (fraction, zone) = match text.get(19..)?.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
        None => ("", text.get(19..)?),
    };
    let nanoseconds = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
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
    Some((days * 86_400 + hour * 3600 + minute * 60 + second - offset, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_zone() {
        let table = [
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("2026-11-23T18:28:34.807871063Z", Some((1_795_458_514, 807_871_063))),
            ("2026-11-23T18:28:34.8Z", Some((1_795_458_514, 800_000_000))),
            ("2024-02-29T12:00:00+01:00", Some((1_709_204_400, 0))),
            ("0001-01-01T00:00:00Z", Some((-62_135_596_800, 0))),
            ("2024-02-29T12:00:00.Z", Some((1_709_208_000, 0))),
            ("2024-02-29T12:00:00", None),
            ("yesterday", None),
        ];
        for (text, expected) in table {
            assert_eq!(moment(text), expected, "{text}");
        }
    }
}
