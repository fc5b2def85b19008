//! A store of one image in a private directory: everything is made once but the descriptions and files of its layers.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};

/// The name of the image.
pub const IMAGE: &str = "localhost/fuzz:latest";

/// A store.
#[derive(Debug)]
pub struct Store {
    pub root: PathBuf,
    ids: Vec<String>,
}

impl Store {
    /// Makes one whose image has so many layers.
    pub fn new(root: &Path, layers: usize) -> Store {
        let ids: Vec<String> = (0..layers).map(|number| hex(format!("layer {number}").as_bytes())).collect();
        for dir in ["overlay", "overlay-layers", "overlay-images"] {
            fs::create_dir_all(root.join(dir)).expect("a directory");
        }
        for lock in ["overlay-layers/layers.lock", "overlay-images/images.lock"] {
            fs::write(root.join(lock), [7; 64]).expect("a lock");
        }
        let diff_id = |number: usize| format!("sha256:{}", hex(format!("tar {number}").as_bytes()));
        let mut records = Vec::new();
        for (number, id) in ids.iter().enumerate() {
            fs::create_dir(root.join("overlay").join(id)).expect("a directory");
            let mut record = json!({ "id": id, "created": "2020-01-01T00:00:00Z", "diff-digest": diff_id(number) });
            if number > 0 {
                record["parent"] = json!(ids[number - 1]);
            }
            records.push(record);
        }
        write_json(&root.join("overlay-layers/layers.json"), &json!(records));
        let diff_ids: Vec<String> = (0..layers).map(diff_id).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {}, "history": [],
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = serde_json::to_vec(&config).expect("JSON");
        let image = hex(&config);
        let digest = format!("sha256:{image}");
        let layers = diff_ids.iter().map(|id| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": id, "size": 1,
            })
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len(),
            },
            "layers": layers.collect::<Vec<_>>(),
        });
        let manifest = serde_json::to_vec(&manifest).expect("JSON");
        let data = root.join("overlay-images").join(&image);
        fs::create_dir(&data).expect("a directory");
        fs::write(data.join("manifest"), &manifest).expect("a file");
        fs::write(data.join(format!("={}", STANDARD.encode(&digest))), &config).expect("a file");
        let manifest_digest = format!("sha256:{}", hex(&manifest));
        let record = json!([{
            "id": image, "names": [IMAGE], "layer": ids.last(), "created": "2020-01-01T00:00:00Z",
            "digest": manifest_digest, "big-data-names": ["manifest", digest],
            "big-data-sizes": { "manifest": manifest.len(), &digest: config.len() },
            "big-data-digests": { "manifest": manifest_digest, &digest: digest },
        }]);
        write_json(&root.join("overlay-images/images.json"), &record);
        Store { root: root.to_owned(), ids }
    }

    /// Where the files of a layer are; it does not exist at first.
    pub fn diff(&self, layer: usize) -> PathBuf {
        self.root.join("overlay").join(&self.ids[layer]).join("diff")
    }

    /// Writes the description of a layer.
    pub fn describe(&self, layer: usize, tar_split: &[u8]) {
        let path = self.root.join(format!("overlay-layers/{}.tar-split.gz", self.ids[layer]));
        fs::write(path, tar_split).expect("a file");
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_json(path: &Path, value: &serde_json::Value) {
    fs::write(path, serde_json::to_vec(value).expect("JSON")).expect("a file");
}
