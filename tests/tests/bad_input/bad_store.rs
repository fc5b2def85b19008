//! Damaged store metadata: what layers.json, images.json, the manifest and the layer directories may say wrongly, and
//! the code and the one line it must end with. Every row starts from a good store in which one thing is changed.

use std::{fs::File, path::Path};

use cstor_tests::forge::{
    Image, Layer, Store, Subject, Trial, dir, file,
    store::digest,
    trial::{Verdict, table},
    whiteout,
};
use serde_json::{Value, json};

const IMAGE: &str = "localhost/app:1";

/// What [`good`] unpacks to.
const TREE: &str = "
    d 755 etc
    f 644 etc/lower = lower
    f 644 etc/upper = upper
";

fn good() -> Store {
    Store::stack(
        IMAGE,
        [
            vec![dir("etc"), file("etc/lower", "lower"), file("gone", "gone")],
            vec![file("etc/upper", "upper"), whiteout("gone")],
        ],
    )
}

enum Expect {
    Tree,
    /// The image's tree and a warning.
    Warned,
    /// One of these codes, naming one of these objects.
    Refusal(&'static [i32], &'static [&'static str]),
}
use Expect::{Refusal, Tree, Warned};

struct Row {
    name: &'static str,
    damage: fn(&Trial),
    expect: Expect,
}

const fn row(name: &'static str, expect: Expect, damage: fn(&Trial)) -> Row {
    Row { name, damage, expect }
}

fn check(row: &Row, subject: Subject) -> Verdict {
    let trial = Trial::new(subject, &good());
    (row.damage)(&trial);
    trial.settle();
    expect(&trial, &row.expect)
}

fn expect(trial: &Trial, expect: &Expect) -> Verdict {
    match expect {
        Tree => trial.accept(IMAGE, &[], TREE).map(drop),
        Warned => {
            let outcome = trial.accept(IMAGE, &[], TREE)?;
            if outcome.stderr.contains("warning") { Ok(()) } else { Err(format!("no warning: {}", outcome.stderr)) }
        }
        Refusal(codes, objects) => trial.refuse(IMAGE, &[], codes, objects).map(drop),
    }
}

fn layers(trial: &Trial, change: impl FnOnce(&mut Vec<Value>)) {
    trial.store.json(&trial.store.layers_json(), |layers| change(layers.as_array_mut().expect("an array")));
}

fn image(trial: &Trial, change: impl FnOnce(&mut Value)) {
    trial.store.json(&trial.store.images_json(), |images| change(&mut images[0]));
}

/// Renames the top layer in both JSON files, and nowhere else.
fn rename_top(trial: &Trial, id: &str) {
    layers(trial, |layers| layers[1]["id"] = json!(id));
    image(trial, |image| image["layer"] = json!(id));
}

fn text(trial: &Trial, path: &Path, text: &str) {
    trial.store.bytes(path, |bytes| *bytes = text.into());
}

/// Puts other bytes under a key, and brings images.json in line with them.
fn big_data(trial: &Trial, key: &str, content: &Value) {
    let bytes = content.to_string();
    std::fs::write(trial.store.big_data(0, key), &bytes).expect("a file of the trial");
    image(trial, |image| {
        let names = image["big-data-names"].as_array_mut().expect("an array");
        if !names.contains(&json!(key)) {
            names.push(json!(key));
        }
        image["big-data-sizes"][key] = json!(bytes.len());
        image["big-data-digests"][key] = json!(digest(bytes.as_bytes()));
    });
}

fn manifest_list() -> Value {
    json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] })
}

/// Makes the top layer one of a partial pull without a tar-split, with this table of contents.
fn only_toc(trial: &Trial, toc: Option<&str>) {
    layers(trial, |layers| {
        let layer = layers[1].as_object_mut().expect("an object");
        layer.remove("diff-digest");
        layer.insert("diff-size".into(), json!(-1));
        layer.insert("big-data-names".into(), json!(["zstd-chunked-manifest"]));
    });
    trial.store.remove(&trial.store.tar_split(1));
    if let Some(toc) = toc {
        let dir = trial.store.root.join("overlay-layers").join(&trial.store.layers[1].id);
        std::fs::create_dir(&dir).expect("a directory of the trial");
        std::fs::write(dir.join("=enN0ZC1jaHVua2VkLW1hbmlmZXN0"), toc).expect("a file of the trial");
    }
}

