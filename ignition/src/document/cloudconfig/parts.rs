//! What a text consists of: one cloud-config, one script, or a MIME message of several of them.

use std::collections::HashMap;

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::document::unpack;

/// Messages within messages are refused below this.
const MAX_DEPTH: usize = 4;

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `#cloud-config`.
    CloudConfig,
    /// `#!`.
    Script,
    /// Something else: not for us.
    Other,
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What the message calls its file; empty if it does not.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// All of it.
    pub text: String,
}

/// A message that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotMime {
    /// Where in the outer text, in bytes.
    pub offset: u32,
    /// What is wrong.
    pub message: String,
}

/// Whether a text says that it is a cloud-config.
pub fn is_cloud_config(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.trim_end() == "#cloud-config")
}

/// Whether a text is a script.
pub fn is_script(text: &str) -> bool {
    text.starts_with("#!")
}

/// Whether a text is a message of several parts.
pub fn is_multipart(text: &str) -> bool {
    let (headers, _) = headers(text);
    headers.get("content-type").is_some_and(|kind| kind.contains("multipart/mixed"))
}

/// The parts of a text, in order.
pub fn parts(text: &str) -> Result<Vec<Part>, NotMime> {
    let mut found = Vec::new();
    collect(text, "", 0, &mut found)
        .map_err(|(at, message)| NotMime { offset: u32::try_from(at).unwrap_or(0), message })?;
    Ok(found)
}

/// Where, and what is wrong.
type Wrong = (usize, String);

fn collect(text: &str, name: &str, depth: usize, found: &mut Vec<Part>) -> Result<(), Wrong> {
    if is_multipart(text) {
        return multipart(text, depth, found);
    }
    let kind = if is_cloud_config(text) {
        Kind::CloudConfig
    } else if is_script(text) {
        Kind::Script
    } else {
        Kind::Other
    };
    found.push(Part { name: name.to_owned(), kind, text: text.to_owned() });
    Ok(())
}

fn multipart(text: &str, depth: usize, found: &mut Vec<Part>) -> Result<(), Wrong> {
    if depth >= MAX_DEPTH {
        return Err((0, format!("more than {MAX_DEPTH} messages within each other")));
    }
    let (head, body) = headers(text);
    let kind = head.get("content-type").map(String::as_str).unwrap_or_default();
    let Some(boundary) = parameter(kind, "boundary").filter(|boundary| !boundary.is_empty()) else {
        return Err((0, "the Content-Type of the message says no boundary".to_owned()));
    };
    let delimiter = format!("--{boundary}");
    let mut part: Option<(usize, usize)> = None;
    let mut at = text.len() - body.len();
    let mut closed = false;
    for line in body.split_inclusive('\n') {
        let rest = line.trim_end().strip_prefix(&delimiter);
        if let Some(rest) = rest.filter(|rest| matches!(*rest, "" | "--")) {
            if let Some((start, end)) = part.take() {
                one(&text[start..end], start, depth, found)?;
            }
            closed = rest == "--";
            if closed {
                break;
            }
            part = Some((at + line.len(), at + line.len()));
        } else if let Some((_, end)) = &mut part {
            *end = at + line.len();
        }
        at += line.len();
    }
    match closed {
        true => Ok(()),
        false => Err((text.len(), format!("the message does not end with `{delimiter}--`"))),
    }
}

fn one(text: &str, offset: usize, depth: usize, found: &mut Vec<Part>) -> Result<(), Wrong> {
    let wrong = |message: String| (offset, message);
    let (head, body) = headers(text);
    // The line end before a boundary belongs to the boundary.
    let body = body.strip_suffix('\n').map_or(body, |body| body.strip_suffix('\r').unwrap_or(body));
    let kind = head.get("content-type").map(String::as_str).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let name = head.get("content-disposition").and_then(|value| parameter(value, "filename"));
    let name = name.unwrap_or_default();
    let encoding = head.get("content-transfer-encoding").map(|value| value.to_ascii_lowercase());
    let mut bytes = match encoding.as_deref().map(str::trim) {
        Some("base64") => {
            let digits: String = body.split_whitespace().collect();
            let decoded = BASE64_STANDARD.decode(digits);
            decoded.map_err(|error| wrong(format!("a part that is not base64: {error}")))?
        }
        Some("quoted-printable") => quoted_printable(body),
        _ => body.as_bytes().to_vec(),
    };
    if bytes.starts_with(&[0x1f, 0x8b]) {
        bytes = unpack(&bytes).map_err(|error| wrong(error.to_string()))?;
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("a part that is no text".to_owned()))?;
    match kind.as_str() {
        "text/cloud-config" => {
            found.push(Part { name, kind: Kind::CloudConfig, text });
            Ok(())
        }
        "text/x-shellscript" => {
            found.push(Part { name, kind: Kind::Script, text });
            Ok(())
        }
        _ => collect(&text, &name, depth + 1, found).map_err(|(_, message)| wrong(message)),
    }
}

/// The headers of a message, with small letters, and what is behind them.
fn headers(text: &str) -> (HashMap<String, String>, &str) {
    let mut found: HashMap<String, String> = HashMap::new();
    let mut last: Option<String> = None;
    let mut rest = text;
    while let Some((line, behind)) = rest.split_once('\n') {
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            return (found, behind);
        }
        if line.starts_with([' ', '\t']) {
            if let Some(value) = last.as_ref().and_then(|name| found.get_mut(name)) {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':')
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_graphic())
        {
            let name = name.to_ascii_lowercase();
            found.insert(name.clone(), value.trim().to_owned());
            last = Some(name);
        } else if !line.starts_with("From ") {
            // Whatever this is, it is no header: there are none.
            return (HashMap::new(), text);
        }
        rest = behind;
    }
    (found, "")
}

fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"').to_owned();
        key.trim().eq_ignore_ascii_case(name).then_some(value)
    })
}

fn quoted_printable(body: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(body.len());
    let mut rest = body.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digit = |at: usize| behind.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        rest = match (first, behind) {
            (b'=', [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..]) => rest,
            (b'=', _) if digit(0).is_some() && digit(1).is_some() => {
                let value = digit(0).unwrap_or(0) * 16 + digit(1).unwrap_or(0);
                decoded.push(value as u8);
                &behind[2..]
            }
            _ => {
                decoded.push(*first);
                behind
            }
        };
    }
    decoded
}
