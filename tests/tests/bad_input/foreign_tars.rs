//! Tars as GNU tar, bsdtar and Python write them, taken in by podman and by skopeo, come out of the store as the same
//! bytes. Where podman keeps too little of one to rebuild it, the export says so and writes nothing, and the files are
//! extracted all the same; where podman takes none, the row says that. How such headers are read is tested beside the
//! code, what `tar-diff` makes of them in `tar_diff`.

use cstor_tests::forge::store::digest;
use cstor_tests::lab::{self, Fs, Lab, Who};
use cstor_tests::lab_or_skip;
use cstor_tests::run::{must, run};
use cstor_tests::tree;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Archives a tree: `FORMAT TO NAME…`; in PAX format with a global header.
const PYTHON_TREE: &str = r#"
import sys, tarfile
kind, to, *names = sys.argv[1:]
extra = {"pax_headers": {"comment": "of the archive"}} if kind == "PAX_FORMAT" else {}
with tarfile.open(to, "w", format=getattr(tarfile, kind), **extra) as tar:
    for name in names:
        tar.add(name, recursive=False)
"#;

/// Archives one file whose header says in an unusual way what it says: `KIND TO`.
const PYTHON_ODD: &str = r#"
import io, sys, tarfile
kind, to = sys.argv[1:]
t = tarfile.TarInfo("odd")
t.size, data = 5, b"bytes"
if kind == "pax-size":
    raw = tarfile.TarInfo.create_pax_header
    t.pax_headers = {"size": "5", "uid": "7", "gid": "8", "path": "./odd", "mtime": "-1.25"}
    block = t.tobuf(tarfile.PAX_FORMAT)
elif kind == "base-256":
    block = bytearray(t.tobuf(tarfile.GNU_FORMAT))
    for start, length, number in (108, 8, 7), (116, 8, 8), (124, 12, 5), (136, 12, -3):
        block[start:start + length] = number.to_bytes(length, "big", signed=True)
        block[start] |= 0x80
elif kind.startswith("large-ids"):
    t.uid, t.gid = 0o7777777 + 1, 4_000_000_000
    block = t.tobuf(tarfile.GNU_FORMAT if kind.endswith("gnu") else tarfile.PAX_FORMAT)
if kind == "base-256":
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
open(to, "wb").write(bytes(block) + data + bytes(507 + 1024))
"#;

const LINKS: usize = 900;

/// The tree, the names that any format holds, and all names.
struct Tree {
    top: PathBuf,
    short: Vec<Vec<u8>>,
    all: Vec<Vec<u8>>,
}

