//! Where results go: standard output, or a file that appears when it is complete.

use std::path::Path;

use cstor_client::Error;
use cstor_client::error::OutputError;
use cstor_client::interrupt::Interrupt;
use cstor_client::temporary::{NewFile, PublishError};

use crate::exit::Failure;

/// A file in the making.
pub(crate) fn new_file(path: &Path, interrupt: &Interrupt) -> Result<NewFile, Failure> {
    NewFile::create(path, interrupt).map_err(|source| Failure::File { path: path.to_owned(), source })
}

/// Says which file it was that could not be written.
pub(crate) fn explain(file: &NewFile, failure: Failure) -> Failure {
    match failure {
        Failure::Library(error) => match *error {
            Error::Output(OutputError::Write(source)) => Failure::File { path: file.path().to_owned(), source },
            error => error.into(),
        },
        other => other,
    }
}

impl From<PublishError> for Failure {
    fn from(PublishError { path, source, .. }: PublishError) -> Failure {
        Failure::File { path, source }
    }
}
