//! Layers through `cstor serve` are the layers of the store: each way of getting them gives the tree that `cstor extract`
//! gives and the tar that `cstor layer export` gives, as the user and as root, with few descriptors and very many files.
//! Peers that break the protocol are in `jsonrpc_peers`, the socket itself in `serve`.

use cstor_client::error::ErrorKind;
use cstor_client::jsonrpc::{Client, RpcError, Server};
use cstor_client::{LayerId, Storage};
use cstor_tests::forge::{Store, dir, file, whiteout};
use cstor_tests::lab::{Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{Ended, must, run, start};
use cstor_tests::serving::Serving;
use cstor_tests::tree::{self, Sight, assert_same};
use rustix::process::Signal;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// More than any layer of the images below has files.
const MANY: u32 = 8192;
/// What a login shell may have become, at the least.
const FEW: u32 = 256;

fn store(lab: &Lab, who: Who) -> PathBuf {
    lab.store(Fs::Xfs, if who == Who::Root { "root-local" } else { "local" })
}

/// The client as a program, with at most so many descriptors.
fn client(lab: &Lab, who: Who, descriptors: u32, arguments: [&Path; 4]) -> Ended {
    let mut command = lab.command(who, "prlimit");
    command.arg(format!("--nofile={descriptors}:{descriptors}")).arg(lab.executable("cstor-lab-rpc"));
    run(command.args(arguments))
}

#[test]
fn what_is_said_of_images_is_what_the_store_says() {
    let place = tempfile::tempdir().unwrap();
    let forged = Store::stack("localhost/app:latest", [vec![dir("d/"), file("d/f", "abc")], vec![whiteout("d/f")]]);
    let storage = Storage::open(forged.write(&place.path().join("store"), false).unwrap().root).unwrap();
    let image = storage.image("localhost/app").unwrap();
    let layers = image.layers().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = Server::new(&storage);
    let serving = std::thread::spawn(move || server.serve_connected(theirs));
    let mut client = Client::over(ours);
    let (version, capabilities) = client.initialize().unwrap();
    assert_eq!((version.as_str(), capabilities.iter().any(|name| name == "tar-split-stream")), ("2.0.0", true));
    let listed = client.images().unwrap();
    assert_eq!((listed[0].id, &listed[0].names[..], listed[0].digest), (image.id(), image.names(), image.digest()));
    let opened = client.open_image("localhost/app").unwrap();
    assert_eq!(opened.id, Some(image.id()));
    for (said, layer) in opened.layers.iter().zip(&layers) {
        assert_eq!(said.id, layer.id().to_string());
        assert_eq!((said.diff_id, said.size), (layer.diff_id(), layer.diff_size()));
    }
    let (manifest, config) = (image.manifest().unwrap(), image.config().unwrap());
    assert_eq!(client.manifest(&opened).unwrap().as_bytes(), manifest.bytes());
    assert_eq!(client.full_config(&opened).unwrap().as_bytes(), config.bytes());
    let (text, configuration, ids) = client.image(&image.id().to_string()).unwrap();
    assert_eq!((text.as_bytes(), configuration.as_bytes()), (manifest.bytes(), config.bytes()));
    // The top first, as container-libs has it.
    let wanted: Vec<_> = layers.iter().rev().map(|layer| layer.id().to_string()).collect();
    assert_eq!(ids, wanted);
    let toc = |file: fs::File| serde_json::from_reader::<_, serde_json::Value>(file).unwrap();
    let wanted = serde_json::to_value(image.rootfs().unwrap().toc(true).unwrap()).unwrap();
    assert_eq!(toc(client.image_toc(&opened, true).unwrap()), wanted);
    let wanted = serde_json::to_value(layers[1].toc(false).unwrap()).unwrap();
    assert_eq!(toc(client.layer_toc(&ids[0], false).unwrap()), wanted);
    client.close_image(&opened).unwrap();
    assert_eq!(client.manifest(&opened).unwrap_err().kind(), ErrorKind::NotFound);
    // A parent that is none.
    let error = client.header_stream(&ids[0], Some(&ids[0])).unwrap_err();
    assert!(matches!(error, RpcError::Refused { code: -32602, .. }), "{error:?}");
    assert_eq!(client.header_stream(&ids[0], Some(&ids[1])).unwrap().files().len(), 0);
    client.shutdown().unwrap();
    serving.join().unwrap().unwrap();
}

#[test]
fn every_way_gives_the_tree_that_extract_gives() {
    let lab = lab_or_skip!();
    for who in [Who::User, Who::Root] {
        let store = store(lab, who);
        let serving = Serving::start(lab, who, &store, MANY, &[]);
        // Whiteouts and hard links; files of other ids, which take the helper; strange names; many layers.
        for image in ["walk:v2", "private", "odd", "deep", "tool"] {
            let image = format!("localhost/{image}");
            let scratch = lab.scratch(who, Fs::Xfs);
            let direct = scratch.path().join("direct");
            must(lab.cstor(who, &store).args(["extract", &image]).arg(&direct));
            let wanted = tree::list(&direct).unwrap();
            for way in ["extract", "at-once", "compressed", "headers", "proxy"] {
                let what = format!("{who:?} {image}: {way}");
                let out = scratch.path().join(way);
                let ended = client(lab, who, MANY, [way.as_ref(), &serving.socket(), image.as_ref(), &out]);
                assert_eq!(ended.code(), 0, "{what}: {}", ended.stderr);
                assert_same(&wanted, &tree::list(&out).unwrap(), Sight::ALL, &what);
            }
            assert_eq!(lab.names_in(scratch.path()).len(), 6, "{image}: something was left");
        }
        serving.end();
    }
}

#[test]
fn tars_are_those_of_layer_export() {
    let lab = lab_or_skip!();
    let (who, store) = (Who::Root, store(lab, Who::Root));
    let serving = Serving::start(lab, who, &store, MANY, &[]);
    let scratch = lab.scratch(who, Fs::Xfs);
    let storage = Storage::open(&store).unwrap();
    let mut compared = 0;
    for image in ["localhost/walk:v2", "localhost/private", "localhost/debian"] {
        for layer in storage.image(image).unwrap().layers().unwrap() {
            let id = layer.id().to_string();
            let exported = scratch.path().join("exported");
            must(lab.cstor(who, &store).args(["layer", "export", &id, "-o"]).arg(&exported));
            let wanted = tree::digest(&exported).unwrap();
            for way in ["tar", "tar-at-once"] {
                let out = scratch.path().join(way);
                let ended = client(lab, who, MANY, [way.as_ref(), &serving.socket(), id.as_ref(), &out]);
                assert_eq!(ended.code(), 0, "{image} {id}: {way}: {}", ended.stderr);
                assert_eq!(tree::digest(&out).unwrap(), wanted, "{image} {id}: {way}");
                assert!(ended.stdout.contains(&wanted), "{}", ended.stdout);
                compared += 1;
            }
        }
    }
    assert!(compared > 10, "only {compared}");
    serving.end();
}

/// Whether all data of a file lies in extents that another file has too.
fn shared(file: &Path) -> bool {
    let map = must(Command::new("filefrag").arg("-v").arg(file));
    let extents: Vec<&str> =
        map.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit())).collect();
    !extents.is_empty() && extents.iter().all(|line| line.contains("shared"))
}

