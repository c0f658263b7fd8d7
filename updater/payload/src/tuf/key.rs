//! Public keys, and what they signed: ed25519, ECDSA on P-256 and RSA-PSS.
//!
//! PithOS signs with ed25519. The others are read so that a repository of another tool is one, too.

use ed25519_dalek::{Signature, VerifyingKey};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::{Deserialize, Serialize};
use spki::{SubjectPublicKeyInfoOwned, der::DecodePem};

use super::json;
use crate::Digest;

/// A public key, as metadata carries it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Key {
    /// `ed25519`.
    pub keytype: String,
    /// `ed25519`.
    pub scheme: String,
    /// The key itself.
    pub keyval: KeyValue,
}

/// A key itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct KeyValue {
    /// Hexadecimal for ed25519, else PEM.
    pub public: String,
}

impl Key {
    /// An ed25519 key.
    pub fn ed25519(key: &VerifyingKey) -> Self {
        let public = hex::encode(key.to_bytes());
        Self { keytype: "ed25519".into(), scheme: "ed25519".into(), keyval: KeyValue { public } }
    }

    /// Its name: the hash of its canonical form.
    pub fn id(&self) -> String {
        let value = serde_json::to_value(self).expect("three texts");
        Digest::of(&json::canonical(&value)).to_string()
    }

    /// Whether it made `signature` (hexadecimal) of `message`. A key of a type that we do not know
    /// has signed nothing.
    pub(super) fn verify(&self, message: &[u8], signature: &str) -> bool {
        let Ok(signature) = hex::decode(signature) else { return false };
        match (self.keytype.as_str(), self.scheme.as_str()) {
            ("ed25519", "ed25519") => self.verify_ed25519(message, &signature),
            // The second is what older repositories call the first.
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                self.verify_pem(&ECDSA_P256_SHA256_ASN1, message, &signature)
            }
            ("rsa", "rsassa-pss-sha256") => {
                self.verify_pem(&RSA_PSS_2048_8192_SHA256, message, &signature)
            }
            _ => false,
        }
    }

    fn verify_ed25519(&self, message: &[u8], signature: &[u8]) -> bool {
        let mut key = [0; 32];
        if hex::decode_to_slice(&self.keyval.public, &mut key).is_err() {
            return false;
        }
        match (VerifyingKey::from_bytes(&key), Signature::from_slice(signature)) {
            (Ok(key), Ok(signature)) => key.verify_strict(message, &signature).is_ok(),
            _ => false,
        }
    }

    fn verify_pem(
        &self,
        algorithm: &'static dyn VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let Ok(info) = SubjectPublicKeyInfoOwned::from_pem(&self.keyval.public) else {
            return false;
        };
        let key = info.subject_public_key.raw_bytes();
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }
}
