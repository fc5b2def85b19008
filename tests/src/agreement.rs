//! What podman says of a store beside what cstor says of it, key by key. Each key that podman prints is in a table here,
//! with the value that cstor must give for it or the reason why there is none; a key that is in no table fails, so that
//! a later podman's news are noticed. It does not look at files: trees are compared by [`crate::tree`], layers by their
//! digests. What is said of containers is in no table.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What becomes of a key that podman prints.
enum Rule {
    /// cstor says the same, and this is where.
    Same(fn(&Value) -> Value),
    /// Likewise, but it names places of the machine: only while the store is where podman has it.
    Here(fn(&Value) -> Value),
    /// Compared by a function of its own.
    Apart,
    /// There is nothing to compare, and why.
    No(&'static str),
}
use Rule::{Apart, Here, No, Same};

type Table = &'static [(&'static str, Rule)];

/// The value of a setting of `cstor info`.
fn setting(info: &Value, key: &str) -> Value {
    info["settings"][key]["value"].clone()
}

fn option(info: &Value, key: &str) -> Value {
    info["settings"]["options"][key]["value"].clone()
}

/// `store` of `podman info` against `cstor info`.
const STORE: Table = &[
    ("configFile", No("podman names the file where it would look, there or not; `cstor info` names what counted")),
    ("containerStore.number", Same(|info| info["stores"][0]["containers"].clone())),
    ("containerStore.paused", No("states are compared with `podman ps`")),
    ("containerStore.running", No("likewise")),
    ("containerStore.stopped", No("likewise")),
    ("graphDriverName", Same(|info| info["stores"][0]["driver"].clone())),
    ("graphOptions.overlay.mount_program.Executable", Here(|info| option(info, "mount_program"))),
    ("graphOptions.overlay.mount_program.Package", No("who packaged it")),
    ("graphOptions.overlay.mount_program.Version", No("what it prints")),
    ("graphOptions.overlay.mountopt", Here(|info| option(info, "mountopt"))),
    ("graphRoot", Here(|info| setting(info, "root"))),
    ("graphRootAllocated", No("the size of the file system")),
    ("graphRootUsed", No("likewise")),
    ("graphStatus.Backing Filesystem", No("what the kernel can do there; cstor mounts nothing")),
    ("graphStatus.Native Overlay Diff", No("likewise")),
    ("graphStatus.Supports d_type", No("likewise")),
    ("graphStatus.Supports shifting", No("likewise")),
    ("graphStatus.Supports volatile", No("likewise")),
    ("graphStatus.Using metacopy", No("likewise")),
    ("imageCopyTmpDir", No("for pulls and builds")),
    ("imageStore.number", Same(|info| info["stores"][0]["images"].clone())),
    ("runRoot", Here(|info| setting(info, "run_root"))),
    ("transientStore", Here(|info| setting(info, "transient_store"))),
    ("volumePath", No("volumes are no part of images")),
];

/// A row of `podman images -a` against the image in `cstor image list -a`.
const IMAGES: Table = &[
    ("Arch", No("empty but for manifest lists; compared with `inspect`")),
    ("Containers", No("cstor lists containers by themselves")),
    ("Created", No("the same as CreatedAt")),
    ("CreatedAt", Same(|image| in_seconds(&image["created"]))),
    ("Dangling", Same(|image| if image["dangling"] == true { json!(true) } else { Value::Null })),
    ("Digest", Same(|image| image["digest"].clone())),
    ("History", No("the names it had; cstor says which it has")),
    ("Id", Same(|image| image["id"].clone())),
    ("IsManifestList", No("cstor sees the image that the list was made as")),
    ("Labels", No("the same as in `inspect`")),
    ("Names", Same(|image| image["names"].clone())),
    ("Os", No("as Arch")),
    (
        "ParentId",
        No("podman guesses it from histories; cstor says `intermediate`, compared with what `images` leaves out"),
    ),
    ("RepoDigests", No("Names and Digest put together")),
    ("RepoTags", No("always null")),
    ("SharedSize", No("always 0")),
    ("Size", Same(|image| image["size"].clone())),
    ("VirtualSize", Same(|image| image["size"].clone())),
];

