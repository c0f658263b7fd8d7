//! Keys in files: ed25519, PEM, private ones in PKCS #8 and public ones as SubjectPublicKeyInfo, as
//! `openssl genpkey -algorithm ed25519` writes them.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result, bail};
use ed25519_dalek::{
    SigningKey, VerifyingKey,
    pkcs8::{
        DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey,
        spki::der::pem::LineEnding,
    },
};
use payload::tuf::Key;

/// A key that can sign.
pub(crate) fn read_private(path: &Path) -> Result<SigningKey> {
    let text = read(path)?;
    SigningKey::from_pkcs8_pem(&text).map_err(|error| {
        anyhow::anyhow!(
            "{}: expected an ed25519 private key (PKCS #8, PEM), as `update-publish keys new` \
             writes it: {error}",
            path.display()
        )
    })
}

/// A key of which the public half is enough.
pub(crate) fn read_public(path: &Path) -> Result<VerifyingKey> {
    let text = read(path)?;
    if text.contains("PRIVATE KEY") {
        return Ok(read_private(path)?.verifying_key());
    }
    VerifyingKey::from_public_key_pem(&text).map_err(|error| {
        anyhow::anyhow!("{}: expected an ed25519 key in PEM: {error}", path.display())
    })
}

/// Makes a key, and writes its halves to `path` and `path.pub`.
pub(crate) fn make(path: &Path) -> Result<Key> {
    let mut seed = [0; 32];
    if let Err(error) = getrandom::fill(&mut seed) {
        bail!("the system has no random bytes: {error}");
    }
    let key = SigningKey::from_bytes(&seed);
    let private = key.to_pkcs8_pem(LineEnding::LF).expect("32 bytes can be written");
    let public = key.verifying_key();
    let pem = public.to_public_key_pem(LineEnding::LF).expect("32 bytes can be written");
    write_new(path, private.as_bytes(), 0o600)?;
    let mut public_path = path.as_os_str().to_owned();
    public_path.push(".pub");
    write_new(Path::new(&public_path), pem.as_bytes(), 0o644)?;
    Ok(Key::ed25519(&public))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading the key {}", path.display()))
}

/// A key is never written over another one.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let writing = || format!("writing the key {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(writing)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(writing)
}