/// Of the contents "upper".
const UPPERS_DIGEST: &str = "aee610558292023758a4229ddcf75f167c9904313a83cf795232ed7f7e2131c9";

const UPPER: &str = r#"{"type":"reg","name":"etc/upper","mode":420,"size":5,"digest":"sha256:"#;

/// A table of contents of the top layer, with this digest of its file.
fn toc(digest: &str) -> String {
    format!(r#"{{"version":1,"entries":[{UPPER}{digest}"}},{{"type":"reg","name":".wh.gone"}}]}}"#)
}

const NOBODYS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

const ROWS: &[Row] = &[
    row("A0 nothing", Tree, |_| {}),
    row("A1 layers.json cut", Refusal(&[4], &["layers.json"]), |t| {
        t.store.bytes(&t.store.layers_json(), |bytes| bytes.truncate(200));
    }),
    row("A1 images.json cut", Refusal(&[4], &["images.json"]), |t| {
        t.store.bytes(&t.store.images_json(), |bytes| bytes.truncate(200));
    }),
    row("A2 both empty", Refusal(&[3], &["localhost/app:1"]), |t| {
        text(t, &t.store.layers_json(), "");
        text(t, &t.store.images_json(), "");
    }),
    row("A2 both missing", Refusal(&[3], &["localhost/app:1"]), |t| {
        t.store.remove(&t.store.layers_json());
        t.store.remove(&t.store.images_json());
    }),
    // The image is there, its layers are not: damage, unless one reads the row as "not found".
    row("A2 layers.json empty", Refusal(&[3, 4], &["<layer>", "localhost/app"]), |t| {
        text(t, &t.store.layers_json(), "")
    }),
    row("A2 layers.json missing", Refusal(&[3, 4], &["<layer>", "localhost/app"]), |t| {
        t.store.remove(&t.store.layers_json())
    }),
    row("A3 images.json {}", Refusal(&[4], &["images.json"]), |t| text(t, &t.store.images_json(), "{}")),
    row("A3 images.json null", Refusal(&[3], &["localhost/app"]), |t| text(t, &t.store.images_json(), "null")),
    row("A3 images.json [[]]", Refusal(&[4], &["images.json"]), |t| text(t, &t.store.images_json(), "[[]]")),
    row("A3 layers.json {}", Refusal(&[4], &["layers.json"]), |t| text(t, &t.store.layers_json(), "{}")),
    row("A3 layers.json [[]]", Refusal(&[4], &["layers.json"]), |t| text(t, &t.store.layers_json(), "[[]]")),
    row("A3 images.json with text behind", Refusal(&[4], &["images.json"]), |t| {
        t.store.bytes(&t.store.images_json(), |bytes| bytes.extend_from_slice(b"x"));
    }),
    row("A4 images.json of 10^6 brackets", Refusal(&[4], &["images.json"]), |t| {
        text(t, &t.store.images_json(), &"[".repeat(1_000_000));
    }),
    row("A4 layers.json of 10^6 brackets", Refusal(&[4], &["layers.json"]), |t| {
        text(t, &t.store.layers_json(), &"[".repeat(1_000_000));
    }),
    row("A4 brackets in an unknown key", Refusal(&[4], &["layers.json"]), |t| {
        text(t, &t.store.layers_json(), &format!("[{{\"id\":\"{NOBODYS}\",\"unknown\":{}", "[".repeat(1_000_000)));
    }),
    row("A6 layers.json of 2 GiB", Refusal(&[11], &["layers.json"]), |t| grow(&t.store.layers_json())),
    row("A6 images.json of 2 GiB", Refusal(&[11], &["images.json"]), |t| grow(&t.store.images_json())),
    row("A7 id ../../etc", Refusal(&[4], &["layers.json", "images.json", "../../etc"]), |t| rename_top(t, "../../etc")),
    row("A7 id of 63 digits", Refusal(&[4], &["layers.json", "images.json", "000000000000"]), |t| {
        rename_top(t, &NOBODYS[1..])
    }),
    row("A7 id of 65 digits", Refusal(&[4], &["layers.json", "images.json", "000000000000"]), |t| {
        rename_top(t, &format!("{NOBODYS}0"))
    }),
    row("A7 id in upper case", Refusal(&[4], &["layers.json", "images.json", "ABCDEF"]), |t| {
        rename_top(t, &"ABCDEF0123456789".repeat(4));
    }),
    row("A7 id with NUL", Refusal(&[4], &["layers.json", "images.json"]), |t| {
        rename_top(t, &format!("{}\0", &NOBODYS[1..]))
    }),
    row("A7 id with an escape sequence", Refusal(&[4], &["layers.json", "images.json"]), |t| {
        rename_top(t, "\x1b[31mred")
    }),
    row("A7 empty id", Refusal(&[4], &["layers.json", "images.json"]), |t| rename_top(t, "")),
    row("A8 a layer is its own parent", Refusal(&[4], &["<layer>"]), |t| {
        layers(t, |layers| layers[1]["parent"] = layers[1]["id"].clone())
    }),
    row("A8 a cycle of 3", Refusal(&[4], &["<layer>"]), |t| {
        layers(t, |layers| {
            let mut third = layers[0].clone();
            third["id"] = json!(NOBODYS);
            third["parent"] = layers[1]["id"].clone();
            layers[0]["parent"] = json!(NOBODYS);
            layers.push(third);
        });
    }),
    row("A9 parent missing", Refusal(&[4], &["<layer>", "000000000000"]), |t| {
        layers(t, |layers| layers[1]["parent"] = json!(NOBODYS))
    }),
    row("A9 top layer missing", Refusal(&[4], &["<layer>", "localhost/app"]), |t| {
        layers(t, |layers| drop(layers.pop()))
    }),
    row("A10 one id twice in layers.json", Warned, |t| {
        layers(t, |layers| {
            let mut second = layers[1].clone();
            second["parent"] = json!(NOBODYS);
            layers.push(second);
        });
    }),
    row("A10 one id in volatile-layers.json as well", Warned, |t| {
        let mut second = Value::Null;
        layers(t, |layers| second = layers[1].clone());
        second["parent"] = json!(NOBODYS);
        let volatile = t.store.root.join("overlay-layers/volatile-layers.json");
        std::fs::write(volatile, json!([second]).to_string()).expect("a file of the trial");
    }),
    row("A11 top layer incomplete", Refusal(&[4], &["<layer>", "localhost/app"]), |t| {
        layers(t, |layers| layers[1]["flags"] = json!({ "incomplete": true }));
    }),
    row("A11 lower layer incomplete", Refusal(&[4], &["<layer>", "localhost/app"]), |t| {
        layers(t, |layers| layers[0]["flags"] = json!({ "incomplete": true }));
    }),
    row("an unknown flag", Tree, |t| layers(t, |layers| layers[1]["flags"] = json!({ "later": [1] }))),
    row("A14 manifest's digest sha256:../x", Refusal(&[4], &["images.json", "manifest", "localhost/app"]), |t| {
        image(t, |image| image["big-data-digests"]["manifest"] = json!("sha256:../x"));
    }),
    row("A14 manifest's digest md5", Refusal(&[4], &["images.json", "manifest", "localhost/app"]), |t| {
        image(t, |image| image["big-data-digests"]["manifest"] = json!("md5:d41d8cd98f00b204e9800998ecf8427e"));
    }),
    row("A14 manifest of another digest", Refusal(&[4], &["manifest"]), |t| {
        image(t, |image| image["big-data-digests"]["manifest"] = json!(format!("sha256:{NOBODYS}")));
    }),
    row("A14 manifest cut", Refusal(&[4], &["manifest"]), |t| {
        t.store.bytes(&t.store.big_data(0, "manifest"), |bytes| bytes.truncate(100));
    }),
    row("A15 manifest missing", Refusal(&[4], &["manifest"]), |t| t.store.remove(&t.store.big_data(0, "manifest"))),
    row("A15 manifest is a FIFO", Refusal(&[4], &["manifest"]), |t| t.store.fifo(&t.store.big_data(0, "manifest"))),
    row("A15 manifest is a directory", Refusal(&[4], &["manifest"]), |t| {
        t.store.directory(&t.store.big_data(0, "manifest"))
    }),
    row("A15 manifest is a symlink", Refusal(&[4], &["manifest"]), |t| {
        t.store.moved(&t.store.big_data(0, "manifest"), &t.dir().join("out/manifest"));
    }),
    row("A15 layers.json is a FIFO", Refusal(&[4], &["layers.json"]), |t| t.store.fifo(&t.store.layers_json())),
    row("A15 layers.json is a directory", Refusal(&[4], &["layers.json"]), |t| {
        t.store.directory(&t.store.layers_json())
    }),
    row("A15 layers.json is a symlink", Refusal(&[4], &["layers.json"]), |t| {
        t.store.moved(&t.store.layers_json(), &t.dir().join("out/layers.json"));
    }),
    row("A16 fewer layers than diff ids", Refusal(&[4], &["localhost/app", "<image>", "<layer>"]), |t| {
        image(t, |image| image["layer"] = json!(t.store.layers[0].id));
    }),
    row("A16 no layer but diff ids", Refusal(&[4], &["localhost/app", "<image>"]), |t| {
        image(t, |image| drop(image.as_object_mut().expect("an object").remove("layer")));
    }),
    row("A16 a layer of another diff id", Refusal(&[4], &["localhost/app", "<layer>"]), |t| {
        layers(t, |layers| layers[1]["diff-digest"] = json!(format!("sha256:{NOBODYS}")));
    }),
    row("unknown keys", Tree, |t| {
        layers(t, |layers| layers[1]["later"] = json!({ "a": [1] }));
        image(t, |image| image["later"] = json!([{}]));
    }),
    row("a size of -1", Tree, |t| layers(t, |layers| layers[1]["diff-size"] = json!(-1))),
    row("no link ids", Tree, |t| t.store.remove(&t.store.root.join("overlay/l"))),
    row("lower-layers names others", Tree, |t| {
        for (name, content) in [("lower-layers", NOBODYS), ("lower", "l/NOTHING")] {
            std::fs::write(t.store.overlay(1).join(name), content).expect("a file of the trial");
        }
    }),
    row("the id is not that of the configuration", Tree, |t| {
        let images = t.store.root.join("overlay-images");
        std::fs::rename(images.join(&t.store.images[0]), images.join(NOBODYS)).expect("our own directory");
        image(t, |image| image["id"] = json!(NOBODYS));
    }),
    row("a manifest list beside the manifest", Tree, |t| {
        let list = manifest_list();
        big_data(t, &format!("manifest-{}", digest(list.to_string().as_bytes())), &list);
    }),
    row("nothing but a manifest list", Refusal(&[5], &["<image>"]), |t| {
        big_data(t, "manifest", &manifest_list());
        image(t, |image| drop(image.as_object_mut().expect("an object").remove("layer")));
    }),
    row("a manifest of schema 1", Tree, |t| {
        big_data(t, "manifest", &json!({ "schemaVersion": 1, "name": "app", "fsLayers": [], "history": [] }));
    }),
    row("mapped-layers holds no id", Refusal(&[4], &["images.json"]), |t| {
        image(t, |image| image["mapped-layers"] = json!(["../../etc"]));
    }),
    row("only a table of contents", Tree, |t| only_toc(t, Some(&toc(UPPERS_DIGEST)))),
    row("a table of contents with another digest", Refusal(&[4], &["etc/upper"]), |t| only_toc(t, Some(&toc(NOBODYS)))),
    row("a table of contents without a digest", Refusal(&[4], &["etc/upper"]), |t| {
        only_toc(t, Some(r#"{"version":1,"entries":[{"type":"reg","name":"etc/upper","mode":420,"size":5}]}"#))
    }),
    row("a damaged table of contents", Refusal(&[4], &["<layer>"]), |t| only_toc(t, Some("{\"version\":1"))),
    row("a table of contents of version 2", Refusal(&[5], &["<layer>"]), |t| {
        only_toc(t, Some(r#"{"version":2,"entries":[]}"#))
    }),
    row("a name that leads out of the layer", Refusal(&[4], &["<layer>"]), |t| {
        only_toc(t, Some(r#"{"version":1,"entries":[{"type":"reg","name":"etc/.wh.../x"}]}"#))
    }),
    row("neither tar-split nor table of contents", Refusal(&[4], &["=enN0ZC1jaHVua2VkLW1hbmlmZXN0"]), |t| {
        only_toc(t, None)
    }),
    row("no tar-split, but a diff id", Refusal(&[4], &["<layer>"]), |t| {
        let mut before = Value::Null;
        layers(t, |layers| before = layers[1].clone());
        only_toc(t, Some(&toc(UPPERS_DIGEST)));
        layers(t, |layers| layers[1]["diff-digest"] = before["diff-digest"].clone());
    }),
    row("A17 no lock file at all", Tree, |t| {
        for lock in ["storage.lock", "userns.lock", "overlay-layers/layers.lock", "overlay-images/images.lock"] {
            t.store.remove(&t.store.root.join(lock));
        }
    }),
    row("A17 no layers.lock", Tree, |t| t.store.remove(&t.store.root.join("overlay-layers/layers.lock"))),
    row("A18 overlay/ID is a symlink to /", Refusal(&[4], &["<layer>"]), |t| t.store.symlink(&t.store.overlay(1), "/")),
    row("A18 overlay/ID is a symlink to a good layer", Refusal(&[4], &["<layer>"]), |t| {
        t.store.moved(&t.store.overlay(1), &t.dir().join("out/overlay"));
    }),
    row("A18 diff is a symlink to /etc", Refusal(&[4], &["<layer>"]), |t| {
        t.store.symlink(&t.store.overlay(1).join("diff"), "/etc")
    }),
    row("A18 diff is a symlink to a good diff", Refusal(&[4], &["<layer>"]), |t| {
        t.store.moved(&t.store.overlay(1).join("diff"), &t.dir().join("out/diff"));
    }),
    row("A18 overlay is a symlink to a good one", Refusal(&[4], &["overlay", "<layer>"]), |t| {
        t.store.moved(&t.store.root.join("overlay"), &t.dir().join("out/overlay"));
    }),
    row("A18 diff missing", Refusal(&[4], &["<layer>"]), |t| t.store.remove(&t.store.overlay(0).join("diff"))),
    row("A18 overlay/ID missing", Refusal(&[4], &["<layer>"]), |t| t.store.remove(&t.store.overlay(0))),
];

/// A hole of 2 GiB behind what the file holds.
fn grow(path: &Path) {
    File::options().write(true).open(path).and_then(|file| file.set_len(2 << 30)).expect("a sparse file");
}

#[test]
fn rows() {
    table(ROWS, |row| row.name, check);
}

/// A2, A3: a store without a word about images has none; that is not an error.
#[test]
fn an_empty_store_lists_nothing() {
    let rows: &[(&str, Option<&str>)] =
        &[("empty", Some("")), ("null", Some("null")), ("[]", Some("[]")), ("missing", None)];
    table(
        rows,
        |row| row.0,
        |(_, content), subject| {
            let trial = Trial::new(subject, &good());
            for path in [trial.store.layers_json(), trial.store.images_json()] {
                match content {
                    Some(content) => text(&trial, &path, content),
                    None => trial.store.remove(&path),
                }
            }
            trial.settle();
            let outcome = trial.run(&["image", "list", "--format", "json"])?;
            outcome.is_success()?;
            let listed: Value = serde_json::from_str(&outcome.stdout).map_err(|error| error.to_string())?;
            if listed["images"] == json!([]) { Ok(()) } else { Err(outcome.stdout) }
        },
    );
}

/// A8: overlay takes 500 layers; the 501st is one too many, whoever made it.
#[test]
fn five_hundred_layers_are_the_limit() {
    let rows: &[(&str, usize)] = &[("500", 500), ("501", 501)];
    table(
        rows,
        |row| row.0,
        |&(_, depth), subject| {
            let names = (0..depth).map(|layer| format!("f{layer:03}"));
            let trial = Trial::new(subject, &Store::stack(IMAGE, names.clone().map(|name| vec![file(name, "")])));
            trial.settle();
            if depth > 500 {
                return trial.refuse(IMAGE, &[], &[11], &["<layer>", "localhost/app"]).map(drop);
            }
            let tree: Vec<String> = names.map(|name| format!("f 644 {name} =")).collect();
            trial.accept(IMAGE, &[], &tree.join("\n")).map(drop)
        },
    );
}

/// A12: podman takes a name away from the older image; a store in which both kept it was not written by it alone.
#[test]
fn of_two_images_of_one_name_the_newest_is_taken() {
    let rows: &[(&str, [&str; 2])] = &[
        ("newest last", ["2020-01-01T00:00:00Z", "2021-01-01T00:00:00+02:00"]),
        ("newest first", ["2021-01-01T00:00:00Z", "2020-12-31T23:59:59.9Z"]),
    ];
    table(
        rows,
        |row| row.0,
        |(_, created), subject| {
            let mut store = good();
            let newest = usize::from(created[1].starts_with("2021"));
            store.images = [0, 1]
                .map(|image| Image {
                    created: created[image].to_owned(),
                    ..Image::new(IMAGE, Some(usize::from(image == newest)))
                })
                .into();
            let trial = Trial::new(subject, &store);
            trial.settle();
            expect(&trial, &Warned)
        },
    );
}

/// A13: an ambiguous reference is an error that shows what it could have been, but not without end.
#[test]
fn ambiguous_references_list_their_candidates() {
    let mut store = Store { layers: vec![Layer::new(vec![file("f", "")])], images: Vec::new() };
    // Ids are digests, so a prefix in common has to be searched for: among 200 two share three digits.
    store.images = (0..200)
        .map(|image| Image {
            comment: image.to_string(),
            ..Image::new(&format!("registry{image}.example/app:latest"), Some(0))
        })
        .collect();
    let ids = Trial::new(Subject::Caller, &store).store.images.clone();
    let prefix =
        ids.iter().map(|id| &id[..3]).find(|&prefix| ids.iter().filter(|id| id.starts_with(prefix)).count() > 1);
    let prefix = prefix.expect("a prefix in common").to_owned();

    let rows: &[(&str, &str)] = &[("short name", "app"), ("short id", &prefix)];
    table(
        rows,
        |row| row.0,
        |(_, reference), subject| {
            let trial = Trial::new(subject, &store);
            trial.settle();
            let outcome = trial.refuse(reference, &[], &[3], &[reference])?;
            let named = outcome.stderr.matches(".example/app").count();
            if (2..=5).contains(&named) { Ok(()) } else { Err(format!("{named} candidates: {}", outcome.stderr)) }
        },
    );
}

/// A17: a lock file that cannot be opened is either waited for in vain or done without.
#[test]
fn a_closed_lock_file_is_busy_or_done_without() {
    table(
        &["layers.lock"],
        |row| row,
        |_, subject| {
            let trial = Trial::new(subject, &good());
            trial.store.mode(&trial.store.root.join("overlay-layers/layers.lock"), 0);
            trial.settle();
            let done = expect(&trial, &Tree);
            if subject.is_root() { done } else { done.or_else(|_| expect(&trial, &Refusal(&[6, 8], &["layers.lock"]))) }
        },
    );
}

/// A19: root does not read a store that someone else could have prepared.
#[test]
fn root_refuses_the_store_of_another_user() {
    if !rustix::process::geteuid().is_root() {
        return cstor_tests::lab::skip("root alone can refuse it");
    }
    let trial = Trial::new(Subject::Caller, &good());
    trial.give_store_away();
    let verdict = trial.refuse(IMAGE, &[], &[6], &["store"]);
    assert!(verdict.is_ok(), "{verdict:?}");
}

/// A reference that no image has, and arguments that are none.
#[test]
fn what_is_not_there_is_not_found() {
    let rows: &[(&str, &str, &[i32])] = &[
        ("no such name", "localhost/other:1", &[3]),
        ("no such tag", "localhost/app:2", &[3]),
        ("no such id", NOBODYS, &[3]),
        ("an id of two digits", "ab", &[3]),
        ("an escape sequence", "\x1b[31mred", &[2, 3]),
        ("a path", "../../etc", &[2, 3]),
        ("no bytes at all", "", &[2, 3]),
    ];
    table(
        rows,
        |row| row.0,
        |(_, reference, codes), subject| {
            let trial = Trial::new(subject, &good());
            trial.settle();
            trial.refuse(reference, &[], codes, &[]).map(drop)
        },
    );
}
