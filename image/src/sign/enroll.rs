//! What makes a certificate the keys of a firmware: files that systemd-boot writes into a firmware
//! which has none yet (`/loader/keys/auto`). Pure.
//!
//! ```text
//! PK.auth   KEK.auth   db.auth
//! | time | length, kind | PKCS #7 | list with one certificate |     UEFI 2.10, 8.2.2 and 32.4.1
//! ```
//!
//! All three hold the same certificate and are signed by its key: who owns the platform signs the
//! images. RSA signatures of the same bytes are the same, and so are the files.

use anyhow::{Context, Result, bail};
use ring::{
    rand::SystemRandom,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use uuid::{Uuid, uuid};
use x509_cert::{
    Certificate,
    der::{DecodePem, Document, Encode},
};

use crate::esp::date::Date;

/// Of the variables PK and KEK.
const GLOBAL: Uuid = uuid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");
/// Of the variable db.
const IMAGE_SECURITY: Uuid = uuid!("d719b2cb-3d3a-4596-a3bc-dad00e67656f");
/// A list of certificates.
const X509: Uuid = uuid!("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");
/// A signature in PKCS #7.
const PKCS7: Uuid = uuid!("4aafd29d-68df-49ee-8aa9-347d375665a7");
/// Kept, there at boot and at runtime, written by who signs with a later time.
const ATTRIBUTES: u32 = 0x27;

const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// The files by their paths on the ESP, from a key and its certificate in PEM.
pub fn files(key: &[u8], certificate: &[u8], epoch: u64) -> Result<Vec<(String, Vec<u8>)>> {
    let key = parse_key(key)?;
    let certificate = Certificate::from_pem(certificate).context("it is no certificate in PEM")?;
    let of_certificate = certificate.tbs_certificate().subject_public_key_info();
    if of_certificate.subject_public_key.raw_bytes() != key.public_key().as_ref() {
        bail!("the certificate is of another key");
    }
    let list = list(&certificate.to_der()?);
    [("PK", GLOBAL), ("KEK", GLOBAL), ("db", IMAGE_SECURITY)]
        .into_iter()
        .map(|(name, vendor)| {
            let file = signed(name, vendor, &list, &key, &certificate, epoch)?;
            Ok((format!("loader/keys/auto/{name}.auth"), file))
        })
        .collect()
}

fn parse_key(pem: &[u8]) -> Result<RsaKeyPair> {
    let text = std::str::from_utf8(pem).context("the key is not PEM")?;
    let (label, der) =
        Document::from_pem(text).map_err(|error| anyhow::anyhow!("the key is not PEM: {error}"))?;
    let key = match label {
        "PRIVATE KEY" => RsaKeyPair::from_pkcs8(der.as_bytes()),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(der.as_bytes()),
        other => bail!("expected a private key of RSA that is not encrypted, found `{other}`"),
    };
    key.map_err(|why| anyhow::anyhow!("expected a key of RSA with 2048 to 4096 bits: {why}"))
}

/// A list of one certificate, whose owner is nobody in particular.
fn list(certificate: &[u8]) -> Vec<u8> {
    let entry = 16 + certificate.len() as u32;
    let mut list = X509.to_bytes_le().to_vec();
    list.extend((28 + entry).to_le_bytes());
    list.extend(0u32.to_le_bytes());
    list.extend(entry.to_le_bytes());
    list.extend([0; 16]);
    list.extend(certificate);
    list
}

fn signed(
    name: &str,
    vendor: Uuid,
    list: &[u8],
    key: &RsaKeyPair,
    certificate: &Certificate,
    epoch: u64,
) -> Result<Vec<u8>> {
    let time = time(epoch);
    let mut message: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    message.extend(vendor.to_bytes_le());
    message.extend(ATTRIBUTES.to_le_bytes());
    message.extend(time);
    message.extend(list);
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &message, &mut signature)
        .map_err(|why| anyhow::anyhow!("signing: {why}"))?;
    let signature = pkcs7(certificate, &signature)?;
    let mut file = time.to_vec();
    file.extend((24 + signature.len() as u32).to_le_bytes());
    // WIN_CERT_REVISION_2_0, WIN_CERT_TYPE_EFI_GUID.
    file.extend(0x0200u16.to_le_bytes());
    file.extend(0x0ef1u16.to_le_bytes());
    file.extend(PKCS7.to_bytes_le());
    file.extend(signature);
    file.extend(list);
    Ok(file)
}

