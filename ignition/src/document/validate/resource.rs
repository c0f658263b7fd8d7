//! Rules for what is fetched.

use super::Rules;
use crate::{
    document::{
        config::{Proxy, Resource},
        node::At,
    },
    fetch::data::DataUrl,
};

impl Rules<'_> {
    /// A resource that may be left out.
    pub(super) fn resource(&mut self, resource: &Resource, at: &At<'_>) {
        let Resource { compression, http_headers, source, verification } = resource;
        if !matches!(compression.as_deref(), None | Some("" | "gzip" | "zstd")) {
            self.error(&at.key("compression"), "expected `gzip`, `zstd` or nothing");
        }
        let source = source.as_deref();
        if let Some(source) = source.filter(|source| !source.is_empty()) {
            self.refuse(&at.key("source"), source_problem(source, self.minor));
        }
        self.headers(resource, &at.key("httpHeaders"));
        let verify = at.key("verification");
        let at_hash = verify.key("hash");
        if let Some(hash) = &verification.hash {
            if source.is_none() {
                self.error(&at_hash, "there is no source whose hash this could be");
            }
            self.refuse(&at_hash, hash_problem(hash, self.minor));
        }
        let _ = http_headers;
    }

    /// A resource that must be there.
    pub(super) fn resource_that_is(&mut self, resource: &Resource, at: &At<'_>) {
        if resource.source.as_deref().unwrap_or_default().is_empty() {
            self.error(at, "a source is required here");
        }
        self.resource(resource, at);
    }

    fn headers(&mut self, resource: &Resource, at: &At<'_>) {
        for (index, header) in resource.http_headers.iter().enumerate() {
            let at = at.index(index);
            if header.name.is_empty() {
                self.error(&at.key("name"), "a header has a name");
            } else if !header
                .name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
            {
                self.error(&at.key("name"), "not a name that a header of HTTP can have");
            }
            match header.value.as_deref() {
                Some("") => self.error(
                    &at.key("value"),
                    "a header has a value; leave it out to remove a parent's header",
                ),
                Some(value) if value.contains(['\r', '\n', '\0']) => {
                    self.error(&at.key("value"), "a header cannot hold the end of a line");
                }
                _ => {}
            }
        }
        if !resource.http_headers.is_empty() {
            match resource.source.as_deref().map(|source| (source, scheme(source))) {
                None | Some(("", _)) => self.error(at, "headers without a source to send them to"),
                Some((_, Some(scheme))) if matches!(&*scheme, "http" | "https") => {}
                Some(_) => self.error(at, "headers are for sources of http: and https: only"),
            }
        }
    }

    /// The proxies.
    pub(super) fn proxy(&mut self, proxy: &Proxy, at: &At<'_>) {
        let proxies = [("httpProxy", &proxy.http_proxy), ("httpsProxy", &proxy.https_proxy)];
        for (key, proxy) in proxies {
            let Some(proxy) = proxy else { continue };
            let at = at.key(key);
            match scheme(proxy).as_deref() {
                _ if url_problem(proxy).is_some() => self.refuse(&at, url_problem(proxy)),
                Some("https") => {}
                Some("http") if key == "httpProxy" => {}
                Some("http") => {
                    self.warning(
                        &at,
                        "what is fetched by https: goes to this proxy by plain http:",
                    );
                }
                _ => self.error(&at, "expected a proxy of http: or https:"),
            }
        }
    }

    /// The address of a Tang server.
    pub(super) fn tang_url(&mut self, url: &str, at: &At<'_>) {
        match scheme(url).as_deref() {
            _ if url_problem(url).is_some() => self.refuse(at, url_problem(url)),
            Some("http" | "https") => {}
            _ => self.error(at, "expected an address of http: or https:"),
        }
    }
}

/// The scheme of a URL, in lower case.
fn scheme(url: &str) -> Option<String> {
    let (scheme, _) = url.split_once(':')?;
    let mut letters = scheme.chars();
    let good = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    good.then(|| scheme.to_ascii_lowercase())
}

