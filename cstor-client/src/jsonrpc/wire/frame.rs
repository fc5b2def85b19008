//! Where a JSON object ends: braces and brackets are counted outside of strings, each byte once, however it arrives.
//! Whether what stands between them is JSON is not looked at.

use super::WireError;

/// Nested objects and arrays in one message. No method needs more than five; parsers recurse.
const MAX_DEPTH: usize = 32;

/// How far an object has been looked at.
#[derive(Debug, Default)]
pub(in crate::jsonrpc) struct Frame {
    looked_at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Frame {
    /// Whether no byte of an object has been looked at.
    pub(super) fn is_new(&self) -> bool {
        self.looked_at == 0
    }

    /// Goes on in `bytes`, which begin with the object and are those of the last call with more behind them. Gives the
    /// length of the object if its end is there.
    pub(in crate::jsonrpc) fn end_in(&mut self, bytes: &[u8]) -> Result<Option<usize>, WireError> {
        for &byte in bytes.get(self.looked_at..).unwrap_or_default() {
            self.looked_at += 1;
            self.take(byte)?;
            if self.depth == 0 {
                let length = self.looked_at;
                *self = Frame::default();
                return Ok(Some(length));
            }
        }
        Ok(None)
    }

    fn take(&mut self, byte: u8) -> Result<(), WireError> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(());
        }
        match byte {
            b'{' => self.depth += 1,
            _ if self.depth == 0 => return Err(WireError::NoObject { found: byte }),
            b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            b'"' => self.in_string = true,
            _ => {}
        }
        if self.depth > MAX_DEPTH { Err(WireError::TooDeep { limit: MAX_DEPTH }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_end_where_their_braces_close_however_they_arrive() {
        let table = [
            ("{}", Some(2)),
            (r#"{"a":[{}]} {"b":1}"#, Some(10)),
            (r#"{"}":"\"}{[","\\":1}x"#, Some(20)),
            (r#"{"a":{"#, None),
            (r#"{"a":"}"#, None),
            (r#"{"a":"\\"}"#, Some(10)),
        ];
        for (text, length) in table {
            assert_eq!(Frame::default().end_in(text.as_bytes()).unwrap(), length, "{text}");
            let mut piecemeal = Frame::default();
            let found = (1..=text.len()).find_map(|end| piecemeal.end_in(&text.as_bytes()[..end]).unwrap());
            assert_eq!(found, length, "{text}, byte by byte");
        }
    }

    #[test]
    fn other_values_and_towers_are_refused() {
        for text in ["[]", "1", "}", "\"a\"", "null", "\u{1}"] {
            let refused = Frame::default().end_in(text.as_bytes());
            assert!(matches!(refused, Err(WireError::NoObject { .. })), "{text}: {refused:?}");
        }
        let tower = |floors: usize| format!("{{\"a\":{}", "[".repeat(floors - 1));
        assert!(Frame::default().end_in(tower(MAX_DEPTH).as_bytes()).is_ok());
        let refused = Frame::default().end_in(tower(MAX_DEPTH + 1).as_bytes());
        assert!(matches!(refused, Err(WireError::TooDeep { .. })), "{refused:?}");
    }
}
