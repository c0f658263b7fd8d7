//! The JSON form of messages, as protobuf defines it and etcd's gateway speaks it: byte strings in
//! base64, 64-bit numbers as text, choices by name, names as in the tables (or in camel case), and
//! what is zero left out.

use std::marker::PhantomData;

use base64::{Engine, engine::general_purpose::STANDARD, prelude::BASE64_URL_SAFE};
use bytes::Bytes;
use serde_json::{Map, Value};
use thiserror::Error;

/// A JSON object.
pub type Object = Map<String, Value>;

/// Whether a field had the name that was asked for.
pub type Read = Result<bool, Invalid>;

/// JSON that is not the message that was expected.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{}{expected} was expected, not {found}", place(.path))]
pub struct Invalid {
    /// The names on the way to it, the innermost first.
    path: Vec<String>,
    expected: &'static str,
    found: String,
}

fn place(path: &[String]) -> String {
    if path.is_empty() {
        return String::new();
    }
    format!("{}: ", path.iter().rev().cloned().collect::<Vec<_>>().join("."))
}

impl Invalid {
    fn new(expected: &'static str, found: &Value) -> Self {
        let mut found = found.to_string();
        if let Some((end, _)) = found.char_indices().nth(60) {
            found.truncate(end);
            found.push_str("...");
        }
        Self { path: Vec::new(), expected, found }
    }

    /// The same, of a field of a message.
    pub fn inside(mut self, field: &str) -> Self {
        self.path.push(field.to_owned());
        self
    }
}

/// A message.
pub trait Json: Default {
    /// Writes its fields.
    fn write(&self, to: &mut Object);

    /// Reads the field of that name, if it has one.
    fn read(&mut self, name: &str, json: &Value) -> Read;

    /// The message as JSON.
    fn to_json(&self) -> Value {
        let mut object = Object::new();
        self.write(&mut object);
        Value::Object(object)
    }

    /// The message that some JSON is. A field that it does not have is passed over, as those of
    /// newer clients are in protobuf.
    fn from_json(json: &Value) -> Result<Self, Invalid> {
        let object = json.as_object().ok_or_else(|| Invalid::new("an object", json))?;
        let mut message = Self::default();
        for (name, value) in object {
            message.read(name, value)?;
        }
        Ok(message)
    }
}

/// A choice.
pub trait Named {
    /// Its numbers and names.
    const NAMES: &'static [(i32, &'static str)];
}

/// A field that is one of several.
pub trait Variants: Sized {
    /// Writes the one that it is.
    fn write(&self, to: &mut Object);

    /// Reads the one of that name, if there is one.
    fn read(name: &str, json: &Value) -> Result<Option<Self>, Invalid>;
}

/// A single value.
pub trait One {
    /// What it is in Rust.
    type Value: Default;

    /// As JSON.
    fn write(value: &Self::Value) -> Value;

    /// From JSON.
    fn read(json: &Value) -> Result<Self::Value, Invalid>;

    /// Whether it is left out.
    fn is_zero(value: &Self::Value) -> bool;
}

/// A field.
pub trait Form {
    /// What it is in Rust.
    type Value;

    /// Writes it, if it is not zero.
    fn write(value: &Self::Value, field: &str, to: &mut Object);

    /// Reads it, if that is its name.
    fn read(value: &mut Self::Value, field: &str, name: &str, json: &Value) -> Read;
}

/// Whether `name` is the name of `field`, as it is or in camel case.
pub fn is_name(name: &str, field: &str) -> bool {
    let mut after = false;
    let camel = field.chars().filter_map(|c| {
        let upper = std::mem::replace(&mut after, c == '_');
        (c != '_').then(|| if upper { c.to_ascii_uppercase() } else { c })
    });
    name == field || camel.eq(name.chars())
}

impl<T: One> Form for T {
    type Value = T::Value;

    fn write(value: &T::Value, field: &str, to: &mut Object) {
        if !T::is_zero(value) {
            to.insert(field.to_owned(), <T as One>::write(value));
        }
    }

    fn read(value: &mut T::Value, field: &str, name: &str, json: &Value) -> Read {
        let is = is_name(name, field);
        if is && !json.is_null() {
            *value = <T as One>::read(json).map_err(|error| error.inside(name))?;
        }
        Ok(is)
    }
}

impl One for bool {
    type Value = Self;

    fn write(value: &Self) -> Value {
        (*value).into()
    }

    fn read(json: &Value) -> Result<Self, Invalid> {
        json.as_bool().ok_or_else(|| Invalid::new("true or false", json))
    }

    fn is_zero(value: &Self) -> bool {
        !value
    }
}

macro_rules! number {
    ($($kind:ty: $expected:literal, $write:expr;)*) => {$(
        impl One for $kind {
            type Value = Self;

            fn write(value: &Self) -> Value {
                let write: fn(Self) -> Value = $write;
                write(*value)
            }

            fn read(json: &Value) -> Result<Self, Invalid> {
                let number = match json {
                    Value::String(text) => text.parse().ok(),
                    Value::Number(number) => number.to_string().parse().ok(),
                    _ => None,
                };
                number.ok_or_else(|| Invalid::new($expected, json))
            }

            fn is_zero(value: &Self) -> bool {
                *value == 0
            }
        }
    )*};
}

number! {
    i64: "a whole number", |number| number.to_string().into();
    u64: "a whole number that is not negative", |number| number.to_string().into();
    u32: "a whole number that is not negative", |number| number.into();
}

impl One for String {
    type Value = Self;

    fn write(value: &Self) -> Value {
        value.as_str().into()
    }

    fn read(json: &Value) -> Result<Self, Invalid> {
        json.as_str().map(str::to_owned).ok_or_else(|| Invalid::new("text", json))
    }