/// `podman image inspect` against `cstor image inspect`.
const INSPECT: Table = &[
    ("Annotations", No("of the manifest, which cstor prints as a whole")),
    ("Architecture", Same(|image| image["architecture"].clone())),
    ("Author", No("cstor does not say it")),
    ("Comment", No("that of the last step of the history")),
    ("Config", Apart),
    ("Created", Same(|image| image["created"].clone())),
    ("Digest", Same(|image| image["digest"].clone())),
    ("GraphDriver", Apart),
    ("History", Apart),
    ("Id", Same(|image| image["id"].clone())),
    ("Labels", Same(|image| image["config"]["Labels"].clone())),
    ("ManifestType", Apart),
    ("NamesHistory", No("the names it had")),
    ("Os", Same(|image| image["os"].clone())),
    ("Parent", No("see ParentId of `images`")),
    ("RepoDigests", No("RepoTags and Digest put together")),
    ("RepoTags", Same(|image| image["names"].clone())),
    ("RootFS", Same(|image| json!({ "Type": "layers", "Layers": each(&image["layers"], "diff_id") }))),
    ("Size", Same(|image| image["size"].clone())),
    ("User", Same(|image| image["config"]["User"].clone())),
    ("Version", No("of the builder, not of the image")),
    ("VirtualSize", Same(|image| image["size"].clone())),
];

/// `Config` of `podman image inspect` against `config` of `cstor image inspect`, which is the image's own.
const CONFIG: Table = &[
    ("Cmd", Same(|config| config["Cmd"].clone())),
    ("Entrypoint", Same(|config| config["Entrypoint"].clone())),
    ("Env", Same(|config| config["Env"].clone())),
    ("ExposedPorts", Same(|config| config["ExposedPorts"].clone())),
    ("Labels", Same(|config| config["Labels"].clone())),
    ("StopSignal", Same(|config| config["StopSignal"].clone())),
    ("User", Same(|config| config["User"].clone())),
    ("Volumes", Same(|config| config["Volumes"].clone())),
    ("WorkingDir", Same(|config| config["WorkingDir"].clone())),
];

/// A row of `podman history`, if its step made a layer, against that layer in `cstor image inspect`.
const HISTORY: Table = &[
    ("Created", No("of the step; `created` of a layer is when it came into the store")),
    ("CreatedBy", Same(|layer| layer["created_by"].clone())),
    ("comment", No("cstor does not say it")),
    ("created", No("as Created")),
    ("id", No("the image that the step left, which podman guesses")),
    ("size", Same(|layer| layer["size"].clone())),
    ("tags", No("names of that image")),
];

/// Keys of podman's that have keys of their own in the table.
const OPENED: [&str; 5] = ["containerStore", "graphOptions", "overlay.mount_program", "graphStatus", "imageStore"];

/// What podman says of a store.
#[derive(Debug)]
pub struct Said {
    /// `store` of `podman info`.
    pub store: Value,
    /// `podman images -a`.
    pub images: Value,
    /// `podman images -q`: the ids without intermediate images.
    pub shown: BTreeSet<String>,
    /// `podman image inspect`, by id.
    pub inspect: BTreeMap<String, Value>,
    /// `podman history`, by id.
    pub history: BTreeMap<String, Value>,
}

impl Said {
    /// Asks podman.
    pub fn by(podman: impl Fn(&[&str]) -> String) -> Said {
        let images = json(&podman(&["images", "-a", "--format", "json"]));
        let ids: BTreeSet<&str> = list(&images).iter().filter_map(|row| row["Id"].as_str()).collect();
        let inspect = json(&podman(&[&["image", "inspect"], &ids.iter().copied().collect::<Vec<_>>()[..]].concat()));
        let history = |id: &&str| json(&podman(&["history", "--no-trunc", "--format", "json", id]));
        Said {
            store: json(&podman(&["info", "--format", "json"]))["store"].clone(),
            shown: ids_of(&podman(&["images", "-q", "--no-trunc"])),
            inspect: by_id(&inspect),
            history: ids.iter().map(|id| ((*id).to_owned(), history(id))).collect(),
            images,
        }
    }

