//! One message: what JSON-RPC 2.0 says of it, with the rest kept as bytes until somebody knows its type.

use std::fmt;
use std::os::fd::OwnedFd;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;
use serde_json::error::Category;

use super::WireError;

/// A received message and its descriptors.
#[derive(Debug)]
pub(in crate::jsonrpc) struct Message {
    bytes: Vec<u8>,
    head: Head,
    pub(in crate::jsonrpc) files: Vec<OwnedFd>,
}

/// What is the same in all messages.
#[derive(Debug, Deserialize)]
struct Head {
    jsonrpc: Option<String>,
    method: Option<String>,
    #[serde(default, deserialize_with = "present")]
    id: Option<Id>,
    fds: Option<u64>,
    #[serde(default, deserialize_with = "is_there")]
    result: bool,
    #[serde(default)]
    error: Option<Refusal>,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(in crate::jsonrpc) struct Refusal {
    pub(in crate::jsonrpc) code: i64,
    #[serde(default)]
    pub(in crate::jsonrpc) message: String,
}

/// By which an answer belongs to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(in crate::jsonrpc) enum Id {
    Null,
    Number(Number),
    Text(String),
}

impl From<u64> for Id {
    fn from(number: u64) -> Id {
        Id::Number(number.into())
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        struct Ids;
        impl Visitor<'_> for Ids {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a string or null")
            }

            fn visit_unit<E>(self) -> Result<Id, E> {
                Ok(Id::Null)
            }

            fn visit_u64<E>(self, number: u64) -> Result<Id, E> {
                Ok(number.into())
            }

            fn visit_i64<E>(self, number: i64) -> Result<Id, E> {
                Ok(Id::Number(number.into()))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Id, E> {
                // What has no fraction was an integer that would come back as another one.
                let exact = Some(number).filter(|number| number.fract() != 0.0).and_then(Number::from_f64);
                exact.map(Id::Number).ok_or_else(|| E::custom("an id that cannot be given back"))
            }

            fn visit_str<E>(self, text: &str) -> Result<Id, E> {
                Ok(Id::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Ids)
    }
}

/// Null is an id; a notification has none at all.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Id>, D::Error> {
    Id::deserialize(deserializer).map(Some)
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// The older form in which the description of the proxy's protocol announces the descriptor of a file.
#[derive(Deserialize)]
struct WithPlaceholder {
    params: Placeholders,
}

#[derive(Deserialize)]
struct Placeholders {
    fd: Placeholder,
}

#[derive(Deserialize)]
struct Placeholder {
    #[serde(rename = "__jsonrpc_fd__")]
    is_one: bool,
}

impl Message {
    /// Reads the head; the descriptors come later.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Message, WireError> {
        let head = serde_json::from_slice(&bytes).map_err(|error| match error.classify() {
            Category::Data => WireError::NotRpc(error),
            Category::Syntax | Category::Eof | Category::Io => WireError::NotJson(error),
        })?;
        Ok(Message { bytes, head, files: Vec::new() })
    }

    /// How many descriptors it announces.
    pub(super) fn announced(&self) -> u64 {
        self.head.fds.unwrap_or_else(|| {
            let old = serde_json::from_slice::<WithPlaceholder>(&self.bytes);
            u64::from(self.head.method.is_some() && old.is_ok_and(|old| old.params.fd.is_one))
        })
    }

    /// Whether it says that it is JSON-RPC 2.0.
    pub(in crate::jsonrpc) fn is_version_2(&self) -> bool {
        self.head.jsonrpc.as_deref() == Some("2.0")
    }

    /// What is to be done; `None` for an answer.
    pub(in crate::jsonrpc) fn method(&self) -> Option<&str> {
        self.head.method.as_deref()
    }

    /// `None` for a notification.
    pub(in crate::jsonrpc) fn id(&self) -> Option<&Id> {
        self.head.id.as_ref()
    }

    /// Why it refuses what was asked, if it does.
    pub(in crate::jsonrpc) fn refusal(&self) -> Option<&Refusal> {
        self.head.error.as_ref()
    }

