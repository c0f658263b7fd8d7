//! `data:` URLs (RFC 2397): the content is in the URL itself.
//!
//! Only what the original takes is taken: base64 is padded and of the standard alphabet, without
//! escapes in it; a parameter has a value; the type, if one is given, is one of RFC 2045.

use std::io::{self, Write};

/// A `data:` URL that is well-formed: its content can be written without fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataUrl<'a> {
    encoding: Encoding,
    data: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Percent,
    Base64,
}

/// A URL that is not a `data:` URL as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotADataUrl {
    /// Another scheme, or none.
    #[error("missing data prefix")]
    Prefix,
    /// There is no data.
    #[error("missing comma before data")]
    Comma,
    /// A type without a `/`.
    #[error("missing media type slash")]
    Slash,
    /// A type that RFC 2045 does not have.
    #[error("invalid media type")]
    Type,
    /// Something that no name of a type may have in it.
    #[error("invalid character for media type")]
    TypeCharacter,
    /// A parameter that is no `name=value`.
    #[error("unterminated parameter sequence")]
    Parameter,
    /// Something that no parameter may have in it.
    #[error("invalid character for parameter")]
    ParameterCharacter,
    /// `"` without its pair.
    #[error("unclosed quoted string")]
    Quote,
    /// Something other than `;` or `,` behind a parameter.
    #[error("expected semicolon or comma")]
    Separator,
    /// An encoding other than base64.
    #[error("expected base64")]
    Encoding,
    /// Something in the data that must be escaped.
    #[error("invalid data character at byte {0} of the data")]
    Character(usize),
    /// `%` without two hexadecimal digits.
    #[error("invalid escape at byte {0} of the data: `%` stands before two hexadecimal digits")]
    Escape(usize),
    /// Base64 that is cut, or not padded.
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
}

impl<'a> DataUrl<'a> {
    /// Parses a URL, all of it.
    pub fn parse(url: &'a str) -> Result<Self, NotADataUrl> {
        let rest = url.strip_prefix("data:").ok_or(NotADataUrl::Prefix)?;
        let (encoding, data) = parameters(media_type(rest)?)?;
        match encoding {
            Encoding::Percent => check_percent(data)?,
            Encoding::Base64 => check_base64(data)?,
        }
        Ok(Self { encoding, data })
    }

    /// The content.
    pub fn decode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.data.len());
        self.write(&mut content).expect("memory takes what it is given");
        content
    }

    /// Writes the content.
    pub fn write(&self, into: &mut dyn Write) -> io::Result<()> {
        match self.encoding {
            Encoding::Percent => write_percent(self.data.as_bytes(), into),
            Encoding::Base64 => write_base64(self.data.as_bytes(), into),
        }
    }
}

/// Takes the type, if there is one, and gives what is behind it: from its `;` or `,`.
fn media_type(rest: &str) -> Result<&str, NotADataUrl> {
    if rest.starts_with([';', ',']) {
        return Ok(rest);
    }
    let kind_end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
    let (kind, behind) = rest.split_at(kind_end);
    let Some(subtype) = behind.strip_prefix('/') else {
        let wrong = if behind.is_empty() { NotADataUrl::Slash } else { NotADataUrl::TypeCharacter };
        return Err(if rest.is_empty() { NotADataUrl::Comma } else { wrong });
    };
    let known = ["text", "image", "audio", "video", "application", "message", "multipart"];
    let private = kind.starts_with("x-") || kind.starts_with("X-");
    if !private && !known.iter().any(|known| kind.starts_with(known)) {
        return Err(NotADataUrl::Type);
    }
    let end = subtype.find(|c| !is_token(c)).ok_or(NotADataUrl::Comma)?;
    match subtype[end..].starts_with([';', ',']) {
        true => Ok(&subtype[end..]),
        false => Err(NotADataUrl::TypeCharacter),
    }
}