/// Everything that headers have extensions for.
fn tree(place: &Path) -> Tree {
    let top = place.join("tree");
    let at = |name: &str| top.join(name);
    tree::small(&top);
    must(Command::new("mkfifo").arg(at("t/fifo")));
    let times = |names: &[Vec<u8>], time: &str| {
        let names = names.iter().map(|name| OsStr::from_bytes(name));
        must(Command::new("touch").current_dir(&top).args(["-h", "-d", time]).args(names));
    };
    let short: Vec<Vec<u8>> = tree::SMALL.map(|name| name.as_bytes().to_vec()).into();
    times(&short, "@1600000001");

    // Of 101 to 255 bytes, and of more; a target of more; a first name of more.
    let (long, longer) = (format!("t/{}", "l".repeat(110)), format!("t/{0}/{0}/{0}", "m".repeat(120)));
    fs::write(at(&long), "long").unwrap();
    fs::create_dir_all(at(&longer).parent().unwrap()).unwrap();
    fs::write(at(&longer), "longer").unwrap();
    fs::hard_link(at(&longer), at("t/link-longer")).unwrap();
    symlink("s".repeat(LINKS), at("t/symlink-long")).unwrap();
    let odd = b"t/caf\xe9 \xc3\xa9".to_vec();
    fs::write(top.join(OsStr::from_bytes(&odd)), "odd").unwrap();
    let odd_long = [b"t/".to_vec(), vec![0xe9; 150]].concat();
    fs::write(top.join(OsStr::from_bytes(&odd_long)), "odd and long").unwrap();
    for name in ["old", "late", "fine", "owned", "noted", "capable"] {
        fs::write(at("t").join(name), name).unwrap();
    }
    chown(at("t/owned"), Some(60_000), Some(50_000)).unwrap();
    must(Command::new("mknod").arg(at("t/null")).args(["c", "1", "3"]));
    must(Command::new("setfattr").args(["-n", "user.note", "-v", "text"]).arg(at("t/noted")));
    must(Command::new("setfattr").args(["-n", "user.raw", "-v", "0x00ff0a3d"]).arg(at("t/noted")));
    must(Command::new("setcap").arg("cap_net_raw+ep").arg(at("t/capable")));
    let mut all = short.clone();
    all.extend([long, longer].map(String::into_bytes));
    all.extend([odd, odd_long]);
    let more = ["link-longer", "symlink-long", "old", "late", "fine", "owned", "noted", "capable", "null", "fifo"];
    all.extend(more.map(|name| format!("t/{name}").into_bytes()));
    times(&[b"t/old".to_vec()], "@-86400.25");
    times(&[b"t/late".to_vec()], "@8600000000");
    times(&[b"t/fine".to_vec()], "@1600000000.123456789");
    Tree { top, short, all }
}

/// More runs of data than one header has room for.
fn sparse(top: &Path) -> Vec<Vec<u8>> {
    let file = fs::File::create(top.join("t/sparse")).unwrap();
    file.set_len(9 << 20).unwrap();
    (0..30).for_each(|run| file.write_all_at(b"data", 1 + (run << 18)).unwrap());
    vec![b"t".to_vec(), b"t/sparse".to_vec(), b"t/file".to_vec()]
}

/// One archive.
#[derive(Clone)]
struct Input {
    what: String,
    tar: PathBuf,
    sparse: bool,
}

fn make(top: &Path, tool: &str, flags: &str, names: &[Vec<u8>]) -> Input {
    let what = format!("{tool} {flags}");
    let tar = top.join(format!("{}.tar", what.replace([' ', '/', '*', '\''], "_")));
    let mut command = Command::new(tool);
    command.current_dir(top).env("LC_ALL", "C.UTF-8");
    match tool {
        "tar" => command.args(flags.split(' ')).args(["--no-recursion", "-cf"]).arg(&tar),
        "bsdtar" => command.args(flags.split(' ')).arg("-ncf").arg(&tar),
        _ => command.args(["-c", PYTHON_TREE, flags]).arg(&tar),
    };
    must(command.args(names.iter().map(|name| OsStr::from_bytes(name))));
    Input { what, tar, sparse: flags.contains("sparse") || names.iter().any(|name| name == b"t/sparse") }
}

fn odd(top: &Path, kind: &str) -> Input {
    let tar = top.join(format!("{kind}.tar"));
    must(Command::new("python3").args(["-c", PYTHON_ODD, kind]).arg(&tar));
    Input { what: kind.to_owned(), tar, sparse: false }
}

/// The configuration of an image that has the archives as its layers, and their digests.
fn config(inputs: &[Input]) -> (Vec<u8>, Vec<String>) {
    let diff_ids: Vec<String> = inputs.iter().map(|input| digest(&fs::read(&input.tar).unwrap())).collect();
    let history: Vec<Value> = inputs.iter().map(|input| json!({"created_by": input.what})).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs, "history": history});
    (serde_json::to_vec(&config).unwrap(), diff_ids)
}

