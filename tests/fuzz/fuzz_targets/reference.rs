//! Names as they are typed: of an image among a few, and of the destination of a copy.
//!
//! Input: a byte of which the lowest bit says which, then the name.

#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use cstor_client::fuzzing;
use cstor_client::oci::{Destination, Form};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fn images() -> &'static (Vec<u8>, Vec<Value>) {
    static IMAGES: OnceLock<(Vec<u8>, Vec<Value>)> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let image = |id: &str, names: &[&str], created: &str| {
            let id = format!("{id}{}", "0".repeat(64 - id.len()));
            let digest = format!("sha256:{}", id.replace('a', "d"));
            json!({
                "id": id, "names": names, "created": created, "digest": digest,
                "big-data-digests": { "manifest": digest, "manifest-x": format!("sha256:{}", id.replace('a', "e")) },
            })
        };
        let images = vec![
            image("aaa1", &["localhost/app:latest", "localhost/app:v1"], "1"),
            image("aaa2", &["quay.io/org/app:latest"], "2"),
            image("abc3", &["docker.io/library/busybox:1.36", "127.0.0.1:5000/tool:latest"], "3"),
            image("abd4", &["quay.io/x/dup:latest"], "4"),
            image("abe5", &["ghcr.io/x/dup:latest"], "5"),
            image("fee6", &["localhost/abd4:latest"], "6"),
            image("bad7", &["localhost/twice:latest"], "7"),
            image("bad8", &["localhost/twice:latest", "", ":", "/", "@"], "8"),
        ];
        (serde_json::to_vec(&images).expect("JSON"), images)
    })
}

fn image(asked: &str) {
    let (bytes, images) = images();
    let text = |image: &Value, key: &str| image[key].as_str().unwrap_or_default().to_owned();
    match fuzzing::find_image(bytes, asked).expect("our own file") {
        Ok(id) => {
            let image = images.iter().find(|image| text(image, "id") == id).expect("one of them");
            let asked = asked.strip_prefix("containers-storage:").unwrap_or(asked);
            let by_id = asked.strip_prefix("sha256:").unwrap_or(asked);
            let names: Vec<&str> = image["names"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
            // What was asked for is in the image's id, among its digests, or the end of one of its names.
            let digest = asked.rsplit('@').next().unwrap_or(asked);
            let known = [text(image, "digest"), text(&image["big-data-digests"], "manifest-x")];
            let tagged = format!("{asked}:latest");
            let ends = |name: &str, with: &str| {
                name.strip_suffix(with).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
            };
            let is_end = |name: &&str| ends(name, asked) || ends(name, &tagged);
            let found = by_id.len() >= 3 && id.starts_with(by_id)
                || known.iter().any(|known| known == digest)
                || names.iter().any(is_end);
            assert!(found, "{asked} is not {image}");
        }
        Err(candidates) => assert!(candidates <= 5, "few candidates are named"),
    }
}

fn destination(bytes: &[u8]) {
    let Ok(found) = Destination::parse(OsStr::from_bytes(bytes)) else { return };
    let path = found.path().as_os_str().as_bytes();
    assert!(!path.is_empty() && !path.contains(&b':'));
    assert!(!found.is_stream() || found.form() != Form::Layout);
    let transport = match found.form() {
        Form::Layout => "oci:",
        Form::OciArchive => "oci-archive:",
        Form::DockerArchive => "docker-archive:",
    };
    let mut again = [transport.as_bytes(), path].concat();
    if let Some(name) = found.name() {
        assert!(bytes.windows(name.len()).any(|window| window == name.as_bytes()) || name.ends_with(":latest"));
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()));
        again.extend([b":", name.as_bytes()].concat());
    }
    assert_eq!(Destination::parse(OsStr::from_bytes(&again)), Ok(found), "written in full it is the same");
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, rest)) = data.split_first() else { return };
    if mode & 1 == 1 {
        return destination(rest);
    }
    if let Ok(asked) = std::str::from_utf8(rest) {
        image(asked);
    }
});
