//! `cstor-lab-proxy DIR [FAULT [METHOD]]`: an image proxy that has one image, from the files of a directory (`manifest`,
//! `config`, `layers`, blobs by their hexadecimal digests), and one fault, at one method.

#![forbid(unsafe_code)]

use cstor_proto::{Channel, ChannelError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, PipeWriter, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::exit;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

/// Longer than any test.
const FOREVER: Duration = Duration::from_secs(600);

struct Proxy {
    channel: Channel,
    image: PathBuf,
    fault: String,
    at: String,
    writers: BTreeMap<u64, JoinHandle<()>>,
    pipes: u64,
}

fn main() -> Result<(), ChannelError> {
    let mut words = std::env::args().skip(1);
    let mut word = || words.next().unwrap_or_default();
    let (image, fault, at) = (word().into(), word(), word());
    if fault == "exit" {
        writeln!(io::stderr(), "one\nno \u{1b}[31msuch thing").expect("an error output");
        exit(3);
    }
    if fault == "noise" {
        io::stderr().write_all(&vec![b'x'; 1 << 20]).expect("an error output");
    }
    let socket = io::stdin().as_fd().try_clone_to_owned().expect("a second descriptor");
    let channel = Channel::from_fd(socket)?;
    Proxy { channel, image, fault, at, writers: BTreeMap::new(), pipes: 0 }.serve()
}

impl Proxy {
    fn serve(&mut self) -> Result<(), ChannelError> {
        loop {
            let request: Value = match self.channel.receive_frame(0) {
                Err(ChannelError::Closed) => return Ok(()),
                frame => serde_json::from_slice(frame?.0).expect("a request"),
            };
            let method = request["method"].as_str().expect("a method").to_owned();
            if method == "Shutdown" {
                return Ok(());
            }
            self.answer(&method, &request["args"])?;
        }
    }

    fn answer(&mut self, method: &str, args: &Value) -> Result<(), ChannelError> {
        let fault = if method == self.at { self.fault.clone() } else { String::new() };
        match fault.as_str() {
            "gone" => exit(9),
            "silent" => sleep(FOREVER),
            "garbage" => return self.channel.send_frame(b"{\"success\":", &[]),
            "list" => return self.channel.send_frame(b"[]", &[]),
            "long" => return self.reply(json!("x".repeat(40_000)), 0, &[]),
            "refuse" => {
                let refusal = json!({"success": false, "value": null, "pipeid": 0, "error": "out of \u{1b}[31mstock"});
                return self.channel.send_frame(refusal.to_string().as_bytes(), &[]);
            }
            "null" => return self.reply(Value::Null, 0, &[]),
            _ => {}
        }
        let id = &args[0];
        match method {
            "Initialize" => {
                let version = if self.fault == "version" { &self.at } else { "0.2.3" };
                self.reply(json!(version), 0, &surplus(&fault))
            }
            // An image that has a file `absent` instead of a manifest is not there.
            "OpenImageOptional" if self.image.join("absent").exists() => self.reply(json!(0), 0, &[]),
            "OpenImage" | "OpenImageOptional" => self.reply(json!(1), 0, &surplus(&fault)),
            "CloseImage" => self.reply(Value::Null, 0, &[]),
            "FinishPipe" => {
                let writer = self.writers.remove(&id.as_u64().expect("a number")).expect("a pipe that is open");
                // As skopeo does, it answers when all is written, and closes the pipe then.
                let _ = writer.join();
                self.reply(Value::Null, 0, &surplus(&fault))
            }
            "GetManifest" => self.send("manifest", json!(format!("sha256:{}", "0".repeat(64))), &fault),
            "GetFullConfig" => self.send("config", Value::Null, &fault),
            "GetLayerInfoPiped" => self.send("layers", Value::Null, &fault),
            "GetBlob" => {
                let digest = args[1].as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest");
                self.send(digest, args[2].clone(), &fault)
            }
            _ => panic!("unknown method {method}"),
        }
    }

    fn reply(&self, value: Value, pipe: u64, fds: &[OwnedFd]) -> Result<(), ChannelError> {
        let reply = json!({"success": true, "value": value, "pipeid": pipe, "error": ""});
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.channel.send_frame(reply.to_string().as_bytes(), &fds)
    }

    /// Sends a file of the image through a pipe.
    fn send(&mut self, file: &str, value: Value, fault: &str) -> Result<(), ChannelError> {
        let data = fs::read(self.image.join(file)).expect("a file of the image");
        let (reader, writer) = pipe().expect("a pipe");
        self.pipes += 1;
        let mut fds = surplus(fault);
        match fault {
            "bare" => {}
            "file" => fds.push(File::open(self.image.join(file)).expect("a file of the image").into()),
            _ => fds.push(reader.into()),
        }
        let fault = fault.to_owned();
        self.writers.insert(self.pipes, spawn(move || write(writer, &data, &fault)));
        let number = if self.fault == "unnumbered" { 0 } else { self.pipes };
        self.reply(value, number, &fds)
    }
}

fn surplus(fault: &str) -> Vec<OwnedFd> {
    let count = match fault {
        "surplus" => 3,
        "crowd" => 252,
        _ => 0,
    };
    (0..count).map(|_| io::stdin().as_fd().try_clone_to_owned().expect("a descriptor")).collect()
}

fn write(mut pipe: PipeWriter, data: &[u8], fault: &str) {
    let half = &data[..data.len() / 2];
    // Whoever reads may have seen enough.
    let _ = match fault {
        "half" => pipe.write_all(half).map(|()| exit(9)),
        "stall" => pipe.write_all(half).map(|()| sleep(FOREVER)),
        "short" => pipe.write_all(half),
        "endless" => loop {
            if pipe.write_all(b"{                ").is_err() {
                break Ok(());
            }
        },
        "drip" => data.chunks(1).try_for_each(|byte| {
            sleep(Duration::from_millis(50));
            pipe.write_all(byte)
        }),
        _ => pipe.write_all(data),
    };
}
