//! Flags that choose between a few words.

use clap::{Args as Group, ValueEnum};
use cstor_client::extract::Devices;
use cstor_client::oci::Compression;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum VerifyHow {
    #[default]
    Digest,
    Crc,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CompressHow {
    #[default]
    None,
    Gzip,
    #[cfg(feature = "zstd")]
    Zstd,
}

impl From<CompressHow> for Compression {
    fn from(how: CompressHow) -> Compression {
        match how {
            CompressHow::None => Compression::None,
            CompressHow::Gzip => Compression::Gzip,
            #[cfg(feature = "zstd")]
            CompressHow::Zstd => Compression::Zstd,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CheckLevel {
    Structure,
    Crc,
    #[default]
    Digest,
}

/// How results are printed.
#[derive(Debug, Group)]
pub(crate) struct Output {
    /// A table for people, or JSON for programs (described in docs/json.md; use jq to take it apart).
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// Print ids only.
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) quiet: bool,
    /// Print ids in full.
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Helper {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LaunchBy {
    #[default]
    Auto,
    Podman,
    Buildah,
    Newuidmap,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ReflinkWhen {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum DeviceNodes {
    #[default]
    Skip,
    Create,
    Fail,
}

impl From<DeviceNodes> for Devices {
    fn from(devices: DeviceNodes) -> Devices {
        match devices {
            DeviceNodes::Skip => Devices::Skip,
            DeviceNodes::Create => Devices::Create,
            DeviceNodes::Fail => Devices::Fail,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ProgressHow {
    #[default]
    Auto,
    Plain,
    Never,
}

/// The words of a command.
#[derive(Debug, Clone)]
pub(crate) struct ProxyCommand(pub(crate) Vec<String>);

impl ProxyCommand {
    /// No shell is involved, so there is no quoting.
    pub(crate) fn parse(text: &str) -> Result<ProxyCommand, &'static str> {
        match text.split_whitespace().map(str::to_owned).collect::<Vec<_>>() {
            words if words.is_empty() => Err("a program is missing"),
            words => Ok(ProxyCommand(words)),
        }
    }
}
