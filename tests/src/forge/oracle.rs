//! Holds the forge against podman itself, in both directions: podman reads a forged store and gives back the forged
//! archives, and the forge takes an archive apart and unpacks it as podman does. Needs root and podman; it says so
//! where it has to skip.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Member, Store, dir, fifo, file, global_header, hard_link, opaque,
    split::{self, Line},
    store::digest,
    symlink,
    trial::listing,
    whiteout,
};

/// A podman of root's with a store that is thrown away.
struct Podman {
    dir: TempDir,
}

impl Podman {
    /// `None`, with the reason printed, where there is none.
    fn find() -> Option<Podman> {
        let missing = if !rustix::process::geteuid().is_root() {
            "not root"
        } else if Command::new("podman").arg("--version").output().is_err() {
            "no podman"
        } else {
            return Some(Podman {
                dir: tempfile::Builder::new().prefix("cstor-oracle-").tempdir().expect("a directory"),
            });
        };
        crate::lab::skip(missing);
        None
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut podman = Command::new("podman");
        podman.arg("--root").arg(self.path("store")).arg("--runroot").arg(self.path("run"));
        podman.args(["--storage-driver", "overlay"]).args(arguments).output().expect("podman")
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = output.stderr.escape_ascii();
        assert!(output.status.success(), "podman {arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The image's tree as podman mounts it.
    fn mounted(&self, image: &str) -> Vec<String> {
        let tree = listing(Path::new(self.ok(&["image", "mount", image]).trim()));
        self.ok(&["image", "umount", image]);
        tree
    }

    /// The lines podman recorded for the layer with this diff id, and the layer's `diff`.
    fn layer(&self, diff_id: &str) -> (Vec<Line>, PathBuf) {
        let layers: Value = read_json(&self.path("store/overlay-layers/layers.json"));
        let layers = layers.as_array().expect("an array");
        let layer = layers.iter().find(|layer| layer["diff-digest"] == diff_id).expect("the layer");
        let id = layer["id"].as_str().expect("an id");
        let gz = std::fs::read(self.path(&format!("store/overlay-layers/{id}.tar-split.gz"))).expect("a tar-split");
        (split::parse(&split::gunzip(&gz)), self.path(&format!("store/overlay/{id}/diff")))
    }

    /// `podman load` of an image of these archives.
    fn load(&self, name: &str, layers: &[Vec<u8>]) {
        let config = serde_json::to_vec(&json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|tar| digest(tar)).collect::<Vec<_>>() },
        }))
        .expect("JSON");
        let file_name = |layer: &Vec<u8>| format!("{}.tar", &digest(layer)["sha256:".len()..]);
        let index = json!([{
            "Config": "config.json",
            "RepoTags": [name],
            "Layers": layers.iter().map(file_name).collect::<Vec<_>>(),
        }]);
        let archive = self.path("archive.tar");
        let mut builder = tar::Builder::new(std::fs::File::create(&archive).expect("the archive"));
        let mut append = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes).expect("the archive");
        };
        layers.iter().for_each(|layer| append(&file_name(layer), layer));
        append("config.json", &config);
        append("manifest.json", &serde_json::to_vec(&index).expect("JSON"));
        builder.finish().expect("the archive");
        drop(builder);
        self.ok(&["load", "-i", archive.to_str().expect("UTF-8")]);
    }
}

