//! What `cstor` prints of images and layers, held against who else knows: tables of contents against podman's mount and
//! Python's tarfile, flat tars against GNU tar, bsdtar and podman, link ids against the link files, a compressed
//! stream against zstd(1). Damage is the business of other tests, and so is how layers become tars (`layer`).

use cstor_tests::built::program;
use cstor_tests::forge::{Store, dir, file, opaque, symlink, whiteout};
use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run};
use cstor_tests::tree::{self, Listing, Row, Sight, assert_same};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Images of the tour and where the truth of each is.
const TOUR: [(&str, &str); 4] =
    [("tour:base", "tour-base"), ("tour:v1", "tour-v1"), ("tour:v2", "tour-v2"), ("other:latest", "other-latest")];

fn truth(name: &str) -> Listing {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/truth-5.4.2/{name}.jsonl"));
    tree::parse(&fs::read_to_string(path).expect("a fixture")).expect("lines of JSON")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON: {error}: {text}"))
}

fn root_tour(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = lab.cstor(Who::Root, &lab.store(Fs::Btrfs, "root-tour"));
    command.args(arguments);
    command
}

/// The rows of a table of contents by path, as podman's mount would be listed.
fn rows(toc: &Value) -> BTreeMap<String, Value> {
    let entries = toc["entries"].as_array().expect("entries");
    let path = |entry: &Value| match entry["nameRaw"].as_str() {
        Some(raw) => tree::chars(&base64::Engine::decode(&base64::engine::general_purpose::STANDARD, raw).unwrap()),
        None => tree::chars(entry["name"].as_str().expect("a name").as_bytes()),
    };
    entries.iter().map(|entry| (path(entry).trim_end_matches('/').to_owned(), entry.clone())).collect()
}

fn same_file(entry: &Value, row: &Row, first: &mut BTreeMap<String, String>) -> Result<(), String> {
    let number = |key: &str| entry[key].as_u64().unwrap_or(0);
    let kind = match row.kind {
        'd' => "dir",
        'l' => "symlink",
        'p' => "fifo",
        'c' => "char",
        'b' => "block",
        _ => "reg",
    };
    let wrong = |what: &str| Err(format!("{what}: {entry} is not {row:?}"));
    let names = row.hardlinks.as_ref().map_or(1, Vec::len) as u64;
    if entry["type"] == "hardlink" {
        let target = row.hardlinks.iter().flatten().min().cloned().unwrap_or_default();
        let known = first.entry(target.clone()).or_insert(target);
        return if entry["linkName"].as_str() == Some(known) { Ok(()) } else { wrong("the first name") };
    }
    if entry["type"] != kind || number("NumLink") != names && row.kind != 'd' {
        return wrong("type or names");
    }
    if row.kind != 'l' && number("mode") != u64::from(row.permissions()) {
        return wrong("mode");
    }
    if number("uid") != u64::from(row.uid) || number("gid") != u64::from(row.gid) {
        return wrong("owner");
    }
    if row.kind == 'f' && (number("size") != row.size.unwrap_or(0)) {
        return wrong("size");
    }
    if row.kind == 'f' && number("size") > 0 {
        let digest = format!("sha256:{}", row.sha256.as_deref().unwrap_or_default());
        if entry["digest"] != digest || entry["chunkDigest"] != digest {
            return wrong("digest");
        }
    }
    if row.kind == 'l' && entry["nameRaw"].is_null() && row.target.as_deref().is_some_and(str::is_ascii) {
        let target = entry["linkName"].as_str().map(|target| tree::chars(target.as_bytes()));
        if target != row.target {
            return wrong("target");
        }
    }
    if entry["xattrs"].as_object().map_or(0, serde_json::Map::len) < row.xattrs.len() {
        return wrong("xattrs");
    }
    Ok(())
}

#[test]
fn an_images_table_is_what_podman_shows() {
    let lab = lab_or_skip!();
    for (image, of) in TOUR {
        let toc = json(&must(&mut root_tour(lab, &["image", "toc", &format!("localhost/{image}"), "--digests"])));
        assert_eq!(toc["version"], 1);
        let (rows, truth) = (rows(&toc), truth(of));
        let names: Vec<_> = rows.keys().collect();
        let wanted: Vec<_> = truth.keys().filter(|path| !path.is_empty() && *path != ".").collect();
        assert_eq!(names, wanted, "{image}");
        let mut first = BTreeMap::new();
        for (path, entry) in &rows {
            same_file(entry, &truth[path], &mut first).unwrap_or_else(|error| panic!("{image}: {path}: {error}"));
        }
    }
}

