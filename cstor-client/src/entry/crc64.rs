//! The checksum that tar-split keeps of each file: CRC-64/GO-ISO, Go's `crc64.ISO` table.

use crc_fast::{CrcAlgorithm, Digest};

/// A running checksum.
#[derive(Debug)]
pub(crate) struct Crc64(Digest);

impl Crc64 {
    pub(crate) fn new() -> Crc64 {
        Crc64(Digest::new(CrcAlgorithm::Crc64GoIso))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_that_of_go() {
        let mut crc = Crc64::new();
        crc.update(b"12345");
        crc.update(b"6789");
        assert_eq!(crc.value(), 0xb909_56c7_75a4_1001);
    }
}
