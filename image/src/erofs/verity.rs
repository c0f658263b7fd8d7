//! dm-verity's hash tree ([`layout::verity`]), made by veritysetup.

use layout::RootHash;

use super::{BLOCK_BYTES, Error, Request, remove_old};
use crate::tree;

/// Writes the hash tree of `request.out` to `request.verity_out`.
pub(super) fn format(request: &Request<'_>) -> Result<RootHash, Error> {
    let Request { out, verity_out, verity_salt, verity_uuid, bin, .. } = *request;
    remove_old(verity_out)?;
    let mut veritysetup = tree::program(bin, "veritysetup");
    veritysetup.arg("format").arg("--hash=sha256").arg("--format=1");
    veritysetup.arg(format!("--data-block-size={BLOCK_BYTES}"));
    veritysetup.arg(format!("--hash-block-size={BLOCK_BYTES}"));
    veritysetup.arg(format!("--salt={}", hex::encode(verity_salt)));
    veritysetup.arg(format!("--uuid={verity_uuid}")).arg(out).arg(verity_out);
    let said = tree::run(&mut veritysetup)?;
    let line = said.lines().find_map(|line| line.strip_prefix("Root hash:"));
    let hash = line.and_then(|hash| hash.trim().parse().ok());
    hash.ok_or(Error::NoRootHash { said })
}
