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

    /// Takes so many zeros, in the time that their number has digits: a hole can be as long as a file can be.
    pub(crate) fn zeros(&mut self, mut count: u64) {
        let mut run = Digest::new(CrcAlgorithm::Crc64GoIso);
        run.update(&[0]);
        while count > 0 {
            if count & 1 == 1 {
                self.0.combine(&run);
            }
            count >>= 1;
            let again = run;
            run.combine(&again);
        }
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

    #[test]
    fn zeros_count_as_if_they_had_been_read() {
        for count in [0usize, 1, 2, 3, 7, 8, 4095, 4096, 100_001] {
            let (mut read, mut counted) = (Crc64::new(), Crc64::new());
            read.update(b"before");
            read.update(&vec![0; count]);
            read.update(b"after");
            counted.update(b"before");
            counted.zeros(count as u64);
            counted.update(b"after");
            assert_eq!(read.value(), counted.value(), "{count}");
        }
        let (mut once, mut twice) = (Crc64::new(), Crc64::new());
        once.zeros(1 << 43);
        twice.zeros(1 << 42);
        twice.zeros(1 << 42);
        assert_eq!(once.value(), twice.value());
    }
}
