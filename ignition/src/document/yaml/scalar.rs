//! What a scalar without quotes is, and what it was before that was decided.

use crate::document::node::{Node, Value};

/// What a scalar without quotes is.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => integer(text)
            .map(Value::Integer)
            .or_else(|| float(text).map(Value::Float))
            .unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', b'o', ..] => (8, &digits[2..]),
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    let digits = digits.replace('_', "");
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// A number with a point or an exponent: `0899` and dates are none, but texts.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let looks = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(['.', 'e', 'E'])
        && unsigned.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    looks.then(|| text.parse().ok()).flatten().filter(|float: &f64| float.is_finite())
}

/// The text of a scalar as it was written, if it was written without quotes: `0644` where its value
/// is 420.
pub fn written(node: &Node, text: &str) -> Option<String> {
    let scalar = match &node.value {
        Value::String(text) => return Some(text.clone()),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
            let rest = text.get(node.mark.offset as usize..)?;
            let end = rest.find(|c: char| c.is_whitespace() || ",]}".contains(c));
            &rest[..end.unwrap_or(rest.len())]
        }
        Value::Null | Value::List(_) | Value::Map(_) => return None,
    };
    // A tag stands where the scalar was expected: `!!int "1"`.
    Some(match plain(scalar) == node.value {
        true => scalar.to_owned(),
        false => node.to_json().to_string(),
    })
}

/// A truth as YAML 1.1 spells them, for those who know that they want one.
pub fn truth(node: &Node) -> Option<bool> {
    match &node.value {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) => match &**text {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
            _ => None,
        },
        Value::Null | Value::Integer(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
    }
}
