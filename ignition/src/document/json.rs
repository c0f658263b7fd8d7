//! JSON (RFC 8259) with a place for every value. What serde_json does not say: where a value was
//! written, and that a key was written twice.

use std::collections::HashSet;

use super::node::{Entry, Map, Mark, Node, Value};

/// In so few keys, looking at each is quicker than a table of them.
const FEW_KEYS: usize = 16;
/// Deeper nesting is refused, before the stack is.
const MAX_DEPTH: usize = 128;

/// What is wrong with a text that is not JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotJson {
    /// Where.
    pub mark: Mark,
    /// What was expected, and found.
    pub message: String,
}

/// Parses a whole text.
pub fn parse(text: &str, source: u32) -> Result<Node, NotJson> {
    let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, source };
    parser.blanks();
    let node = parser.value(0)?;
    parser.blanks();
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(parser.expected("the end of the text")),
    }
}

/// The keys of a map that is being read.
#[derive(Default)]
struct Keys(HashSet<String>);

impl Keys {
    /// Whether a key is not in the map yet.
    fn is_new(&mut self, key: &str, map: &Map) -> bool {
        if map.0.len() < FEW_KEYS {
            return map.0.iter().all(|entry| entry.key != key);
        }
        if self.0.is_empty() {
            self.0.extend(map.0.iter().map(|entry| entry.key.clone()));
        }
        self.0.insert(key.to_owned())
    }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    source: u32,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn mark(&self) -> Mark {
        Mark { source: self.source, offset: u32::try_from(self.at).unwrap_or(u32::MAX) }
    }

    fn wrong(&self, message: impl Into<String>) -> NotJson {
        NotJson { mark: self.mark(), message: message.into() }
    }

