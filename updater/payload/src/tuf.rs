//! The Update Framework (specification 1.0.33), client side: who may say what is newest.
//!
//! ```text
//! stored root -> root N+1 -> ... -> timestamp -> snapshot -> targets -> delegated targets
//! ```
//!
//! A [`Client`] is a state machine. It says which file it wants next and how long that may be; it is
//! given the bytes, or that there is no such file; it says what to store. Whatever it says to store
//! was verified, and is to be stored before the next question is asked. It knows no clock: time is
//! given once, when a refresh begins, so that everything expires by the same clock.
//!
//! What was stored is the memory against rollback. The keys that signed it guard it, too: when those
//! keys are replaced by the root role, it is forgotten, which is how a repository recovers from
//! versions that a thief of keys set too high.

mod client;
pub mod json;
pub mod key;
pub mod metadata;
mod pattern;
mod search;

pub use client::{Answer, Change, Client, Error, Fetch, Limits, Next, Start, Step, trusted_root};
pub use key::Key;
pub use metadata::Target;

/// `text` with everything but letters, digits and `_.-~` as `%41`: safe as a name in a URL and as
/// the name of a file.
pub fn quote(text: &str) -> String {
    use std::fmt::Write as _;

    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                quoted.push(byte.into());
            }
            _ => write!(quoted, "%{byte:02X}").expect("a string takes everything"),
        }
    }
    quoted
}
