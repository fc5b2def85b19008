//! The wire is that of jsonrpc-fdpass: its client reads from our server and its server answers our client, with more
//! descriptors than one `sendmsg` carries. (A client that is not Rust is docs/examples/read_layer.py, in `jsonrpc`.)

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cstor_client::jsonrpc::{Client, Server};
use cstor_client::splitfdstream::{self, Collect};
use cstor_client::{Digest, Layer, Storage};
use cstor_tests::alone::own_process;
use cstor_tests::forge::{Store, file};
use jsonrpc_fdpass::{JsonRpcMessage, JsonRpcRequest, MessageWithFds, UnixSocketTransport};
use rustix::fd::OwnedFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tempfile::TempDir;

/// More than twice what one `sendmsg` carries.
const FILES: usize = 600;

/// A store with one layer of many files, and both ends of a connection in one process, which may have all descriptors
/// that there are.
fn layer() -> (TempDir, Storage, Layer) {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let place = tempfile::tempdir().unwrap();
    let files = (0..FILES).map(|number| file(format!("file-{number}"), number.to_string().repeat(1 + number % 200)));
    let store = Store::stack("localhost/app:latest", [files.collect::<Vec<_>>()]);
    let storage = Storage::open(store.write(&place.path().join("store"), false).unwrap().root).unwrap();
    let layer = storage.image("localhost/app").unwrap().layers().unwrap().remove(0);
    (place, storage, layer)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn their_client_reads_from_our_server() {
    if !own_process() {
        return;
    }
    let (_place, storage, layer) = layer();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let serving = std::thread::spawn(move || Server::new(&storage).serve_connected(ours));
    theirs.set_nonblocking(true).unwrap();
    runtime().block_on(async {
        let transport = UnixSocketTransport::new(tokio::net::UnixStream::from_std(theirs).unwrap());
        let (mut sender, mut receiver) = transport.split();
        let id = layer.id().to_string();
        let requests = [
            ("Initialize", json!([])),
            ("GetLayerSplitfdstream", json!({"layer": id, "inlineThreshold": 0})),
            ("GetLayerTarSplit", json!({"layer": id})),
            ("GetLayerTarSplit", json!({"layer": "none"})),
            ("shutdown", json!({})),
        ];
        for (number, (method, params)) in requests.into_iter().enumerate() {
            let request = JsonRpcRequest::new(method.to_owned(), Some(params), json!(number));
            sender.send(MessageWithFds::new(JsonRpcMessage::Request(request), Vec::new())).await.unwrap();
            let (mut tar, mut files) = (Vec::new(), 0);
            let (answer, descriptors) = loop {
                let received = tokio::time::timeout(Duration::from_secs(30), receiver.receive()).await;
                let MessageWithFds { message, mut file_descriptors } = received.unwrap().unwrap();
                match message {
                    JsonRpcMessage::Response(answer) => break (answer, file_descriptors),
                    JsonRpcMessage::Notification(said) => match said.method.as_str() {
                        "layer.segment" => {
                            tar.extend(STANDARD.decode(said.params.unwrap()["data"].as_str().unwrap()).unwrap());
                        }
                        "layer.file" => {
                            assert_eq!(file_descriptors.len(), 1);
                            File::from(file_descriptors.remove(0)).read_to_end(&mut tar).unwrap();
                            files += 1;
                        }
                        _ => {}
                    },
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(answer.id, json!(number));
            match number {
                0 => assert_eq!(answer.result.unwrap()["version"], "2.0.0"),
                1 => {
                    assert_eq!(descriptors.len(), 1 + FILES);
                    let mut descriptors = descriptors.into_iter();
                    let stream = File::from(descriptors.next().unwrap());
                    let files: Vec<OwnedFd> = descriptors.collect();
                    let mut tar = Vec::new();
                    splitfdstream::reconstruct(stream, &files[..], &mut tar).unwrap();
                    assert_eq!(Some(Digest::of(&tar)), layer.diff_id());
                }
                2 => {
                    assert_eq!((files, Some(Digest::of(&tar))), (FILES, layer.diff_id()));
                    assert_eq!(answer.result.unwrap(), json!({"success": true}));
                }
                3 => assert_eq!(answer.error.unwrap().code(), -32001),
                _ => assert!(answer.error.is_none()),
            }
        }
    });
    serving.join().unwrap().unwrap();
}

#[test]
fn our_client_reads_from_their_server() {
    if !own_process() {
        return;
    }
    let (place, _, layer) = layer();
    let (mut stream, mut files) = (tempfile::tempfile().unwrap(), Collect::new(FILES));
    layer.splitfdstream(&mut stream, &mut files, 0).unwrap();
    stream.flush().unwrap();
    stream.rewind().unwrap();
    let (size, files) = (stream.metadata().unwrap().len(), files.into_files());
    let mut server = jsonrpc_fdpass::Server::new();
    server.register_method("GetLayerSplitfdstream", move |_, params, _| {
        assert_eq!(params.unwrap()["layer"], "the layer");
        let again = |file: &OwnedFd| file.try_clone().unwrap();
        let all = [OwnedFd::from(stream.try_clone().unwrap())].into_iter().chain(files.iter().map(again)).collect();
        Ok((Some(json!({"mediaType": splitfdstream::MEDIA_TYPE, "size": size})), all))
    });
    server.register_method("ListImages", |_, _, _| Ok((Some(json!({"images": []})), Vec::new())));
    server.register_method("shutdown", |_, _, _| Ok((Some(Value::Null), Vec::new())));
    let socket = place.path().join("socket");
    let listens = socket.clone();
    // It has no end of its own; the process's is its.
    std::thread::spawn(move || runtime().block_on(server.listen(&listens)));
    let connected = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        UnixStream::connect(&socket).ok()
    });
    let mut client = Client::over(connected.expect("it listens"));
    assert!(client.images().unwrap().is_empty());
    let received = client.layer_at_once("the layer", false).unwrap();
    assert_eq!(received.files().len(), FILES);
    let mut tar = Vec::new();
    received.rebuild(&mut tar).unwrap();
    assert_eq!(Some(Digest::of(&tar)), layer.diff_id());
    let error = client.layer_toc("the layer", false).unwrap_err();
    assert!(matches!(error, cstor_client::jsonrpc::RpcError::Refused { code: -32601, .. }), "{error:?}");
    client.shutdown().unwrap();
}