    fn expected(&self, what: &str) -> NotJson {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some('\'') => "a single quote: JSON has double quotes only".to_owned(),
            Some('/') => "'/': JSON has no comments".to_owned(),
            Some(found @ ('}' | ']')) if self.text[..self.at].trim_end().ends_with(',') => {
                format!("{found:?}: there is a comma too many before it")
            }
            Some(found) => format!("{found:?}"),
            None => "the end of the text".to_owned(),
        };
        self.wrong(format!("expected {what}, found {found}"))
    }

    fn value(&mut self, depth: usize) -> Result<Node, NotJson> {
        if depth > MAX_DEPTH {
            return Err(self.wrong(format!("more than {MAX_DEPTH} brackets inside each other")));
        }
        let mark = self.mark();
        let value = match self.peek() {
            Some(b'{') => return self.map(depth),
            Some(b'[') => return self.list(depth),
            Some(b'"') => Value::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            _ => return Err(self.expected("a value")),
        };
        Ok(Node { mark, value })
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, NotJson> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.expected("a value"))
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node, NotJson> {
        self.at += 1;
        let mark = self.mark();
        let mut map = Map::default();
        let mut keys = Keys::default();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Node::new(mark, map));
        }
        loop {
            let key_mark = self.mark();
            if self.peek() != Some(b'"') {
                return Err(self.expected("a key in double quotes"));
            }
            let key = self.string()?;
            self.blanks();
            if self.peek() != Some(b':') {
                return Err(self.expected("`:`"));
            }
            self.at += 1;
            self.blanks();
            let node = self.value(depth + 1)?;
            if !keys.is_new(&key, &map) {
                let message = format!("the key {key:?} is here a second time; which one counts?");
                return Err(NotJson { mark: key_mark, message });
            }
            map.0.push(Entry { key, mark: key_mark, node });
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.expected("`,` or `}`")),
            }
            self.blanks();
        }
        self.at += 1;
        Ok(Node::new(mark, map))
    }

    fn list(&mut self, depth: usize) -> Result<Node, NotJson> {
        self.at += 1;
        let mark = self.mark();
        let mut list = Vec::new();
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Node::new(mark, list));
        }
        loop {
            list.push(self.value(depth + 1)?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.expected("`,` or `]`")),
            }
            self.blanks();
        }
        self.at += 1;
        Ok(Node::new(mark, list))
    }

    fn string(&mut self) -> Result<String, NotJson> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = &self.bytes[self.at..];
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            let Some(plain) = plain else {
                self.at = self.bytes.len();
                return Err(self.expected("`\"` behind a text"));
            };
            text.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match self.bytes[self.at] {
                b'"' => break,
                b'\\' => text.push(self.escape()?),
                _ => return Err(self.wrong("a control character in a text; write it as \\u00XX")),
            }
        }
        self.at += 1;
        Ok(text)
    }

    /// One character behind a backslash.
    fn escape(&mut self) -> Result<char, NotJson> {
        let wrong = self.wrong("not an escape that JSON has");
        self.at += 1;
        let letter = self.peek();
        self.at += 1;
        Ok(match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.four_digits().ok_or_else(|| wrong.clone())?;
                let code = match first {
                    0xd800..0xdc00 if self.bytes[self.at..].starts_with(b"\\u") => {
                        self.at += 2;
                        let second = self.four_digits().ok_or_else(|| wrong.clone())?;
                        let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
                        0x10000 + ((first - 0xd800) << 10) + low.ok_or_else(|| wrong.clone())?
                    }
                    code => code,
                };
                char::from_u32(code).ok_or(wrong)?
            }
            _ => return Err(wrong),
        })
    }

    fn four_digits(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(digits)?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    fn number(&mut self) -> Result<Value, NotJson> {
        let start = self.at;
        let digits = |parser: &mut Self| {
            let from = parser.at;
            while matches!(parser.peek(), Some(b'0'..=b'9')) {
                parser.at += 1;
            }
            parser.at - from
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let zero = self.peek() == Some(b'0');
        match digits(self) {
            0 => return Err(self.expected("a digit")),
            1 => {}
            _ if zero => {
                self.at = start;
                let hint = "JSON has decimal numbers only: write 0644 as 420";
                return Err(self.wrong(format!("a number that starts with 0; {hint}")));
            }
            _ => {}
        }
        let mut whole = true;
        if self.peek() == Some(b'.') {
            self.at += 1;
            whole = false;
            if digits(self) == 0 {
                return Err(self.expected("a digit"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            whole = false;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if digits(self) == 0 {
                return Err(self.expected("a digit"));
            }
        }
        let text = &self.text[start..self.at];
        match text.parse() {
            Ok(integer) if whole => Ok(Value::Integer(integer)),
            _ => Ok(Value::Float(text.parse().unwrap_or(f64::NAN))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> (u32, String) {
        let error = parse(text, 0).unwrap_err();
        (error.mark.offset, error.message)
    }

    #[test]
    fn every_value_knows_its_place() {
        let node = parse(r#" {"a": [1, "x\u00e9\ud83d\ude00"], "b": {"c": -2.5e1}}"#, 7).unwrap();
        assert_eq!(node.mark, Mark { source: 7, offset: 2 });
        let list = node.get("a").unwrap();
        assert_eq!((list.mark.offset, list.index(0).unwrap().mark.offset), (8, 8));
        assert_eq!(list.index(1).unwrap().text(), Some("xé😀"));
        assert_eq!(node.get("b").unwrap().get("c").unwrap().value, Value::Float(-25.0));
    }

    #[test]
    fn what_is_not_json_is_said_with_its_place() {
        let end = "expected a value, found the end of the text".to_owned();
        assert_eq!(error(""), (0, end));
        let said =
            "expected a key in double quotes, found '}': there is a comma too many before it";
        assert_eq!(error("{\"a\":1,}"), (7, said.into()));
        assert_eq!(error("[1 2]"), (3, "expected `,` or `]`, found '2'".into()));
        assert_eq!(
            error("\"a"),
            (2, "expected `\"` behind a text, found the end of the text".into())
        );
        assert_eq!(error("\"\\ud800\""), (1, "not an escape that JSON has".into()));
        assert!(error("{\"mode\": 0644}").1.contains("write 0644 as 420"));
        assert!(error(&"[".repeat(1000)).1.contains("inside each other"));
    }

    #[test]
    fn a_key_that_is_written_twice_does_not_lose_silently() {
        let (offset, message) = error(r#"{"a": 1, "a": 2}"#);
        assert_eq!((offset, message.contains("second time")), (9, true));
    }

    #[test]
    fn very_many_keys_are_each_looked_at_once() {
        let keys = |count: u32| (0..count).map(|key| format!("\"{key}\": 0")).collect::<Vec<_>>();
        let text = |keys: &[String]| format!("{{{}}}", keys.join(", "));
        let many = keys(200_000);
        let Value::Map(map) = parse(&text(&many), 0).unwrap().value else { panic!("a map") };
        assert_eq!(map.0.len(), 200_000);
        // Around the number from which on there is a table, too.
        for count in [1, 15, 16, 17, 18, 200_000] {
            for twice in ["0".to_owned(), (count - 1).to_string()] {
                let keys = [&many[..count], &[format!("\"{twice}\": 1")]].concat();
                let (_, message) = error(&text(&keys));
                assert!(message.contains("second time"), "{count}: {message}");
            }
        }
    }

    proptest! {
        /// serde_json accepts the same texts and sees the same values.
        #[test]
        fn it_agrees_with_serde_json(text in r#"[\[\]{}:,"a\\u0-9e.+ -]{0,24}"#) {
            let theirs: Result<serde_json::Value, _> = serde_json::from_str(&text);
            match (parse(&text, 0), theirs) {
                (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours.to_json(), theirs),
                (Err(_), Err(_)) => {}
                // They let the second of two keys win, and refuse what no float can hold.
                (Err(error), Ok(_)) => prop_assert!(error.message.contains("second time")),
                (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("out of range")),
            }
        }
    }
}
