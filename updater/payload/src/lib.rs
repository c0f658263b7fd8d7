//! What an update of PithOS is, as data: signed metadata, channels, releases, segments and deltas.
//! The publisher writes it, the engine reads it. Nothing here touches a file, a socket or a clock.
//!
//! ```text
//! root.json -> timestamp -> snapshot -> targets        who may say what, and what is newest: tuf
//!                                          |
//!                      channels/stable.json            which release is for whom, and when: channel
//!                                          |
//!          releases/VERSION/cloud-x86_64.json          an image, segment by segment: release
//!                                          |
//!                    objects/ab/abcdef...              compressed segments, by SHA-256: segment
//! ```
//!
//! Each line is verified by the one above it before a byte of it is used. A segment is 4 MiB of an
//! image; it comes whole, as a patch against a range of the image that runs, or not at all where
//! the running image has it already. The hash tree of `/usr` is not shipped: [`layout::verity`]
//! computes it, and its root hash has to be the signed one.

pub mod channel;
pub mod countersign;
pub mod hash;
pub mod release;
pub mod request;
pub mod segment;
pub mod tuf;

pub use channel::Channel;
pub use hash::Digest;
pub use release::{Release, Variant};

/// For serde: a value as the text that it prints and parses.
pub mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes it.
    pub fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads it.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
