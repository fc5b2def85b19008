//! Who opens the files of a layer: this process itself, or the helper where it may not.
//!
//! A source is asked for files by name and gives descriptors; what is done with them is not its concern.

mod direct;
mod escalating;
pub(crate) mod helper;
#[cfg(test)]
mod hostile;
mod proxied;

use std::os::fd::OwnedFd;

use cstor_proto::{Refusal, RelPath};

pub(crate) use direct::Direct;
pub(crate) use escalating::{Escalating, worth_asking};
pub(crate) use proxied::Proxied;
#[cfg(fuzzing)]
pub use proxied::take_answer;

use crate::store::chain::{ChainLayer, ContentsDir};
use helper::SourceError;

/// Who opened a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// This process.
    Direct,
    /// The helper.
    Helper,
}

/// A regular file, open for reading.
#[derive(Debug)]
pub(crate) struct OpenedFile {
    pub(crate) fd: OwnedFd,
    /// As the kernel says after the open.
    pub(crate) size: u64,
    pub(crate) by: By,
}

/// Replaces the refusals that are worth it by the answers to a second question.
fn ask_again<T>(
    results: &mut [Result<T, Refusal>],
    wanted: &[RelPath],
    worth: impl Fn(Refusal) -> bool,
    ask: impl FnOnce(&[RelPath]) -> Result<Vec<Result<T, Refusal>>, SourceError>,
) -> Result<(), SourceError> {
    let refused = |result: &Result<T, Refusal>| matches!(result, Err(refusal) if worth(*refusal));
    let again: Vec<RelPath> =
        results.iter().zip(wanted).filter(|(result, _)| refused(result)).map(|(_, file)| file.clone()).collect();
    if again.is_empty() {
        return Ok(());
    }
    let places = results.iter_mut().filter(|result| refused(result));
    for (place, answer) in places.zip(ask(&again)?) {
        *place = answer;
    }
    Ok(())
}

/// Opens the files and the description of layers.
pub(crate) trait FileSource {
    /// Opens files by their places in one directory; one result for each, in order. An error ends everything, a
    /// refusal nothing.
    fn open_in(
        &mut self,
        dir: &ContentsDir,
        wanted: &[RelPath],
    ) -> Result<Vec<Result<OpenedFile, Refusal>>, SourceError>;

    /// Opens files by their places in one layer. What one of its directories has not, the next one may have.
    fn open_batch(
        &mut self,
        layer: &ChainLayer,
        wanted: &[RelPath],
    ) -> Result<Vec<Result<OpenedFile, Refusal>>, SourceError> {
        let mut results: Vec<_> = wanted.iter().map(|_| Err(Refusal::NotFound)).collect();
        for dir in &layer.dirs {
            ask_again(&mut results, wanted, |refusal| refusal == Refusal::NotFound, |names| self.open_in(dir, names))?;
        }
        Ok(results)
    }

    /// Opens the tar-split file of a layer.
    fn open_tar_split(&mut self, layer: &ChainLayer) -> Result<Result<OwnedFd, Refusal>, SourceError>;
}

/// Looks around in the directories of a layer, where no description says what there is.
pub(crate) trait DirSource {
    /// Opens a directory for reading its names; none stands for the layer's own.
    fn list(&mut self, dir: &ContentsDir, name: Option<&RelPath>) -> Result<Result<OwnedFd, Refusal>, SourceError>;

    /// Opens files of any kind with `O_PATH`; one result for each, in order.
    fn look(&mut self, dir: &ContentsDir, names: &[RelPath]) -> Result<Vec<Result<OwnedFd, Refusal>>, SourceError>;
}
