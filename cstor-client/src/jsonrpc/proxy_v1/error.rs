//! What can go wrong with an image proxy and with what it sends.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use cstor_proto::{ChannelError, Escaped};

use super::conversation::MAX_PACKET;
use crate::access::helper::said;
use crate::base::digest::Digest;
use crate::base::interrupt::Interrupted;
use crate::base::kind::ErrorKind;
use crate::extract::ExtractError;
use crate::store::chain::MAX_LAYERS;
use crate::tar::ArchiveProblem;
use crate::tree::MergeProblem;

/// An image proxy could not be started, died, did not keep to the protocol, or gave an image that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyV1Error {
    /// The program is not installed.
    #[error("{}: not found", shown(program))]
    NoProgram {
        /// As it was named.
        program: String,
    },
    /// It could not be started.
    #[error("{}: cannot be started", shown(program))]
    Spawn {
        /// As it was named.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It speaks a version of the protocol that this client does not.
    #[error("{}: speaks version \"{}\" of the proxy's protocol, not one of 0.2.3 to 0.2.x", shown(program), Escaped(found.as_bytes()))]
    Version {
        /// The program.
        program: String,
        /// What it says.
        found: String,
    },
    /// It did not answer.
    #[error("{}: no answer to {method} within {} seconds{}", shown(program), waited.as_secs_f32(), said(stderr))]
    Silent {
        /// The program.
        program: String,
        /// What was asked.
        method: &'static str,
        /// How long it had.
        waited: Duration,
        /// What it printed.
        stderr: Vec<u8>,
    },
    /// It is gone before the conversation was over.
    #[error("{}: ended unexpectedly ({}){}", shown(program), how(*status), said(stderr))]
    Ended {
        /// The program.
        program: String,
        /// `None` if it had to be killed.
        status: Option<ExitStatus>,
        /// What it printed.
        stderr: Vec<u8>,
    },
    /// The socket failed.
    #[error("{}: {source}", shown(program))]
    Channel {
        /// The program.
        program: String,
        /// How.
        source: ChannelError,
    },
    /// A pipe failed.
    #[error("{}: the pipe of {method} cannot be read", shown(program))]
    Pipe {
        /// The program.
        program: String,
        /// What was asked.
        method: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The arguments do not fit a packet.
    #[error("the image proxy: a request for {method} would have {size} bytes, more than {MAX_PACKET}")]
    LongRequest {
        /// What was to be asked.
        method: &'static str,
        /// In bytes.
        size: usize,
    },
    /// An answer longer than the limit.
    #[error("{}: its answer to {method} has more than {MAX_PACKET} bytes", shown(program))]
    LongReply {
        /// The program.
        program: String,
        /// What was asked.
        method: &'static str,
    },
    /// A malformed answer.
    #[error("{}: its answer to {method} is not to be understood", shown(program))]
    Reply {
        /// The program.
        program: String,
        /// What was asked.
        method: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// An answer with another value than the method has.
    #[error("{}: its answer to {method} has no {wanted}", shown(program))]
    Value {
        /// The program.
        program: String,
        /// What was asked.
        method: &'static str,
        /// What it should have had.
        wanted: &'static str,
    },
    /// Descriptors are missing, or there are too many.
    #[error("{}: its answer to {method} came with {found} descriptors, not {wanted}", shown(program))]
    Descriptors {
        /// The program.
        program: String,
        /// What was asked.
        method: &'static str,
        /// How many came.
        found: usize,
        /// How many the method has.
        wanted: usize,
    },
    /// A descriptor that is no pipe, or a pipe without a number.
    #[error("{}: its answer to {method} has no pipe", shown(program))]
    NoPipe {
        /// The program.
        program: String,
        /// What was asked.
        method: &'static str,
    },
    /// It says that it cannot do what was asked.
    #[error("{}: {method} failed: \"{}\"", shown(program), Escaped(message.as_bytes()))]
    Refused {
        /// The program.
        program: String,
        /// What was asked.
        method: &'static str,
        /// Its reason.
        message: String,
    },
    /// There is no image of this reference.
    #[error("{}: no such image", shown(reference))]
    NoImage {
        /// As it was asked for.
        reference: String,
    },
    /// A manifest or configuration longer than the limit.
    #[error("{}: the {what} has more than {limit} bytes", shown(program))]
    LongDocument {
        /// The program.
        program: String,
        /// Which.
        what: &'static str,
        /// In bytes.
        limit: usize,
    },
    /// A malformed manifest or configuration.
    #[error("{}: the {what} is not to be understood", shown(reference))]
    Document {
        /// The image.
        reference: String,
        /// Which.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// More layers than an image can have.
    #[error("{}: has {found} layers, more than {MAX_LAYERS}", shown(reference))]
    TooManyLayers {
        /// The image.
        reference: String,
        /// How many.
        found: usize,
    },
    /// Manifest and configuration contradict each other.
    #[error("{}: its manifest has {manifest} layers, its configuration {config}", shown(reference))]
    LayerCount {
        /// The image.
        reference: String,
        /// As the manifest says.
        manifest: usize,
        /// As the configuration says.
        config: usize,
    },
    /// A layer that is not a tar, or an encrypted one.
    #[error("layer {blob}: is of the type \"{}\"", Escaped(media_type.as_bytes()))]
    MediaType {
        /// Its blob.
        blob: Digest,
        /// As the manifest says.
        media_type: String,
    },
    /// A compression that this program cannot undo.
    #[error("layer {blob}: is compressed with {method}")]
    Compression {
        /// Its blob.
        blob: Digest,
        /// Which.
        method: &'static str,
    },
    /// A blob of another size than its descriptor says.
    #[error("layer {blob}: its blob has {}{found} bytes, not {wanted}", if found > wanted { "at least " } else { "" })]
    BlobSize {
        /// Its blob.
        blob: Digest,
        /// How many came.
        found: u64,
        /// As the manifest says.
        wanted: u64,
    },
    /// A blob that is another one.
    #[error("layer {blob}: its blob has the digest {found}")]
    BlobDigest {
        /// As the manifest says.
        blob: Digest,
        /// What came.
        found: Digest,
    },
    /// Compressed data are damaged, or end early.
    #[error("layer {blob}: cannot be decompressed")]
    Decompress {
        /// Its blob.
        blob: Digest,
        /// Why.
        source: io::Error,
    },
    /// The uncompressed layer is not the one that the configuration names.
    #[error("layer {blob}: has the diff id {found}, its image says {wanted}")]
    DiffId {
        /// Its blob.
        blob: Digest,
        /// Of what came.
        found: Digest,
        /// As the configuration says.
        wanted: Digest,
    },
    /// A layer's tar is damaged.
    #[error("layer {blob}: after \"{}\": the tar {problem}", Escaped(after))]
    Tar {
        /// Its blob.
        blob: Digest,
        /// The last member before; empty for the first.
        after: Vec<u8>,
        /// What is wrong.
        problem: ArchiveProblem,
    },
    /// A member that has no place among the others.
    #[error("layer {blob}: \"{}\": {problem}", Escaped(name))]
    Member {
        /// Its blob.
        blob: Digest,
        /// The member.
        name: Vec<u8>,
        /// What is wrong.
        #[source]
        problem: MergeProblem,
    },
    /// The extraction.
    #[error(transparent)]
    Extract(ExtractError),
    /// The caller asked to stop.
    #[error("the image proxy: {0}")]
    Interrupted(#[from] Interrupted),
}

impl From<ExtractError> for ProxyV1Error {
    fn from(error: ExtractError) -> ProxyV1Error {
        match error {
            ExtractError::Interrupted(interrupted) => interrupted.into(),
            error => ProxyV1Error::Extract(error),
        }
    }
}

fn shown(text: &str) -> Escaped<'_> {
    Escaped(text.as_bytes())
}

fn how(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "killed".to_owned(), |status| status.to_string())
}

impl ProxyV1Error {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        use ProxyV1Error as E;
        match self {
            E::NoImage { .. } => ErrorKind::NotFound,
            E::Version { .. } | E::MediaType { .. } | E::Compression { .. } => ErrorKind::Unsupported,
            E::Tar { problem: ArchiveProblem::Header(error), .. } => error.kind(),
            E::Document { .. }
            | E::LayerCount { .. }
            | E::BlobSize { .. }
            | E::BlobDigest { .. }
            | E::Decompress { .. }
            | E::DiffId { .. } => ErrorKind::Corrupt,
            E::LongRequest { .. }
            | E::LongDocument { .. }
            | E::TooManyLayers { .. }
            | E::Channel { source: ChannelError::DescriptorsLost, .. } => ErrorKind::Limit,
            E::Member { problem, .. } => problem.kind(),
            E::Tar { .. } => ErrorKind::Corrupt,
            E::Extract(error) => error.kind(),
            E::Interrupted(_) => ErrorKind::Interrupted,
            _ => ErrorKind::Failure,
        }
    }
}