/// Takes the parameters and the comma, and gives the encoding and the data.
fn parameters(mut rest: &str) -> Result<(Encoding, &str), NotADataUrl> {
    loop {
        if let Some(data) = rest.strip_prefix(',') {
            return Ok((Encoding::Percent, data));
        }
        rest = match rest.strip_prefix(';') {
            Some(rest) => rest,
            None if rest.is_empty() => return Err(NotADataUrl::Comma),
            None => return Err(NotADataUrl::Separator),
        };
        let end = rest.find(|c| !is_token(c)).ok_or(NotADataUrl::Parameter)?;
        let (name, behind) = rest.split_at(end);
        if name.is_empty() {
            return Err(match behind.starts_with(['=', ',']) {
                true => NotADataUrl::Parameter,
                false => NotADataUrl::ParameterCharacter,
            });
        }
        if let Some(data) = behind.strip_prefix(',') {
            return match name {
                "base64" => Ok((Encoding::Base64, data)),
                _ => Err(NotADataUrl::Encoding),
            };
        }
        rest = value(behind.strip_prefix('=').ok_or(NotADataUrl::ParameterCharacter)?)?;
    }
}

/// Takes the value of a parameter, and gives what is behind it.
fn value(rest: &str) -> Result<&str, NotADataUrl> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(|c| !is_token(c)).ok_or(NotADataUrl::Comma)?;
        return match rest[end..].starts_with([';', ',']) && end > 0 {
            true => Ok(&rest[end..]),
            false => Err(NotADataUrl::ParameterCharacter),
        };
    };
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if !c.is_ascii() => return Err(NotADataUrl::ParameterCharacter),
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok(&quoted[at + 1..]),
            _ => {}
        }
    }
    Err(NotADataUrl::Quote)
}

fn is_token(c: char) -> bool {
    c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c)
}

fn check_percent(data: &str) -> Result<(), NotADataUrl> {
    let bytes = data.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'<' | b'>' | b'#' | b'"' | b'{' | b'}' | b'|' | b'\\' | b'^' | b'[' | b']' | b'`' => {
                return Err(NotADataUrl::Character(at));
            }
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).ok_or(NotADataUrl::Escape(at))?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(NotADataUrl::Escape(at));
                }
            }
            byte if byte.is_ascii_graphic() => {}
            _ => return Err(NotADataUrl::Character(at)),
        }
    }
    Ok(())
}

fn check_base64(data: &str) -> Result<(), NotADataUrl> {
    let digits = data.trim_end_matches('=');
    let padding = data.len() - digits.len();
    if let Some(at) = digits.bytes().position(|byte| sextet(byte).is_none()) {
        return Err(match digits.as_bytes()[at] {
            b'=' => NotADataUrl::Base64(at),
            _ => NotADataUrl::Character(at),
        });
    }
    if padding > 2 || !data.len().is_multiple_of(4) {
        return Err(NotADataUrl::Base64(digits.len()));
    }
    Ok(())
}

fn write_percent(data: &[u8], into: &mut dyn Write) -> io::Result<()> {
    let mut rest = data;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        into.write_all(&rest[..at])?;
        let (escape, behind) = rest[at..].split_at(3.min(rest.len() - at));
        into.write_all(&[escape[1..].iter().fold(0, |byte, digit| byte << 4 | nibble(*digit))])?;
        rest = behind;
    }
    into.write_all(rest)
}

fn nibble(digit: u8) -> u8 {
    char::from(digit).to_digit(16).map_or(0, |value| value as u8)
}

/// Writes by pieces: the content of a big URL is in memory only once.
fn write_base64(data: &[u8], into: &mut dyn Write) -> io::Result<()> {
    let mut piece = Vec::with_capacity(3 * 1024);
    for quads in data.chunks(4 * 1024) {
        piece.clear();
        for quad in quads.chunks(4) {
            let bits = quad.iter().fold(0, |bits, byte| bits << 6 | sextet(*byte).unwrap_or(0));
            let padding = quad.iter().filter(|byte| **byte == b'=').count();
            piece.extend_from_slice(&u32::to_be_bytes(bits)[1..4 - padding]);
        }
        into.write_all(&piece)?;
    }
    Ok(())
}

