//! Resources: whatever a document refers to, from `data:` to a bucket of a cloud, as a stream of
//! bytes that was checked against what the document says of it.

pub mod cloud;
mod content;
pub mod data;
mod fetcher;
mod s3;
mod sigv4;
mod tftp;
mod unpack;

use std::{
    error::Error,
    io::{self, Write},
};

pub use http_client::{Clock, Names, Shown, Wall};

pub use self::fetcher::{Fetcher, Places, Question, Reply};
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