#[test]
fn a_layers_table_is_what_tarfile_reads() {
    let lab = lab_or_skip!();
    let script = "import sys,tarfile,json\n\
        kinds={tarfile.REGTYPE:'reg',tarfile.AREGTYPE:'reg',tarfile.LNKTYPE:'hardlink',tarfile.SYMTYPE:'symlink',\
        tarfile.CHRTYPE:'char',tarfile.BLKTYPE:'block',tarfile.DIRTYPE:'dir',tarfile.FIFOTYPE:'fifo'}\n\
        t=tarfile.open(sys.argv[1],errors='surrogateescape')\n\
        print(json.dumps([[m.name.encode('utf8','surrogateescape').decode('utf8','replace').rstrip('/'),kinds[m.type],\
        m.size,m.offset_data if m.isreg() and m.size else 0,m.mode,m.uid,m.gid,(m.linkname if m.islnk() or m.issym() else '').encode('utf8','surrogateescape').decode('utf8','replace'),\
        m.uname,m.gname] for m in t]))";
    let scratch = lab.scratch(Who::Root, Fs::Btrfs);
    let (mut layers, mut markers) = (0, 0);
    let list = json(&must(&mut root_tour(lab, &["layer", "list", "--format", "json"])));
    for layer in list["layers"].as_array().unwrap().iter().filter(|layer| layer["diff_id"].is_string()) {
        let id = layer["id"].as_str().unwrap();
        let tar = scratch.path().join("layer.tar");
        must(root_tour(lab, &["layer", "export", id, "-o"]).arg(&tar));
        let read = json(&must(Command::new("python3").args(["-c", script]).arg(&tar)));
        let toc = json(&must(&mut root_tour(lab, &["layer", "toc", id, "--keep-whiteouts"])));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let entries = toc["entries"].as_array().unwrap();
        let found: Vec<_> = entries
            .iter()
            .map(|entry| {
                let name = text(&entry["name"]).trim_end_matches('/').to_owned();
                let ids = (number(&entry["mode"]), number(&entry["uid"]), number(&entry["gid"]));
                let names = (text(&entry["linkName"]), text(&entry["userName"]), text(&entry["groupName"]));
                (name, text(&entry["type"]), number(&entry["size"]), number(&entry["offset"]), ids, names)
            })
            .collect();
        let wanted: Vec<_> = read
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let ids = (number(&row[4]), number(&row[5]), number(&row[6]));
                let names = (text(&row[7]), text(&row[8]), text(&row[9]));
                (text(&row[0]), text(&row[1]), number(&row[2]), number(&row[3]), ids, names)
            })
            .collect();
        let different = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
        assert_eq!(different, None, "layer {id}");
        assert_eq!(found.len(), wanted.len(), "layer {id}");
        assert!(entries.iter().all(|entry| entry["digest"].is_null()), "{id}: nothing was to be read");
        let without = json(&must(&mut root_tour(lab, &["layer", "toc", id])));
        let is_marker =
            |entry: &&Value| entry["name"].as_str().unwrap().split('/').any(|name| name.starts_with(".wh."));
        markers += entries.iter().filter(is_marker).count();
        let kept: Vec<_> = entries.iter().filter(|entry| !is_marker(entry)).collect();
        assert_eq!(without["entries"].as_array().unwrap().iter().collect::<Vec<_>>(), kept, "{id}");
        layers += 1;
    }
    assert!(layers >= 5 && markers >= 3, "{layers} layers, {markers} whiteouts");
}

