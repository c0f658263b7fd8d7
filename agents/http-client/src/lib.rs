//! Asking HTTP servers: HTTP/1.1 over TCP and TLS, through proxies, every wait with an end. Blocking,
//! without threads of its own.

pub mod client;
pub mod connection;
pub mod entropy;
#[cfg(feature = "test-clock")]
mod hand;
mod names;
mod proxy;
mod retry;
mod trust;
pub mod url;
mod wire;

#[cfg(feature = "test-clock")]
pub use self::hand::Hand;
pub use self::{
    client::{Answer, Client, Request},
    names::Names,
    proxy::Proxies,
    retry::{Clock, Tries, Wall},
    trust::Trust,
    url::{Shown, Url},
    wire::Headers,
};
