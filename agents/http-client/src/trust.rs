//! Who is trusted by TLS: whom the image trusts, and whom somebody names besides.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Where images keep the certificates of authorities: one file, or a folder of files. In the
/// initramfs `/etc` is not there yet, and what the image ships for it is in `/usr`.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/usr/share/pithos/etc/ssl/certs/ca-certificates.crt",
    "/usr/share/ca-certificates/mozilla",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Who is trusted. The bundle of the image is read when it is first needed.
#[derive(Clone, Debug)]
pub struct Trust {
    bundles: Vec<PathBuf>,
    more: Vec<CertificateDer<'static>>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Trust {
    /// Whom the image trusts.
    pub fn image() -> Self {
        let bundles = BUNDLES.iter().map(PathBuf::from).collect();
        Self { bundles, more: Vec::new(), config: OnceLock::new() }
    }

    /// And whom a text with certificates names. A text without any is a mistake.
    pub fn and(mut self, pem: &[u8]) -> Result<Self, String> {
        let before = self.more.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            let parsed = RootCertStore::empty().add(certificate.clone());
            parsed.map_err(|error| format!("a certificate in it: {error}"))?;
            self.more.push(certificate);
        }
        if self.more.len() == before {
            return Err("there is no certificate (-----BEGIN CERTIFICATE-----) in it".to_owned());
        }
        self.config = OnceLock::new();
        Ok(self)
    }

    /// What a TLS connection is made with.
    pub(crate) fn config(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let mut roots = RootCertStore::empty();
        if let Some(pem) = self.bundles.iter().find_map(|path| read_bundle(path)) {
            // Some of the old ones in every bundle are not what today's rules want.
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
        }
        roots.add_parsable_certificates(self.more.iter().cloned());
        if roots.is_empty() {
            let why = "nobody is trusted: the image has no certificates of authorities, \
                       and the document names none";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(self.config.get_or_init(|| Arc::new(config)).clone())
    }
}

fn read_bundle(path: &Path) -> Option<Vec<u8>> {
    if !path.is_dir() {
        return fs::read(path).ok();
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(path).ok()?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        all.extend(fs::read(file).unwrap_or_default());
        all.push(b'\n');
    }
    Some(all).filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_a_certificate_is_a_mistake() {
        let error = |pem: &str| Trust::image().and(pem.as_bytes()).unwrap_err();
        assert!(error("hello").contains("BEGIN CERTIFICATE"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(error(broken).starts_with("a certificate in it"));
    }
}
