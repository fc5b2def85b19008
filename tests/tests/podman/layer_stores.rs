//! Layers of additional layer stores: another program provides their files and their tars, and podman only notes where.
//! The program is played by directories that were filled beforehand; podman pulls from a registry, since it asks a layer
//! store for nothing else. What cstor makes of it is held against the same image, pulled as usual.

use cstor_tests::lab::{Fs, Lab, Who, assert_refused};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{Running, must, run, start};
use cstor_tests::tree::{self, Sight, assert_same};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

/// Images without whiteouts, which a real layer store would translate into those of overlayfs. The first has files that
/// the helper must open, which it cannot do below the reference of an image.
const IMAGES: [(&str, &str, usize); 2] = [("walk:base", "", 3), ("tool:latest", ":ref", 1)];

/// A registry on this machine with the image, and a store that was pulled with its layers in a layer store.
struct Pulled<'a> {
    lab: &'a Lab,
    place: TempDir,
    registry: Running,
}

impl<'a> Pulled<'a> {
    /// `suffix` is `:ref` where layers lie beneath the reference of their image.
    fn new(lab: &'a Lab, image: &str, suffix: &str) -> Pulled<'a> {
        let place = lab.scratch(Who::User, Fs::Xfs);
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": place.path().join("registry")}},
            "http": {"addr": free.to_string()},
        });
        fs::write(place.path().join("registry.yml"), config.to_string()).unwrap();
        let mut registry = lab.command(Who::User, "docker-registry");
        let registry = start(registry.arg("serve").arg(place.path().join("registry.yml")));
        for _ in 0..100 {
            if TcpStream::connect(free).is_ok() {
                break;
            }
            sleep(Duration::from_millis(50));
        }
        let reference = format!("{free}/{image}");
        let pulled = Pulled { lab, place, registry };
        let tls = "--tls-verify=false";
        must(lab.command(Who::User, "podman").args([
            "push",
            "-q",
            tls,
            &local(image),
            &format!("docker://{reference}"),
        ]));
        pulled.provide(&reference, suffix == ":ref");
        let mut podman = pulled.podman();
        must(podman.args(["--storage-opt", &pulled.option(suffix), "pull", "-q", tls, &reference]));
        pulled
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn option(&self, suffix: &str) -> String {
        format!("overlay.additionallayerstore={}{suffix}", self.at("layers").display())
    }

    fn podman(&self) -> Command {
        let mut command = self.lab.command(Who::User, "podman");
        command.arg("--root").arg(self.at("store")).arg("--runroot").arg(self.at("run"));
        command
    }

    fn layers(&self) -> Vec<PathBuf> {
        let listed = must(self.lab.command(Who::Root, "find").arg(self.at("layers")).args(["-name", "sha256:*"]));
        listed.lines().map(PathBuf::from).collect()
    }

    /// Fills a layer store with what the registry has of an image: `diff`, `info` and `blob` of each layer.
    fn provide(&self, reference: &str, by_reference: bool) {
        let inspect = |flags: &[&str]| -> Value {
            let mut skopeo = self.lab.command(Who::User, "skopeo");
            skopeo.args(["inspect", "--tls-verify=false", "--raw"]).args(flags).arg(format!("docker://{reference}"));
            serde_json::from_str(&must(&mut skopeo)).unwrap()
        };
        let (manifest, config) = (inspect(&[]), inspect(&["--config"]));
        let script = "layers=$1 blob=$2 digest=$3 info=$4 reference=$5
            if [ -n \"$reference\" ]; then layers=$layers/$(printf %s \"$reference\" | base64 -w0); fi
            mkdir -p \"$layers/$digest/diff\" && cp \"$blob\" \"$layers/$digest/blob\" && printf %s \"$info\" >\"$layers/$digest/info\"
            tar --xattrs --xattrs-include='*' --numeric-owner -xpC \"$layers/$digest/diff\" -zf \"$blob\"";
        for (layer, diff_id) in
            manifest["layers"].as_array().unwrap().iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap())
        {
            let digest = layer["digest"].as_str().unwrap();
            let hex = digest.trim_start_matches("sha256:");
            let blob = self.at("registry/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data");
            let info =
                json!({"compressed-diff-digest": digest, "compressed-size": layer["size"], "diff-digest": diff_id});
            let mut unpack = self.lab.command(Who::User, "podman");
            unpack.args(["unshare", "sh", "-ec", script, "sh"]).arg(self.at("layers")).arg(blob);
            must(unpack.args([digest, &info.to_string(), if by_reference { reference } else { "" }]));
        }
    }

