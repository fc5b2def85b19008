//! Where a copy goes, as it is typed: `TRANSPORT:PATH[:NAME]`, as skopeo and podman have it. It opens nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where an image is copied to.
///
/// ```
/// use cstor_client::oci::{Destination, Form};
///
/// let destination = Destination::parse("oci:layouts/app:v1")?;
/// assert_eq!(destination.form(), Form::Layout);
/// assert_eq!(destination.path(), "layouts/app");
/// assert_eq!(destination.name(), Some("v1"));
/// # Ok::<(), cstor_client::oci::InvalidDestination>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    form: Form,
    path: PathBuf,
    name: Option<String>,
}

/// The form of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A directory by the OCI's image layout.
    Layout,
    /// Such a directory as a tar.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
}

/// A text is no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDestination {
    /// There is nowhere to write to.
    #[error("no path; write oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:REFERENCE]")]
    NoPath,
    /// A word before the first colon that means nothing here.
    #[error("unknown transport; write oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:REFERENCE]")]
    Transport,
    /// A tag or reference that no reader would take.
    #[error("what follows the path is not a tag or reference")]
    Name,
    /// A directory cannot go to a stream.
    #[error("a layout is a directory: only archives can be written to standard output")]
    Stream,
}

impl Destination {
    /// Takes `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]` and `docker-archive:FILE[:REFERENCE]`; a path without a
    /// transport is a layout. The path ends at the first colon. `-` stands for a stream.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Destination, InvalidDestination> {
        let text = text.as_ref().as_bytes();
        let transports: [(&[u8], Form); 3] =
            [(b"oci:", Form::Layout), (b"oci-archive:", Form::OciArchive), (b"docker-archive:", Form::DockerArchive)];
        let known = transports.iter().find_map(|(word, form)| Some((*form, text.strip_prefix(*word)?)));
        let (form, rest) = known.unwrap_or((Form::Layout, text));
        let mut parts = rest.splitn(2, |&byte| byte == b':');
        let path = parts.next().unwrap_or_default();
        let name = parts.next();
        if path.is_empty() {
            return Err(InvalidDestination::NoPath);
        }
        // `dir:x` is a directory `dir` to nobody who knows skopeo.
        if known.is_none() && name.is_some() && !path.contains(&b'/') {
            return Err(InvalidDestination::Transport);
        }
        let name = name.map(|name| checked_name(form, name).ok_or(InvalidDestination::Name)).transpose()?;
        if form == Form::Layout && path == b"-" {
            return Err(InvalidDestination::Stream);
        }
        Ok(Destination { form, path: PathBuf::from(OsString::from(OsStr::from_bytes(path))), name })
    }

    /// The form of the copy.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The directory or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tag or reference that was asked for.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether it is `-`: an archive for [`Copier::stream`](super::Copier::stream).
    pub fn is_stream(&self) -> bool {
        self.path.as_os_str() == "-"
    }
}

/// image-spec annotations.md, `org.opencontainers.image.ref.name`: letters and digits, between them separators.
fn checked_name(form: Form, name: &[u8]) -> Option<String> {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:@/+".contains(byte);
    let (first, last) = (name.first()?, name.last()?);
    let valid = first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && name.iter().all(inner);
    let name = std::str::from_utf8(name).ok().filter(|_| valid)?;
    match form {
        Form::DockerArchive if name.contains('@') => None,
        Form::DockerArchive if tag_of(name).is_none() => Some(format!("{name}:latest")),
        _ => Some(name.to_owned()),
    }
}

/// The tag of a name: behind the last colon, if no slash follows it.
pub(super) fn tag_of(name: &str) -> Option<&str> {
    let name = name.split('@').next().unwrap_or(name);
    name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_as_skopeo_reads_them() {
        let good: &[(&str, Form, &str, Option<&str>)] = &[
            ("oci:d", Form::Layout, "d", None),
            ("oci:/a/d:v1", Form::Layout, "/a/d", Some("v1")),
            ("/a/d", Form::Layout, "/a/d", None),
            ("./d:v1", Form::Layout, "./d", Some("v1")),
            ("d", Form::Layout, "d", None),
            ("oci-archive:f.tar:a/b:c", Form::OciArchive, "f.tar", Some("a/b:c")),
            ("oci-archive:-", Form::OciArchive, "-", None),
            ("docker-archive:f.tar:host:5000/a/b", Form::DockerArchive, "f.tar", Some("host:5000/a/b:latest")),
            ("docker-archive:f.tar:app:1", Form::DockerArchive, "f.tar", Some("app:1")),
        ];
        for &(text, form, path, name) in good {
            let found = Destination::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((found.form(), found.path(), found.name()), (form, Path::new(path), name), "{text}");
        }
        let bad: &[(&str, InvalidDestination)] = &[
            ("", InvalidDestination::NoPath),
            ("oci:", InvalidDestination::NoPath),
            ("oci::v1", InvalidDestination::NoPath),
            ("dir:x", InvalidDestination::Transport),
            ("docker://x/y", InvalidDestination::Transport),
            ("oci:d:", InvalidDestination::Name),
            ("oci:d:a b", InvalidDestination::Name),
            ("oci:d:-a", InvalidDestination::Name),
            ("docker-archive:f:a@sha256:00", InvalidDestination::Name),
            ("oci:-", InvalidDestination::Stream),
            ("-", InvalidDestination::Stream),
        ];
        for &(text, error) in bad {
            assert_eq!(Destination::parse(text), Err(error), "{text}");
        }
    }
}
