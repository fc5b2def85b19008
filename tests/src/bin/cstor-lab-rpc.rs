//! A client of `cstor serve` as a program of its own, so that it can run as any user and with any limits:
//! `cstor-lab-rpc WAY SOCKET WHAT TARGET`. What it did goes to standard output, why it could not to standard error.

use cstor_client::Digest;
use cstor_client::error::ErrorKind;
use cstor_client::extract::{Extractor, Report};
use cstor_client::jsonrpc::{Client, OpenedImage, ProxyV2Client, RpcError, SplitLayer};
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [way, socket, what, target] = &arguments[..] else {
        eprintln!("usage: cstor-lab-rpc WAY SOCKET WHAT TARGET");
        return ExitCode::from(2);
    };
    match run(way, socket, what, target) {
        Ok(done) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let count = if let RpcError::Refused { code, count: Some(count), .. } = &error {
                format!(" ({code}: {count})")
            } else {
                String::new()
            };
            eprintln!("{:?}: {error}{count}", error.kind());
            ExitCode::from(if error.kind() == ErrorKind::Limit { 11 } else { 1 })
        }
    }
}

fn run(way: &str, socket: &str, what: &str, target: &str) -> Result<String, RpcError> {
    let mut client = Client::connect(socket)?;
    let extractor = Extractor::new();
    let done = match way {
        "extract" => {
            let image = client.open_image(what)?;
            shown(&client.extract(&image, target, &extractor)?)
        }
        "at-once" | "compressed" => {
            let image = client.open_image(what)?;
            let layers = all(&image, |id| client.layer_at_once(id, way == "compressed"))?;
            shown(&placed(&layers, target, &extractor)?)
        }
        "headers" => {
            let image = client.open_image(what)?;
            let layers = all(&image, |id| client.header_stream(id, None))?;
            shown(&placed(&layers, target, &extractor)?)
        }
        "proxy" => {
            let socket = UnixStream::connect(socket).expect("the socket is there");
            let mut proxy = ProxyV2Client::negotiate(socket)?;
            let image = proxy.open_image(what)?;
            let report = proxy.extract(&image, target, &extractor)?;
            proxy.close_image(&image)?;
            proxy.shutdown()?;
            shown(&report)
        }
        "tar" => {
            let tar = client.layer(what)?.rebuild(File::create(target).expect("a file to write"))?;
            format!("{} {} {}", tar.digest, tar.size, tar.files)
        }
        "tar-at-once" => {
            let layer = client.layer_at_once(what, false)?;
            let size = layer.rebuild(File::create(target).expect("a file to write"))?;
            format!("{} {size} {}", digest_of(target), layer.files().len())
        }
        "often" => {
            for _ in 0..target.parse().expect("a number") {
                client.layer(what)?.rebuild(std::io::sink())?;
            }
            target.to_owned()
        }
        _ => panic!("no way {way}"),
    };
    client.shutdown()?;
    Ok(done)
}

/// The layers of an image, the base first.
fn all(
    image: &OpenedImage,
    mut get: impl FnMut(&str) -> Result<SplitLayer, RpcError>,
) -> Result<Vec<SplitLayer>, RpcError> {
    image.layers.iter().map(|layer| get(&layer.id)).collect()
}

fn placed(layers: &[SplitLayer], target: &str, extractor: &Extractor) -> Result<Report, RpcError> {
    let streams = layers.iter().map(|layer| Ok((layer.stream()?, layer.files())));
    let streams: Result<Vec<_>, RpcError> = streams.collect();
    Ok(extractor.extract_streams(streams?, target)?)
}

fn shown(report: &Report) -> String {
    format!("{} files, {} reflinked, {} copied", report.files, report.reflinked_bytes, report.copied_bytes)
}

fn digest_of(path: &str) -> Digest {
    Digest::of(&std::fs::read(path).expect("it was written"))
}