    fn cstor(&self, suffix: &str) -> Command {
        let mut command = self.lab.cstor(Who::User, &self.at("store"));
        command.args(["--storage-opt", &self.option(suffix)]);
        command
    }
}

impl Drop for Pulled<'_> {
    fn drop(&mut self) {
        self.registry.signal(Signal::TERM);
        let _ =
            run(self.lab.command(Who::User, "podman").args(["unshare", "chmod", "-R", "u+rwx"]).arg(self.place.path()));
    }
}

fn local(image: &str) -> String {
    format!("localhost/{image}")
}

fn digest_of_export(lab: &Lab, cstor: &Command, layer: &str) -> String {
    let words = std::iter::once(cstor.get_program()).chain(cstor.get_args());
    let mut shell = lab.command(Who::User, "bash");
    shell.args(["-c", "set -o pipefail; \"$@\" | sha256sum", "bash"]).args(words).args(["layer", "export", layer]);
    format!("sha256:{}", must(&mut shell).split_whitespace().next().unwrap())
}

#[test]
fn layers_of_a_layer_store_are_read_like_any_other() {
    let lab = lab_or_skip!();
    for (image, suffix, layers) in IMAGES {
        let pulled = Pulled::new(lab, image, suffix);
        assert_eq!(pulled.layers().len(), layers, "{suffix}");
        let listed = must(pulled.cstor(suffix).args(["layer", "list", "--format", "json"]));
        let listed: Value = serde_json::from_str(&listed).unwrap();
        for layer in listed["layers"].as_array().unwrap() {
            let id = layer["id"].as_str().unwrap();
            assert!(
                pulled.at("store/overlay").join(id).join("additionallayer").exists(),
                "{suffix}: podman has a copy"
            );
            assert_eq!(digest_of_export(lab, &pulled.cstor(suffix), id), layer["diff_id"].as_str().unwrap());
        }
        let shown = lab.podman_shows(&local(image));
        let out = pulled.at("out");
        let ended = run(pulled.cstor(suffix).args(["extract", image]).arg(&out));
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        assert_same(&shown, &tree::list(&out).unwrap(), Sight::PLAIN, suffix);
        fs::remove_dir_all(&out).unwrap();
        // What is below another reference the helper cannot find.
        let ended = run(pulled.cstor(suffix).args(["--helper", "always", "extract", image]).arg(&out));
        assert_eq!(ended.code(), if suffix.is_empty() { 0 } else { 6 }, "{}", ended.stderr);
        if suffix.is_empty() {
            assert_same(&shown, &tree::list(&out).unwrap(), Sight::PLAIN, "by the helper");
        }
        must(pulled.cstor(suffix).args(["verify", image]));
    }
}

#[test]
fn what_a_layer_store_lacks_is_named() {
    let lab = lab_or_skip!();
    let pulled = Pulled::new(lab, "walk:base", "");
    let empty = lab.scratch(Who::User, Fs::Xfs);
    let refused = |mut command: Command, code: i32, message: &str| {
        let ended = run(command.args(["extract", "walk:base"]).arg(empty.path().join("out")));
        assert_refused(lab, &ended, code, empty.path(), message);
        assert!(ended.stderr.contains(message), "{message}: {}", ended.stderr);
    };
    refused(lab.cstor(Who::User, &pulled.at("store")), 5, "additional layer store at");
    type Damage = fn(&Path);
    let table: &[(Damage, i32, &str)] = &[
        // Without a tar the directory tells what there is.
        (|layer| fs::remove_file(layer.join("blob")).unwrap(), 0, ""),
        (|layer| fs::write(layer.join("blob"), "\u{1f}").unwrap(), 4, "the tar of its blob"),
        (|layer| fs::write(layer.join("blob"), "BZh91AY").unwrap(), 5, "compressed with bzip2"),
        (
            |layer| {
                let blob = fs::read(layer.join("blob")).unwrap();
                fs::write(layer.join("blob"), &blob[..blob.len() / 2]).unwrap();
            },
            4,
            "its blob cannot be read",
        ),
        (|layer| fs::rename(layer.join("diff"), layer.join("gone")).unwrap(), 4, "diff directory"),
    ];
    for (damage, code, message) in table {
        let pulled = Pulled::new(lab, "walk:base", "");
        pulled.layers().iter().for_each(|layer| damage(layer));
        if *code == 0 {
            must(pulled.cstor("").args(["extract", "walk:base"]).arg(pulled.at("out")));
            let shown = lab.podman_shows("localhost/walk:base");
            assert_same(&shown, &tree::list(&pulled.at("out")).unwrap(), Sight::PLAIN, "without blobs");
        } else {
            refused(pulled.cstor(""), *code, message);
        }
    }
}
