//! Numbers that nobody can guess, for transaction ids. They are not keys.

use std::{
    fs::File,
    hash::{BuildHasher, Hasher, RandomState},
    io::Read,
};

/// A number. Without `/dev` it comes from where the standard library has the seeds of its maps.
pub fn number() -> u64 {
    let mut bytes = [0; 8];
    match File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => RandomState::new().build_hasher().finish(),
    }
}
