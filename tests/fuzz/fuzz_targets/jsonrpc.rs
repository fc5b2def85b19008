//! JSON-RPC from a hostile peer: objects in a stream, with descriptors between their bytes, and the packets of an image
//! proxy. What is heard must be what serde_json finds in the same bytes, however they arrive.
//!
//! Input: a byte of which the lowest bit says whether the rest is a packet or a stream, and the others how many
//! descriptors come; a byte for where the stream is cut.

#![no_main]

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cstor_client::fuzzing::jsonrpc::{end_of_object, listen, parse_reply};
use libfuzzer_sys::fuzz_target;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use serde_json::{Deserializer, Value};

const LONGEST: usize = 8192;
const MOST_FILES: usize = 16;

fn send(socket: &OwnedFd, bytes: &[u8], files: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(files));
    }
    if !bytes.is_empty() {
        sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).expect("room");
    }
}

fn packet(packet: &[u8]) {
    let Some((success, pipe)) = parse_reply(packet) else { return };
    let Some(json) = cstor_fuzz::json(packet) else { return };
    // An answer may be an array of its fields as well, which no proxy sends.
    if json.is_object() {
        assert_eq!(json["success"], success);
        assert_eq!(json["pipeid"].as_u64().unwrap_or(0), u64::from(pipe));
    }
}

fuzz_target!(|data: &[u8]| {
    let [mode, cut, rest @ ..] = data else { return };
    if mode & 1 == 1 {
        return packet(rest);
    }
    let cut = rest.len() * usize::from(*cut) / 256;
    let end = end_of_object(rest, cut);
    assert_eq!(end, end_of_object(rest, rest.len()), "however it arrives");
    if rest.first() == Some(&b'{') {
        let mut values = Deserializer::from_slice(rest).into_iter::<Value>();
        if let Some(Ok(_)) = values.next() {
            let is_deep = end.is_err();
            assert!(is_deep || end == Ok(Some(values.byte_offset())), "an object ends where JSON says");
        }
    }
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("sockets");
    let count = usize::from(mode >> 1) % 20;
    let file = File::open("/dev/null").expect("a file");
    let files = vec![file.as_fd(); count];
    let (first, second) = rest.split_at(cut);
    let (with_first, with_second) = files.split_at(count / 2);
    send(&ours, first, with_first);
    send(&ours, second, with_second);
    drop(ours);
    let (heard, _) = listen(theirs, LONGEST, MOST_FILES);
    assert!(heard.iter().map(|message| message.files).sum::<usize>() <= count, "descriptors are not made up");
    // Blanks between objects carry descriptors.
    let mut values = Deserializer::from_slice(rest).into_iter::<Value>();
    for message in heard {
        // What nobody reads may be something else.
        let Ok(json) = values.next().expect("as many objects") else { return };
        assert_eq!(message.method.as_deref(), json["method"].as_str());
        assert_eq!(message.is_version_2, json["jsonrpc"] == "2.0");
        assert!(message.files <= MOST_FILES);
        if let Some(fds) = json["fds"].as_u64() {
            assert_eq!(message.files as u64, fds);
        }
        // An error may be an array of its fields as well.
        let code = json["error"].get(0).unwrap_or(&json["error"]["code"]);
        assert_eq!(message.refusal, code.as_i64());
        match (message.id.as_deref(), json.get("id")) {
            (None, None) => {}
            (Some(id), Some(wanted)) => assert_eq!(serde_json::from_str::<Value>(id).ok().as_ref(), Some(wanted)),
            (heard, sent) => panic!("{heard:?} for {sent:?}"),
        }
    }
});