/// EFI_TIME.
fn time(epoch: u64) -> [u8; 16] {
    let date = Date::of(epoch);
    let mut time = [0; 16];
    time[..2].copy_from_slice(&(date.year as u16).to_le_bytes());
    for (at, value) in
        [(2, date.month), (3, date.day), (4, date.hour), (5, date.minute), (6, date.second)]
    {
        time[at] = value as u8;
    }
    time
}

/// `SignedData` over nothing that is in it, without attributes (RFC 2315).
fn pkcs7(certificate: &Certificate, signature: &[u8]) -> Result<Vec<u8>> {
    let tbs = certificate.tbs_certificate();
    let issuer = [tbs.issuer().to_der()?, tbs.serial_number().to_der()?].concat();
    let version = || tlv(0x02, &[1]);
    let algorithm = |oid: &[u8]| tlv(0x30, &[tlv(0x06, oid), tlv(0x05, &[])].concat());
    let signer =
        [version(), tlv(0x30, &issuer), algorithm(SHA256), algorithm(RSA), tlv(0x04, signature)];
    Ok(tlv(
        0x30,
        &[
            version(),
            tlv(0x31, &algorithm(SHA256)),
            tlv(0x30, &tlv(0x06, DATA)),
            tlv(0xa0, &certificate.to_der()?),
            tlv(0x31, &tlv(0x30, &signer.concat())),
        ]
        .concat(),
    ))
}

/// A value of DER.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let length = &length[value.len().leading_zeros() as usize / 8..];
    let mut bytes = vec![tag];
    match value.len() {
        short @ 0..128 => bytes.push(short as u8),
        _ => {
            bytes.push(0x80 | length.len() as u8);
            bytes.extend(length);
        }
    }
    bytes.extend(value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = include_bytes!("../../tests/secure-boot/key.pem");
    const CERTIFICATE: &[u8] = include_bytes!("../../tests/secure-boot/certificate.pem");

    #[test]
    fn a_certificate_becomes_three_variables_that_are_signed_by_its_key() {
        let files = files(KEY, CERTIFICATE, 1_795_253_401).unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["loader/keys/auto/PK.auth", "loader/keys/auto/KEK.auth", "loader/keys/auto/db.auth"]
        );
        let der = Certificate::from_pem(CERTIFICATE).unwrap().to_der().unwrap();
        for (name, bytes) in &files {
            // 2026-11-21 09:30:01.
            assert_eq!(bytes[..8], [0xea, 7, 11, 21, 9, 30, 1, 0], "{name}");
            let length = u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
            let (signature, list) = bytes[16..].split_at(length);
            assert_eq!(signature[24..26], [0x30, 0x82], "{name}");
            assert_eq!(list, self::list(&der));
            assert!(list.ends_with(&der));
        }
        assert_eq!(files, super::files(KEY, CERTIFICATE, 1_795_253_401).unwrap());
    }

    #[test]
    fn what_is_no_key_is_said_to_be_none() {
        let said = |key: &[u8]| files(key, CERTIFICATE, 0).unwrap_err().to_string();
        assert!(said(b"secret").starts_with("the key is not PEM"), "{}", said(b"secret"));
        assert_eq!(
            said(CERTIFICATE),
            "expected a private key of RSA that is not encrypted, found `CERTIFICATE`"
        );
    }

    #[test]
    fn lengths_are_as_der_has_them() {
        assert_eq!(tlv(4, &[7; 127])[..2], [4, 127]);
        assert_eq!(tlv(4, &[7; 128])[..3], [4, 0x81, 128]);
        assert_eq!(tlv(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
    }
}
