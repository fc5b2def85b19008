//! A table of contents: its rows must say what a naive reader of JSON finds in them, its digests must be those of the
//! rows, and times must be those of a naive calendar.
//!
//! Input: a byte of which the lowest bit says whether the rest is a time, or a whole document.

#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cstor_client::tar::{Kind, Time};
use cstor_client::fuzzing;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Days since 1970 by counting years and months.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = |year: i64| if is_leap(year) { 366 } else { 365 };
    let years: i64 = if year >= 1970 { (1970..year).map(length).sum() } else { -(year..1970).map(length).sum::<i64>() };
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    years + months.iter().take(month as usize - 1).sum::<i64>() + day - 1
}

fn time(text: &str) {
    let Some(time) = fuzzing::parse_time(text) else { return };
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().expect("digits");
    let zone = text[19..].find(['Z', '+', '-']).map(|place| &text[19 + place..]).expect("a zone");
    let offset = match zone.split_at(1) {
        ("Z", "") => 0,
        (sign, zone) => {
            let (hours, minutes) = zone.split_once(':').expect("hours and minutes");
            let offset = hours.parse::<i64>().expect("hours") * 3600 + minutes.parse::<i64>().expect("minutes") * 60;
            if sign == "-" { -offset } else { offset }
        }
    };
    let of_day = number(11, 13) * 3600 + number(14, 16) * 60 + number(17, 19);
    assert_eq!(time.seconds, days(number(0, 4), number(5, 7), number(8, 10)) * 86_400 + of_day - offset, "{text}");
    assert!(time.nanoseconds < 1_000_000_000);
    if let Some(again) = time.rfc3339() {
        assert_eq!(fuzzing::parse_time(&again), Some(time), "{text} and {again}");
    }
}

/// A field as Go reads it: what is missing or null is empty.
fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, rest)) = data.split_first() else { return };
    if mode & 1 == 1 {
        return std::str::from_utf8(rest).map_or((), time);
    }
    let Some(entries) = fuzzing::chunked(rest) else { return };
    let Some(json) = cstor_fuzz::json(rest) else { return };
    assert_eq!(json["version"], 1);
    let estargz = json["tarSplitDigest"].is_null();
    let landmarks = [".prefetch.landmark", ".no.prefetch.landmark", "stargz.index.json"];
    let is_member = |row: &&Value| row["type"] != "chunk" && !(estargz && landmarks.contains(&text(row, "name")));
    let rows: Vec<&Value> = json["entries"].as_array().expect("a list").iter().filter(is_member).collect();
    assert_eq!(rows.len(), entries.len());
    for (row, entry) in rows.into_iter().zip(entries) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(name) => {
                assert_eq!(name, text(row, "name").as_bytes());
                continue;
            }
        };
        let (raw, member) = (entry.raw, entry.member.expect("a row is a member"));
        assert!(raw.is_empty() && !member.sparse);
        let header = member.header;
        assert_eq!(header.path, text(row, "name").as_bytes());
        let target = text(row, "linkName").as_bytes().to_vec();
        let device = |key: &str| row[key].as_u64().unwrap_or(0) as u32;
        let (major, minor) = (device("devMajor"), device("devMinor"));
        let kind = match text(row, "type") {
            "reg" => Kind::File,
            "dir" => Kind::Dir,
            "symlink" => Kind::Symlink(target),
            "hardlink" => Kind::HardLink(target),
            "char" => Kind::CharDevice { major, minor },
            "block" => Kind::BlockDevice { major, minor },
            "fifo" => Kind::Fifo,
            other => panic!("{other} is no type"),
        };
        assert_eq!(header.kind, kind);
        let number = |key: &str| row[key].as_u64().unwrap_or(0);
        assert_eq!(u64::from(header.mode), number("mode") & 0o7777);
        assert_eq!((header.uid, header.gid), (number("uid"), number("gid")));
        let size = if kind == Kind::File { number("size") } else { 0 };
        assert_eq!(member.content.map_or(0, |content| content.size), size);
        if let Some(content) = member.content {
            assert_eq!(content.digest.expect("a digest").to_string(), text(row, "digest"));
        }
        match row["modtime"].as_str() {
            Some(text) => time(text),
            None => assert_eq!(header.mtime, Time::default()),
        }
        let known = row["xattrs"].as_object().map_or(0, serde_json::Map::len);
        assert_eq!(header.xattrs.len(), known);
        for xattr in &header.xattrs {
            let name = std::str::from_utf8(&xattr.name).expect("a key of JSON");
            assert_eq!(xattr.value, STANDARD.decode(text(&row["xattrs"], name)).expect("base64"));
        }
        let digest = fuzzing::chunked_digest(rest, &header.path);
        if kind == Kind::File && !json["entries"].as_array().is_some_and(|rows| repeats(rows, text(row, "name"))) {
            assert_eq!(digest.map(|digest| digest.to_string()).as_deref(), row["digest"].as_str());
        }
    }
});

/// Whether more than one row may be about this path: then the last one counts. Rows without a place are passed over.
fn repeats(rows: &[Value], name: &str) -> bool {
    let path = |name: &str| cstor_fuzz::untar::clean(name.as_bytes());
    let wanted = path(name);
    let has_place = !wanted.is_empty() && wanted.len() < 4096 && !wanted.contains(&0);
    !has_place || rows.iter().filter(|row| path(text(row, "name")) == wanted).count() > 1
}
