//! What an answer is too large for, as a file that has no name and that nobody can change any more when it is passed on.

use std::fs::File;
use std::io::{self, Seek, Write};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// The largest of these. They are memory of the server, and a layer without such an end is `GetLayerTarSplit`'s.
const MAX_SIZE: usize = 1 << 30;

/// A file in memory that is being written.
#[derive(Debug)]
pub(super) struct Memory {
    file: File,
    size: u64,
}

impl Memory {
    /// In bytes.
    pub(super) const LIMIT: usize = MAX_SIZE;

    pub(super) fn create() -> io::Result<Memory> {
        let file = memfd_create("cstor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        Ok(Memory { file: File::from(file), size: 0 })
    }

    /// What was written, to be read from its beginning.
    pub(super) fn finish(mut self) -> io::Result<(File, u64)> {
        // A receiver that reads on from where the writer stopped would find nothing.
        self.file.rewind()?;
        fcntl_add_seals(&self.file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((self.file, self.size))
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size.saturating_add(bytes.len() as u64) > MAX_SIZE as u64 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn nobody_can_change_what_was_finished() {
        let mut memory = Memory::create().unwrap();
        memory.write_all(b"some bytes").unwrap();
        let (mut file, size) = memory.finish().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), size), ("some bytes", 10));
        assert!(file.write_all(b"more").is_err());
        assert!(file.set_len(0).is_err());
    }

    #[test]
    fn memory_has_an_end() {
        let mut memory = Memory::create().unwrap();
        memory.size = MAX_SIZE as u64 - 1;
        memory.write_all(b"a").unwrap();
        assert_eq!(memory.write_all(b"b").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
