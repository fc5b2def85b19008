//! SHA-256 in a thread of its own: hashing is the slowest step of an export, and need not wait for others.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{JoinHandle, spawn};

use sha2::{Digest as _, Sha256};

use super::SinkError;
use crate::digest::Digest;

/// Buffers that are on their way to the thread and back.
const BUFFERS: usize = 3;
/// The size of a buffer.
pub(super) const BUFFER: usize = 256 * 1024;

/// A buffer and how much of it is used.
pub(super) type Filled = (Vec<u8>, usize);

/// A running digest. Full buffers go in, others come out to be filled.
pub(crate) struct Hasher {
    full: SyncSender<Filled>,
    free: Receiver<Vec<u8>>,
    thread: JoinHandle<Digest>,
}

impl Hasher {
    pub(crate) fn start() -> Hasher {
        let (full, to_hash) = sync_channel::<Filled>(BUFFERS);
        let (give_back, free) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // There is room for all of them.
            let _ = give_back.try_send(vec![0; BUFFER]);
        }
        let thread = spawn(move || {
            let mut hash = Sha256::new();
            for (buffer, used) in to_hash {
                hash.update(buffer.get(..used).unwrap_or_default());
                // Nobody wants it back at the end.
                let _ = give_back.try_send(buffer);
            }
            Digest::from_bytes(hash.finalize().into())
        });
        Hasher { full, free, thread }
    }

    /// Hands a buffer over and gets another one for it.
    pub(crate) fn exchange(&mut self, filled: Filled) -> Result<Vec<u8>, SinkError> {
        self.full.send(filled).map_err(|_| SinkError::Thread)?;
        self.free.recv().map_err(|_| SinkError::Thread)
    }

    /// The digest of everything that was handed over.
    pub(crate) fn finish(self) -> Result<Digest, SinkError> {
        drop(self.full);
        self.thread.join().map_err(|_| SinkError::Thread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_all_buffers_in_order() {
        let mut hasher = Hasher::start();
        let mut all = Vec::new();
        for number in 0..50u8 {
            all.extend([number; 1000]);
            hasher.exchange((vec![number; 2000], 1000)).unwrap();
        }
        assert_eq!(hasher.finish().unwrap(), Digest::of(&all));
    }
}