#[test]
fn tables_open_no_file() {
    let members = vec![dir("d/"), file("d/f", "contents"), symlink("l", "d/f")];
    let place = tempfile::tempdir().unwrap();
    let store = Store::stack("localhost/app:latest", [members, vec![whiteout("l"), opaque("d"), file("d/g", "more")]]);
    let forged = store.write(&place.path().join("store"), false).unwrap();
    for layer in 0..2 {
        fs::remove_dir_all(forged.overlay(layer).join("diff/d")).unwrap();
    }
    let cstor = |arguments: &[&str]| {
        let mut command = Command::new(program("cstor"));
        run(command.arg("--root").arg(&forged.root).args(arguments))
    };
    let names = |ended: &cstor_tests::run::Ended| -> Vec<String> {
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        let toc = json(&ended.stdout);
        toc["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&cstor(&["image", "toc", "localhost/app"])), ["d/", "d/g"]);
    let top = &forged.layers[1].id;
    assert_eq!(names(&cstor(&["layer", "toc", top])), ["d/g"]);
    assert_eq!(names(&cstor(&["layer", "toc", top, "--keep-whiteouts", "--pretty"])).len(), 3);
    // With digests the files must be there.
    assert_eq!(cstor(&["image", "toc", "localhost/app", "--digests"]).code(), 4);
}

#[test]
fn a_flat_tar_unpacks_to_what_podman_shows() {
    let lab = lab_or_skip!();
    for (image, of) in TOUR {
        let name = format!("localhost/{image}");
        let scratch = lab.scratch(Who::Root, Fs::Btrfs);
        let at = |name: &str| scratch.path().join(name);
        must(root_tour(lab, &["image", "export", &name, "-o"]).arg(at("flat.tar")));
        must(root_tour(lab, &["image", "export", &name, "-o"]).arg(at("again.tar")));
        assert!(fs::read(at("flat.tar")).unwrap() == fs::read(at("again.tar")).unwrap(), "{image}: not deterministic");
        fs::create_dir(at("gnu")).unwrap();
        must(
            Command::new("tar")
                .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"])
                .arg(at("flat.tar"))
                .arg("-C")
                .arg(at("gnu")),
        );
        let (mut shown, mut found) = (truth(of), tree::list(&at("gnu")).unwrap());
        // The archive has no member for its own root.
        for listing in [&mut shown, &mut found] {
            listing.retain(|path, _| !path.is_empty() && path != ".");
        }
        assert_same(&shown, &found, Sight::ALL, image);
        let count = |text: &str| text.lines().filter(|line| !line.is_empty()).count();
        let bsdtar = must(Command::new("bsdtar").args(["-tf"]).arg(at("flat.tar")));
        assert_eq!(count(&bsdtar), shown.len(), "{image}: bsdtar");
        let script = "import sys,tarfile\nprint(sum(1 for m in tarfile.open(sys.argv[1],errors='surrogateescape')))";
        let python = must(Command::new("python3").args(["-c", script]).arg(at("flat.tar")));
        assert_eq!(python.trim(), shown.len().to_string(), "{image}: tarfile");
    }
}

/// Renamed over /dev/null by root, an archive would take it from everybody.
#[test]
fn only_regular_files_are_replaced_by_an_archive() {
    let lab = lab_or_skip!();
    for make in ["mknod out c 1 3", "mkfifo out", "mknod there b 7 200 && ln -s there out", "mkdir out"] {
        let scratch = lab.scratch(Who::Root, Fs::Btrfs);
        must(Command::new("sh").args(["-c", make]).current_dir(scratch.path()));
        let before = tree::list(scratch.path()).unwrap();
        for form in ["oci-archive", "docker-archive"] {
            let to = format!("{form}:{}", scratch.path().join("out").display());
            let ended = run(&mut root_tour(lab, &["image", "copy", "localhost/other", &to]));
            assert_eq!(ended.code(), 10, "{make}: {form}: {}", ended.stderr);
            assert!(ended.stderr.contains("not a regular file"), "{make}: {form}: {}", ended.stderr);
            assert_same(&before, &tree::list(scratch.path()).unwrap(), Sight::ALL, make);
        }
    }
}

#[test]
fn a_flat_tar_is_taken_by_podman_import() {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(Who::User, Fs::Xfs);
    let image = "localhost/walk:v2";
    let tar = scratch.path().join("flat.tar");
    must(lab.cstor(Who::User, &lab.store(Fs::Xfs, "local")).args(["image", "export", image, "-o"]).arg(&tar));
    let podman = |arguments: &[&str]| {
        let mut command = lab.command(Who::User, "podman");
        command.arg("--root").arg(scratch.path().join("store")).args(arguments);
        command
    };
    must(podman(&["import", "-q"]).arg(&tar).arg("localhost/flat"));
    let out = scratch.path().join("out");
    must(lab.cstor(Who::User, &scratch.path().join("store")).args(["extract", "localhost/flat"]).arg(&out));
    let mut shown = lab.podman_shows(image);
    let mut found = tree::list(&out).unwrap();
    for listing in [&mut shown, &mut found] {
        listing.retain(|path, _| !path.is_empty() && path != ".");
    }
    assert_same(&shown, &found, Sight::PLAIN, image);
    // Files of other ids are in podman's hands.
    must(lab.command(Who::User, "podman").args(["unshare", "rm", "-rf"]).arg(scratch.path().join("store")));
}

#[test]
fn link_ids_lead_to_their_layers() {
    let lab = lab_or_skip!();
    let store = lab.store(Fs::Btrfs, "root-tour");
    let mut links = 0;
    for entry in fs::read_dir(store.join("overlay")).unwrap() {
        let layer = entry.unwrap();
        let Ok(link) = fs::read_to_string(layer.path().join("link")) else { continue };
        let id = layer.file_name().into_string().unwrap();
        assert_eq!(must(&mut root_tour(lab, &["resolve-link", &link])).trim(), id);
        let inspected = json(&must(&mut root_tour(lab, &["layer", "inspect", &link, "--chain", "--format", "json"])));
        assert_eq!(inspected["id"], *id);
        let chain = inspected["chain"].as_array().unwrap();
        // `lower` names all ancestors, the nearest first, by their link ids (formats/store.md).
        let lower = fs::read_to_string(layer.path().join("lower")).unwrap_or_default();
        let lower: Vec<String> = lower
            .split(':')
            .filter(|link| !link.is_empty())
            .map(|link| must(&mut root_tour(lab, &["resolve-link", link.trim_start_matches("l/")])).trim().to_owned())
            .collect();
        let below: Vec<_> = chain.iter().rev().skip(1).map(|layer| layer["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(below, lower, "{id}");
        links += 1;
    }
    assert!(links > 5, "{links}");
    for wrong in ["ABCDEFGHIJKLMNOPQRSTUVWXYZ", "../l", "l/x", ""] {
        assert_eq!(run(&mut root_tour(lab, &["resolve-link", wrong])).code(), 3, "{wrong:?}");
    }
}

#[test]
fn a_compressed_stream_is_zstd() {
    let lab = lab_or_skip!();
    let scratch = lab.scratch(Who::Root, Fs::Btrfs);
    let layers = json(&must(&mut root_tour(lab, &["image", "layers", "localhost/tour:base", "--format", "json"])));
    let id = layers["layers"][0]["id"].as_str().unwrap().to_owned();
    must(root_tour(lab, &["layer", "splitfd", &id, "-o"]).arg(scratch.path()));
    must(root_tour(lab, &["layer", "splitfd", &id, "--zstd", "-o"]).arg(scratch.path()));
    let plain = fs::read(scratch.path().join("stream")).unwrap();
    must(
        Command::new("zstd")
            .args(["-q", "-d"])
            .arg(scratch.path().join("stream.zst"))
            .arg("-o")
            .arg(scratch.path().join("again")),
    );
    assert!(fs::read(scratch.path().join("again")).unwrap() == plain);
    assert!(fs::metadata(scratch.path().join("stream.zst")).unwrap().len() < plain.len() as u64);
}

#[test]
fn a_whole_store_is_sound() {
    let lab = lab_or_skip!();
    let list = json(&must(&mut root_tour(lab, &["layer", "list", "--format", "json"])));
    let committed = list["layers"].as_array().unwrap().iter().filter(|layer| layer["diff_id"].is_string()).count();
    for level in ["structure", "crc", "digest"] {
        let report = json(&must(&mut root_tour(lab, &["verify", "--all", "--level", level, "--format", "json"])));
        assert_eq!(report["findings"], Value::Array(vec![]), "{level}");
        assert!(report["layers"].as_u64().unwrap() as usize >= committed, "{level}: {report}");
    }
    for target in ["localhost/tour:v2", list["layers"][0]["id"].as_str().unwrap()] {
        must(&mut root_tour(lab, &["verify", target]));
    }
}
