//! JSON as it is signed: read strictly, written canonically (OLPC's canonical JSON).
//!
//! A signature is over the canonical bytes of what was read, unknown fields included. So nothing may
//! be read that has no such bytes (fractions), or that two readers could understand differently
//! (a key twice).

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Reads JSON without fractions and without keys that occur twice.
pub fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(text).map(|Strict(value)| value)
}

/// The bytes of `value` that are signed.
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(value, &mut bytes);
    bytes
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => write_text(text, out),
        Value::Array(values) => {
            out.push(b'[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(value, out);
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            // serde_json's map may keep another order, if any crate of a build asks for that.
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (index, (key, value)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_text(key, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
    }
}

/// Only `"` and `\` are escaped; every other character is itself.
fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without fractions")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(Number::from(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(Number::from(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some((key, Strict(value))) = items.next_entry::<String, Strict>()? {
            if let Some(twice) = fields.insert(key.clone(), value).map(|_| key) {
                return Err(A::Error::custom(format!("the key `{twice}` occurs twice")));
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_only_quotes_and_backslashes_are_escaped() {
        let text = r#" { "b" : [1, -2, true, null], "a\u00e9" : "x\"\\\n\u0001" , "" : {} } "#;
        let canonical = canonical(&parse(text.as_bytes()).unwrap());
        assert_eq!(
            String::from_utf8(canonical).unwrap(),
            "{\"\":{},\"a\u{e9}\":\"x\\\"\\\\\n\u{1}\",\"b\":[1,-2,true,null]}"
        );
    }

    #[test]
    fn what_two_readers_could_understand_differently_is_refused() {
        let said = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
        assert!(said(r#"{"a":1,"a":2}"#).starts_with("the key `a` occurs twice"));
        assert!(said("1.5").contains("expected JSON without fractions"), "{}", said("1.5"));
        assert!(said("18446744073709551616").contains("without fractions"));
        assert!(said("{} x").starts_with("trailing characters"));
        assert!(said(&"[".repeat(1000)).starts_with("recursion limit"));
    }
}
