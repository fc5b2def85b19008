//! Descriptors that are lost because the process has no free numbers for them.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;

use cstor_proto::{Channel, LayerHandle, Reply};
use rustix::fs::fstat;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{SOON, against, asked, names};
use crate::access::helper::SourceError;
use crate::access::proxied::ask_in_batches;
use crate::base::kind::ErrorKind;

/// Set for the test that needs a process of its own.
const ALONE: &str = "CSTOR_TEST_ALONE";

/// A peer that opens the files in this process too, until the client asks again: what it holds, the client lacks.
fn opener(mut channel: Channel, path: std::path::PathBuf) {
    loop {
        let Some(count) = asked(&mut channel) else { return };
        let files: Vec<File> = (0..count).map_while(|_| File::open(&path).ok()).collect();
        let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        // Without the files there is nothing to send, and the client waits in vain.
        if fds.len() < count || channel.send(&Reply::Opened(vec![Ok(()); count]), &fds).is_err() {
            return;
        }
        // Held until the answer has been taken; the next question may be waiting already.
        let _ = rustix::event::poll(
            &mut [rustix::event::PollFd::new(&channel, rustix::event::PollFlags::IN)],
            Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 }),
        );
    }
}

/// No test of its own: it lowers the limit of the whole process, so it runs in one that the next test starts.
#[test]
#[ignore = "runs in a process of its own"]
fn descriptors_that_do_not_fit_are_asked_for_again_alone() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let device = fstat(File::create(&path).unwrap()).unwrap().st_dev;
    let hard = getrlimit(Resource::Nofile).maximum;
    let free = |slots: u64| {
        // The lowest number that is free is one more than all that are open, or less.
        let next = u64::try_from(File::open("/dev/null").unwrap().as_raw_fd()).unwrap();
        setrlimit(Resource::Nofile, Rlimit { current: Some(next + slots), maximum: hard }).unwrap();
    };
    // wanted, batch, slots free once both ends are open, comes to its end
    for (wanted, batch, slots, complete) in [(12, 64, 16, true), (10, 64, 16, true), (128, 64, 16, false)] {
        setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
        let path = path.clone();
        // A process of its own would hold its descriptors elsewhere; where so many are wanted, one file is sent often.
        let mut helper = against(move |mut channel, _raw| match complete {
            true => opener(channel, path),
            false => {
                let file = File::open(&path).unwrap();
                while let Some(count) = asked(&mut channel) {
                    let sent = channel.send(&Reply::Opened(vec![Ok(()); count]), &vec![file.as_fd(); count]);
                    if sent.is_err() {
                        return;
                    }
                }
            }
        });
        // The peer must have its own file first.
        thread::sleep(SOON / 4);
        free(slots);
        let mut remaining = batch;
        let result = ask_in_batches(&mut helper, LayerHandle(0), &names(wanted), &mut remaining, device);
        match result {
            Ok(files) => {
                assert!(complete && files.len() == wanted && files.iter().all(Result::is_ok), "{wanted}");
            }
            Err(error) => {
                assert!(!complete && matches!(error, SourceError::DescriptorsLost), "{wanted}: {error:?}");
                assert_eq!(error.kind(), ErrorKind::Limit);
            }
        }
        if wanted > 10 {
            assert!(remaining < batch, "{wanted}: the batch must have become smaller");
        }
    }
}

#[test]
fn descriptors_that_do_not_fit_are_asked_for_again() {
    let name = "access::hostile::lost::descriptors_that_do_not_fit_are_asked_for_again_alone";
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let ended = alone.args(["--exact", name, "--ignored", "--test-threads=1"]).env(ALONE, "1").output().unwrap();
    assert!(ended.status.success(), "{}", ended.stdout.escape_ascii());
    assert!(ended.stdout.windows(8).any(|part| part == b"1 passed"), "{}", ended.stdout.escape_ascii());
}
