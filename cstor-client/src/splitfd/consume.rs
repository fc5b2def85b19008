//! What becomes of the external files of a stream while it is written.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::SplitFdError;

/// An external file of a stream that is being written.
#[derive(Debug)]
pub struct ExternalFile<'a> {
    /// Its number: 0 for the first, and one more for each that follows.
    pub number: u32,
    /// The member, as its name stands in the tar.
    pub name: &'a [u8],
    /// In bytes; the file had as many when it was passed on.
    pub size: u64,
    /// Open for reading, and closed when the consumer has returned. To keep it means to duplicate it.
    pub fd: BorrowedFd<'a>,
}

/// Takes the external files of a stream in the order of their numbers.
///
/// Few are open at a time, however many there are, unless the consumer keeps them. Any function that takes
/// an [`ExternalFile`] is a consumer.
pub trait FileConsumer {
    /// Takes one file. An error ends the stream.
    fn take(&mut self, file: ExternalFile<'_>) -> Result<(), SplitFdError>;
}

impl<F: FnMut(ExternalFile<'_>) -> Result<(), SplitFdError>> FileConsumer for F {
    fn take(&mut self, file: ExternalFile<'_>) -> Result<(), SplitFdError> {
        self(file)
    }
}

impl FileConsumer for &mut Collect {
    fn take(&mut self, file: ExternalFile<'_>) -> Result<(), SplitFdError> {
        (**self).take(file)
    }
}

/// Keeps all files open, up to a limit.
#[derive(Debug)]
pub struct Collect {
    files: Vec<OwnedFd>,
    limit: usize,
}

impl Collect {
    /// Keeps at most `limit` files. One message over a Unix socket takes 253 (`SCM_MAX_FD`).
    pub fn new(limit: usize) -> Collect {
        Collect { files: Vec::new(), limit }
    }

    /// The files, by their numbers.
    pub fn into_files(self) -> Vec<OwnedFd> {
        self.files
    }
}

impl FileConsumer for Collect {
    fn take(&mut self, file: ExternalFile<'_>) -> Result<(), SplitFdError> {
        if self.files.len() >= self.limit {
            return Err(SplitFdError::TooManyFiles { limit: self.limit });
        }
        let failed = |source| SplitFdError::File { name: file.name.to_vec(), number: file.number, source };
        self.files.push(file.fd.as_fd().try_clone_to_owned().map_err(failed)?);
        Ok(())
    }
}
