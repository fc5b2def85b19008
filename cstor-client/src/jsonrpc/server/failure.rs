//! How an error becomes the answer to a request: a code of JSON-RPC, a line for people, and what programs may need.

use serde::Serialize;

use crate::base::kind::ErrorKind;
use crate::error::{Error, ImageError, OutputError, StoreError, with_causes};
use crate::jsonrpc::shapes::FailureData;
use crate::jsonrpc::wire::WireError;

/// The request cannot be parsed.
pub(super) const PARSE_ERROR: i32 = -32700;
/// It is no request.
pub(super) const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL_ERROR: i32 = -32603;
/// Announced and received descriptors differ (jsonrpc-fdpass, `FILE_DESCRIPTOR_ERROR_CODE`).
const DESCRIPTORS_DIFFER: i32 = -32050;
/// What was asked for cannot be done.
const FAILED: i32 = -32000;
/// What was asked for is not there.
const NOT_FOUND: i32 = -32001;
/// The descriptors of an answer cannot all be open at once.
const DESCRIPTORS_DO_NOT_FIT: i32 = -32002;
/// Something else is more than a limit.
const LIMIT: i32 = -32003;

/// Why a request is not granted.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Failure {
    code: i32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<FailureData>,
}

/// What ends the handling of a request.
#[derive(Debug)]
pub(super) enum Stop {
    /// An answer says why, and the next request may come.
    Refused(Failure),
    /// The connection is of no use any more.
    Broken(WireError),
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Stop {
        Stop::Broken(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Refused(failure)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Refused(Failure::of(&error))
    }
}

impl From<ImageError> for Stop {
    fn from(error: ImageError) -> Stop {
        Error::from(error).into()
    }
}

impl From<OutputError> for Stop {
    fn from(error: OutputError) -> Stop {
        Error::from(error).into()
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Error::from(error).into()
    }
}

impl Failure {
    fn new(code: i32, message: String) -> Failure {
        Failure { code, message, data: None }
    }

    pub(super) fn no_request(what: &str) -> Failure {
        Failure::new(INVALID_REQUEST, what.to_owned())
    }

    pub(super) fn no_method(method: &str) -> Failure {
        Failure::new(METHOD_NOT_FOUND, format!("there is no method {method:.64}"))
    }

    pub(super) fn params(what: impl ToString) -> Failure {
        Failure::new(INVALID_PARAMS, what.to_string())
    }

    pub(super) fn internal(what: impl ToString) -> Failure {
        Failure::new(INTERNAL_ERROR, what.to_string())
    }

    pub(super) fn not_found(what: String) -> Failure {
        let data = FailureData { kind: Some(name(ErrorKind::NotFound).to_owned()), ..FailureData::default() };
        Failure { code: NOT_FOUND, message: what, data: Some(data) }
    }

    /// So many descriptors are needed, and so many can be open.
    pub(super) fn do_not_fit(count: usize, limit: usize) -> Failure {
        let message = format!("the answer has {count} descriptors at once, {limit} fit: use GetLayerTarSplit");
        let (count, limit) = (Some(count as u64), Some(limit as u64));
        let data = FailureData { kind: Some(name(ErrorKind::Limit).to_owned()), count, limit };
        Failure { code: DESCRIPTORS_DO_NOT_FIT, message, data: Some(data) }
    }

    /// More than the limit of something.
    pub(super) fn limit(what: &str, limit: usize) -> Failure {
        let data = FailureData {
            kind: Some(name(ErrorKind::Limit).to_owned()),
            limit: Some(limit as u64),
            ..FailureData::default()
        };
        Failure { code: LIMIT, message: format!("{what}; the limit is {limit}"), data: Some(data) }
    }

    /// The kernel allows no thread beside those of so many connections.
    pub(super) fn no_thread(connections: usize) -> Failure {
        Failure::limit("too many connections: the kernel allows no more threads", connections)
    }

    /// An error of the library. What to do about it is for the client to say: it may be a program of any kind.
    pub(super) fn of(error: &Error) -> Failure {
        let code = match error.kind() {
            ErrorKind::NotFound => NOT_FOUND,
            ErrorKind::Limit => LIMIT,
            _ => FAILED,
        };
        let data = FailureData { kind: Some(name(error.kind()).to_owned()), ..FailureData::default() };
        Failure { code, message: with_causes(error), data: Some(data) }
    }

    /// What a peer that breaks the protocol is told; `None` where there is nobody to tell.
    pub(super) fn of_wire(error: &WireError) -> Option<Failure> {
        let code = match error {
            WireError::NotJson(_) | WireError::NoObject { .. } | WireError::TooDeep { .. } => PARSE_ERROR,
            WireError::NotRpc(_) | WireError::TooLong { .. } => INVALID_REQUEST,
            WireError::Missing { .. } | WireError::Surplus { .. } | WireError::TooMany { .. } => DESCRIPTORS_DIFFER,
            WireError::Slow { .. } | WireError::Silent { .. } => FAILED,
            _ => return None,
        };
        Some(Failure::new(code, error.to_string()))
    }
}

/// The name of a class, which [`kind`] understands.
fn name(kind: ErrorKind) -> &'static str {
    NAMES.iter().find(|(_, known)| *known == kind).map_or("failure", |(name, _)| name)
}

/// The class of a name.
pub(in crate::jsonrpc) fn kind(name: &str) -> Option<ErrorKind> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

const NAMES: [(&str, ErrorKind); 11] = [
    ("failure", ErrorKind::Failure),
    ("not found", ErrorKind::NotFound),
    ("corrupt", ErrorKind::Corrupt),
    ("unsupported", ErrorKind::Unsupported),
    ("permission", ErrorKind::Permission),
    ("helper", ErrorKind::Helper),
    ("busy", ErrorKind::Busy),
    ("changed", ErrorKind::Changed),
    ("destination", ErrorKind::Destination),
    ("limit", ErrorKind::Limit),
    ("interrupted", ErrorKind::Interrupted),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_is_wrong_and_nothing_else() {
        let error = Error::Store(StoreError::NoImage { reference: "nosuch".into() });
        let Failure { code, message, data } = Failure::of(&error);
        assert_eq!((code, message.as_str()), (NOT_FOUND, "nosuch: no such image"));
        assert_eq!(data.and_then(|data| data.kind).as_deref(), Some("not found"));
    }
}
