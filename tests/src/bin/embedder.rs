//! `embedder`: a program as others write them, which uses the library and is its own helper. The environment says what
//! it does (the mark of a helper must be its only argument): `EMBEDDER_INIT` when it calls `init_if_helper` (`first`,
//! `late`: beside another thread, `never`), `EMBEDDER_STORE` the store, `EMBEDDER_IMAGE` and `EMBEDDER_DIR` what to
//! extract and where to; without them it exports every finished
//! layer and prints `ID BYTES SHA256`.

#![forbid(unsafe_code)]

use cstor_client::error::with_causes;
use cstor_client::extract::Extractor;
use cstor_client::helper::{HelperOptions, HelperPolicy};
use cstor_client::{Error, ErrorKind, ProxiedStorage, Storage, Verify, init_if_helper};
use sha2::{Digest, Sha256};
use std::env;
use std::io::{self, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::task::{Context, Poll, Waker};
use std::thread;

fn main() -> ExitCode {
    match text("EMBEDDER_INIT").as_str() {
        "never" => {}
        "late" => {
            thread::spawn(|| {
                loop {
                    thread::park();
                }
            });
            init_if_helper();
        }
        _ => init_if_helper(),
    }
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embedder: error: {}", with_causes(&error));
            ExitCode::from(if error.kind() == ErrorKind::Helper { 7 } else { 1 })
        }
    }
}

fn text(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn work() -> Result<(), Error> {
    let store = text("EMBEDDER_STORE");
    let storage = match text("EMBEDDER_POLICY").as_str() {
        "always" => {
            let helper = HelperOptions::new().policy(HelperPolicy::Always);
            Storage::open(&store)?.with_helper(helper)
        }
        _ => at_once(ProxiedStorage::open_with_proxy(&store))?,
    };
    println!("proxied {}", storage.is_proxied());
    if env::var_os("EMBEDDER_DIR").is_none() {
        return export(&storage);
    }
    let report = Extractor::new().extract(&storage.image(&text("EMBEDDER_IMAGE"))?, text("EMBEDDER_DIR"))?;
    println!("files {} helped {}", report.files, report.through_helper);
    Ok(())
}

fn export(storage: &Storage) -> Result<(), Error> {
    // The writable layer of a container has no digest, and no tar.
    for layer in storage.layers()?.into_iter().filter(|layer| layer.diff_id().is_some()) {
        let mut hash = Hash(Sha256::new());
        // The digest is taken here, not by the library.
        let size = layer.export(&mut hash, Verify::Crc)?;
        let digits: String = hash.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{} {size} {digits}", layer.id());
    }
    Ok(())
}

/// The output of a future that never waits: there is no runtime here that could wake it.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nothing in it waits"),
    }
}

struct Hash(Sha256);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
