//! Resources: whatever a document refers to, from `data:` to a bucket of a cloud, as a stream of
//! bytes that was checked against what the document says of it.

pub mod cloud;
mod connection;
mod content;
pub mod data;
mod fetcher;
mod http;
mod names;
mod proxy;
mod retry;
mod s3;
mod sigv4;
mod tftp;
mod trust;
mod unpack;
mod url;
mod wire;

use std::{
    error::Error,
    fmt,
    io::{self, Write},
};

pub use self::{
    fetcher::{Fetcher, Places, Question, Reply},
    names::Names,
    retry::{Clock, Wall},
};
use crate::document::config::Resource;

/// Somebody who gets resources.
pub trait Fetch {
    /// Writes what a resource is (uncompressed) to `to`, which sees it before its hash is known to
    /// be right: on an error, what was written is to be thrown away.
    ///
    /// A resource without a source, or with an empty one, is empty.
    fn fetch(&self, resource: &Resource, to: &mut dyn Write) -> Result<(), FetchError>;
}

/// Why there is no resource.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No such kind of resource, or an address that is none.
    #[error("`{url}` cannot be fetched: {why}")]
    Address {
        /// The address.
        url: Shown,
        /// What is wrong with it.
        why: String,
    },
    /// The network is not up in this stage.
    #[error("fetching {0}: this needs the network, and there is none yet")]
    NeedsNetwork(Shown),
    /// It is not there, and there is no point in asking again.
    #[error("fetching {0}: the server has no such thing")]
    NotFound(Shown),
    /// The server does not give it.
    #[error("fetching {url}: {why}")]
    Refused {
        /// The address.
        url: Shown,
        /// What the server says.
        why: String,
    },
    /// It was tried, as often as there was time.
    #[error("fetching {url}: given up after {tries} tries in {seconds} s")]
    GivenUp {
        /// The address.
        url: Shown,
        /// How often.
        tries: u32,
        /// For how long.
        seconds: u64,
        /// What the last try said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Something is wrong with this machine, or the answer makes no sense.
    #[error("fetching {url}")]
    Failed {
        /// The address.
        url: Shown,
        /// What happened.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It is not what the document says.
    #[error("{url} has the hash {found}, and the document wants {wanted}: one of them is wrong")]
    Hash {
        /// The address.
        url: Shown,
        /// What it should be.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// The document wants a hash that nobody can compute.
    #[error("the hash `{hash}` of {url} cannot be checked: {why}")]
    HashUnknown {
        /// The address.
        url: Shown,
        /// What the document says.
        hash: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is not compressed as the document says.
    #[error("unpacking {url} as `{compression}`")]
    Unpack {
        /// The address.
        url: Shown,
        /// What the document says.
        compression: String,
        /// What the unpacking says.
        source: io::Error,
    },
    /// It came, but could not be put where it belongs.
    #[error("keeping what {url} gives")]
    Write {
        /// The address.
        url: Shown,
        /// Why not.
        source: io::Error,
    },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        let shown = |url| Shown::new(url).to_string();
        assert_eq!(shown("http://me:word@host:80/a/b?key=secret"), "http://host:80/a/b?...");
        assert_eq!(shown("data:,secret"), "a data URL of 7 characters");
        assert_eq!(shown("arn:aws:s3:::bucket/a"), "arn:aws:s3:::bucket/a");
        assert_eq!(shown("tftp://host/@a"), "tftp://host/@a");
    }
}
