//! Every GUID and id of an image comes from one seed, so that the same input gives the same bytes.

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::Version;

/// The source of an image's identifiers: the image's name and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// The seed of one version of one flavour of PithOS.
    pub fn new(flavor: &str, version: &Version) -> Self {
        Self(Sha256::digest(format!("pithos\0{flavor}\0{version}")).into())
    }

    /// 32 bytes for `purpose`, such as `verity salt`.
    pub fn bytes(&self, purpose: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.0).chain_update(purpose).finalize().into()
    }

    /// A UUID (version 8, RFC 9562) for `purpose`, such as `disk`.
    pub fn uuid(&self, purpose: &str) -> Uuid {
        let bytes = self.bytes(purpose);
        let half = bytes[..16].try_into().expect("32 bytes have 16");
        Builder::from_custom_bytes(half).into_uuid()
    }

    /// A 32-bit id for `purpose`, such as a FAT volume id.
    pub fn id32(&self, purpose: &str) -> u32 {
        let bytes = self.bytes(purpose);
        u32::from_le_bytes(bytes[..4].try_into().expect("32 bytes have 4"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_by_purpose_and_version_and_by_nothing_else() {
        let seed = |version: &str| Seed::new("cloud", &version.parse().unwrap());
        assert_eq!(seed("1").uuid("disk"), seed("1").uuid("disk"));
        assert_ne!(seed("1").uuid("disk"), seed("1").uuid("usr"));
        assert_ne!(seed("1").uuid("disk"), seed("2").uuid("disk"));
        assert_eq!(seed("1").uuid("disk").get_version_num(), 8);
    }
}
