//! Countersignatures: that others built the same bytes from the same source.
//!
//! A rebuilder signs a statement of the unsigned hashes. A release may demand a number of them out
//! of a list of keys; a machine takes it only with that many statements in its channel.

use std::collections::BTreeSet;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use layout::{RootHash, Version};
use serde::{Deserialize, Serialize};

use crate::{Digest, Release, Variant, release::Rebuilders};

/// A rebuilder's signature of [what it built](Built::statement).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Countersignature {
    /// The rebuilder's ed25519 key, hexadecimal.
    pub key: String,
    /// Hexadecimal.
    pub signature: String,
}

/// There are too few of them.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{} of {} rebuilders have signed what this release consists of, and it demands {}",
    valid,
    keys,
    threshold
)]
pub struct TooFew {
    /// Rebuilders whose signature is valid.
    pub valid: usize,
    /// Rebuilders that the release names.
    pub keys: usize,
    /// How many it demands.
    pub threshold: u32,
}

/// What somebody built: a release without anything that the publisher adds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Built<'a> {
    /// The version.
    pub version: &'a Version,
    /// What machines it is for.
    pub variant: &'a Variant,
    /// Root hash of `/usr`, and its length.
    pub usr: (RootHash, u64),
    /// Hash of the UKI, and its length.
    pub uki: (Digest, u64),
}

impl Release {
    /// What was built.
    pub fn built(&self) -> Built<'_> {
        let Self { version, variant, usr, uki, .. } = self;
        Built {
            version,
            variant,
            usr: (usr.root_hash, usr.image.size_bytes),
            uki: (uki.sha256, uki.image.size_bytes),
        }
    }
}

impl Built<'_> {
    /// What a rebuilder signs.
    pub fn statement(&self) -> String {
        let Self { version, variant, usr, uki } = self;
        format!(
            "pithos rebuild 1\nversion {version}\nvariant {variant}\nusr {} {}\nuki {} {}\n",
            usr.0, usr.1, uki.0, uki.1
        )
    }

    /// Signs it.
    pub fn countersign(&self, key: &SigningKey) -> Countersignature {
        Countersignature {
            key: hex::encode(key.verifying_key().to_bytes()),
            signature: hex::encode(key.sign(self.statement().as_bytes()).to_bytes()),
        }
    }
}

/// Whether as many rebuilders as `demand` says have signed `release`.
pub fn check(
    release: &Release,
    demand: &Rebuilders,
    countersignatures: &[Countersignature],
) -> Result<(), TooFew> {
    let statement = release.built().statement();
    // By key, so that a rebuilder that is named or signs twice counts once.
    let keys: BTreeSet<[u8; 32]> = demand.keys.iter().filter_map(|key| key_bytes(key)).collect();
    let signed: BTreeSet<[u8; 32]> = countersignatures
        .iter()
        .filter(|by| verify(by, statement.as_bytes()))
        .filter_map(|by| key_bytes(&by.key))
        .collect();
    let valid = keys.intersection(&signed).count();
    if demand.threshold > 0 && valid >= demand.threshold as usize {
        return Ok(());
    }
    Err(TooFew { valid, keys: keys.len(), threshold: demand.threshold })
}

fn verify(by: &Countersignature, statement: &[u8]) -> bool {
    let mut signature = [0; 64];
    let signature =
        hex::decode_to_slice(&by.signature, &mut signature).map(|()| Signature::from(signature));
    let key = key_bytes(&by.key).and_then(|key| VerifyingKey::from_bytes(&key).ok());
    match (key, signature) {
        (Some(key), Ok(signature)) => key.verify_strict(statement, &signature).is_ok(),
        _ => false,
    }
}

fn key_bytes(hexadecimal: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(hexadecimal, &mut bytes).ok().map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::example;

    fn signed(release: &Release, seed: u8) -> Countersignature {
        release.built().countersign(&SigningKey::from_bytes(&[seed; 32]))
    }

    fn demand(threshold: u32, seeds: &[u8]) -> Rebuilders {
        let keys = seeds.iter().map(|seed| signed(&example(), *seed).key).collect();
        Rebuilders { threshold, keys }
    }

    #[test]
    fn two_of_three_have_to_have_built_the_same() {
        let release = example();
        let by =
            |seeds: &[u8]| -> Vec<_> { seeds.iter().map(|seed| signed(&release, *seed)).collect() };
        let demand = demand(2, &[1, 2, 3]);
        assert_eq!(check(&release, &demand, &by(&[1, 3])), Ok(()));
        let too_few = Err(TooFew { valid: 1, keys: 3, threshold: 2 });
        assert_eq!(check(&release, &demand, &by(&[1])), too_few);
        // Twice the same, and somebody who was not asked.
        assert_eq!(check(&release, &demand, &by(&[1, 1, 4])), too_few);
        let mut other = example();
        other.usr.root_hash.0[0] ^= 1;
        assert_eq!(
            check(&other, &demand, &by(&[1, 2, 3])),
            Err(TooFew { valid: 0, keys: 3, threshold: 2 })
        );
    }

    #[test]
    fn a_rebuilder_that_is_named_twice_counts_once() {
        let release = example();
        let by = [signed(&release, 1)];
        assert!(check(&release, &demand(2, &[1, 1]), &by).is_err());
    }

    #[test]
    fn the_statement_says_what_was_built_and_nothing_else() {
        expect_test::expect![[r#"
            pithos rebuild 1
            version 0.2.0
            variant cloud-x86_64
            usr 0101010101010101010101010101010101010101010101010101010101010101 4198400
            uki 0909090909090909090909090909090909090909090909090909090909090909 10
        "#]]
        .assert_eq(&example().built().statement());
    }
}