/// What makes it no URL at all (RFC 3986, as far as a machine's boot cares).
fn url_problem(url: &str) -> Option<&'static str> {
    if url.contains(|c: char| c.is_ascii_control()) {
        return Some("not a URL: it has a control character");
    }
    let after = url.split_once("://")?.1;
    let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = match (host.strip_prefix('['), host.split_once(':')) {
        (Some(rest), _) => match rest.split_once(']') {
            Some((address, port))
                if address.parse::<std::net::Ipv6Addr>().is_ok() || address.contains('%') =>
            {
                port
            }
            _ => return Some("not a URL: `[` is not followed by an IPv6 address and `]`"),
        },
        (None, Some((_, port))) => return port_problem(port),
        (None, None) => "",
    };
    match port.strip_prefix(':') {
        Some(port) => port_problem(port),
        None if port.is_empty() => None,
        None => Some("not a URL: something between `]` and the path"),
    }
}

fn port_problem(port: &str) -> Option<&'static str> {
    let good = port.is_empty() || port.parse::<u16>().is_ok();
    (!good).then_some("not a URL: the port is not a number up to 65535")
}

/// What is wrong with the source of a resource, by the rules of specification 3.`minor`.0.
pub fn source_problem(source: &str, minor: u8) -> Option<String> {
    if let Some(problem) = url_problem(source) {
        return Some(problem.to_owned());
    }
    let scheme = scheme(source);
    match scheme.as_deref() {
        Some("http" | "https" | "tftp") => None,
        Some("gs") if minor >= 2 => None,
        Some("s3") => version_problem(source).map(str::to_owned),
        Some("arn") if minor >= 4 => arn_problem(source).map(str::to_owned),
        Some("data") => DataUrl::parse(source).err().map(|error| error.to_string()),
        _ => {
            let mut known = vec!["data", "http", "https", "tftp", "s3"];
            if minor >= 2 {
                known.push("gs");
            }
            if minor >= 4 {
                known.push("arn");
            }
            Some(format!("expected a URL of one of {}", known.join(":, ") + ":"))
        }
    }
}

/// An empty `versionId` names no version of an object.
fn version_problem(source: &str) -> Option<&'static str> {
    let query = source.split('#').next()?.split_once('?')?.1;
    let id = query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name == "versionId").then_some(value)
    });
    (id == Some("")).then_some("`versionId` names no version; leave it out for the newest")
}

/// `arn:PARTITION:s3:[REGION]:[ACCOUNT]:BUCKET/KEY`, or an access point and the object in it.
fn arn_problem(source: &str) -> Option<&'static str> {
    let expected = "expected `arn:PARTITION:s3:::BUCKET/KEY` or \
                    `arn:PARTITION:s3:REGION:ACCOUNT:accesspoint/NAME/object/KEY`";
    let plain = source.split(['?', '#']).next().unwrap_or_default();
    let parts: Vec<&str> = plain.splitn(6, ':').collect();
    let [_, _, "s3", _, _, resource] = parts[..] else { return Some(expected) };
    let least = if resource.starts_with("accesspoint/") { 3 } else { 2 };
    if resource.split('/').count() < least {
        return Some(expected);
    }
    version_problem(source)
}

fn hash_problem(hash: &str, minor: u8) -> Option<String> {
    let Some((function, sum)) = hash.split_once('-') else {
        return Some("expected a hash as `sha512-HEX`".to_owned());
    };
    let digits = match function {
        "sha512" => 128,
        "sha256" if minor >= 1 => 64,
        _ => {
            let since = if minor >= 1 { "`sha512` and `sha256`" } else { "`sha512`" };
            return Some(format!("unknown hash function `{function}`; {since} are known"));
        }
    };
    if sum.len() != digits {
        return Some(format!(
            "a {function} has {digits} hexadecimal digits; this has {}",
            sum.len()
        ));
    }
    let hex = sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    (!hex).then(|| "a hash has hexadecimal digits only".to_owned())
}