    /// Reads what `tests/shelf.sh` wrote down.
    pub fn recorded(truth: &Path) -> Said {
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let read = |name: &str| json(&text(&truth.join(name)));
        let histories = fs::read_dir(truth.join("history")).expect("a directory").map(|entry| entry.unwrap().path());
        let id = |path: &Path| path.file_stem().and_then(|name| name.to_str()).expect("an id").to_owned();
        Said {
            store: read("store.json"),
            images: read("images.json"),
            shown: ids_of(&text(&truth.join("shown"))),
            inspect: by_id(&read("inspect.json")),
            history: histories.map(|path| (id(&path), json(&text(&path)))).collect(),
        }
    }
}

/// A difference, or several, as lines.
type Differences = Vec<String>;

/// Holds `cstor info` against what podman said. `here`: the store is where podman had it.
pub fn store_differs(said: &Said, info: &Value, here: bool) -> Differences {
    compare("info", STORE, &opened("", &said.store), info, here)
}

/// Holds all that cstor says of all images against what podman said.
pub fn images_differ(said: &Said, cstor: impl Fn(&[&str]) -> Value) -> Differences {
    let listed = cstor(&["image", "list", "-a", "--format", "json"]);
    let ours = by_key(&listed["images"], "id");
    let mut found = Vec::new();
    let theirs: BTreeSet<&str> = list(&said.images).iter().filter_map(|row| row["Id"].as_str()).collect();
    let [of_podman, of_cstor] = [theirs, ours.keys().map(String::as_str).collect()];
    differ(&mut found, "images -a: ids", &of_podman, &of_cstor);
    let shown = ours.values().filter(|image| image["intermediate"] == false).filter_map(|image| image["id"].as_str());
    differ(&mut found, "images: ids", &said.shown, &shown.map(str::to_owned).collect());
    // A row for each name, and one for an image without.
    let rows: usize = ours.values().map(|image| list(&image["names"]).len().max(1)).sum();
    differ(&mut found, "images -a: rows", &list(&said.images).len(), &rows);
    for row in list(&said.images) {
        let Some(image) = row["Id"].as_str().and_then(|id| ours.get(id)) else { continue };
        let mut row = fields(row);
        if let Some(Value::String(time)) = row.get_mut("CreatedAt") {
            time.truncate(SECONDS);
        }
        found.extend(compare(&format!("images: {}", image["id"]), IMAGES, &row, image, true));
        let parts = ["shared_size", "unique_size", "size"].map(|key| image[key].as_u64().unwrap_or(0));
        differ(&mut found, &format!("{}: sizes", image["id"]), &parts[2], &(parts[0] + parts[1]));
    }
    for (id, theirs) in &said.inspect {
        let ours = cstor(&["image", "inspect", "--format", "json", id]);
        found.extend(image_differs(theirs, &ours));
        found.extend(history_differs(id, list(&said.history[id]), list(&theirs["History"]), list(&ours["layers"])));
    }
    found
}

fn image_differs(theirs: &Value, ours: &Value) -> Differences {
    let what = format!("inspect: {}", ours["id"]);
    let mut found = compare(&what, INSPECT, &fields(theirs), ours, true);
    found.extend(compare(&format!("{what}: Config"), CONFIG, &fields(&theirs["Config"]), &ours["config"], true));
    // podman guesses a type where the manifest names none.
    if !ours["media_type"].is_null() {
        differ(&mut found, &format!("{what}: ManifestType"), &theirs["ManifestType"], &ours["media_type"]);
    }
    let driver = &theirs["GraphDriver"];
    let lower = driver["Data"]["LowerDir"].as_str().unwrap_or_default();
    let upper = driver["Data"]["UpperDir"].as_str().unwrap_or_default();
    // Without a layer it is `overlay/diff`, of no id.
    let names = lower.rsplit(':').chain([upper]).filter_map(|path| path.rsplit('/').nth(1));
    let ids: Vec<Value> = names.filter(|id| id.len() == 64).map(|id| json!(id)).collect();
    differ(&mut found, &format!("{what}: GraphDriver: layers"), &ids, &each(&ours["layers"], "id"));
    differ(&mut found, &format!("{what}: GraphDriver.Name"), &driver["Name"], &json!("overlay"));
    found
}