fn docker_archive(inputs: &[Input], to: &Path) {
    let (config, _) = config(inputs);
    let names: Vec<String> = (0..inputs.len()).map(|number| format!("{number}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["localhost/foreign:1"], "Layers": names}]);
    let mut archive = tar::Builder::new(fs::File::create(to).unwrap());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    add("manifest.json", manifest.to_string().as_bytes());
    add("config.json", &config);
    names.iter().zip(inputs).for_each(|(name, input)| add(name, &fs::read(&input.tar).unwrap()));
    archive.finish().unwrap();
}

fn oci_layout(inputs: &[Input], to: &Path) {
    let blobs = to.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = digest(bytes);
        fs::write(blobs.join(&digest[7..]), bytes).unwrap();
        (digest, bytes.len())
    };
    let (config, _) = config(inputs);
    let entry = |kind: &str, (digest, size)| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size});
    let layers: Vec<Value> =
        inputs.iter().map(|input| entry("layer.v1.tar", blob(&fs::read(&input.tar).unwrap()))).collect();
    let manifest = json!({"schemaVersion": 2, "config": entry("config.v1+json", blob(&config)), "layers": layers});
    let mut listed = entry("manifest.v1+json", blob(manifest.to_string().as_bytes()));
    listed["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
    fs::write(to.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(to.join("index.json"), json!({"schemaVersion": 2, "manifests": [listed]}).to_string()).unwrap();
}

/// A store of the user that other programs fill.
struct Filled<'l> {
    lab: &'l Lab,
    root: PathBuf,
    run_root: PathBuf,
}

impl Filled<'_> {
    fn new<'l>(lab: &'l Lab, place: &Path, name: &str) -> Filled<'l> {
        Filled { lab, root: place.join(name), run_root: place.join(format!("r-{name}")) }
    }

    fn load(&self, inputs: &[Input], flags: &[&str]) -> (i32, String) {
        let archive = self.root.with_extension("archive");
        docker_archive(inputs, &archive);
        let mut podman = self.lab.command(Who::User, "podman");
        podman.arg("--root").arg(&self.root).arg("--runroot").arg(&self.run_root).args(flags);
        let ended = run(podman.args(["load", "-q", "-i"]).arg(&archive));
        fs::remove_file(&archive).unwrap();
        (ended.code(), ended.stderr)
    }

    fn copy(&self, inputs: &[Input]) {
        let layout = self.root.with_extension("layout");
        oci_layout(inputs, &layout);
        let to = format!(
            "containers-storage:[overlay@{}+{}]localhost/foreign:1",
            self.root.display(),
            self.run_root.display()
        );
        must(self.lab.command(Who::User, "skopeo").args(["copy", "-q", &format!("oci:{}:1", layout.display()), &to]));
    }

    /// Every layer is its archive again, or cannot be and says so.
    fn gives_back(&self, inputs: &[Input], out: &Path) {
        let cstor = |arguments: &[&str]| run(self.lab.cstor(Who::User, &self.root).args(arguments));
        let listed: Value =
            serde_json::from_str(&cstor(&["image", "layers", "foreign:1", "--format", "json"]).stdout).unwrap();
        let layers = listed["layers"].as_array().unwrap();
        assert_eq!(layers.len(), inputs.len());
        for (input, layer) in inputs.iter().zip(layers) {
            let what = format!("{}, {}", input.what, self.root.display());
            let bytes = fs::read(&input.tar).unwrap();
            assert_eq!(layer["diff_id"], digest(&bytes), "{what}");
            let layer = layer["id"].as_str().unwrap();
            let to = out.join("layer.tar");
            for verify in ["digest", "crc", "none"] {
                let ended = cstor(&["layer", "export", layer, "--verify", verify, "-o", to.to_str().unwrap()]);
                if input.sparse {
                    assert_eq!(ended.code(), 5, "{what}: {}", ended.stderr);
                    assert!(
                        ended.stderr.contains("t/sparse") && ended.stderr.contains("cannot be rebuilt"),
                        "{}",
                        ended.stderr
                    );
                    assert_eq!(self.lab.names_in(out), [""; 0], "{what}");
                } else {
                    assert_eq!(ended.code(), 0, "{what}: {}", ended.stderr);
                    assert!(fs::read(&to).unwrap() == bytes, "{what}, {verify}: other bytes");
                    fs::remove_file(&to).unwrap();
                }
            }
            let files = out.join("files");
            let ended = cstor(&["layer", "extract", layer, files.to_str().unwrap()]);
            assert_eq!(ended.code(), 0, "{what}: {}", ended.stderr);
            if input.sparse {
                let made = input.tar.parent().unwrap().join("t/sparse");
                assert!(fs::read(files.join("t/sparse")).unwrap() == fs::read(made).unwrap(), "{what}: other contents");
            }
            fs::remove_dir_all(&files).unwrap();
            let ended = cstor(&["verify", layer]);
            assert_eq!(ended.code(), 0, "{what}: {}{}", ended.stdout, ended.stderr);
        }
    }
}