impl Drop for Podman {
    /// Its mounts would keep the directory.
    fn drop(&mut self) {
        self.run(&["image", "umount", "--all", "--force"]);
        // The driver's own bind mount of the store, if podman left one.
        for path in ["store/overlay", "store"] {
            Command::new("umount").arg("-q").arg(self.path(path)).output().map(drop).unwrap_or_default();
        }
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a JSON file")).expect("JSON")
}

/// Everything a good layer may hold, with the shapes that once went wrong in one reader or another. `lib` is where
/// that link points.
fn lower(lib: &str) -> Vec<Member> {
    let deep = "deep/".repeat(30);
    vec![
        global_header(&[("comment", "of no consequence")]),
        dir("./").mode(0o700),
        dir("etc").mode(0o711).owner(5, 6),
        file("etc/passwd", "root:x:0:0").mode(0o4755).owner(7, 8),
        file("etc/empty", ""),
        file("./etc/dotted", "d".repeat(1500)).xattr("user.colour", "blue"),
        file("/etc//absolute", "a".repeat(512)),
        symlink("lib", lib),
        dir("shared/lib"),
        file("lib/through", "through a link of the same layer"),
        hard_link("etc/again", "/lib/through").mode(0o600),
        hard_link("etc/link-to-link", "lib"),
        file(format!("{deep}pax"), "long name, PAX"),
        file(format!("{deep}gnu"), "long name, GNU").gnu(),
        symlink("far", format!("{deep}pax")).gnu(),
        file(b"caf\xe9", "name of no encoding"),
        file("<&>\u{2028}", "characters that Go's JSON escapes"),
        file("old", "hidden above").mtime(-5),
        dir("hidden"),
        file("hidden/below", "hidden above"),
        dir("closed").mode(0),
        file("closed/in", "mode 0"),
        fifo("pipe").mode(0o640),
        file("big", vec![7; 300_000]).owner(1 << 22, 1 << 22),
    ]
}

fn upper() -> Vec<Member> {
    vec![
        whiteout("old"),
        dir("hidden").mode(0o750),
        file("hidden/new", "n"),
        opaque("hidden"),
        file("etc/later", "its parent has no member in this layer"),
        dir("shared").mode(0o751).mtime(7),
        symlink("big", "small"),
    ]
}

#[test]
fn podman_reads_a_forged_store() {
    let Some(podman) = Podman::find() else { return };
    let name = "localhost/forged:1";
    // Absolute, podman unpacks below it but cannot save the layer again.
    let forged =
        Store::stack(name, [lower("shared/lib"), upper()]).write(&podman.path("store"), true).expect("a store");

    let listed = podman.ok(&["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]);
    assert_eq!(listed.trim(), format!("{name} sha256:{}", forged.images[0]));

    let saved = podman.path("saved.tar");
    podman.ok(&["save", "-o", saved.to_str().expect("UTF-8"), name]);
    let mut members = std::collections::BTreeMap::new();
    let mut archive = tar::Archive::new(std::fs::File::open(&saved).expect("the archive"));
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("an entry");
        members.insert(entry.path_bytes().to_vec(), content);
    }
    let index: Value = serde_json::from_slice(&members[&b"manifest.json"[..]]).expect("manifest.json");
    let layers = index[0]["Layers"].as_array().expect("layers");
    assert_eq!(layers.len(), forged.layers.len());
    for (name, layer) in layers.iter().zip(&forged.layers) {
        assert!(members[name.as_str().expect("a name").as_bytes()] == layer.tar, "{name} is not the forged archive");
    }

    let tree = podman.mounted(name);
    for line in ["f 644 hidden/new = n", "d 750 hidden", "f 4755 etc/passwd = root:x:0:0", "l big -> small"] {
        assert!(tree.iter().any(|have| have == line), "{line} is missing in {tree:#?}");
    }
    assert!(!tree.iter().any(|line| line.ends_with("old") || line.contains("hidden/below")), "{tree:#?}");
}

#[test]
fn the_forge_takes_archives_apart_as_podman_does() {
    let Some(podman) = Podman::find() else { return };
    let mut layers = Store::stack("", [lower("/shared/lib"), upper()]).layers;
    // tar pads archives to 10 KiB, and others to nothing at all.
    layers[0].tail = vec![0; 10_240];
    let tars: Vec<Vec<u8>> = layers.iter().map(super::Layer::tar).collect();
    let forged = Store { layers, images: Vec::new() }.write(&podman.path("forged"), true).expect("a store");
    podman.load("localhost/loaded:1", &tars);
    for (index, tar) in tars.iter().enumerate() {
        let (lines, diff) = podman.layer(&digest(tar));
        agree(&split::disassemble(tar), &lines);
        assert_eq!(listing(&forged.diff(index, "")), listing(&diff), "diff of layer {index}");
    }
}

#[test]
fn the_forge_takes_the_archives_of_gnu_tar_apart_as_podman_does() {
    let Some(podman) = Podman::find() else { return };
    let tree = podman.path("tree");
    let store = Store::stack("", [lower("/shared/lib").into_iter().filter(|member| member.on_disk).collect()]);
    let forged = store.write(&tree, true).expect("a store");
    for format in ["ustar", "gnu", "posix", "v7"] {
        let archive = podman.path(&format!("{format}.tar"));
        let mut tar = Command::new("tar");
        tar.arg(format!("--format={format}")).arg("-C").arg(forged.diff(0, "")).arg("-cf").arg(&archive);
        // Names over 100 bytes and big ids are beyond the oldest formats.
        match format {
            "v7" => tar.args(["etc", "shared", "lib", "closed"]),
            "ustar" => tar.args(["--exclude=big", "--exclude=far", "."]),
            _ => tar.arg("."),
        };
        let output = tar.output().expect("tar");
        assert!(output.status.success(), "{}", output.stderr.escape_ascii());
        let bytes = std::fs::read(&archive).expect("the archive");
        podman.load(&format!("localhost/{format}:1"), std::slice::from_ref(&bytes));
        let (lines, _) = podman.layer(&digest(&bytes));
        agree(&split::disassemble(&bytes), &lines);
    }
}

/// Line by line; a later tar-split no longer writes the empty segment at the end.
fn agree(ours: &[Line], podmans: &[Line]) {
    let trimmed = |lines: &[Line]| -> Vec<Line> {
        let empty = Line { position: None, ..Line::segment(b"") };
        let last = lines.last().is_some_and(|line| Line { position: None, ..line.clone() } == empty);
        lines[..lines.len() - usize::from(last)].to_vec()
    };
    let (ours, podmans) = (trimmed(ours), trimmed(podmans));
    for (ours, podmans) in ours.iter().zip(&podmans) {
        assert_eq!(ours, podmans);
    }
    assert_eq!(ours.len(), podmans.len());
}

/// What the forge writes is an archive to GNU tar's and the `tar` crate's eyes as well.
#[test]
fn forged_archives_are_archives() {
    let layer = super::Layer::new(lower("/shared/lib"));
    let bytes = layer.tar();
    let mut archive = tar::Archive::new(&bytes[..]);
    let names: Vec<Vec<u8>> =
        archive.entries().expect("an archive").map(|entry| entry.expect("an entry").path_bytes().to_vec()).collect();
    let expected: Vec<Vec<u8>> = lower("/shared/lib").iter().map(|member| member.name.clone()).collect();
    let trimmed = |names: &[Vec<u8>]| -> Vec<Vec<u8>> {
        let keep = |name: &&Vec<u8>| !name.starts_with(b"pax_global");
        names.iter().filter(keep).map(|name| name.strip_suffix(b"/").unwrap_or(name).to_vec()).collect()
    };
    assert_eq!(trimmed(&names), trimmed(&expected));

    let mut tar = Command::new("tar");
    let mut child = tar.args(["-tf", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("tar");
    let mut input = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, &bytes).expect("tar reads it all");
    drop(input);
    let output = child.wait_with_output().expect("tar");
    assert!(output.status.success());
    assert_eq!(
        output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count(),
        lower("/shared/lib").len() - 1
    );
    assert!(output.stdout.starts_with(b"./\n"));
}
