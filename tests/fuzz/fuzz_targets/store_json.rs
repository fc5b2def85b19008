//! layers.json, images.json and containers.json: a list that is taken must hold what a naive reader finds in it.
//!
//! Input: a byte that says which of the three (modulo 3), then the file.

#![no_main]

use cstor_client::fuzzing::{self, StoreRecord};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The strings in a list, or the one string, under a key.
fn texts(json: &Value, key: &str) -> Vec<String> {
    match &json[key] {
        Value::String(text) if !text.is_empty() => vec![text.clone()],
        Value::Array(list) => list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, rest)) = data.split_first() else { return };
    let (records, others): (Option<Vec<StoreRecord>>, &[&str]) = match mode % 3 {
        0 => (fuzzing::layers_json(rest), &["parent"]),
        1 => (fuzzing::images_json(rest), &["layer", "mapped-layers"]),
        _ => (fuzzing::containers_json(rest), &["image", "layer"]),
    };
    let Some(records) = records else { return };
    let Some(json) = cstor_fuzz::json(rest) else { return };
    let rows = if json.is_null() { Vec::new() } else { json.as_array().expect("a list").clone() };
    // Not every row must be one that can be understood.
    assert!(records.len() <= rows.len());
    let mut rows = rows.iter();
    for record in records {
        assert!(is_id(&record.id), "{record:?}");
        assert!(record.others.iter().all(|id| is_id(id)), "{record:?}");
        let row = rows.find(|row| row["id"].as_str() == Some(&record.id)).expect("a row of this id, in order");
        assert_eq!(record.names, texts(row, "names"));
        assert_eq!(record.created.as_deref(), row["created"].as_str());
        let wanted: Vec<String> = others.iter().flat_map(|key| texts(row, key)).collect();
        assert_eq!(record.others, wanted);
    }
});
