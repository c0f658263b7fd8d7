//! Addresses of resources, as far as we need them: where to connect, and what to ask for there.

use std::{fmt, net::IpAddr};

/// An address with a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Its scheme, in small letters.
    pub scheme: String,
    /// `user:password`, still escaped, or nothing.
    pub user: String,
    /// The host: a name, or an address without brackets.
    pub host: String,
    /// The port, if it is said.
    pub port: Option<u16>,
    /// The path and the query, beginning with `/`.
    pub target: String,
}

/// Why something is not an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotAUrl {
    /// No `scheme://`.
    #[error("it has no scheme; write http://..., https://... or another that is known")]
    Scheme,
    /// Nobody to ask.
    #[error("it names no host")]
    Host,
    /// Not a port.
    #[error("`{0}` is not a port")]
    Port(String),
    /// What may not stand in an address.
    #[error("it has a {0:?} in it, which must be written as %XX")]
    Character(char),
}

impl Url {
    /// Reads `scheme://[user@]host[:port][/path][?query]`; what is behind a `#` is not for servers.
    pub fn parse(text: &str) -> Result<Self, NotAUrl> {
        if let Some(bad) = text.chars().find(|c| c.is_control() || *c == ' ' || !c.is_ascii()) {
            return Err(NotAUrl::Character(bad));
        }
        let (scheme, rest) = text.split_once("://").ok_or(NotAUrl::Scheme)?;
        let mut letters = scheme.chars();
        let starts_well = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
        if !starts_well || !letters.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
            return Err(NotAUrl::Scheme);
        }
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (host, port) = match place.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed.split_once(']').ok_or(NotAUrl::Host)?;
                // Both ways of writing the zone of a link-local address.
                (host.replacen("%25", "%", 1), port.strip_prefix(':').unwrap_or(port))
            }
            None => {
                let (host, port) = place.split_once(':').unwrap_or((place, ""));
                (host.to_ascii_lowercase(), port)
            }
        };
        if host.is_empty() {
            return Err(NotAUrl::Host);
        }
        let port = match port {
            "" => None,
            port => Some(port.parse().map_err(|_| NotAUrl::Port(port.to_owned()))?),
        };
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            user: user.to_owned(),
            host,
            port,
            target: format!("{slash}{target}"),
        })
    }

    /// Where a redirection leads, which may be relative to here.
    pub fn join(&self, location: &str) -> Result<Self, NotAUrl> {
        let base = |target: &str| format!("{}://{}{target}", self.scheme, self.authority());
        // A scheme is before any slash: the query of a relative address may well have a `://`.
        let scheme_first =
            location.find("://").is_some_and(|at| !location[..at].contains(['/', '?']));
        if scheme_first {
            Self::parse(location)
        } else if let Some(rest) = location.strip_prefix("//") {
            Self::parse(&format!("{}://{rest}", self.scheme))
        } else if location.starts_with('/') {
            Self::parse(&base(location))
        } else {
            let path = self.path();
            let folder = match location.starts_with('?') {
                true => path,
                false => &path[..=path.rfind('/').unwrap_or(0)],
            };
            Self::parse(&base(&format!("{folder}{location}")))
        }
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The query, without its question mark.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The value of a parameter of the query, unescaped.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs =
            self.query().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| unescape(value))
    }

    /// The port, or the one that goes without saying.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.scheme.as_str() {
            "https" => 443,
            "tftp" => 69,
            _ => 80,
        })
    }

    /// `host[:port]` as servers want to hear it: with brackets, without a zone.
    pub fn authority(&self) -> String {
        let host = self.host.split_once('%').map_or(self.host.as_str(), |(host, _)| host);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// The host, if it is an address already.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.user.is_empty() { "" } else { "@" };
        write!(f, "{}://{}{at}{}{}", self.scheme, self.user, self.authority(), self.target)
    }
}

