//! Messages to bytes and back (postcard), with nothing left over.
//!
//! The encoding is not self-describing: both sides agree on a version in `Hello`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::CodecError;
use crate::message::MAX_FRAME;

/// Encodes a message into one frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let frame = postcard::to_stdvec(message).map_err(CodecError::Encode)?;
    if frame.len() > MAX_FRAME {
        return Err(CodecError::TooLong(frame.len()));
    }
    Ok(frame)
}

/// Decodes one frame; bytes after the message are an error.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, CodecError> {
    match postcard::take_from_bytes(frame).map_err(CodecError::Decode)? {
        (message, []) => Ok(message),
        (_, rest) => Err(CodecError::Trailing(rest.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::*;

    const ID: LayerId = LayerId::from_bytes([0xab; 32]);

    fn path(name: &str) -> RelPath {
        RelPath::clean(name.as_bytes()).unwrap()
    }

    /// The bytes of every message: a change here is a change of the protocol and needs a new version.
    #[test]
    fn requests_have_these_bytes() {
        let id = [0xab; 32];
        let versions = VersionRange { min: 1, max: 1 };
        let table: Vec<(Request, Vec<u8>)> = vec![
            (Request::Hello { magic: MAGIC, versions, roots: 2 }, b"\x00CSTR\x01\x01\x02".to_vec()),
            (
                Request::OpenLayer { root: StoreIndex(1), id: ID, dir: LayerDir::Diff },
                [&[1, 1][..], &id, &[0]].concat(),
            ),
            (
                Request::OpenLayer { root: StoreIndex(0), id: ID, dir: LayerDir::DiffN(300) },
                [&[1, 0][..], &id, &[1, 0xac, 2]].concat(),
            ),
            (
                Request::OpenLayer { root: StoreIndex(2), id: ID, dir: LayerDir::AdditionalDiff },
                [&[1, 2][..], &id, &[2]].concat(),
            ),
            (Request::OpenTarSplit { root: StoreIndex(0), id: ID }, [&[2, 0][..], &id].concat()),
            (
                Request::Open { layer: LayerHandle(3), names: vec![path("a"), path("b/c")] },
                b"\x03\x03\x02\x01a\x03b/c".to_vec(),
            ),
            (Request::CloseLayer { layer: LayerHandle(3) }, vec![4, 3]),
            (Request::Bye, vec![5]),
            (Request::List { layer: LayerHandle(3), name: None }, vec![6, 3, 0]),
            (Request::List { layer: LayerHandle(3), name: Some(path("a/b")) }, b"\x06\x03\x01\x03a/b".to_vec()),
            (
                Request::Look { layer: LayerHandle(3), names: vec![path("a"), path("b")] },
                b"\x07\x03\x02\x01a\x01b".to_vec(),
            ),
            (
                Request::UserXattr { layer: LayerHandle(3), name: Some(path("a")), key: b"note".to_vec() },
                b"\x08\x03\x01\x01a\x04note".to_vec(),
            ),
        ];
        for (message, bytes) in table {
            assert_eq!(encode(&message).unwrap(), bytes, "{message:?}");
            assert_eq!(decode::<Request>(&bytes).unwrap(), message);
        }
    }

    #[test]
    fn replies_have_these_bytes() {
        let ready = Ready {
            version: 1,
            confinement: Confinement {
                effective: 4,
                regainable: 4,
                no_new_privs: true,
                nobody: true,
                landlock: Enforced::Fully,
                seccomp: false,
                mapped_uids: 65537,
                mapped_gids: 1,
            },
        };
        let table: Vec<(Reply, Vec<u8>)> = vec![
            (Reply::Ready(ready), vec![0, 1, 4, 4, 1, 1, 2, 0, 0x81, 0x80, 4, 1]),
            (Reply::Rejected(VersionRange { min: 1, max: 2 }), vec![1, 1, 2]),
            (Reply::Layer(Ok(LayerHandle(7))), vec![2, 0, 7]),
            (Reply::Layer(Err(Refusal::NotFound)), vec![2, 1, 0]),
            (Reply::TarSplit(Err(Refusal::Unmapped)), vec![3, 1, 2]),
            (
                Reply::Opened(vec![Ok(()), Err(Refusal::NotRegular), Err(Refusal::Denied), Err(Refusal::Io(5))]),
                vec![4, 4, 0, 1, 1, 1, 3, 1, 4, 10],
            ),
            (Reply::Closed, vec![5]),
            (Reply::Fault(Fault::Unknown), vec![6, 4]),
            (Reply::Listed(Ok(())), vec![7, 0]),
            (Reply::Listed(Err(Refusal::NotDirectory)), vec![7, 1, 5]),
            (Reply::Seen(vec![Ok(()), Err(Refusal::NotFound)]), vec![8, 2, 0, 1, 0]),
            (Reply::Opened(vec![Ok(()), Err(Refusal::NotFound)]).busy(), vec![4, 2, 1, 6, 1, 0]),
            (Reply::UserXattr(Ok(b"hi".to_vec())), b"\x09\x00\x02hi".to_vec()),
        ];
        for (message, bytes) in table {
            assert_eq!(encode(&message).unwrap(), bytes, "{message:?}");
            assert_eq!(decode::<Reply>(&bytes).unwrap(), message);
        }
    }

    #[test]
    fn damaged_frames_are_errors() {
        let frame = encode(&Request::Open { layer: LayerHandle(0), names: vec![path("a")] }).unwrap();
        for end in 0..frame.len() {
            assert!(decode::<Request>(&frame[..end]).is_err(), "cut at {end}");
        }
        let longer = [&frame[..], b"x"].concat();
        assert!(matches!(decode::<Request>(&longer), Err(CodecError::Trailing(1))));
        assert!(decode::<Request>(&[9]).is_err());
        // A list that claims 2^32 names must not make the decoder allocate for them.
        assert!(decode::<Request>(&[3, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
        // The number of the message, `Ok` and three bytes for the length.
        let value = |length: usize| encode(&Reply::UserXattr(Ok(vec![0; length])));
        assert_eq!(value(MAX_FRAME - 5).unwrap().len(), MAX_FRAME);
        assert!(matches!(value(MAX_FRAME - 4), Err(CodecError::TooLong(length)) if length == MAX_FRAME + 1));
    }
}
