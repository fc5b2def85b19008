//! What a listing leaves out: podman's filters, parsed and asked of one image.
//!
//! As in podman since 5.0 all filters must hold, except that of several `reference=` one is enough
//! (libimage/filters.go). Up to podman 4.9 one of several filters with the same key was enough.

use std::str::FromStr;

use super::Listed;
use super::pattern;
use crate::base::digest::ImageId;
use crate::storage::Storage;
use crate::store::StoreError;
use crate::tar::Time;

/// One filter: `key=value`, or `key!=value` for the opposite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Reference(String),
    Dangling(bool),
    Label(String),
    Before(String),
    Since(String),
}

/// A text is no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadFilter {
    /// There is no `=`.
    #[error("a filter is KEY=VALUE or KEY!=VALUE")]
    Form,
    /// The key is unknown.
    #[error("the keys of filters are reference, dangling, label, before, since and after")]
    Key,
    /// `dangling` takes a truth value.
    #[error("dangling is true or false")]
    Truth,
}

impl FromStr for Filter {
    type Err = BadFilter;

    fn from_str(text: &str) -> Result<Filter, BadFilter> {
        let (negated, (key, value)) = match text.split_once("!=") {
            Some(parts) => (true, parts),
            None => (false, text.split_once('=').ok_or(BadFilter::Form)?),
        };
        let value = value.to_owned();
        let test = match key {
            "reference" => Test::Reference(value),
            // The words of Go's strconv.ParseBool.
            "dangling" => Test::Dangling(match value.as_str() {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
                "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
                _ => return Err(BadFilter::Truth),
            }),
            "label" => Test::Label(value),
            "before" => Test::Before(value),
            "since" | "after" => Test::Since(value),
            _ => return Err(BadFilter::Key),
        };
        Ok(Filter { negated, test })
    }
}

/// A filter with the image that it names looked up.
pub(super) enum Ready<'a> {
    Reference { negated: bool, pattern: &'a str, image: Option<ImageId> },
    Dangling(bool),
    Label { negated: bool, label: &'a str },
    Before { negated: bool, moment: Time },
    Since { negated: bool, moment: Time },
}

impl Filter {
    pub(super) fn prepare(&self, storage: &Storage) -> Result<Ready<'_>, StoreError> {
        let negated = self.negated;
        let moment_of = |reference: &str| {
            let image = storage.image(reference)?;
            Ok::<_, StoreError>(image.stored_at().and_then(Time::parse_rfc3339).unwrap_or_default())
        };
        Ok(match &self.test {
            // A pattern may also be whatever else means an image, such as an id; it need not.
            Test::Reference(pattern) => {
                Ready::Reference { negated, pattern, image: storage.image(pattern).ok().map(|image| image.id()) }
            }
            Test::Dangling(wanted) => Ready::Dangling(*wanted != negated),
            Test::Label(label) => Ready::Label { negated, label },
            Test::Before(reference) => Ready::Before { negated, moment: moment_of(reference)? },
            Test::Since(reference) => Ready::Since { negated, moment: moment_of(reference)? },
        })
    }
}

/// Whether an image passes them all.
pub(super) fn pass(filters: &[Ready<'_>], listed: &Listed) -> Result<bool, StoreError> {
    let named = |pattern: &str, image: &Option<ImageId>| {
        *image == Some(listed.image.id()) || listed.image.names().iter().any(|name| pattern::names(pattern, name))
    };
    let (mut asked, mut found) = (false, false);
    for filter in filters {
        let holds = match filter {
            Ready::Reference { negated: false, pattern, image } => {
                asked = true;
                found |= named(pattern, image);
                continue;
            }
            Ready::Reference { negated: true, pattern, image } => !named(pattern, image),
            Ready::Dangling(wanted) => listed.is_dangling() == *wanted,
            Ready::Label { negated, label } => has_label(listed, label)? != *negated,
            Ready::Before { negated, moment } => (listed.stored < *moment) != *negated,
            Ready::Since { negated, moment } => (listed.stored > *moment) != *negated,
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(found || !asked)
}

fn has_label(listed: &Listed, label: &str) -> Result<bool, StoreError> {
    let config = match listed.image.config() {
        Err(StoreError::NoBigData { .. }) => return Ok(false),
        config => config?,
    };
    let labels = config.runtime().and_then(|runtime| runtime.get("Labels")).and_then(serde_json::Value::as_object);
    Ok(labels.is_some_and(|labels| {
        labels.iter().any(|(key, value)| pattern::labels(label, key, value.as_str().unwrap_or_default()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parsed_as_podman_parses_them() {
        let of = |negated, test| Ok(Filter { negated, test });
        for (text, expected) in [
            ("reference=a=b", of(false, Test::Reference("a=b".to_owned()))),
            ("reference!=a", of(true, Test::Reference("a".to_owned()))),
            ("dangling=True", of(false, Test::Dangling(true))),
            ("dangling=0", of(false, Test::Dangling(false))),
            ("dangling=maybe", Err(BadFilter::Truth)),
            ("label=a!=b", of(true, Test::Label("b".to_owned())).and(Err(BadFilter::Key))),
            ("label!=a=b", of(true, Test::Label("a=b".to_owned()))),
            ("after=x", of(false, Test::Since("x".to_owned()))),
            ("colour=x", Err(BadFilter::Key)),
            ("dangling", Err(BadFilter::Form)),
        ] {
            assert_eq!(text.parse::<Filter>(), expected, "{text}");
        }
    }
}
