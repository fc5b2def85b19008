//! SHA-256 in a thread of its own: hashing is the slowest step of an export, and need not wait for others. Where the
//! kernel allows no thread, the calling one hashes.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use sha2::{Digest as _, Sha256};

use super::OutputError;
use crate::base::digest::Digest;

/// Buffers that are on their way to the thread and back.
const BUFFERS: usize = 3;
/// The size of a buffer.
pub(super) const BUFFER: usize = 256 * 1024;

/// A buffer and how much of it is used.
pub(super) type Filled = (Vec<u8>, usize);

/// A running digest. Full buffers go in, others come out to be filled.
pub(crate) enum Hasher {
    /// A thread hashes.
    Threaded {
        /// Full buffers, to the thread.
        full: SyncSender<Filled>,
        /// Used ones, back from it.
        free: Receiver<Vec<u8>>,
        /// It ends with the digest when no more buffers can come.
        thread: JoinHandle<Digest>,
    },
    /// The caller's own thread hashes each buffer.
    Alone(Sha256),
}

impl Hasher {
    pub(crate) fn start() -> Hasher {
        Hasher::start_in(Builder::new())
    }

    fn start_in(builder: Builder) -> Hasher {
        let (full, to_hash) = sync_channel::<Filled>(BUFFERS);
        let (give_back, free) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // There is room for all of them.
            let _ = give_back.try_send(vec![0; BUFFER]);
        }
        let thread = builder.spawn(move || {
            let mut hash = Sha256::new();
            for (buffer, used) in to_hash {
                hash.update(buffer.get(..used).unwrap_or_default());
                // Nobody wants it back at the end.
                let _ = give_back.try_send(buffer);
            }
            Digest::from_bytes(hash.finalize().into())
        });
        match thread {
            Ok(thread) => Hasher::Threaded { full, free, thread },
            Err(error) => {
                tracing::debug!(%error, "the kernel allows no thread for hashing");
                Hasher::Alone(Sha256::new())
            }
        }
    }

    /// Hands a buffer over and gets another one for it.
    pub(crate) fn exchange(&mut self, filled: Filled) -> Result<Vec<u8>, OutputError> {
        match self {
            Hasher::Threaded { full, free, .. } => {
                full.send(filled).map_err(|_| OutputError::Thread)?;
                free.recv().map_err(|_| OutputError::Thread)
            }
            Hasher::Alone(hash) => {
                let (buffer, used) = filled;
                hash.update(buffer.get(..used).unwrap_or_default());
                Ok(buffer)
            }
        }
    }

    /// The digest of everything that was handed over.
    pub(crate) fn finish(self) -> Result<Digest, OutputError> {
        match self {
            Hasher::Threaded { full, thread, .. } => {
                drop(full);
                thread.join().map_err(|_| OutputError::Thread)
            }
            Hasher::Alone(hash) => Ok(Digest::from_bytes(hash.finalize().into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_all_buffers_in_order() {
        // No address space has room for the stack of the second one's thread.
        for (builder, threaded) in [(Builder::new(), true), (Builder::new().stack_size(1 << (usize::BITS - 4)), false)]
        {
            let mut hasher = Hasher::start_in(builder);
            assert_eq!(matches!(hasher, Hasher::Threaded { .. }), threaded);
            let mut all = Vec::new();
            for number in 0..50u8 {
                all.extend([number; 1000]);
                let next = hasher.exchange((vec![number; BUFFER], 1000)).unwrap();
                assert_eq!(next.len(), BUFFER);
            }
            assert_eq!(hasher.finish().unwrap(), Digest::of(&all));
        }
    }
}
