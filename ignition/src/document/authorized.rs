//! What a line of `authorized_keys` looks like.

use base64::prelude::{BASE64_STANDARD, Engine};

/// Whether sshd would find a key in a line: two words, the kind of the key and the key itself, which
/// names the same kind once more. Options may be in front of them and a comment behind.
pub(super) fn is_key(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.windows(2).any(|pair| is_key_of(pair[0], pair[1]))
}

fn is_key_of(kind: &str, text: &str) -> bool {
    let Ok(bytes) = BASE64_STANDARD.decode(text) else { return false };
    let Some(fields) = fields(&bytes) else { return false };
    fields.len() > 1 && fields[0] == kind.as_bytes()
}

/// The fields of a key, each behind its length (RFC 4253, section 6.6); nothing if it was cut short.
fn fields(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (field, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        fields.push(field);
        bytes = rest;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMg9r4REg5OUlMQHnqc46jqGGb5brYTcES+xbHEJtqxJ";

    #[test]
    fn keys_are_told_from_what_is_none() {
        for key in [
            KEY.to_owned(),
            format!("{KEY} ada@engine\n"),
            format!(r#"restrict,command="echo a b",from="192.0.2.0/24" {KEY}"#),
            "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAABAECAwQAAAAEc3NoOg=="
                .to_owned(),
        ] {
            assert!(is_key(&key), "{key}");
        }
        for none in [
            "",
            "# a comment",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "SHA256:jKTSS5p6vFsCPMCYdOSpkdrjKSBVzGjq5e3qCoYH8nw",
            "ssh-ed25519",
            "ssh-ed25519 you@example.org",
            // Without its kind, and with another one.
            &KEY[12..],
            &KEY.replace("ssh-ed25519 ", "ssh-rsa "),
            // Cut short: at a letter, and at a byte.
            &KEY[..KEY.len() - 1],
            &KEY[..KEY.len() - 4],
            &KEY.replace(' ', ""),
        ] {
            assert!(!is_key(none), "{none}");
        }
    }
}