    fn is_zero(value: &Self) -> bool {
        value.is_empty()
    }
}

impl One for Bytes {
    type Value = Self;

    fn write(value: &Self) -> Value {
        STANDARD.encode(value).into()
    }

    fn read(json: &Value) -> Result<Self, Invalid> {
        let bytes = json
            .as_str()
            .and_then(|text| STANDARD.decode(text).or_else(|_| BASE64_URL_SAFE.decode(text)).ok());
        bytes.map(Self::from).ok_or_else(|| Invalid::new("base64", json))
    }

    fn is_zero(value: &Self) -> bool {
        value.is_empty()
    }
}

/// A choice, kept as its number.
pub struct Choice<T>(PhantomData<T>);

impl<T: Named> One for Choice<T> {
    type Value = i32;

    fn write(value: &i32) -> Value {
        match T::NAMES.iter().find(|(number, _)| number == value) {
            Some((_, name)) => (*name).into(),
            None => (*value).into(),
        }
    }

    fn read(json: &Value) -> Result<i32, Invalid> {
        let number = match json {
            Value::String(text) => {
                T::NAMES.iter().find(|(_, name)| name == text).map(|(number, _)| *number)
            }
            _ => json.as_i64().and_then(|number| i32::try_from(number).ok()),
        };
        number.ok_or_else(|| Invalid::new("the name of a choice", json))
    }

    fn is_zero(value: &i32) -> bool {
        *value == 0
    }
}

/// A message as a value.
pub struct Whole<T>(PhantomData<T>);

impl<T: Json> One for Whole<T> {
    type Value = T;

    fn write(value: &T) -> Value {
        value.to_json()
    }

    fn read(json: &Value) -> Result<T, Invalid> {
        T::from_json(json)
    }

    fn is_zero(_: &T) -> bool {
        false
    }
}

/// A message that may be there.
pub struct Inner<T>(PhantomData<T>);

impl<T: Json> One for Inner<T> {
    type Value = Option<T>;

    fn write(value: &Option<T>) -> Value {
        value.as_ref().map_or(Value::Null, Json::to_json)
    }

    fn read(json: &Value) -> Result<Option<T>, Invalid> {
        T::from_json(json).map(Some)
    }

    fn is_zero(value: &Option<T>) -> bool {
        value.is_none()
    }
}

/// Several of a kind.
pub struct Several<T>(PhantomData<T>);

impl<T: One> One for Several<T> {
    type Value = Vec<T::Value>;

    fn write(values: &Vec<T::Value>) -> Value {
        values.iter().map(T::write).collect()
    }

    fn read(json: &Value) -> Result<Vec<T::Value>, Invalid> {
        let values = json.as_array().ok_or_else(|| Invalid::new("a list", json))?;
        values.iter().map(T::read).collect()
    }

    fn is_zero(values: &Vec<T::Value>) -> bool {
        values.is_empty()
    }
}

/// A field that is one of several.
pub struct OneOf<T>(PhantomData<T>);

impl<T: Variants> Form for OneOf<T> {
    type Value = Option<T>;

    fn write(value: &Option<T>, _: &str, to: &mut Object) {
        if let Some(value) = value {
            value.write(to);
        }
    }

    fn read(value: &mut Option<T>, _: &str, name: &str, json: &Value) -> Read {
        let read = T::read(name, json)?;
        let is = read.is_some();
        *value = read.or_else(|| value.take());
        Ok(is)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{LeaseGrantRequest, RangeRequest, TxnRequest, WatchRequest};

    /// Reads JSON as a message, and writes it again.
    fn again<T: Json>(json: &Value) -> Result<Value, String> {
        T::from_json(json).map(|is| is.to_json()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_gateway_gets_is_what_it_gives() {
        for json in [
            json!({"key": "Zm9v", "range_end": "Zm9w", "limit": "3", "sort_order": "DESCEND", "count_only": true}),
            json!({}),
        ] {
            assert_eq!(again::<RangeRequest>(&json), Ok(json));
        }
        let txn = json!({
            "compare": [{"result": "GREATER", "target": "MOD", "key": "Zm9v", "mod_revision": "0"}],
            "success": [{"request_put": {"key": "Zm9v", "value": "YmFy"}}],
            "failure": [{"request_txn": {"success": [{"request_range": {"key": "Zm9v"}}]}}],
        });
        assert_eq!(again::<TxnRequest>(&txn), Ok(txn));
        let grant = json!({"TTL": "60", "ID": "-7"});
        assert_eq!(again::<LeaseGrantRequest>(&grant), Ok(grant));
        let watch = json!({"create_request": {"key": "Zm9v", "filters": ["NODELETE"]}});
        assert_eq!(again::<WatchRequest>(&watch), Ok(watch));
    }

    #[test]
    fn other_forms_are_understood() {
        let loose =
            json!({"rangeEnd": "_w==", "limit": 3, "sort_target": 4, "revision": null, "new": 1});
        let strict = json!({"range_end": "/w==", "limit": "3", "sort_target": "VALUE"});
        assert_eq!(again::<RangeRequest>(&loose), Ok(strict));
    }

    #[test]
    fn what_is_no_message_is_told_with_its_place() {
        for (json, expected) in [
            (json!({"compare": [{"key": "?"}]}), "compare.key: base64 was expected, not \"?\""),
            (json!({"success": 1}), "success: a list was expected, not 1"),
            (json!([]), "an object was expected, not []"),
            (
                json!({"success": [{"request_put": {"lease": "x"}}]}),
                "success.request_put.lease: a whole number was expected, not \"x\"",
            ),
        ] {
            assert_eq!(again::<TxnRequest>(&json), Err(expected.to_owned()));
        }
    }
}
