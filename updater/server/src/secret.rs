//! The token of operators. It is compared in constant time, and never shown or logged.

use std::{fmt, fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// 96 bits, written as hexadecimal digits.
const SHORTEST: usize = 24;

/// What somebody has to say who wants to change something.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// Reads it from a file that not everybody may read. A credential of systemd is its group's, too.
    pub fn read(path: &Path) -> Result<Self> {
        let reading = || format!("reading the token {}", path.display());
        let mode = fs::metadata(path).with_context(reading)?.permissions().mode();
        ensure!(
            mode & 0o007 == 0,
            "the token {} may be read by everybody: chmod 600 it",
            path.display()
        );
        let text = fs::read_to_string(path).with_context(reading)?;
        let text = text.trim();
        ensure!(
            text.len() >= SHORTEST && text.chars().all(|c| c.is_ascii_graphic()),
            "the token {} has {} characters: expected {SHORTEST} or more, without spaces, such as \
             `openssl rand -hex 24` prints",
            path.display(),
            text.chars().count()
        );
        Ok(Self::of(text))
    }

    /// The token that reads so.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Whether somebody said it. The sums are compared, so that a length tells nothing either.
    pub fn is(&self, said: &str) -> bool {
        Self::of(said.trim()).0.ct_eq(&self.0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_not_everybodys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Token::read(&path)
        };
        let token = write("0123456789abcdef01234567\n", 0o600).unwrap();
        assert!(token.is("0123456789abcdef01234567"));
        assert!(!token.is("0123456789abcdef01234568") && !token.is(""));
        assert_eq!(format!("{token:?}"), "Token");
        let error = write("0123456789abcdef01234567\n", 0o644).unwrap_err().to_string();
        assert!(error.ends_with("may be read by everybody: chmod 600 it"), "{error}");
        let error = write("short\n", 0o600).unwrap_err().to_string();
        assert!(error.contains("has 5 characters: expected 24 or more"), "{error}");
        assert!(!error.contains("short"), "{error}");
    }
}
