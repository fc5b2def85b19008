//! One row of a table of contents, and the member that it stands for.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::ChunkedError;
use crate::base::digest::Digest;
use crate::tar::header::{checked_target, checked_xattr, sorted_xattrs};
use crate::tar::{Content, Header, Kind, Member, Time};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
/// A row, as it is written.
pub(super) struct Row {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) link_name: String,
    #[serde(default)]
    pub(super) mode: u64,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) uid: u64,
    #[serde(default)]
    pub(super) gid: u64,
    pub(super) modtime: Option<String>,
    #[serde(default)]
    pub(super) dev_major: u32,
    #[serde(default)]
    pub(super) dev_minor: u32,
    pub(super) xattrs: Option<BTreeMap<String, String>>,
    pub(super) digest: Option<Digest>,
}

impl Row {
    /// About what it takes while it is kept, in bytes.
    pub(super) fn size_in_memory(&self) -> usize {
        let texts = [&self.kind, &self.name, &self.link_name].into_iter().chain(&self.modtime).map(String::len);
        let xattrs =
            self.xattrs.iter().flatten().map(|(name, value)| 2 * size_of::<String>() + name.len() + value.len());
        size_of::<Row>() + texts.chain(xattrs).sum::<usize>()
    }

    pub(super) fn member(self) -> Result<Member, ChunkedError> {
        let target = self.link_name.into_bytes();
        if target.contains(&0) {
            return Err(ChunkedError::Field("linkName"));
        }
        if self.kind == "symlink" {
            checked_target(&target)?;
        }
        let (major, minor) = (self.dev_major, self.dev_minor);
        let kind = match self.kind.as_str() {
            "reg" => Kind::File,
            "dir" => Kind::Dir,
            "symlink" => Kind::Symlink(target),
            "hardlink" => Kind::HardLink(target),
            "char" => Kind::CharDevice { major, minor },
            "block" => Kind::BlockDevice { major, minor },
            "fifo" => Kind::Fifo,
            _ => return Err(ChunkedError::Type(self.kind)),
        };
        let content = match kind {
            Kind::File if self.size > 0 => {
                let digest = self.digest.ok_or(ChunkedError::NoDigest)?;
                Some(Content { size: self.size, crc: None, digest: Some(digest) })
            }
            _ => None,
        };
        let mtime = self.modtime.map(|text| Time::parse_rfc3339(&text).ok_or(ChunkedError::Field("modtime")));
        let xattr = |(name, value): (String, String)| -> Result<_, ChunkedError> {
            let value = STANDARD.decode(value).map_err(|_| ChunkedError::Field("xattrs"))?;
            Ok(checked_xattr(name.as_bytes(), &value)?)
        };
        let header = Header {
            path: self.name.into_bytes(),
            kind,
            // The kind is said by the type; only the lower bits are the mode's.
            mode: (self.mode & 0o7777) as u32,
            uid: self.uid,
            gid: self.gid,
            user_name: Vec::new(),
            group_name: Vec::new(),
            mtime: mtime.transpose()?.unwrap_or_default(),
            xattrs: sorted_xattrs(self.xattrs.unwrap_or_default().into_iter().map(xattr).collect::<Result<_, _>>()?)?,
        };
        Ok(Member { header, content, sparse: false })
    }
}