    /// Its parameters. Without any it is as if they were an empty object.
    pub(in crate::jsonrpc) fn params<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        #[derive(Deserialize)]
        #[serde(bound = "T: DeserializeOwned")]
        struct With<T> {
            params: Option<T>,
        }
        match serde_json::from_slice::<With<T>>(&self.bytes)?.params {
            Some(params) => Ok(params),
            None => serde_json::from_str("{}"),
        }
    }

    /// Its result.
    pub(in crate::jsonrpc) fn result<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        #[derive(Deserialize)]
        #[serde(bound = "T: DeserializeOwned")]
        struct With<T> {
            result: T,
        }
        if !self.head.result {
            return Err(serde_json::Error::custom("an answer has neither a result nor an error"));
        }
        serde_json::from_slice::<With<T>>(&self.bytes).map(|with| with.result)
    }

    /// What the error says beyond its code, if it is of this type.
    pub(in crate::jsonrpc) fn error_data<T: DeserializeOwned>(&self) -> Option<T> {
        #[derive(Deserialize)]
        #[serde(bound = "T: DeserializeOwned")]
        struct With<T> {
            error: WithData<T>,
        }
        #[derive(Deserialize)]
        #[serde(bound = "T: DeserializeOwned")]
        struct WithData<T> {
            data: T,
        }
        serde_json::from_slice::<With<T>>(&self.bytes).ok().map(|with| with.error.data)
    }
}

/// A message to be sent; `fds` is what the connection fills in.
macro_rules! outgoing {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* }) => {
        $(#[$doc])*
        #[derive(Debug, Serialize)]
        pub(in crate::jsonrpc) struct $name<'a, T> {
            jsonrpc: &'static str,
            $($field: $type,)*
            #[serde(skip_serializing_if = "is_zero")]
            fds: usize,
        }

        impl<'a, T: Serialize> $name<'a, T> {
            pub(in crate::jsonrpc) fn new($($field: $type,)* fds: usize) -> $name<'a, T> {
                $name { jsonrpc: "2.0", $($field,)* fds }
            }
        }
    };
}

fn is_zero(fds: &usize) -> bool {
    *fds == 0
}

outgoing! {
    /// Asks for something.
    Request { method: &'a str, params: &'a T, id: &'a Id }
}
outgoing! {
    /// Says something that is not answered.
    Notification { method: &'a str, params: &'a T }
}
outgoing! {
    /// Answers.
    Reply { result: &'a T, id: &'a Id }
}
outgoing! {
    /// Answers that it will not be done.
    Rejection { error: &'a T, id: &'a Id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn heads_are_read_and_the_rest_is_kept() {
        let parse = |text: &str| Message::parse(text.as_bytes().to_vec());
        let request = parse(r#"{"jsonrpc":"2.0","method":"M","params":{"a":[1]},"id":null}"#).unwrap();
        assert_eq!((request.method(), request.id(), request.announced()), (Some("M"), Some(&Id::Null), 0));
        assert_eq!(request.params::<Value>().unwrap()["a"][0], 1);
        let notification = parse(r#"{"jsonrpc":"2.0","method":"layer.file","fds":3}"#).unwrap();
        assert_eq!((notification.id(), notification.announced()), (None, 3));
        assert_eq!(notification.params::<Value>().unwrap(), serde_json::json!({}));
        let reply = parse(r#"{"result":null,"id":"x"}"#).unwrap();
        assert_eq!((reply.is_version_2(), reply.id()), (false, Some(&Id::Text("x".to_owned()))));
        reply.result::<()>().unwrap();
        // The number nearest to it, also in its last digit.
        let fraction = parse(r#"{"id":1.46744073709551615}"#).unwrap();
        assert_eq!(serde_json::to_string(fraction.id().unwrap()).unwrap(), "1.4674407370955163");
        let refused = parse(r#"{"error":{"code":-5,"message":"no","data":{"count":7}},"id":1}"#).unwrap();
        assert_eq!(refused.refusal().unwrap().code, -5);
        assert_eq!(refused.error_data::<Value>().unwrap()["count"], 7);
        assert!(refused.result::<()>().is_err());
        let older = r#"{"method":"layer.file","params":{"name":"a","fd":{"__jsonrpc_fd__":true,"index":0}}}"#;
        assert_eq!(parse(older).unwrap().announced(), 1);
        for (text, json) in [(r#"{"id":{}}"#, true), (r#"{"fds":-1}"#, true), (r#"{"a"}"#, false), ("{,}", false)] {
            match parse(text) {
                Err(WireError::NotRpc(_)) if json => {}
                Err(WireError::NotJson(_)) if !json => {}
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn descriptors_are_announced_only_where_there_are_some() {
        let id = Id::from(1);
        let text = |message: serde_json::Result<String>| message.unwrap();
        assert_eq!(
            text(serde_json::to_string(&Request::new("M", &[1], &id, 0))),
            r#"{"jsonrpc":"2.0","method":"M","params":[1],"id":1}"#
        );
        assert_eq!(
            text(serde_json::to_string(&Notification::new("N", &(), 2))),
            r#"{"jsonrpc":"2.0","method":"N","params":null,"fds":2}"#
        );
        assert_eq!(
            text(serde_json::to_string(&Reply::new(&true, &Id::Null, 0))),
            r#"{"jsonrpc":"2.0","result":true,"id":null}"#
        );
    }
}
