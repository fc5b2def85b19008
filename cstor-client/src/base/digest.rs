//! SHA-256 digests and the ids that are made of them, as values that were checked when they were made.

use std::fmt;
use std::str::FromStr;

use cstor_proto::LayerId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A digest of the form `sha256:<64 lower-case hexadecimal digits>`, the only algorithm that podman's stores use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// The id of an image: normally the digest of its configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId([u8; 32]);

/// A text is not a valid digest or id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 value in lower-case hexadecimal digits")]
pub struct InvalidDigest;

impl Digest {
    /// The digest with these bytes.
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    pub(crate) const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The 64 digits without `sha256:`.
    pub fn hex(&self) -> String {
        LayerId::from_bytes(self.0).to_string()
    }
}

impl ImageId {
    /// The first 12 digits, as podman shows ids.
    pub fn short(&self) -> String {
        format!("{self:.12}")
    }
}

fn bytes_of(hex: &str) -> Result<[u8; 32], InvalidDigest> {
    hex.parse::<LayerId>().map(|id| *id.as_bytes()).map_err(|_| InvalidDigest)
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Digest, InvalidDigest> {
        text.strip_prefix("sha256:").ok_or(InvalidDigest).and_then(bytes_of).map(Digest)
    }
}

impl FromStr for ImageId {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<ImageId, InvalidDigest> {
        bytes_of(text).map(ImageId)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", LayerId::from_bytes(self.0))
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        LayerId::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ImageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ImageId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ImageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sha256_is_a_digest() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), format!("sha256:{hex}"));
        assert_eq!(format!("sha256:{hex}").parse(), Ok(Digest::of(b"")));
        assert_eq!(hex.parse::<ImageId>().unwrap().short(), "e3b0c44298fc");
        for text in ["", hex, "sha256:../x", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:"] {
            assert_eq!(text.parse::<Digest>(), Err(InvalidDigest), "{text}");
        }
    }
}
