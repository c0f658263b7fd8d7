//! The verity root hash: 32 bytes that name one exact `/usr`.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// The SHA-256 root hash of a dm-verity tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RootHash(pub [u8; 32]);

/// Why a text is not a root hash.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a verity root hash: expected 64 hexadecimal digits (a SHA-256)")]
pub struct NotARootHash(String);

impl RootHash {
    /// PARTUUID of the data partition: the first 128 bits.
    pub fn usr_partuuid(&self) -> Uuid {
        half(&self.0[..16])
    }

    /// PARTUUID of the hash-tree partition: the last 128 bits.
    pub fn verity_partuuid(&self) -> Uuid {
        half(&self.0[16..])
    }
}

fn half(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).expect("half of 32 bytes is 16 bytes")
}

impl FromStr for RootHash {
    type Err = NotARootHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotARootHash(text.to_owned()))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";

    #[test]
    fn its_halves_are_the_partuuids() {
        let hash: RootHash = TEXT.parse().unwrap();
        assert_eq!(hash.usr_partuuid().to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(hash.verity_partuuid().to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(hash.to_string(), TEXT);
    }

    #[test]
    fn anything_but_64_hex_digits_is_refused_by_name() {
        for bad in ["", "00", &TEXT[1..], "zz112233445566778899aabbccddeeff"] {
            let said = bad.parse::<RootHash>().unwrap_err().to_string();
            assert!(said.contains(&format!("`{bad}`")), "{said}");
        }
    }
}
