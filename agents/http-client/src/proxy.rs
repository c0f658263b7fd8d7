//! Which proxy is asked for what.

use std::net::IpAddr;

use crate::url::{NotAUrl, Url};

/// Which proxy is asked for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    exceptions: Vec<Exception>,
}

/// Who is asked directly.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Everybody,
    Addresses { first: IpAddr, bits: u32, port: Option<u16> },
    Domain { name: String, itself: bool, port: Option<u16> },
}

impl Proxies {
    /// For `http`, for `https`, and who is asked directly. An empty address is none.
    pub fn new(
        http: Option<&str>,
        https: Option<&str>,
        exceptions: &[String],
    ) -> Result<Self, (String, NotAUrl)> {
        let parse = |text: Option<&str>| match text {
            None | Some("") => Ok(None),
            Some(text) => Url::parse(text).map(Some).map_err(|error| (text.to_owned(), error)),
        };
        Ok(Self {
            http: parse(http)?,
            https: parse(https)?,
            exceptions: exceptions.iter().filter_map(|text| Exception::parse(text)).collect(),
        })
    }

    /// The proxy for an address. This machine itself is never asked through one.
    pub fn for_url(&self, url: &Url) -> Option<&Url> {
        let proxy = if url.scheme == "https" { &self.https } else { &self.http };
        let here = url.host == "localhost" || url.address().is_some_and(|host| host.is_loopback());
        let excepted = here || self.exceptions.iter().any(|exception| exception.covers(url));
        proxy.as_ref().filter(|_| !excepted)
    }
}

impl Exception {
    /// `*`, an address, a range of addresses, or a domain: `a.org` with what is below it, `.a.org`
    /// and `*.a.org` without itself; each with a port, if only that is meant.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self::Everybody);
        }
        if let Some((first, bits)) = text.split_once('/') {
            let (first, bits) = (first.parse().ok()?, bits.parse().ok()?);
            return Some(Self::Addresses { first, bits, port: None });
        }
        let alone = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let (host, port) = match (alone, text.rsplit_once(':')) {
            (Err(_), Some((host, port))) => (host, Some(port.parse().ok()?)),
            _ => (text.as_str(), None),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(first) = bare.parse::<IpAddr>() {
            let bits = if first.is_ipv4() { 32 } else { 128 };
            return Some(Self::Addresses { first, bits, port });
        }
        let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
        let name = below.unwrap_or(host).to_owned();
        Some(Self::Domain { name, itself: below.is_none(), port })
    }

    fn covers(&self, url: &Url) -> bool {
        match self {
            Self::Everybody => true,
            Self::Addresses { first, bits, port } => {
                let same_port = port.is_none_or(|port| port == url.port());
                same_port && url.address().is_some_and(|host| same_network(host, *first, *bits))
            }
            Self::Domain { name, itself, port } => {
                let same_port = port.is_none_or(|port| port == url.port());
                let host = url.host.trim_end_matches('.');
                let below = host.strip_suffix(name.as_str());
                let below = below.is_some_and(|rest| rest.ends_with('.'));
                same_port && (below || *itself && host == name)
            }
        }
    }
}

fn same_network(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let differ = one.to_bits() ^ other.to_bits();
            differ.leading_zeros() >= bits.min(32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let differ = one.to_bits() ^ other.to_bits();
            differ.leading_zeros() >= bits.min(128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(exceptions: &[&str], url: &str) -> &'static str {
        let exceptions: Vec<String> = exceptions.iter().map(|text| (*text).to_owned()).collect();
        let proxies =
            Proxies::new(Some("http://plain:3128"), Some("https://secret:3129"), &exceptions);
        match proxies.unwrap().for_url(&Url::parse(url).unwrap()) {
            None => "nobody",
            Some(proxy) if proxy.host == "plain" => "plain",
            Some(_) => "secret",
        }
    }

    #[test]
    fn the_scheme_chooses_the_proxy() {
        assert_eq!(asks(&[], "http://a.org/"), "plain");
        assert_eq!(asks(&[], "https://a.org/"), "secret");
        assert_eq!(asks(&[], "http://localhost/"), "nobody");
        assert_eq!(asks(&[], "http://127.0.0.9/"), "nobody");
    }

    #[test]
    fn exceptions_are_asked_directly() {
        for (exception, url, who) in [
            ("*", "http://a.org/", "nobody"),
            ("a.org", "http://a.org/", "nobody"),
            ("a.org", "http://x.A.org/", "nobody"),
            ("a.org", "http://xa.org/", "plain"),
            (".a.org", "http://a.org/", "plain"),
            ("*.a.org", "http://x.a.org/", "nobody"),
            ("a.org:80", "https://a.org/", "secret"),
            ("a.org:80", "http://a.org/", "nobody"),
            ("10.0.0.0/8", "http://10.1.2.3/", "nobody"),
            ("10.0.0.0/8", "http://11.1.2.3/", "plain"),
            ("0.0.0.0/0", "http://11.1.2.3/", "nobody"),
            ("192.0.2.1", "http://192.0.2.1:81/", "nobody"),
            ("192.0.2.1:80", "http://192.0.2.1:81/", "plain"),
            ("fd00::/8", "http://[fd12::1]/", "nobody"),
            ("[fd12::1]:80", "http://[fd12::1]/", "nobody"),
            ("fd12::1", "http://[fd12::2]/", "plain"),
            ("", "http://a.org/", "plain"),
        ] {
            assert_eq!(asks(&[exception], url), who, "{exception} {url}");
        }
    }
}
