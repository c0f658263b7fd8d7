use uuid::Uuid;

use super::*;
use crate::Digest;

/// `blocks` blocks that all differ.
fn data(blocks: u32) -> Vec<u8> {
    (0..blocks).flat_map(|block| block.to_le_bytes().repeat(BLOCK_BYTES / 4)).collect()
}

fn tree(portions: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Tree {
    let verity = Verity { salt: [0x5a; 32], uuid: Uuid::from_u128(7), size_bytes: 0 };
    let mut builder = Builder::new(&verity);
    portions.into_iter().for_each(|portion| builder.write(portion.as_ref()));
    builder.finish()
}

#[test]
fn it_is_what_veritysetup_makes_of_the_same() {
    // From veritysetup 2.7: root hash, and SHA-256 of the whole tree.
    let cases = [
        (
            1,
            "a9a03b28564e4724d7ffc0b83acdb9e9f726e3edb9ceec32e5d47b798ee15389",
            "f72038e5a589b7e79048163b42998219a0740c751c1b91b7c6219e9b21aefb4c",
        ),
        (
            128,
            "554a1277dae2e44e5b684ef7c788390d39c3473567a70807d3a74013b7a76112",
            "9109b92a4492af3e53166c5e0597e9ce4bb6733db862c9d97649eee1593bd70a",
        ),
        (
            129,
            "656bb7c0d975e0334ad786a938f9c600a0d95037556e92a6e85dedc33f84c9af",
            "d6be473205b3be26a6dc138a7cb66582c2d632258e658543856387233f087dbf",
        ),
        (
            16385,
            "48aaa3b279554537f341e695061589cea8d999730a74e76399eef0a8acaf7901",
            "081742f25ed387d2215cb2a57cde4c96bc92fa92c1754bab5872beb0accd9af0",
        ),
    ];
    for (blocks, root_hash, bytes) in cases {
        let tree = tree([data(blocks)]);
        assert_eq!(tree.root_hash.to_string(), root_hash, "{blocks} blocks");
        assert_eq!(Digest::of(&tree.bytes).to_string(), bytes, "{blocks} blocks");
    }
}

#[test]
fn portions_do_not_matter() {
    let (data, whole) = (data(130), tree([data(130)]));
    for portion in [1000, 4095, 4097, 10_000] {
        assert_eq!(tree(data.chunks(portion)).root_hash, whole.root_hash, "{portion}");
    }
}
