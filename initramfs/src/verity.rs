//! dm-verity: from the superblock that `veritysetup format` wrote to the table of the device.
//!
//! The superblock is not trusted and need not be: a wrong salt or size gives another root hash
//! than the one on the command line, and no block verifies.

use layout::RootHash;

/// What of the superblock is needed (`verity_superblock` of libcryptsetup, version 1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    hash_type: u32,
    algorithm: String,
    data_block_bytes: u32,
    hash_block_bytes: u32,
    data_blocks: u64,
    salt: String,
}

/// Length of the superblock.
pub(crate) const SUPERBLOCK_BYTES: usize = 512;

/// Why bytes are not a superblock.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BadSuperblock {
    #[error("it does not start with a dm-verity superblock")]
    Signature,
    #[error("its dm-verity superblock is of version {0}, not 1")]
    Version(u32),
    #[error("its dm-verity superblock is damaged ({0})")]
    Damaged(&'static str),
}

impl Superblock {
    pub(crate) fn parse(bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<Self, BadSuperblock> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        if &bytes[..8] != b"verity\0\0" {
            return Err(BadSuperblock::Signature);
        }
        if u32_at(8) != 1 {
            return Err(BadSuperblock::Version(u32_at(8)));
        }
        let salt_bytes = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        if salt_bytes > 256 {
            return Err(BadSuperblock::Damaged("salt longer than 256 bytes"));
        }
        let name = bytes[32..64].split(|&byte| byte == 0).next().unwrap_or_default();
        let algorithm = str::from_utf8(name).map_err(|_| BadSuperblock::Damaged("algorithm"))?;
        if algorithm.is_empty()
            || !algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        {
            return Err(BadSuperblock::Damaged("algorithm"));
        }
        let superblock = Self {
            hash_type: u32_at(12),
            algorithm: algorithm.to_owned(),
            data_block_bytes: u32_at(64),
            hash_block_bytes: u32_at(68),
            data_blocks: u64::from_le_bytes(bytes[72..80].try_into().expect("8 bytes")),
            salt: bytes[88..88 + salt_bytes].iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        let good = |size: u32| size.is_power_of_two() && (512..=65536).contains(&size);
        if !good(superblock.data_block_bytes) || !good(superblock.hash_block_bytes) {
            return Err(BadSuperblock::Damaged("block size"));
        }
        if superblock.sectors().is_none() {
            return Err(BadSuperblock::Damaged("number of blocks"));
        }
        Ok(superblock)
    }

    fn sectors(&self) -> Option<u64> {
        self.data_blocks.checked_mul(u64::from(self.data_block_bytes) / 512)
    }

    /// Length of the verified device in sectors of 512 bytes.
    pub(crate) fn verified_sectors(&self) -> u64 {
        self.sectors().expect("checked when it was parsed")
    }

    /// The parameters of the target `verity` (kernel documentation, dm-verity).
    ///
    /// No option is given, so a block that does not verify is an I/O error for who reads it, never
    /// data. The other choice is to panic. That helps where the damage is in the way of the boot,
    /// but there the error fails a step or a health check, and the machine reboots for that. Where
    /// it is in a file that is read once a week, a machine that goes on and says so in its log is
    /// worth more than one that falls over each time, and its disk can be repaired from within.
    pub(crate) fn params(&self, data: &str, tree: &str, root_hash: &RootHash) -> String {
        let salt = if self.salt.is_empty() { "-" } else { &self.salt };
        format!(
            "{} {data} {tree} {} {} {} 1 {} {root_hash} {salt}",
            self.hash_type,
            self.data_block_bytes,
            self.hash_block_bytes,
            self.data_blocks,
            self.algorithm,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        bytes[..8].copy_from_slice(b"verity\0\0");
        bytes[8] = 1;
        bytes[12] = 1;
        bytes[32..38].copy_from_slice(b"sha256");
        bytes[64..68].copy_from_slice(&4096u32.to_le_bytes());
        bytes[68..72].copy_from_slice(&4096u32.to_le_bytes());
        bytes[72..80].copy_from_slice(&10u64.to_le_bytes());
        bytes[80] = 2;
        bytes[88..90].copy_from_slice(&[0xab, 0xcd]);
        bytes
    }

    #[test]
    fn a_superblock_becomes_a_table() {
        let parsed = Superblock::parse(&superblock()).unwrap();
        assert_eq!(parsed.verified_sectors(), 80);
        assert_eq!(
            parsed.params("/dev/vda2", "/dev/vda3", &RootHash([0; 32])),
            format!("1 /dev/vda2 /dev/vda3 4096 4096 10 1 sha256 {} abcd", "0".repeat(64))
        );
    }

    #[test]
    fn damage_is_named_and_never_a_panic() {
        assert_eq!(Superblock::parse(&[0; SUPERBLOCK_BYTES]), Err(BadSuperblock::Signature));
        for at in 0..SUPERBLOCK_BYTES {
            for value in [0, 1, 0x20, 0x7f, 0xff] {
                let mut bytes = superblock();
                bytes[at] = value;
                if let Ok(parsed) = Superblock::parse(&bytes) {
                    parsed.verified_sectors();
                }
            }
        }
    }
}
