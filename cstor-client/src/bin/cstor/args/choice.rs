//! Flags that choose between a few words.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as Group, ValueEnum};
use cstor_client::Verify;
use cstor_client::extract::Devices;
use cstor_client::oci::Compression;

/// How far `layer export` checks, in words.
pub(crate) const HOW_FAR: [(&str, Verify); 3] =
    [("digest", Verify::Digest), ("crc", Verify::Crc), ("none", Verify::Structure)];
/// How closely `verify` looks, in words.
pub(crate) const HOW_CLOSELY: [(&str, Verify); 3] =
    [("structure", Verify::Structure), ("crc", Verify::Crc), ("digest", Verify::Digest)];

/// Takes one of these words.
pub(crate) fn one_of(words: [(&'static str, Verify); 3]) -> impl TypedValueParser<Value = Verify> {
    PossibleValuesParser::new(words.map(|(word, _)| word)).try_map(move |said| {
        let found = words.iter().find(|(word, _)| *word == said);
        found.map(|(_, level)| *level).ok_or("not one of the words")
    })
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

/// Takes a number of bytes, or of KiB, MiB or GiB with the letter of their unit: `512M`, `1G`.
pub(crate) fn memory_size(text: &str) -> Result<u64, &'static str> {
    const WHAT: &str = "a size is a number with K, M or G behind it, such as 512M, or a number of bytes";
    let upper = text.to_ascii_uppercase();
    let digits = upper.strip_suffix("IB").or(upper.strip_suffix('B')).unwrap_or(&upper);
    let units = [('K', 10), ('M', 20), ('G', 30)];
    let unit = units.into_iter().find_map(|(letter, shift)| Some((digits.strip_suffix(letter)?, shift)));
    let (digits, shift) = unit.unwrap_or((digits, 0));
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WHAT);
    }
    let number = digits.parse::<u64>().map_err(|_| WHAT)?;
    number.checked_mul(1 << shift).filter(|&bytes| bytes > 0).ok_or(WHAT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let table = [("1", 1), ("64k", 64 << 10), ("256M", 256 << 20), ("512MiB", 512 << 20), ("2GB", 2 << 30)];
        for (text, bytes) in table {
            assert_eq!(memory_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "0", "-1", "+1", "1T", "1.5G", "KM", "1KK5", "99999999999G", "M1"] {
            assert!(memory_size(text).is_err(), "{text}");
        }
    }
}