fn sextet(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(url: &str) -> Result<String, NotADataUrl> {
        DataUrl::parse(url).map(|url| String::from_utf8_lossy(&url.decode()).into_owned())
    }

    #[test]
    fn the_content_is_decoded() {
        for (url, content) in [
            ("data:,", ""),
            ("data:,hello%20w%C3%B6rld%0a", "hello wörld\n"),
            ("data:,a+b?c&d='e',f", "a+b?c&d='e',f"),
            ("data:;base64,aGVsbG8=", "hello"),
            ("data:;base64,aGVsbA==", "hell"),
            ("data:;base64,aGVsbB==", "hell"),
            ("data:;base64,", ""),
            ("data:text/plain,a", "a"),
            ("data:text/plain;charset=utf-8;base64,YQ==", "a"),
            ("data:x-own/thing;a=\"b;,\\\"c\";d=e,f", "f"),
            ("data:application/json;x=base64,YQ==", "YQ=="),
        ] {
            assert_eq!(decoded(url).as_deref(), Ok(content), "{url}");
        }
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        use NotADataUrl as No;
        for (url, error) in [
            ("http://a", No::Prefix),
            ("DATA:,a", No::Prefix),
            ("data:", No::Comma),
            ("data:;base64", No::Parameter),
            ("data:text", No::Slash),
            ("data:text,a", No::TypeCharacter),
            ("data:font/woff,a", No::Type),
            ("data:text/plain", No::Comma),
            ("data:text/pl ain,a", No::TypeCharacter),
            ("data:;,a", No::Parameter),
            ("data:;=a,a", No::Parameter),
            ("data:;utf8,a", No::Encoding),
            ("data:;Base64,YQ==", No::Encoding),
            ("data:;a=,a", No::ParameterCharacter),
            ("data:;a=\"b,a", No::Quote),
            ("data:;a=\"b\"c,a", No::Separator),
            ("data:,a b", No::Character(1)),
            ("data:,é", No::Character(0)),
            ("data:,a#b", No::Character(1)),
            ("data:,%4", No::Escape(0)),
            ("data:,a%zz", No::Escape(1)),
            ("data:,%é", No::Escape(0)),
            ("data:;base64,YQ", No::Base64(2)),
            ("data:;base64,YQ=", No::Base64(2)),
            ("data:;base64,Y===", No::Base64(1)),
            ("data:;base64,YQ==YQ==", No::Base64(2)),
            ("data:;base64,YQ%3D%3D", No::Character(2)),
            ("data:;base64,-_-_", No::Character(0)),
        ] {
            assert_eq!(decoded(url), Err(error), "{url}");
        }
    }

    proptest! {
        #[test]
        fn every_content_comes_back(content: Vec<u8>) {
            let percent: String = content.iter().map(|byte| format!("%{byte:02x}")).collect();
            let url = format!("data:,{percent}");
            prop_assert_eq!(DataUrl::parse(&url).unwrap().decode(), &*content);

            let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let mut base64 = String::new();
            for three in content.chunks(3) {
                let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(*three.get(at).unwrap_or(&0)));
                for at in 0..4 {
                    let digit = char::from(digits[bits >> (18 - 6 * at) & 63]);
                    base64.push(if at <= three.len() { digit } else { '=' });
                }
            }
            let url = format!("data:;base64,{base64}");
            prop_assert_eq!(DataUrl::parse(&url).unwrap().decode(), content);
        }

        #[test]
        fn no_url_is_too_strange(url in "data:[a-z/;=,\"\\\\%A0é ]{0,40}") {
            if let Ok(url) = DataUrl::parse(&url) {
                url.decode();
            }
        }
    }
}