impl Drop for Filled<'_> {
    /// Files of other users of the namespace.
    fn drop(&mut self) {
        let mut podman = self.lab.command(Who::User, "podman");
        run(podman.args(["unshare", "rm", "-rf"]).arg(&self.root).arg(&self.run_root));
    }
}

fn missing() -> Option<&'static str> {
    let there =
        |tool: &str| ["/usr/bin", "/usr/sbin", "/sbin"].iter().any(|place| Path::new(place).join(tool).exists());
    ["bsdtar", "python3", "skopeo", "setfattr", "setcap"].into_iter().find(|tool| !there(tool))
}

#[test]
fn what_other_archivers_wrote_comes_out_as_it_went_in() {
    let lab = lab_or_skip!();
    if let Some(tool) = missing() {
        return lab::skip(tool);
    }
    // Times before 1901 and after 2446 are for headers alone; ext4 holds the rest.
    let [place, stores] = [Fs::Ext4, Fs::Xfs].map(|fs| lab.scratch(Who::User, fs));
    let Tree { top, short, all } = tree(place.path());
    let holes = sparse(&top);
    let xattrs = "--xattrs --xattrs-include=*";
    type Row<'a> = (&'a str, &'a [&'a str], &'a [Vec<u8>]);
    let rows: [Row<'_>; 7] = [
        ("tar", &["--format=v7", "--format=ustar", "--format=ustar -b 100"], &short),
        ("tar", &["--format=gnu", "--format=oldgnu", "--format=pax", &format!("--format=pax {xattrs}")], &all),
        ("bsdtar", &["--format=v7", "--format=ustar"], &short),
        ("bsdtar", &["--format=gnutar", "--format=pax", "--format=pax --xattrs"], &all),
        ("python3", &["USTAR_FORMAT"], &short),
        ("python3", &["GNU_FORMAT", "PAX_FORMAT"], &all),
        (
            "tar",
            &[
                "--format=pax --sparse --sparse-version=0.0",
                "--format=pax --sparse --sparse-version=0.1",
                "--format=pax --sparse --sparse-version=1.0",
            ],
            &holes,
        ),
    ];
    let mut inputs: Vec<Input> =
        rows.iter().flat_map(|(tool, flags, names)| flags.iter().map(|flags| make(&top, tool, flags, names))).collect();
    inputs.push(make(&top, "bsdtar", "--format=pax --read-sparse", &holes));
    inputs.extend(["pax-size", "base-256"].map(|kind| odd(&top, kind)));

    each_extension_occurs(&inputs);

    let out = stores.path().join("out");
    fs::create_dir(&out).unwrap();
    chown(&out, Some(lab.uid()), None).unwrap();
    let loaded = Filled::new(lab, stores.path(), "p");
    let (code, stderr) = loaded.load(&inputs, &[]);
    assert_eq!(code, 0, "{stderr}");
    loaded.gives_back(&inputs, &out);
    let copied = Filled::new(lab, stores.path(), "s");
    copied.copy(&inputs);
    copied.gives_back(&inputs, &out);

    // With such a layer an image has no copy, but still its files.
    let mut cstor = lab.cstor(Who::User, &loaded.root);
    let ended = run(cstor.args(["image", "copy", "foreign:1", &format!("oci:{}", out.join("oci").display())]));
    assert_eq!(ended.code(), 5, "{}", ended.stderr);
    assert_eq!(lab.names_in(&out), [""; 0]);
    must(lab.cstor(Who::User, &loaded.root).args(["image", "export", "foreign:1", "-o"]).arg(out.join("image.tar")));

    // What podman refuses, alone; and what it then takes after all.
    let refused: [(Input, &str, Option<&[&str]>); 5] = [
        (make(&top, "tar", "--format=gnu --sparse", &holes), "unhandled tar header type 83", None),
        (make(&top, "tar", "--format=oldgnu --sparse", &holes), "unhandled tar header type 83", None),
        (huge(&top), "unhandled tar header type 83", None),
        (odd(&top, "large-ids-gnu"), "insufficient UIDs or GIDs", Some(&["--storage-opt", "ignore_chown_errors=true"])),
        (odd(&top, "large-ids-pax"), "insufficient UIDs or GIDs", Some(&["--storage-opt", "ignore_chown_errors=true"])),
    ];
    for (number, (input, why, with)) in refused.into_iter().enumerate() {
        let store = Filled::new(lab, stores.path(), &format!("{number}"));
        let (code, stderr) = store.load(std::slice::from_ref(&input), &[]);
        assert!(code != 0 && stderr.contains(why), "{}: {code} {stderr}", input.what);
        let Some(flags) = with else { continue };
        let (code, stderr) = store.load(std::slice::from_ref(&input), flags);
        assert_eq!(code, 0, "{}: {stderr}", input.what);
        store.gives_back(&[input], &out);
    }
}