/// podman's rows have the newest step first, and those that made no layer too; the steps say which did.
fn history_differs(id: &str, rows: &[Value], steps: &[Value], layers: &[Value]) -> Differences {
    let what = format!("history: {id}");
    let mut found = Vec::new();
    differ(&mut found, &format!("{what}: steps"), &rows.len(), &steps.len());
    let made = rows.iter().rev().zip(steps).filter(|(_, step)| step["empty_layer"] != true).map(|(row, _)| row);
    let made: Vec<&Value> = made.collect();
    differ(&mut found, &format!("{what}: layers"), &made.len(), &layers.len());
    for (row, layer) in made.into_iter().zip(layers) {
        found.extend(compare(&what, HISTORY, &fields(row), layer, true));
    }
    found
}

fn compare(what: &str, table: Table, theirs: &BTreeMap<String, Value>, ours: &Value, here: bool) -> Differences {
    let mut found = Vec::new();
    for (key, theirs) in theirs {
        let what = format!("{what}: {key}");
        match table.iter().find(|(name, _)| name == key).map(|(_, rule)| rule) {
            Some(Same(ours_of)) => differ(&mut found, &what, &plain(theirs), &plain(&ours_of(ours))),
            Some(Here(ours_of)) if here => differ(&mut found, &what, &plain(theirs), &plain(&ours_of(ours))),
            Some(No(why)) => assert!(!why.is_empty(), "{what}"),
            Some(Here(_) | Apart) => {}
            None => found.push(format!("{what}: in no table, podman says {theirs}")),
        }
    }
    found
}

fn differ<T: PartialEq + std::fmt::Debug>(found: &mut Differences, what: &str, theirs: &T, ours: &T) {
    if theirs != ours {
        found.push(format!("{what}: podman {theirs:?}, cstor {ours:?}"));
    }
}

/// Go leaves out or prints what is empty as it likes.
fn plain(value: &Value) -> Value {
    let empty = [json!(""), json!([]), json!({}), json!(false)];
    if empty.contains(value) { Value::Null } else { value.clone() }
}

/// `2026-11-24T16:40:15`
const SECONDS: usize = 19;

fn in_seconds(time: &Value) -> Value {
    json!(time.as_str().and_then(|time| time.get(..SECONDS)))
}

fn each(rows: &Value, key: &str) -> Vec<Value> {
    list(rows).iter().map(|row| row[key].clone()).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn fields(value: &Value) -> BTreeMap<String, Value> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The fields, those of `OPENED` objects as `outer.inner`.
fn opened(prefix: &str, value: &Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for (key, value) in fields(value) {
        if OPENED.contains(&key.as_str()) {
            all.extend(opened(&format!("{prefix}{key}."), &value));
        } else {
            all.insert(format!("{prefix}{key}"), value);
        }
    }
    all
}

fn by_key(rows: &Value, key: &str) -> BTreeMap<String, Value> {
    list(rows).iter().map(|row| (row[key].as_str().expect("a text").to_owned(), row.clone())).collect()
}

fn by_id(rows: &Value) -> BTreeMap<String, Value> {
    by_key(rows, "Id")
}

fn ids_of(text: &str) -> BTreeSet<String> {
    text.lines().map(|id| id.trim_start_matches("sha256:").to_owned()).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON: {error}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_seen_and_so_is_a_key_in_no_table() {
        let ours = json!({ "settings": {}, "stores": [{ "containers": 1, "images": 2, "driver": "overlay" }] });
        let store = |change: &str, value: Value| {
            let mut store = json!({
                "containerStore.number": 1, "imageStore.number": 2, "graphDriverName": "overlay", "graphRoot": "/there"
            });
            store[change] = value;
            compare("info", STORE, &fields(&store), &ours, false)
        };
        assert_eq!(store("imageCopyTmpDir", json!("/tmp")), [""; 0]);
        for (key, value) in [("imageStore.number", json!(3)), ("graphDriverName", json!("vfs")), ("novel", json!(1))] {
            assert_eq!(store(key, value).len(), 1, "{key}");
        }
        assert_eq!(compare("info", STORE, &fields(&json!({ "graphRoot": "/there" })), &ours, true).len(), 1);
    }

    #[test]
    fn every_key_is_in_its_table_once() {
        for table in [STORE, IMAGES, INSPECT, CONFIG, HISTORY] {
            let keys: Vec<&str> = table.iter().map(|(key, _)| *key).collect();
            assert!(keys.is_sorted() && keys.iter().collect::<BTreeSet<_>>().len() == keys.len(), "{keys:?}");
        }
    }
}