/// An address as it may be shown: without the content of a `data:` URL, a password, or a query,
/// which in signed URLs is as good as a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// What may be shown of an address.
    pub fn new(url: &str) -> Self {
        if let Some(data) = url.strip_prefix("data:") {
            return Self(format!("a data URL of {} characters", data.len()));
        }
        let bare = url.split_once(['?', '#']).map_or(url, |(bare, _)| bare);
        let cut = if bare.len() < url.len() { "?..." } else { "" };
        let Some((scheme, rest)) = bare.split_once("://") else {
            return Self(format!("{bare}{cut}"));
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        Self(format!("{scheme}://{host}{path}{cut}"))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Undoes `%XX`; what is not an escape stays as it is.
pub fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (bytes[at], byte) {
            (b'%', Some(byte)) if bytes[at + 1] != b'+' => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Escapes all but letters, digits and `-._~`, and what is in `kept`.
pub fn escape(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain || kept.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        let shown = |url| Shown::new(url).to_string();
        assert_eq!(shown("http://me:word@host:80/a/b?key=secret"), "http://host:80/a/b?...");
        assert_eq!(shown("data:,secret"), "a data URL of 7 characters");
        assert_eq!(shown("arn:aws:s3:::bucket/a"), "arn:aws:s3:::bucket/a");
        assert_eq!(shown("tftp://host/@a"), "tftp://host/@a");
    }

    fn check(text: &str, expect: Expect) {
        let picture = match Url::parse(text) {
            Ok(url) => format!("{url:?}"),
            Err(error) => error.to_string(),
        };
        expect.assert_eq(&picture);
    }

    #[test]
    fn an_address_has_a_scheme_a_host_and_a_target() {
        check(
            "HTTP://me:word@Example.ORG:8080/a/b?c=d#e",
            expect![[
                r#"Url { scheme: "http", user: "me:word", host: "example.org", port: Some(8080), target: "/a/b?c=d" }"#
            ]],
        );
        check(
            "http://[fe80::a9fe:a9fe%25eth0]?x",
            expect![[
                r#"Url { scheme: "http", user: "", host: "fe80::a9fe:a9fe%eth0", port: None, target: "/?x" }"#
            ]],
        );
    }

    #[test]
    fn what_is_no_address_says_why() {
        check(
            "/etc/passwd",
            expect!["it has no scheme; write http://..., https://... or another that is known"],
        );
        check("http:///a", expect!["it names no host"]);
        check("http://a:b/", expect!["`b` is not a port"]);
        check("http://a/ b", expect!["it has a ' ' in it, which must be written as %XX"]);
        check(
            "http://a/\r\nHost: b",
            expect!["it has a '\\r' in it, which must be written as %XX"],
        );
    }

    #[test]
    fn a_redirection_may_be_relative() {
        let here = Url::parse("https://host:8443/a/b?c").unwrap();
        let to = |location: &str| here.join(location).unwrap().to_string();
        assert_eq!(to("http://other/x"), "http://other/x");
        assert_eq!(to("//other/x"), "https://other/x");
        assert_eq!(to("/x?y=http://z"), "https://host:8443/x?y=http://z");
        assert_eq!(to("x"), "https://host:8443/a/x");
        assert_eq!(to("x?y=http://z"), "https://host:8443/a/x?y=http://z");
        assert_eq!(to("?x"), "https://host:8443/a/b?x");
    }

    #[test]
    fn escapes_are_undone_and_made() {
        assert_eq!(unescape("a%20b%zz%4"), "a b%zz%4");
        assert_eq!(escape("a b/é", "/"), "a%20b/%C3%A9");
        let url = Url::parse("s3://bucket/key?a=b&versionId=x%2By").unwrap();
        assert_eq!(url.parameter("versionId").as_deref(), Some("x+y"));
        assert_eq!(url.parameter("none"), None);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "\\PC*", location in "\\PC*") {
            if let Ok(url) = Url::parse(&text) {
                let _ = url.join(&location);
                prop_assert_eq!(Url::parse(&url.to_string()).unwrap().target, url.target);
            }
            unescape(&text);
        }

        #[test]
        fn what_is_escaped_comes_back(text in "\\PC*") {
            prop_assert_eq!(unescape(&escape(&text, "")), text);
        }
    }
}
