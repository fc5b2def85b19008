//! The identifiers of the protocol: fixed-size values that cannot hold anything a path could be built from.
//!
//! Digests of images and blobs are not identifiers of the protocol; they never cross the boundary.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The id of a layer: 32 bytes, written as 64 lower-case hexadecimal digits.
///
/// CVE-2024-3727 came from ids that were joined to a path before anybody looked at them; this type
/// has no value that could be more than one path component.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerId([u8; 32]);

/// A text is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of 64 lower-case hexadecimal digits")]
pub struct InvalidId;

impl LayerId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> LayerId {
        LayerId(bytes)
    }

    /// The id's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for LayerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<LayerId, InvalidId> {
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| InvalidId)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().try_fold(0, |high, &digit| Some(high << 4 | nibble(digit)?)).ok_or(InvalidId)?;
        }
        Ok(LayerId(bytes))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = String::with_capacity(64);
        for byte in self.0 {
            for nibble in [byte >> 4, byte & 15] {
                digits.extend(char::from_digit(nibble.into(), 16));
            }
        }
        // `{:.12}` shows the short form.
        f.pad(&digits)
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:.12}")
    }
}

/// Which of the roots handed over in `Hello`, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StoreIndex(pub u8);

/// A layer directory that the helper holds open, as it named it in its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LayerHandle(pub u16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sixty_four_lower_case_digits_are_an_id() {
        let good = "0123456789abcdef".repeat(4);
        let id: LayerId = good.parse().unwrap();
        assert_eq!((id.to_string(), format!("{id:?}")), (good.clone(), "0123456789ab".to_owned()));
        let bad = [
            "",
            "../../etc",
            &good[1..],
            &format!("{good}0"),
            &good.to_uppercase(),
            &format!("{}\0", &good[1..]),
            &format!("{}/", &good[1..]),
            &format!("{}é", &good[2..]),
        ];
        for text in bad {
            assert_eq!(text.parse::<LayerId>(), Err(InvalidId), "{text:?}");
        }
    }
}
