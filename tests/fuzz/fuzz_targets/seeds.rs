//! Writes the corpus: whole conversations and answers, in the encoding of cstor-proto, and what `src/seeds.rs` makes of
//! the other formats, for the targets to start from. Run it in tests/fuzz after a change of either. What a search found
//! is beside them as `found_*`, and stays.

use std::fs;

use cstor_proto::{
    Confinement, Enforced, LayerDir, LayerHandle, LayerId, MAGIC, Ready, Refusal, RelPath, Reply, Request, StoreIndex,
    VERSION, VersionRange, encode,
};

const ID: LayerId = LayerId::from_bytes([0xab; 32]);

// It is built with the flags of the targets, whose hooks are in libFuzzer.
libfuzzer_sys::fuzz_target!(|_data: &[u8]| {});

fn name(name: &str) -> RelPath {
    RelPath::clean(name.as_bytes()).expect("a name")
}

/// Frames as frame_helper reads them, each behind its length.
fn conversation(mode: u8, requests: &[Request]) -> Vec<u8> {
    let mut bytes = vec![mode];
    for request in requests {
        let frame = encode(request).expect("a frame");
        bytes.push(u8::try_from(frame.len()).expect("a short frame"));
        bytes.extend(frame);
    }
    bytes
}

fn main() {
    let hello = Request::Hello { magic: MAGIC, versions: VersionRange { min: VERSION, max: VERSION }, roots: 1 };
    let layer = |dir| Request::OpenLayer { root: StoreIndex(0), id: ID, dir };
    let split = Request::OpenTarSplit { root: StoreIndex(0), id: ID };
    let open =
        |names: &[&str]| Request::Open { layer: LayerHandle(0), names: names.iter().copied().map(name).collect() };
    let close = Request::CloseLayer { layer: LayerHandle(0) };
    let helper = [
        ("hello", conversation(0, std::slice::from_ref(&hello))),
        ("bye", conversation(1, &[Request::Bye])),
        (
            "layers",
            conversation(1, &[layer(LayerDir::Diff), layer(LayerDir::DiffN(300)), layer(LayerDir::AdditionalDiff)]),
        ),
        (
            "files",
            conversation(1, &[layer(LayerDir::Diff), open(&["f", "d/g", "l/g", "missing"]), split, Request::Bye]),
        ),
        (
            "traps",
            conversation(
                1,
                &[layer(LayerDir::Diff), open(&["passwd", "abs/passwd", "up/outside", "loop/x", "fifo", "d"])],
            ),
        ),
        (
            "names",
            conversation(
                1,
                &[
                    layer(LayerDir::Diff),
                    Request::List { layer: LayerHandle(0), name: None },
                    Request::List { layer: LayerHandle(0), name: Some(name("d")) },
                    Request::Look { layer: LayerHandle(0), names: ["f", "l", "up/f", "fifo"].map(name).to_vec() },
                    Request::UserXattr { layer: LayerHandle(0), name: Some(name("f")), key: b"note".to_vec() },
                ],
            ),
        ),
        ("handles", conversation(1, &[layer(LayerDir::Diff), close.clone(), open(&["f"]), close])),
        ("again", conversation(1, std::slice::from_ref(&hello))),
        ("descriptors", conversation(3, &[layer(LayerDir::Diff), open(&["f"])])),
    ];
    let confinement = Confinement {
        effective: 4,
        regainable: 4,
        no_new_privs: true,
        nobody: true,
        landlock: Enforced::Fully,
        seccomp: true,
        mapped_uids: 65537,
        mapped_gids: 65537,
    };
    let answer = |asked: u8, fds: &[u8], reply: Reply| {
        let count = u8::try_from(fds.len()).expect("few");
        [&[asked, count][..], fds, &encode(&reply).expect("a frame")].concat()
    };
    let opened = |results: &[Result<(), Refusal>]| Reply::Opened(results.to_vec());
    let client = [
        ("none", answer(0, &[], opened(&[]))),
        ("good", answer(2, &[0, 1], opened(&[Ok(()), Ok(())]))),
        ("refused", answer(2, &[0], opened(&[Err(Refusal::Denied), Ok(())]))),
        (
            "errors",
            answer(
                4,
                &[],
                opened(&[
                    Err(Refusal::NotFound),
                    Err(Refusal::NotRegular),
                    Err(Refusal::Unmapped),
                    Err(Refusal::Io(5)),
                ]),
            ),
        ),
        ("fewer", answer(2, &[0], opened(&[Ok(()), Ok(())]))),
        ("more", answer(1, &[0, 1], opened(&[Ok(())]))),
        ("bad", answer(9, &[2, 3, 4, 5, 6, 7, 8, 9, 10], opened(&[Ok(()); 9]))),
        ("ready", answer(0, &[], Reply::Ready(Ready { version: VERSION, confinement }))),
        ("split", answer(1, &[0], Reply::TarSplit(Ok(())))),
    ];
    let own = |target: &'static str, seeds: &[(&str, Vec<u8>)]| {
        seeds.iter().map(|(name, bytes)| (target, (*name).to_owned(), bytes.clone())).collect::<Vec<_>>()
    };
    let frames = [own("frame_helper", &helper), own("frame_client", &client)].concat();
    for (target, name, bytes) in frames.into_iter().chain(cstor_fuzz::seeds::all()) {
        let folder = format!("corpus/{target}");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(format!("{folder}/{name}"), bytes).expect("a file");
    }
}