#[test]
fn extents_are_shared_where_the_file_system_can() {
    let lab = lab_or_skip!();
    for who in [Who::User, Who::Root] {
        let serving = Serving::start(lab, who, &store(lab, who), MANY, &[]);
        for (to, expected) in [(Fs::Xfs, true), (Fs::Btrfs, false), (Fs::Ext4, false)] {
            for way in ["extract", "at-once", "headers", "proxy"] {
                let scratch = lab.scratch(who, to);
                let out = scratch.path().join("out");
                let image = "localhost/walk:v2".as_ref();
                let ended = client(lab, who, MANY, [way.as_ref(), &serving.socket(), image, &out]);
                assert_eq!(ended.code(), 0, "{who:?} {to:?} {way}: {}", ended.stderr);
                // btrfs is asked about by another call than filefrag's; the report knows.
                let nothing_cloned = ended.stdout.contains(" 0 reflinked");
                assert_eq!(!nothing_cloned, expected, "{who:?} {to:?} {way}: {}", ended.stdout);
                if to != Fs::Btrfs {
                    assert_eq!(shared(&out.join("opt/size/1500001")), expected, "{who:?} {to:?} {way}");
                }
            }
        }
        serving.end();
    }
}

#[test]
fn a_hundred_thousand_files_and_few_descriptors_on_both_sides() {
    let lab = lab_or_skip!();
    let (who, image) = (Who::User, "localhost/crowd");
    let store = store(lab, who);
    let serving = Serving::start(lab, who, &store, FEW, &[]);
    let scratch = lab.scratch(who, Fs::Xfs);
    let direct = scratch.path().join("direct");
    must(lab.cstor(who, &store).args(["extract", image]).arg(&direct));
    let wanted = tree::list(&direct).unwrap();
    for way in ["extract", "proxy"] {
        let out = scratch.path().join(way);
        let ended = client(lab, who, FEW, [way.as_ref(), &serving.socket(), image.as_ref(), &out]);
        assert_eq!(ended.code(), 0, "{way}: {}", ended.stderr);
        assert_same(&wanted, &tree::list(&out).unwrap(), Sight::ALL, way);
        eprintln!("{way}: 100,000 files in {:?}", ended.took);
    }
    // What must all be open at once is refused, with how many that would be: the stream and each file with contents.
    let files = wanted.values().filter(|row| row.size.is_some_and(|size| size > 0)).count();
    let out = scratch.path().join("refused");
    let ended = client(lab, who, FEW, ["headers".as_ref(), &serving.socket(), image.as_ref(), &out]);
    assert_eq!(ended.code(), 11, "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("(-32002: {})", files + 1)), "{files}: {}", ended.stderr);
    assert!(!out.exists());
    serving.end();
}

#[test]
fn descriptors_on_their_way_are_waited_for() {
    let lab = lab_or_skip!();
    let who = Who::User;
    let store = store(lab, who);
    // One socket's buffer holds about sixty messages with a file. The kernel counts those of all sockets of the user,
    // and holds them against the limit of whoever sends.
    let servings = [(); 3].map(|()| Serving::start(lab, who, &store, 96, &[]));
    let layers = must(lab.cstor(who, &store).args(["image", "layers", "localhost/crowd", "--format", "json"]));
    let layers: serde_json::Value = serde_json::from_str(&layers).unwrap();
    let layer = &layers["layers"][0];
    let clients = servings.each_ref().map(|serving| {
        let mut command = lab.command(who, lab.executable("cstor-lab-rpc"));
        start(command.arg("tar").arg(serving.socket()).arg(layer["id"].as_str().unwrap()).arg("/dev/null"))
    });
    for _ in 0..3 {
        sleep(Duration::from_millis(300));
        clients.iter().for_each(|client| client.signal(Signal::STOP));
        sleep(Duration::from_millis(300));
        clients.iter().for_each(|client| client.signal(Signal::CONT));
    }
    for ended in clients.map(|client| client.wait()) {
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        assert!(ended.stdout.contains(layer["diff_id"].as_str().unwrap()), "{}", ended.stdout);
    }
    servings.into_iter().for_each(Serving::end);
}

#[test]
fn what_fits_is_decided_by_the_smaller_of_both_limits() {
    let lab = lab_or_skip!();
    let (who, image) = (Who::User, "localhost/many");
    let table = [(FEW, MANY, false), (MANY, FEW, false), (MANY, MANY, true)];
    for (servers, clients, fits) in table {
        let serving = Serving::start(lab, who, &store(lab, who), servers, &[]);
        let scratch = lab.scratch(who, Fs::Xfs);
        let out = scratch.path().join("out");
        let ended = client(lab, who, clients, ["headers".as_ref(), &serving.socket(), image.as_ref(), &out]);
        assert_eq!(ended.code() == 0, fits, "{servers} and {clients}: {}", ended.stderr);
        assert!(fits || ended.stderr.contains("(-32002: "), "{servers} and {clients}: {}", ended.stderr);
        serving.end();
    }
}

#[test]
fn one_helper_serves_more_requests_than_it_has_handles() {
    let lab = lab_or_skip!();
    let who = Who::User;
    let store = store(lab, who);
    let serving = Serving::start(lab, who, &store, MANY, &["--helper", "always"]);
    let layers = must(lab.cstor(who, &store).args(["image", "layers", "localhost/tool", "--format", "json"]));
    let layers: serde_json::Value = serde_json::from_str(&layers).unwrap();
    let id: LayerId = layers["layers"][0]["id"].as_str().unwrap().parse().unwrap();
    let (times, id) = ((cstor_proto::MAX_HANDLES + 50).to_string(), id.to_string());
    let ended = client(lab, who, FEW, ["often".as_ref(), &serving.socket(), id.as_ref(), times.as_ref()]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    serving.end();
}

#[test]
fn the_example_in_python_writes_exact_tars() {
    let lab = lab_or_skip!();
    let (who, image) = (Who::User, "localhost/private");
    let store = store(lab, who);
    let serving = Serving::start(lab, who, &store, MANY, &[]);
    let scratch = lab.scratch(who, Fs::Xfs);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/read_layer.py");
    // The user may not be able to reach the sources.
    let script = scratch.path().join("read_layer.py");
    fs::copy(example, &script).unwrap();
    let mut python = lab.command(who, "/usr/bin/python3");
    let printed = must(python.arg(&script).arg(serving.socket()).args([image, scratch.path().to_str().unwrap()]));
    let mut compared = 0;
    for line in printed.lines() {
        let (diff_id, path) = line.split_once(' ').unwrap();
        let exported = scratch.path().join("exported");
        must(lab.cstor(who, &store).args(["layer", "export", diff_id, "-o"]).arg(&exported));
        assert_eq!(fs::read(path).unwrap(), fs::read(&exported).unwrap(), "{line}");
        compared += 1;
    }
    assert!(compared > 0, "{printed}");
    serving.end();
}
