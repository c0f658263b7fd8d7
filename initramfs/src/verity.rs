//! dm-verity: from the superblock in front of a hash tree to the table of the device.
//!
//! The superblock is not trusted and need not be: a wrong salt or size gives another root hash
//! than the one on the command line, and no block verifies.

use layout::{
    RootHash,
    verity::{BLOCK_BYTES, Superblock},
};

/// Length of the verified device in sectors of 512 bytes.
pub(crate) fn sectors(superblock: &Superblock) -> u64 {
    superblock.data_blocks * (BLOCK_BYTES / 512)
}

/// The parameters of the target `verity` (kernel documentation, dm-verity).
///
/// No option is given, so a block that does not verify is an I/O error for who reads it, never
/// data. The other choice is to panic. That helps where the damage is in the way of the boot,
/// but there the error fails a step or a health check, and the machine reboots for that. Where
/// it is in a file that is read once a week, a machine that goes on and says so in its log is
/// worth more than one that falls over each time, and its disk can be repaired from within.
pub(crate) fn params(
    superblock: &Superblock,
    data: &str,
    tree: &str,
    root_hash: &RootHash,
) -> String {
    let salt: String = superblock.salt.iter().map(|byte| format!("{byte:02x}")).collect();
    let salt = if salt.is_empty() { "-" } else { &salt };
    let blocks = superblock.data_blocks;
    format!("1 {data} {tree} {BLOCK_BYTES} {BLOCK_BYTES} {blocks} 1 sha256 {root_hash} {salt}")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_superblock_becomes_a_table() {
        let hash = RootHash([0; 32]);
        let mut superblock =
            Superblock { uuid: Uuid::nil(), data_blocks: 10, salt: vec![0xab, 0x0d] };
        assert_eq!(sectors(&superblock), 80);
        assert_eq!(
            params(&superblock, "/dev/vda2", "/dev/vda3", &hash),
            format!("1 /dev/vda2 /dev/vda3 4096 4096 10 1 sha256 {hash} ab0d")
        );
        superblock.salt.clear();
        assert_eq!(
            params(&superblock, "/dev/vda2", "/dev/vda3", &hash),
            format!("1 /dev/vda2 /dev/vda3 4096 4096 10 1 sha256 {hash} -")
        );
    }
}