/// The archivers decide what they write: it is what this is about.
fn each_extension_occurs(inputs: &[Input]) {
    let table: [(&str, &[u8]); 14] = [
        ("tar --format=gnu", b"././@LongLink"),
        ("tar --format=gnu", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xae"),
        ("tar --format=pax", b"mtime=-86400.25"),
        ("tar --format=pax", b"mtime=8600000000"),
        ("tar --format=pax", b"mtime=1600000000.123456789"),
        ("tar --format=pax --xattrs --xattrs-include=*", b"SCHILY.xattr.user.raw=\x00\xff\n="),
        ("tar --format=pax --xattrs --xattrs-include=*", b"SCHILY.xattr.security.capability="),
        ("bsdtar --format=pax --xattrs", b"LIBARCHIVE.xattr.user.note="),
        ("bsdtar --format=pax", b"hdrcharset=BINARY"),
        ("python3 PAX_FORMAT", b"comment=of the archive"),
        ("tar --format=pax --sparse --sparse-version=0.0", b"GNU.sparse.offset="),
        ("tar --format=pax --sparse --sparse-version=0.1", b"GNU.sparse.map="),
        ("tar --format=pax --sparse --sparse-version=1.0", b"GNU.sparse.major=1"),
        ("bsdtar --format=pax --read-sparse", b"GNU.sparse.major=1"),
    ];
    for (what, wanted) in table {
        let input = inputs.iter().find(|input| input.what == what).unwrap_or_else(|| panic!("no {what}"));
        let bytes = fs::read(&input.tar).unwrap();
        assert!(bytes.windows(wanted.len()).any(|part| part == wanted), "{what}: no {}", wanted.escape_ascii());
    }
}

/// A size that an octal field does not hold, by a file that is a hole.
fn huge(top: &Path) -> Input {
    fs::File::create(top.join("t/sparse")).unwrap().set_len(9 << 30).unwrap();
    make(top, "tar", "--format=gnu --sparse -b 1", &[b"t/sparse".to_vec()])
}
